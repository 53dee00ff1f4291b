package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"mayfly/triggers/gateway/issuer"
)

// remembered measures what a JWT adds to a request, checked for the first time and seen before.
func (b *bench) remembered() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		return err
	}
	encode := base64.RawURLEncoding.EncodeToString
	jwk := map[string]string{"kty": "EC", "crv": "P-256", "kid": "1", "x": encode(point[1:33]), "y": encode(point[33:])}
	var provider *httptest.Server
	provider = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		answer := any(map[string]string{"issuer": provider.URL, "jwks_uri": provider.URL + "/keys"})
		if r.URL.Path == "/keys" {
			answer = map[string]any{"keys": []any{jwk}}
		}
		_ = json.NewEncoder(w).Encode(answer) // an error shows as a token that is refused
	}))
	defer provider.Close()
	i, err := issuer.New(issuer.Config{Name: "bench", URL: provider.URL, Audience: []string{"bench"}, Dir: filepath.Join(b.dir, "issuer")})
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- i.Run(b.ctx) }()
	for i.Status().Keys == 0 && b.ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	verify := func(n, kinds int) (time.Duration, error) {
		tokens := make([]string, kinds)
		for k := range tokens {
			t := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{
				"iss": provider.URL, "sub": "ada", "aud": "bench", "exp": time.Now().Add(time.Hour).Unix(), "n": k, "groups": []string{"ops", "dev"}, "email": "ada@example.com",
			})
			t.Header["kid"] = "1"
			if tokens[k], err = t.SignedString(key); err != nil {
				return 0, err
			}
		}
		began := time.Now()
		for k := range n {
			if _, err := i.Verify(b.ctx, tokens[k%kinds]); err != nil {
				return 0, err
			}
		}
		return time.Since(began) / time.Duration(n), nil
	}
	anew, err := verify(1000, 1000)
	if err != nil {
		return err
	}
	again, err := verify(200_000, 1)
	if err != nil {
		return err
	}
	b.add("a JWT seen before", float64(again.Nanoseconds())/1e3, "us", 0, limit{atMost: 5})
	b.add("a JWT seen for the first time (ES256)", float64(anew.Nanoseconds())/1e3, "us", 0, limit{atMost: 1000})
	return nil
}
