package gateway

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"mayfly/function"
	"mayfly/internal/dex"
	"mayfly/triggers/gateway/issuer"
)

// hostiles is how many requests the test sends; MAYFLY_HOSTILE=100000 asks for as many as are promised.
func hostiles(t *testing.T) int {
	t.Helper()
	text := os.Getenv("MAYFLY_HOSTILE")
	if text == "" {
		return 20_000
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Requests that are malformed or not authorised, by the thousand: none is let in, none leaves anything behind [T4].
func TestHostileRequests(t *testing.T) {
	p := dex.New(t, 24*time.Hour)
	i, stop := known(t, issuer.Config{Name: "site", URL: p.URL, Audience: []string{"mayfly"}, CA: p.CA, Dir: t.TempDir()})
	defer stop()
	until(t, "the keys", func() bool { return i.Status().Keys > 0 })
	_, hash := NewToken()
	tokens, err := ParseTokens(strings.NewReader("ci " + hash))
	if err != nil {
		t.Fatal(err)
	}
	rec := &recorder{}
	g := gateway(t, rec, func(c *Config) { c.Issuers, c.Tokens, c.Limits.Body = map[string]Verifier{"site": i}, tokens, 1000 })
	routes := append(parsed(t, "j", function.AuthJWT, "POST /jwt/{x}"), parsed(t, "t", function.AuthToken, "POST /token/{x}")...)
	routes = append(routes, parsed(t, "m", function.AuthMTLS, "POST /mtls/{x}")...)
	g.SetRoutes(routes)
	key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	h := hostile{rand.New(rand.NewPCG(1, 2)), p.Token("ada", "mayfly"), p.Token("ada", "other"), hash, key}
	n, warm := hostiles(t), uint64(0)
	for at := range n {
		if at == n/4 {
			warm = heap()
		}
		r := h.request()
		if r == nil {
			continue // net/http does not even read it
		}
		w := &forgetful{header: http.Header{}}
		g.handler().ServeHTTP(w, r)
		if w.code < 300 || w.code >= 500 {
			t.Fatalf("%d for %s %s %v", w.code, r.Method, r.URL, r.Header)
		}
	}
	if len(rec.invoked)+len(rec.posted) > 0 || g.Status().Running != 0 || g.results.order.Len() != 0 {
		t.Errorf("%d were let in, %+v", len(rec.invoked)+len(rec.posted), g.Status())
	}
	if now := heap(); now > warm+1<<20 {
		t.Errorf("the heap grew from %d to %d bytes", warm, now)
	}
	r := bearing(h.good)
	r.Method, r.URL.Path = "POST", "/jwt/1"
	if w := call(g, r); w.Code != 200 {
		t.Errorf("and then ada: %d %s", w.Code, w.Body)
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// forgetful is an answer of which only the status is looked at.
type forgetful struct {
	header http.Header
	code   int
}

func (f *forgetful) Header() http.Header         { return f.header }
func (f *forgetful) WriteHeader(code int)        { f.code = code }
func (f *forgetful) Write(b []byte) (int, error) { return len(b), nil }

// hostile makes requests that are not to be let in.
type hostile struct {
	rand            *rand.Rand
	good, elsewhere string
	hash            string
	key             *ecdsa.PrivateKey
}

func (h *hostile) request() *http.Request {
	paths := []string{"/jwt/1", "/token/1", "/mtls/1", "/fn/j", "/fn/t", "/openapi.json", "/results/x", "/jwt/%ff", "/jwt/../token/1", "//", "/jwt/1?x=%zz", "/fn/"}
	headers := []string{
		"Authorization: Bearer " + h.token(), "Authorization: Bearer " + h.token(), "Authorization: bearer\t" + h.good, "Authorization: Basic " + h.good,
		"Authorization: Bearer x\r\nAuthorization: Bearer " + h.good, "Authorization: Bearer " + h.hash, "", "X-Forwarded-Client-Cert: By=x", "Cookie: token=" + h.good,
		"Content-Type: application/cloudevents+json", "Prefer: respond-async", "Ce-Id: " + h.noise(30), "Transfer-Encoding: gzip", "Upgrade: websocket",
	}
	var text strings.Builder
	text.WriteString(h.pick("POST", "POST", "POST", "GET", "PUT", "BREW") + " " + paths[h.rand.IntN(len(paths))] + " HTTP/1.1\r\nHost: " + h.pick("127.0.0.1", "device", "") + "\r\n")
	for range h.rand.IntN(4) {
		if line := headers[h.rand.IntN(len(headers))]; line != "" {
			text.WriteString(line + "\r\n")
		}
	}
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text.String() + "Content-Length: 4\r\n\r\nbody")))
	if err != nil {
		return nil
	}
	r.RemoteAddr = fmt.Sprintf("10.%d.%d.%d:1", h.rand.IntN(256), h.rand.IntN(256), h.rand.IntN(256))
	return r.WithContext(context.Background())
}

func (h *hostile) pick(words ...string) string { return words[h.rand.IntN(len(words))] }

func (h *hostile) noise(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(h.rand.IntN(256))
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// token is a good one with something wrong, or one that never was.
func (h *hostile) token() string {
	part := strings.Split(h.good, ".")
	encode := base64.RawURLEncoding.EncodeToString
	switch h.rand.IntN(8) {
	case 0:
		return h.elsewhere
	case 1: // one bit is another; those of the last character may mean nothing
		b := []byte(h.good)
		at := h.rand.IntN(len(b) - 1)
		for b[at] == '.' {
			at--
		}
		if b[at]++; h.good[at] == 'z' || h.good[at] == 'Z' || h.good[at] == '9' {
			b[at] = 'A'
		}
		return string(b)
	case 2:
		return h.good[:h.rand.IntN(len(h.good)-1)]
	case 3:
		return encode([]byte(`{"alg":"`+h.pick("none", "HS256", "NONE", "RS1", "", "ES256K")+`","kid":"`+h.noise(6)+`"}`)) + "." + part[1] + "." + h.noise(32)
	case 4: // signed by a key that nobody knows
		text := encode([]byte(`{"alg":"ES256","typ":"JWT","kid":"`+h.noise(6)+`"}`)) + "." + part[1]
		sum := sha256.Sum256([]byte(text))
		r, s, err := ecdsa.Sign(crand.Reader, h.key, sum[:])
		if err != nil {
			panic(err)
		}
		return text + "." + encode(append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...))
	case 5:
		return part[0] + "." + encode([]byte(strings.Repeat(`{"a":`, h.rand.IntN(2000)))) + "." + part[2]
	case 6:
		return h.noise(h.rand.IntN(200))
	default:
		return part[0] + "." + part[1] + "." + h.noise(256)
	}
}
