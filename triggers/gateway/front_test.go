package gateway

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mayfly/event"
	"mayfly/function"
	"mayfly/triggers"
)

// A token says which functions it is for and until when; what its file says counts from the moment it is written.
func TestScopedTokens(t *testing.T) {
	all, allHash := NewToken()
	one, oneHash := NewToken()
	over, overHash := NewToken()
	soon, soonHash := NewToken()
	text := fmt.Sprintf("all %s\none %s functions=a,b\nover %s expires=2026-01-01T00:00:00Z\nsoon %s expires=%s functions=a\n", allHash, oneHash, overHash,
		soonHash, time.Now().Add(time.Hour).Format(time.RFC3339))
	tokens, err := ParseTokens(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	rec := &recorder{}
	var built time.Time
	front := func() *Gateway {
		g := gateway(t, rec, func(c *Config) { c.Tokens, c.Built = tokens, built })
		g.SetRoutes(slices.Concat(parsed(t, "a", function.AuthToken, "/a"), parsed(t, "c", function.AuthToken, "/c"), only(parsed(t, "a", function.AuthToken, "/one"), "one")))
		return g
	}
	check := func(g *Gateway, token, url string, want int) {
		t.Helper()
		r := ask("POST", url)
		r.Header.Set("Authorization", "Bearer "+token)
		if w := call(g, r); w.Code != want {
			t.Errorf("%s at %s: %d, want %d", token, url, w.Code, want)
		}
	}
	g := front()
	for _, c := range []struct {
		token, url string
		want       int
	}{
		{all, "/a", 200},
		{all, "/c", 200},
		{all, "/fn/zzz", 200},
		{all, "/openapi.json", 404},
		{one, "/a", 200},
		{one, "/c", 403},
		{one, "/fn/b", 200},
		{one, "/fn/c", 403},
		{over, "/a", 401},
		{soon, "/a", 200},
		{soon, "/fn/b", 403},
		{all, "/one", 403},
		{one, "/one", 200},
	} {
		check(g, c.token, c.url, c.want)
	}
	if who, _ := rec.invoked[len(rec.invoked)-1].Event.Attr("auth.sub"); who != "one" {
		t.Errorf("the function is told that it was %q", who)
	}
	built = time.Now().Add(time.Hour) // the clock is wrong
	g = front()
	check(g, soon, "/a", 503)
	check(g, all, "/a", 200)
	for _, bad := range []string{"functions=", "expires=soon", "functions=a functions=b", "scope=x", "expires=2026-01-01T00:00:00Z expires=2027-01-01T00:00:00Z"} {
		if _, err := ParseTokens(strings.NewReader("x " + allHash + " " + bad)); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

// only restricts routes to callers.
func only(routes []Route, callers ...string) []Route {
	for i := range routes {
		routes[i].Require.Callers = callers
	}
	return routes
}

func TestTokensAreReadAgain(t *testing.T) {
	first, firstHash := NewToken()
	second, secondHash := NewToken()
	path := filepath.Join(t.TempDir(), "tokens")
	write(t, path, "a "+firstHash)
	tokens, err := LoadTokens(path)
	if err != nil {
		t.Fatal(err)
	}
	if changed, err := tokens.Refresh(); changed || err != nil || tokens.find(first) == nil || tokens.find(second) != nil {
		t.Errorf("unchanged: %v, %v", changed, err)
	}
	write(t, path, "bb "+secondHash)
	if changed, err := tokens.Refresh(); !changed || err != nil || tokens.find(first) != nil || tokens.find(second) == nil {
		t.Errorf("changed: %v, %v", changed, err)
	}
	for _, text := range []string{"", "nonsense"} {
		write(t, path, text)
		if changed, err := tokens.Refresh(); changed || err == nil || tokens.find(second) == nil {
			t.Errorf("%q: %v, %v", text, changed, err)
		}
		if _, err := tokens.Refresh(); err != nil {
			t.Errorf("%q was told twice", text)
		}
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// authority is a certificate authority in a directory.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	a.cert, a.key = a.issue("ca", &x509.Certificate{Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return a
}

// issue makes a certificate and its key, in NAME.pem and NAME.key.
func (a *authority) issue(name string, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template.SerialNumber, template.NotAfter = big.NewInt(time.Now().UnixNano()), time.Now().Add(time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	write(a.t, filepath.Join(a.dir, name+".pem"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	write(a.t, filepath.Join(a.dir, name+".key"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
	return cert, key
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name) }

// server issues the gateway's certificate.
func (a *authority) server() *x509.Certificate {
	cert, _ := a.issue("server", &x509.Certificate{Subject: pkix.Name{CommonName: "device"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}})
	return cert
}

// client returns one that trusts a and shows the certificate of that name; "" = none.
func (a *authority) client(name string) *http.Client {
	a.t.Helper()
	c := &tls.Config{RootCAs: x509.NewCertPool()}
	c.RootCAs.AddCert(a.cert)
	if name != "" {
		pair, err := tls.LoadX509KeyPair(a.file(name+".pem"), a.file(name+".key"))
		if err != nil {
			a.t.Fatal(err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	transport := &http.Transport{TLSClientConfig: c, ForceAttemptHTTP2: true}
	a.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: patience}
}

// serving runs a gateway until the test is over.
func serving(t *testing.T, g *Gateway) string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- g.Run(ctx) }()
	get(t, "listening", g.Listening())
	t.Cleanup(func() {
		cancel()
		if err := get(t, "end", ended); err != nil {
			t.Error(err)
		}
	})
	return g.Address()
}

// Who shows a certificate of the authority is let in by name; the gateway's own is exchanged while it runs; HTTP/2 is spoken.
func TestCertificates(t *testing.T) {
	t.Parallel()
	a, stranger := newAuthority(t), newAuthority(t)
	first := a.server()
	a.issue("sensor", &x509.Certificate{Subject: pkix.Name{CommonName: "sensor-7"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	a.issue("nobody", &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	a.issue("other", &x509.Certificate{Subject: pkix.Name{CommonName: "x"}, DNSNames: []string{"sensor-8"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	stranger.issue("sensor", &x509.Certificate{Subject: pkix.Name{CommonName: "sensor-7"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	cert, err := LoadCertificate(a.file("server.pem"), a.file("server.key"), a.file("ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	rec := &recorder{}
	g := gateway(t, rec, func(c *Config) { c.TLS, c.Callers, c.Refresh = cert.Config(), true, []Refresher{cert} })
	if faults := g.SetRoutes(slices.Concat(parsed(t, "f", function.AuthMTLS, "GET /x"), only(parsed(t, "f", function.AuthMTLS, "GET /only"), "sensor-7"))); len(faults) > 0 {
		t.Fatal(faults)
	}
	url := "https://" + serving(t, g)
	fetch := func(c *http.Client, path string) (*http.Response, error) {
		res, err := c.Get(url + path)
		if err == nil {
			_, err = io.Copy(io.Discard, res.Body)
			res.Body.Close()
		}
		return res, err
	}
	for _, c := range []struct {
		name, path string
		want       int
	}{{"sensor", "/x", 200}, {"other", "/x", 200}, {"sensor", "/only", 200}, {"other", "/only", 403}, {"", "/x", 403}, {"nobody", "/x", 403}} {
		res, err := fetch(a.client(c.name), c.path)
		if err != nil || res.StatusCode != c.want || res.ProtoMajor != 2 {
			t.Errorf("%q at %s: %+v, %v", c.name, c.path, res, err)
		}
	}
	if who, _ := rec.invoked[1].Event.Attr("auth.sub"); who != "sensor-8" {
		t.Errorf("the function is told that it was %q", who)
	}
	forger := a.client("")
	pair, err := tls.LoadX509KeyPair(stranger.file("sensor.pem"), stranger.file("sensor.key"))
	if err != nil {
		t.Fatal(err)
	}
	forger.Transport.(*http.Transport).TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	if res, err := fetch(forger, "/x"); err == nil {
		t.Errorf("a stranger's certificate: %d", res.StatusCode)
	}
	second := a.server()
	if changed, err := cert.Refresh(); !changed || err != nil {
		t.Errorf("%v, %v", changed, err)
	}
	res, err := fetch(a.client("sensor"), "/x")
	if err != nil || !res.TLS.PeerCertificates[0].Equal(second) || second.Equal(first) {
		t.Errorf("the new certificate is not shown: %v", err)
	}
	write(t, a.file("server.pem"), "half a cert")
	if changed, err := cert.Refresh(); changed || err == nil {
		t.Error("half a certificate was taken")
	}
	if res, err := fetch(a.client("sensor"), "/x"); err != nil || !res.TLS.PeerCertificates[0].Equal(second) {
		t.Errorf("the old certificate is gone: %v", err)
	}
}

func TestCertificateRoutesNeedAnAuthority(t *testing.T) {
	g := gateway(t, &recorder{}, nil)
	if faults := g.SetRoutes(parsed(t, "f", function.AuthMTLS, "GET /x")); len(faults) != 1 || !strings.Contains(faults[0].Why, "client_ca") {
		t.Errorf("%v", faults)
	}
	if w := call(g, ask("GET", "/x")); w.Code != 403 {
		t.Errorf("%d", w.Code)
	}
	if _, err := LoadCertificate("none", "none", ""); err == nil {
		t.Error("no files")
	}
}

func TestRates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gateway(t, &recorder{}, func(c *Config) { c.Rate = function.Rate{Count: 1, Per: time.Hour} })
		routes := slices.Concat(parsed(t, "a", function.AuthPublic, "/a"), parsed(t, "b", function.AuthPublic, "/b"))
		routes[0].Rate, routes[0].CallerRate = function.Rate{Count: 3, Per: time.Second}, function.Rate{Count: 2, Per: time.Second}
		g.SetRoutes(routes)
		from := func(address, url string) (int, string) {
			r := ask("POST", url)
			r.RemoteAddr = address
			w := call(g, r)
			return w.Code, w.Header().Get("Retry-After")
		}
		for n, c := range []struct {
			address, url string
			after        time.Duration
			want         int
		}{
			{"10.0.0.1:1", "/a", 0, 200},
			{"10.0.0.1:2", "/a", 0, 200},
			{"10.0.0.1:3", "/a", 0, 429},
			{"10.0.0.2:1", "/a", 0, 200},
			{"10.0.0.2:1", "/a", 0, 429}, // the route's three
			{"10.0.0.3:1", "/a", 0, 429},
			{"10.0.0.1:1", "/a", 500 * time.Millisecond, 200},
			{"10.0.0.1:1", "/a", 0, 429},
			{"[2001:db8::1]:1", "/b", 0, 200}, // the gateway's own rate
			{"[2001:db8::2]:1", "/b", 0, 429}, // one site
			{"[2001:db8:0:1::2]:1", "/b", 0, 200},
			{"[::ffff:10.0.0.1]:1", "/b", 0, 200},
			{"10.0.0.1:1", "/b", 59 * time.Minute, 429},
			{"10.0.0.1:1", "/b", time.Minute, 200},
			{"127.0.0.1:1", "/fn/x", 0, 200},
			{"127.0.0.1:1", "/fn/x", 0, 429},
		} {
			time.Sleep(c.after)
			if code, after := from(c.address, c.url); code != c.want || (code == 429) != (after != "") {
				t.Errorf("%d: %s at %s: %d, Retry-After %q; want %d", n, c.address, c.url, code, after, c.want)
			}
		}
		if _, after := from("10.0.0.1:1", "/b"); after != "3600" {
			t.Errorf("Retry-After %q", after)
		}
	})
}

// Many callers cost little memory [T5], and those who call too often are not forgotten for those who do not.
func TestManyCallersAreBounded(t *testing.T) {
	l := newLimiter()
	rate := function.Rate{Count: 1, Per: time.Hour}
	for n := range 3 * maxCallers {
		l.take(caller{"r", fmt.Sprint(n)}, rate)
	}
	if len(l.next) > maxCallers {
		t.Errorf("%d callers are remembered", len(l.next))
	}
	if l.take(caller{"r", fmt.Sprint(3*maxCallers - 1)}, rate) == 0 {
		t.Error("the last caller is forgotten")
	}
	if len(newLimiter().next) != 0 || newLimiter().take(caller{}, function.Rate{}) != 0 {
		t.Error("no limit is one")
	}
}

func TestCORS(t *testing.T) {
	for _, c := range []struct {
		origins, origin string
		allowed         string
	}{
		{"https://app.example", "https://app.example", "https://app.example"},
		{"https://app.example", "https://evil.example", ""},
		{"https://app.example", "", ""},
		{"", "https://app.example", ""},
		{"*", "https://app.example", "*"},
	} {
		g := gateway(t, &recorder{}, func(conf *Config) { conf.Origins = strings.Fields(c.origins) })
		g.SetRoutes(parsed(t, "f", function.AuthPublic, "POST /x"))
		r := ask("OPTIONS", "/x")
		r.Header.Set("Origin", c.origin)
		r.Header.Set("Access-Control-Request-Method", "POST")
		r.Header.Set("Access-Control-Request-Headers", "authorization, ce-id, x-secret, ce-a\r\nx")
		w := call(g, r)
		h := w.Header()
		if h.Get("Access-Control-Allow-Origin") != c.allowed || (w.Code == 204) != (c.allowed != "") {
			t.Errorf("%q asks, %q may: %d %v", c.origin, c.origins, w.Code, h)
		}
		if got := h.Get("Access-Control-Allow-Headers"); c.allowed != "" && (!strings.HasSuffix(got, "Traceparent, ce-id") || h.Get("Access-Control-Allow-Credentials") != "") {
			t.Errorf("headers %q", got)
		}
		r = ask("POST", "/x")
		r.Header.Set("Origin", c.origin)
		if w = call(g, r); w.Code != 200 || w.Header().Get("Access-Control-Allow-Origin") != c.allowed {
			t.Errorf("%q posts, %q may: %d %v", c.origin, c.origins, w.Code, w.Header())
		}
	}
	trusted := gateway(t, &recorder{}, func(c *Config) { c.Origins = []string{"https://app.example"} })
	for origin, want := range map[string]int{"https://app.example": 200, "https://evil.example": 403} {
		if w := call(trusted, post("f", "", "Origin", origin, "Sec-Fetch-Site", "cross-site")); w.Code != want {
			t.Errorf("by name from %s: %d", origin, w.Code)
		}
	}
	for _, bad := range []string{"app.example", "https://app.example/", "https://app.example/x", "null"} {
		if _, err := New(Config{Address: "127.0.0.1:0", Functions: &recorder{}, Origins: []string{bad}}); err == nil {
			t.Errorf("%q was taken for an origin", bad)
		}
	}
}

// What a function is told of its caller is what was checked: no header, attribute or parameter says it.
func TestNobodySaysWhoHeIs(t *testing.T) {
	rec := &recorder{}
	g := gateway(t, rec, nil)
	g.SetRoutes(parsed(t, "f", function.AuthPublic, "POST /x"))
	r := ask("POST", "/x?auth.sub=root&sub=root")
	for _, name := range []string{"Ce-Specversion", "Ce-Id", "Ce-Source", "Ce-Type"} {
		r.Header.Set(name, "1.0")
	}
	r.Header.Set("Ce-Authsub", "root")
	r.Header.Set("Auth.sub", "root")
	call(g, r)
	bad := ask("POST", "/x")
	bad.Header = r.Header.Clone()
	bad.Header["Ce-Auth.sub"] = []string{"root"}
	structured := ask("POST", "/x")
	structured.Header.Set("Content-Type", cloudJSON)
	structured.Body = io.NopCloser(bytes.NewReader([]byte(`{"specversion":"1.0","id":"1","source":"s","type":"t","auth.sub":"root"}`)))
	for _, r := range []*http.Request{bad, structured} {
		if w := call(g, r); w.Code != 400 {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	}
	if len(rec.invoked) != 1 {
		t.Fatalf("%d ran", len(rec.invoked))
	}
	for _, a := range rec.invoked[0].Event.User {
		if strings.HasPrefix(a.Shown(), event.AuthPrefix) {
			t.Errorf("a caller said %v", a)
		}
	}
}

// Who does not wait finds the answer later, and nobody else does [T5].
func TestResults(t *testing.T) {
	ada, adaHash := NewToken()
	bob, bobHash := NewToken()
	tokens, err := ParseTokens(strings.NewReader("ada " + adaHash + "\nbob " + bobHash))
	if err != nil {
		t.Fatal(err)
	}
	rec := &recorder{}
	g := gateway(t, rec, func(c *Config) { c.Tokens = tokens })
	g.SetRoutes(slices.Concat(parsed(t, "f", function.AuthToken, "POST /x"), parsed(t, "p", function.AuthPublic, "POST /open")))
	send := func(method, url, token string) (int, http.Header, string) {
		r := ask(method, url)
		if method == "POST" {
			r.Header.Set("Prefer", "respond-async")
		}
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		w := call(g, r)
		return w.Code, w.Header(), w.Body.String()
	}
	code, h, _ := send("POST", "/x", ada)
	at := h.Get("Location")
	if code != 202 || !strings.HasPrefix(at, function.ResultsPath) {
		t.Fatalf("%d %v", code, h)
	}
	if code, h, _ := send("GET", at, ada); code != 202 || h.Get("Retry-After") == "" {
		t.Errorf("not run yet: %d %v", code, h)
	}
	rec.posted[0].Late.Settle(triggers.Settlement{Response: &function.Response{Status: 201, ContentType: "text/plain", Data: []byte("done")}})
	for _, c := range []struct {
		method, url, token string
		code               int
		body               string
	}{
		{"GET", at, ada, 201, "done"},
		{"GET", at, ada, 201, "done"},
		{"GET", at, bob, 404, "no such result"},
		{"GET", at, "", 401, "token"},
		{"DELETE", at, ada, 405, "GET"},
		{"GET", at + "x", ada, 404, "no such result"},
		{"GET", function.ResultsPath, ada, 404, "no such result"},
	} {
		if code, _, body := send(c.method, c.url, c.token); code != c.code || !strings.Contains(body, c.body) {
			t.Errorf("%s %s by %.4q: %d %s", c.method, c.url, c.token, code, body)
		}
	}
	_, h, _ = send("POST", "/open", "")
	rec.posted[1].Late.Settle(triggers.Settlement{Outcome: function.Reject})
	if code, _, body := send("GET", h.Get("Location"), ""); code != 422 {
		t.Errorf("given up: %d %s", code, body)
	}
	rec.full = &function.Error{Op: "journal: append", Subject: "f", Class: function.ClassOverload, Kind: "journal-full", Err: errors.New("full")}
	if code, h, _ := send("POST", "/x", ada); code != 503 || h.Get("Location") != "" || g.results.order.Len() != 2 {
		t.Errorf("without room: %d %v, %d results", code, h, g.results.order.Len())
	}
}

func TestResultsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newResults()
		settle := func(bytes int) string {
			res := s.open(&Route{}, "ada")
			s.settle(res.id, &triggers.Settlement{Response: &function.Response{Data: make([]byte, bytes)}})
			return res.id
		}
		first := settle(1)
		big := settle(maxResultBytes)
		if _, ok := s.find(first); ok || s.bytes != maxResultBytes {
			t.Errorf("the oldest did not make room: %d bytes", s.bytes)
		}
		if settle(maxResultBytes + 1); s.bytes != 0 || len(s.byID) != 0 {
			t.Errorf("%d bytes, %d results", s.bytes, len(s.byID))
		}
		if _, ok := s.find(big); ok {
			t.Error("it stayed")
		}
		for range maxResults + 10 {
			settle(0)
		}
		if len(s.byID) != maxResults || s.order.Len() != maxResults {
			t.Errorf("%d results", len(s.byID))
		}
		last := settle(0)
		time.Sleep(keepResult + time.Second)
		if _, ok := s.find(last); ok || len(s.byID) != 0 || s.bytes != 0 {
			t.Errorf("%d results, %d bytes after their time", len(s.byID), s.bytes)
		}
		s.settle(last, &triggers.Settlement{})
		s.close(last)
	})
}
