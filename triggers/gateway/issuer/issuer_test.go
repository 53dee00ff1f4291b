package issuer

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"mayfly/event"
)

// Every check is on: each of these tokens is good but for one thing [T4].
func TestTokensThatAreRefused(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	rs, es, ed := p.signer("rs", jwt.SigningMethodRS256), p.signer("es", jwt.SigningMethodES256), p.signer("ed", jwt.SigningMethodEdDSA)
	wide := p.signer("wide", jwt.SigningMethodES384)
	i := p.fetched(p.issuer(nil))
	stranger := signer{"rs", jwt.SigningMethodRS256, newProvider(t).signer("rs", jwt.SigningMethodRS256).key}
	now := time.Now().Unix() // after the keys, which take their time
	public, err := x509.MarshalPKIXPublicKey(rs.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	shared := func(secret []byte, kid string) string {
		token := jwt.NewWithClaims(jwt.SigningMethodHS256, p.claims(nil))
		token.Header["kid"] = kid
		text, err := token.SignedString(secret)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	unsigned := jwt.NewWithClaims(jwt.SigningMethodNone, p.claims(nil))
	unsigned.Header["kid"] = "rs"
	none, err := unsigned.SignedString(jwt.UnsafeAllowNoneSignatureType)
	if err != nil {
		t.Fatal(err)
	}
	good := p.token(rs, nil)
	parts := strings.Split(good, ".")
	for name, c := range map[string]struct{ token, kind string }{
		"RS256":                   {good, ""},
		"PS256":                   {p.token(signer{"rs", jwt.SigningMethodPS256, rs.key}, nil), ""},
		"ES256":                   {p.token(es, nil), ""},
		"ES384":                   {p.token(wide, nil), ""},
		"EdDSA":                   {p.token(ed, nil), ""},
		"access token":            {p.token(es, nil, "typ", "at+jwt"), ""},
		"no type":                 {p.token(es, nil, "typ", nil), ""},
		"second audience":         {p.token(es, jwt.MapClaims{"aud": []string{"x", "spare"}}), ""},
		"just over":               {p.token(es, jwt.MapClaims{"exp": now - 10}), ""},
		"not quite begun":         {p.token(es, jwt.MapClaims{"nbf": now + 10, "iat": now + 10}), ""},
		"over":                    {p.token(es, jwt.MapClaims{"exp": now - 31}), KindToken},
		"never over":              {p.token(es, jwt.MapClaims{"exp": nil}), KindToken},
		"over in words":           {p.token(es, jwt.MapClaims{"exp": "soon"}), KindToken},
		"not begun":               {p.token(es, jwt.MapClaims{"nbf": now + 300}), KindToken},
		"made in the future":      {p.token(es, jwt.MapClaims{"iat": now + 300}), KindToken},
		"another audience":        {p.token(es, jwt.MapClaims{"aud": "other"}), KindToken},
		"no audience":             {p.token(es, jwt.MapClaims{"aud": nil}), KindToken},
		"empty audience":          {p.token(es, jwt.MapClaims{"aud": []string{}}), KindToken},
		"another issuer":          {p.token(es, jwt.MapClaims{"iss": p.server.URL + "/"}), KindToken},
		"no issuer":               {p.token(es, jwt.MapClaims{"iss": nil}), KindToken},
		"no subject":              {p.token(es, jwt.MapClaims{"sub": nil}), KindToken},
		"long subject":            {p.token(es, jwt.MapClaims{"sub": strings.Repeat("a", 256)}), KindToken},
		"none":                    {none, KindToken},
		"HS256 with public key":   {shared(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}), "rs"), KindToken},
		"HS256 with public DER":   {shared(public, "es"), KindToken},
		"another's key, our kid":  {p.token(stranger, nil), KindToken},
		"key of another kind":     {p.token(signer{"es", jwt.SigningMethodRS256, rs.key}, nil), KindToken},
		"curve of another size":   {p.token(signer{"wide", jwt.SigningMethodES256, es.key}, nil), KindToken},
		"no kid":                  {p.token(es, nil, "kid", nil), KindToken},
		"kid that is no text":     {p.token(es, nil, "kid", 5), KindToken},
		"critical extension":      {p.token(es, nil, "crit", []string{"b64"}), KindToken},
		"another kind of token":   {p.token(es, nil, "typ", "logout+jwt"), KindToken},
		"key inside":              {p.token(signer{"mine", jwt.SigningMethodRS256, stranger.key}, nil, "jwk", stranger.jwk()), KindToken},
		"signature of another":    {parts[0] + "." + parts[1] + "." + strings.Split(p.token(rs, jwt.MapClaims{"sub": "bob"}), ".")[2], KindToken},
		"no signature":            {parts[0] + "." + parts[1] + ".", KindToken},
		"two parts":               {parts[0] + "." + parts[1], KindToken},
		"something after it":      {good + "A", KindToken},
		"not base64":              {"?." + parts[1] + "." + parts[2], KindToken},
		"padded":                  {good + "==", KindToken},
		"nothing":                 {"", KindToken},
		"too long":                {p.token(es, jwt.MapClaims{"x": strings.Repeat("a", maxToken)}), KindToken},
		"an encrypted one's form": {"a.b.c.d.e", KindToken},
	} {
		for range 2 { // the second time from memory, where it was good
			if got := kind(i, c.token); got != c.kind {
				_, err := i.Verify(t.Context(), c.token)
				t.Errorf("%s: %q, want %q: %v", name, got, c.kind, err)
			}
		}
	}
}

func TestIdentity(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	es := p.signer("es", jwt.SigningMethodES256)
	i := p.fetched(p.issuer(nil))
	id, err := i.Verify(t.Context(), p.token(es, jwt.MapClaims{
		"scope": "read write", "groups": []string{"ops", "dev"}, "realm": map[string]any{"roles": []string{"admin"}, "level": 3}, "https://x/y": true,
		"big": strings.Repeat("b", maxClaimValue+1), "n": 9007199254740993,
	}))
	if err != nil {
		t.Fatal(err)
	}
	want := []event.Attr{
		{Name: "auth.iss", Value: p.server.URL},
		{Name: "auth.sub", Value: "ada"},
		{Name: "auth.scope", Value: "read write"},
		{Name: "auth.claims.aud", Value: "api"},
		{Name: "auth.claims.groups", Value: `["ops","dev"]`},
		{Name: "auth.claims.https://x/y", Value: "true"},
		{Name: "auth.claims.n", Value: "9007199254740993"},
		{Name: "auth.claims.realm", Value: `{"level":3,"roles":["admin"]}`},
		{Name: "auth.partial", Value: "true"},
	}
	if !slices.Equal(id.Attrs, want) {
		t.Errorf("attributes %v", id.Attrs)
	}
	if !slices.Equal(id.Scopes, []string{"read", "write"}) {
		t.Errorf("scopes %q", id.Scopes)
	}
	for text, want := range map[string]bool{
		"groups=ops": true, "groups=op": false, "realm.roles=admin": true, "realm.level=3": true, "realm.roles=user": false, "https://x/y=true": true,
		"n=9007199254740993": true, "n=9007199254740992": false, "realm=x": false, "nobody=": false, "realm.=": false, ".=": false,
	} {
		name, value, _ := strings.Cut(text, "=")
		if id.Has(name, value) != want {
			t.Errorf("%s: %v", text, !want)
		}
	}
	many := jwt.MapClaims{}
	for n := range 100 {
		many[fmt.Sprintf("c%02d", n)] = strings.Repeat("x", 500)
	}
	if _, err := i.Verify(t.Context(), p.token(es, many)); err == nil {
		t.Fatal("a token of 50 KB was read")
	}
	for n := range 100 {
		many[fmt.Sprintf("c%02d", n)] = "x"
	}
	id, err = i.Verify(t.Context(), p.token(es, many))
	if err != nil || len(id.Attrs) != 2+maxClaims+1 {
		t.Errorf("%d attributes, %v", len(id.Attrs), err)
	}
}

// A new key is found when a token names it, at most once a minute; one that is withdrawn is refused after the next look, also from memory.
func TestRotationAndWithdrawal(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	first := p.signer("first", jwt.SigningMethodES256)
	i := p.fetched(p.issuer(nil))
	run(t, i)
	old := p.token(first, nil)
	if got := kind(i, old); got != "" {
		t.Fatal(got)
	}
	second := p.signer("second", jwt.SigningMethodES256)
	var all sync.WaitGroup
	for range 20 { // all at once: one request
		all.Go(func() {
			if got := kind(i, p.token(second, nil)); got != "" {
				t.Errorf("a new key: %s", got)
			}
		})
	}
	all.Wait()
	if n := p.asked.Load(); n != 2 {
		t.Errorf("asked %d times for keys, want 2", n)
	}
	stranger := newProvider(t)
	for n := range 100 {
		if got := kind(i, stranger.token(stranger.signer(fmt.Sprint("made up ", n%3), jwt.SigningMethodES256), jwt.MapClaims{"iss": p.server.URL})); got != KindToken {
			t.Fatalf("a stranger's key: %q", got)
		}
	}
	if n := p.asked.Load(); n != 2 {
		t.Errorf("strangers' keys cost the provider %d requests", n-2)
	}
	p.set(func() { p.keys = p.keys[1:] })
	p.fetched(i)
	if got := kind(i, old); got != KindToken {
		t.Errorf("a withdrawn key: %q", got)
	}
	if got := kind(i, p.token(second, nil)); got != "" {
		t.Errorf("the other key: %s", got)
	}
	p.set(func() { p.keys = p.keys[:0] })
	p.fetched(i)
	if got := kind(i, p.token(second, nil)); got != KindToken {
		t.Errorf("all keys withdrawn: %q", got)
	}
}

func run(t *testing.T, i *Issuer) {
	t.Helper()
	done := make(chan error, 1)
	ctx, cancel := contextOf(t)
	go func() { done <- i.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// Without the provider its keys are believed as long as was said, over a restart too, and no longer; a clock that went back, or was never set,
// believes nobody.
func TestOfflineAndClock(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	es := p.signer("es", jwt.SigningMethodES256)
	dir := t.TempDir()
	place := func(c *Config) { c.Dir, c.MaxAge = dir, time.Hour }
	if got := kind(p.issuer(place), p.token(es, nil)); got != KindKeys {
		t.Errorf("before there are keys: %q", got)
	}
	p.fetched(p.issuer(place))
	ca := p.ca()
	p.server.Close()
	long := p.token(es, jwt.MapClaims{"exp": time.Now().Add(100 * time.Hour).Unix()})
	i := p.issuer(func(c *Config) { place(c); c.CA = ca })
	for _, c := range []struct {
		ahead time.Duration
		kind  string
	}{
		{0, ""},
		{59 * time.Minute, ""},
		{time.Hour + time.Second, KindKeys},
		{90 * time.Minute, KindKeys},
		{-time.Minute, KindClock},
		{-20 * 365 * 24 * time.Hour, KindClock},
		{-20 * time.Second, ""},
		{0, ""},
	} {
		i.now = func() time.Time { return time.Now().Add(c.ahead) }
		if got := kind(i, long); got != c.kind {
			t.Errorf("%v ahead: %q, want %q", c.ahead, got, c.kind)
		}
	}
	if err := i.refresh(t.Context()); err == nil {
		t.Error("keys of a provider that is gone")
	}
	if got := kind(i, long); got != "" {
		t.Errorf("after a failed fetch: %q", got)
	}
	unset := p.issuer(func(c *Config) { c.CA = ca })
	unset.now = func() time.Time { return time.Unix(100, 0) }
	if got := kind(unset, long); got != KindClock {
		t.Errorf("in 1970, without keys: %q", got)
	}
	moved := p.issuer(func(c *Config) { place(c); c.CA, c.URL = ca, "https://localhost:1" })
	if got := kind(moved, long); got != KindKeys {
		t.Errorf("keys of another provider: %q", got)
	}
	if err := os.WriteFile(filepath.Join(dir, "site.json"), []byte(`{"issuer":`), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := kind(p.issuer(func(c *Config) { place(c); c.CA = ca }), long); got != KindKeys {
		t.Errorf("a torn file: %q", got)
	}
}

// What comes from memory ends when the token does.
func TestRememberedTokenEnds(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	es := p.signer("es", jwt.SigningMethodES256)
	i := p.fetched(p.issuer(nil))
	token := p.token(es, nil) // for 600 s
	for _, c := range []struct {
		ahead time.Duration
		kind  string
	}{{0, ""}, {600 * time.Second, ""}, {632 * time.Second, KindToken}, {0, ""}} {
		i.now = func() time.Time { return time.Now().Add(c.ahead) }
		if got := kind(i, token); got != c.kind {
			t.Errorf("%v later: %q, want %q", c.ahead, got, c.kind)
		}
	}
	for n := range maxVerified + 100 {
		i.cache.put(fmt.Sprint(n), i.keys.Load(), &Identity{})
	}
	if n := len(i.cache.known); n != maxVerified {
		t.Errorf("%d tokens are remembered", n)
	}
}

func TestConfigurationsThatAreRefused(t *testing.T) {
	for name, edit := range map[string]func(*Config){
		"plain HTTP":      func(c *Config) { c.URL = "http://idp.site" },
		"no scheme":       func(c *Config) { c.URL = "idp.site" },
		"a user in it":    func(c *Config) { c.URL = "https://a@idp.site" },
		"a query":         func(c *Config) { c.URL = "https://idp.site?x" },
		"a file":          func(c *Config) { c.URL = "file:///etc/passwd" },
		"no audience":     func(c *Config) { c.Audience = nil },
		"old for ever":    func(c *Config) { c.MaxAge = 1e18 },
		"too short":       func(c *Config) { c.MaxAge = time.Second },
		"no such CA":      func(c *Config) { c.CA = "/does/not/exist" },
		"CA of no PEM":    func(c *Config) { c.CA = "issuer_test.go" },
		"another on LAN":  func(c *Config) { c.URL = "http://192.168.1.1" },
		"a look-alike":    func(c *Config) { c.URL = "http://127.0.0.1.evil.site" },
		"only an address": func(c *Config) { c.URL = "//idp.site" },
	} {
		c := Config{Name: "site", URL: "https://idp.site", Audience: []string{"api"}, Dir: t.TempDir()}
		edit(&c)
		if _, err := New(c); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	for _, url := range []string{"http://localhost:5556/dex", "http://127.0.0.1:80", "http://[::1]", "https://idp.site/realms/a"} {
		if _, err := New(Config{Name: "site", URL: url, Audience: []string{"api"}, Dir: t.TempDir()}); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
}

var errNone = errors.New("none")
