package issuer

import (
	"testing"

	"github.com/golang-jwt/jwt/v5"
)

// BenchmarkVerify prints what a token costs a request: checked anew, and remembered (target: at most 5 us).
func BenchmarkVerify(b *testing.B) {
	p := newProvider(b)
	for _, method := range []jwt.SigningMethod{jwt.SigningMethodRS256, jwt.SigningMethodES256} {
		s := p.signer(method.Alg(), method)
		i := p.fetched(p.issuer(nil))
		token := p.token(s, jwt.MapClaims{"groups": []string{"ops"}, "email": "ada@example.com"})
		b.Run(method.Alg()+"/anew", func(b *testing.B) {
			for b.Loop() {
				if _, err := i.parse(token, i.keys.Load()); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(method.Alg()+"/remembered", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := i.Verify(b.Context(), token); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
