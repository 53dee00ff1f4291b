package issuer

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"go.uber.org/goleak"

	"mayfly/function"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// provider is a small OpenID Connect provider over TLS. Its answers can be bent.
type provider struct {
	t      testing.TB
	server *httptest.Server
	asked  atomic.Int64 // requests for keys

	mu      sync.Mutex
	keys    []map[string]string
	answer  http.HandlerFunc  // instead of the keys
	details map[string]string // over what it says of itself
}

func newProvider(t testing.TB) *provider {
	t.Helper()
	p := &provider{t: t, details: map[string]string{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+wellKnown, func(w http.ResponseWriter, _ *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		about := map[string]string{"issuer": p.server.URL, "jwks_uri": p.server.URL + "/keys"}
		maps.Copy(about, p.details)
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		json.NewEncoder(w).Encode(about)
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, r *http.Request) {
		p.asked.Add(1)
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.answer != nil {
			p.answer(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/jwk-set+json")
		json.NewEncoder(w).Encode(map[string]any{"keys": p.keys})
	})
	mux.HandleFunc("GET /here", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/keys", http.StatusFound) })
	mux.HandleFunc("GET /there", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "https://localhost:1/keys", http.StatusFound)
	})
	p.server = httptest.NewTLSServer(mux)
	t.Cleanup(p.server.Close)
	return p
}

func (p *provider) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

// ca returns a file with the provider's authority.
func (p *provider) ca() string {
	p.t.Helper()
	file := filepath.Join(p.t.TempDir(), "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.server.Certificate().Raw})
	if err := os.WriteFile(file, text, 0o600); err != nil {
		p.t.Fatal(err)
	}
	return file
}

// issuer returns one that knows the provider's keys.
func (p *provider) issuer(edit func(*Config)) *Issuer {
	p.t.Helper()
	c := Config{Name: "site", URL: p.server.URL, Audience: []string{"api", "spare"}, CA: p.ca(), Dir: p.t.TempDir(), Built: time.Unix(1_700_000_000, 0)}
	if edit != nil {
		edit(&c)
	}
	i, err := New(c)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(i.client.CloseIdleConnections)
	return i
}

// fetched lets an issuer fetch the keys now.
func (p *provider) fetched(i *Issuer) *Issuer {
	p.t.Helper()
	if err := i.refresh(p.t.Context()); err != nil {
		p.t.Fatal(err)
	}
	return i
}

// signer is a private key of the provider.
type signer struct {
	id     string
	method jwt.SigningMethod
	key    crypto.Signer
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func (p *provider) signer(id string, method jwt.SigningMethod) signer {
	p.t.Helper()
	s := signer{id, method, nil}
	var err error
	switch m := method.(type) {
	case *jwt.SigningMethodECDSA:
		s.key, err = ecdsa.GenerateKey(map[int]elliptic.Curve{256: elliptic.P256(), 384: elliptic.P384(), 521: elliptic.P521()}[m.CurveBits], rand.Reader)
	case *jwt.SigningMethodEd25519:
		_, s.key, err = ed25519.GenerateKey(rand.Reader)
	default:
		s.key, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	p.set(func() { p.keys = append(p.keys, s.jwk()) })
	return s
}

func (s signer) jwk() map[string]string {
	j := map[string]string{"kid": s.id, "use": "sig"}
	switch k := s.key.Public().(type) {
	case *rsa.PublicKey:
		j["kty"], j["n"], j["e"] = "RSA", b64(k.N.Bytes()), b64(big.NewInt(int64(k.E)).Bytes())
	case *ecdsa.PublicKey:
		point, err := k.Bytes()
		if err != nil {
			panic(err)
		}
		half := (len(point) - 1) / 2
		j["kty"], j["crv"], j["x"], j["y"] = "EC", k.Params().Name, b64(point[1:1+half]), b64(point[1+half:])
	case ed25519.PublicKey:
		j["kty"], j["crv"], j["x"] = "OKP", "Ed25519", b64(k)
	}
	return j
}

// claims of a token that is good, and what is different.
func (p *provider) claims(change jwt.MapClaims) jwt.MapClaims {
	now := time.Now().Unix()
	c := jwt.MapClaims{"iss": p.server.URL, "sub": "ada", "aud": "api", "iat": now, "exp": now + 600}
	for k, v := range change {
		if c[k] = v; v == nil {
			delete(c, k)
		}
	}
	return c
}

func (p *provider) token(s signer, change jwt.MapClaims, header ...any) string {
	p.t.Helper()
	t := jwt.NewWithClaims(s.method, p.claims(change))
	t.Header["kid"] = s.id
	for n := 0; n < len(header); n += 2 {
		if t.Header[header[n].(string)] = header[n+1]; header[n+1] == nil {
			delete(t.Header, header[n].(string))
		}
	}
	text, err := t.SignedString(s.key)
	if err != nil {
		p.t.Fatal(err)
	}
	return text
}

// kind of the refusal of a token; "" = it was let in.
func kind(i *Issuer, token string) string {
	if _, err := i.Verify(context.Background(), token); err != nil {
		return function.KindOf(err)
	}
	return ""
}

func reply(r *http.Request, text string) *http.Response {
	w := httptest.NewRecorder()
	w.Header().Set("Content-Type", "application/json")
	w.WriteString(text)
	res := w.Result()
	res.Request = r
	return res
}
