package gateway

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"

	"mayfly/function"
	"mayfly/internal/dex"
	"mayfly/triggers/gateway/issuer"
)

// known is an issuer that fetches its keys now and then, until the test is over or stop is called.
func known(t *testing.T, c issuer.Config) (i *issuer.Issuer, stop func()) {
	t.Helper()
	i, err := issuer.New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- i.Run(ctx) }()
	stop = func() {
		cancel()
		if err := get(t, "the issuer's end", ended); err != nil {
			t.Error(err)
		}
	}
	return i, stop
}

func bearing(token string) *http.Request {
	r := ask("GET", "/x")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	return r
}

// With a real provider: who has its token for us is let in, and nobody else [T4].
func TestRealProvider(t *testing.T) {
	t.Parallel()
	p := dex.New(t, 10*time.Minute)
	config := issuer.Config{Name: "site", URL: p.URL, Audience: []string{"mayfly"}, CA: p.CA, Dir: t.TempDir(), MaxAge: time.Hour}
	i, stop := known(t, config)
	defer func() { stop() }()
	until(t, "the keys", func() bool { return i.Status().Keys > 0 })
	rec := &recorder{}
	g := gateway(t, rec, func(c *Config) { c.Issuers = map[string]Verifier{"site": i} })
	serve := func(want function.Requirement) {
		route := parsed(t, "f", function.AuthJWT, "GET /x")
		route[0].Require = want
		if faults := g.SetRoutes(route); len(faults) > 0 {
			t.Fatal(faults)
		}
	}
	serve(function.Requirement{})
	status := func(what, token string, want int) {
		t.Helper()
		rec.invoked = nil
		w := call(g, bearing(token))
		if w.Code != want || (want == 200) != (len(rec.invoked) == 1) || want == 401 && w.Header().Get("WWW-Authenticate") == "" {
			t.Errorf("%s: %d, want %d: %s", what, w.Code, want, w.Body)
		}
	}
	ada := p.Token("ada", "mayfly")
	status("ada", ada, 200)
	for name, want := range map[string]string{"auth.kind": "jwt", "auth.iss": p.URL, "auth.claims.email": "ada@example.com", "auth.claims.aud": "mayfly", "auth.claims.name": "ada"} {
		if got, _ := rec.invoked[0].Event.Attr(name); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
	status("nobody", "", 401)
	status("another audience", p.Token("ada", "other"), 401)
	for what, token := range forgeries(t, ada, p.Keys()) {
		status(what, token, 401)
	}
	serve(function.Requirement{Issuer: "site", Claims: []function.Setting{{Key: "email", Value: "ada@example.com"}, {Key: "email_verified", Value: "true"}}})
	status("ada, by her claims", ada, 200)
	status("bob, by his", p.Token("bob", "mayfly"), 403)
	serve(function.Requirement{Scopes: []string{"write"}})
	status("no such scope", ada, 403)
	serve(function.Requirement{})

	p.Rotate()
	status("signed with a new key", p.Token("bob", "mayfly"), 200)
	status("signed with the old key", ada, 200)

	p.Stop()
	status("provider offline", ada, 200)
	stop()
	i, stop = known(t, config)
	g.c.Issuers["site"] = i
	status("provider offline, after a restart", ada, 200)
	stop()
	p.Start() // with other keys
	config.Refresh = time.Minute
	config.Dir = t.TempDir()
	i, stop = known(t, config)
	g.c.Issuers["site"] = i
	until(t, "the new keys", func() bool { return i.Status().Keys > 0 })
	status("key withdrawn", ada, 401)
	status("the new key", p.Token("ada", "mayfly"), 200)

	config.Built = time.Now().Add(time.Hour) // the clock is an hour before this program was made
	unset, stopped := known(t, config)
	defer stopped()
	g.c.Issuers["site"] = unset
	w := call(g, bearing(p.Token("ada", "mayfly")))
	if problem := problemOf(t, w); w.Code != 503 || problem.Kind != "clock" || w.Header().Get("Retry-After") == "" {
		t.Errorf("clock not set: %d %+v", w.Code, problem)
	}
}

// A token of the provider ends when it says, and is then refused by who has seen it and by who has not.
func TestRealTokenEnds(t *testing.T) {
	t.Parallel()
	p := dex.New(t, time.Second)
	i, stop := known(t, issuer.Config{Name: "site", URL: p.URL, Audience: []string{"mayfly"}, CA: p.CA, Leeway: time.Second, Dir: t.TempDir()})
	defer stop()
	until(t, "the keys", func() bool { return i.Status().Keys > 0 })
	g := gateway(t, &recorder{}, func(c *Config) { c.Issuers = map[string]Verifier{"site": i} })
	g.SetRoutes(parsed(t, "f", function.AuthJWT, "GET /x"))
	token := p.Token("ada", "mayfly")
	if w := call(g, bearing(token)); w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	until(t, "its end", func() bool { return call(g, bearing(token)).Code == 401 })
	other := gateway(t, &recorder{}, func(c *Config) { c.Issuers = map[string]Verifier{"site": i} })
	other.SetRoutes(parsed(t, "f", function.AuthJWT, "GET /x"))
	if w := call(other, bearing(token)); w.Code != 401 {
		t.Errorf("at another door: %d %s", w.Code, w.Body)
	}
}

// forgeries are what somebody could make of a good token and the provider's public keys.
func forgeries(t *testing.T, good, keys string) map[string]string {
	t.Helper()
	encode := base64.RawURLEncoding.EncodeToString
	part := strings.Split(good, ".")
	head := func(alg string) string {
		var h map[string]any
		text, err := base64.RawURLEncoding.DecodeString(part[0])
		if err == nil {
			err = json.Unmarshal(text, &h)
		}
		if err != nil {
			t.Fatal(err)
		}
		h["alg"] = alg
		text, err = json.Marshal(h)
		if err != nil {
			t.Fatal(err)
		}
		return encode(text)
	}
	var set struct{ Keys []struct{ N, E string } }
	if err := json.Unmarshal([]byte(keys), &set); err != nil {
		t.Fatal(err)
	}
	n, _ := base64.RawURLEncoding.DecodeString(set.Keys[0].N)
	public, err := x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: new(big.Int).SetBytes(n), E: 65537})
	if err != nil {
		t.Fatal(err)
	}
	shared := func(secret []byte) string {
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(head("HS256") + "." + part[1]))
		return head("HS256") + "." + part[1] + "." + encode(mac.Sum(nil))
	}
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(head("ES256") + "." + part[1]))
	r, s, err := ecdsa.Sign(rand.Reader, own, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return map[string]string{
		"none":                       head("none") + "." + part[1] + ".",
		"None":                       head("None") + "." + part[1] + "." + part[2],
		"HS256 with the public key":  shared(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})),
		"HS256 with its DER":         shared(public),
		"HS256 with its modulus":     shared(n),
		"RS512 said, RS256 signed":   head("RS512") + "." + part[1] + "." + part[2],
		"ES256 by a key of our own":  head("ES256") + "." + part[1] + "." + encode(append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)),
		"another's name":             part[0] + "." + encode([]byte(`{"sub":"root"}`)) + "." + part[2],
		"a signature of nothing":     part[0] + "." + part[1] + "." + encode(make([]byte, 256)),
		"cut short":                  good[:len(good)-4],
		"a token in front of it":     good + "." + good,
		"its parts in another order": part[2] + "." + part[1] + "." + part[0],
	}
}
