package e2e_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"mayfly/internal/dex"
)

// The front door as a device on a network has it: TLS, tokens of a real provider, limits, answers for those who do not wait; and the
// provider away.
func TestFrontDoor(t *testing.T) {
	t.Parallel()
	p := dex.New(t, time.Hour)
	n := newNode(t, "")
	address := freeAddress(t)
	n.configure(fmt.Sprintf("[embedded]\nlisten = [%q]\n[gateway]\nlisten = %q\ncert = %q\nkey = %q\nclient_ca = %q\n[gateway.issuer.site]\nurl = %q\naudience = [\"mayfly\"]\nca = %q\nrefresh = \"10s\"\n",
		freeAddress(t), address, p.CA, p.Key, p.CA, p.URL, p.CA)) // the provider's certificate does for us too: it is for 127.0.0.1
	n.start()
	const route = "[[trigger.http]]\nroute = %q\nauth = %q\n%s\n"
	n.deploy("door", fmt.Sprintf(route, "POST /jwt/{line}", "jwt", "claims = { email = \"ada@example.com\" }")+
		fmt.Sprintf(route, "POST /once", "jwt", "rate = \"1/h\"")+fmt.Sprintf(route, "POST /cert", "mtls", "callers = [\"dex\"]")+maySee, mirror(t))
	n.must("fn", "show", "door").want(t, 0, "POST /jwt/{line}, jwt, ready")
	shut := n.project("shut", fmt.Sprintf(route, "POST /elsewhere", "jwt", "issuer = \"nobody\"")+fmt.Sprintf(route, "POST /file", "token", "")+maySee, mirror(t))
	n.mayfly("deploy", "--wait", shut).want(t, 1, "there is no [gateway.issuer.nobody]")
	pem, err := os.ReadFile(p.CA)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	d := &door{node: n, url: "https://" + address, client: &http.Client{Transport: transport}}
	ada, bob := "Bearer "+p.Token("ada", "mayfly"), "Bearer "+p.Token("bob", "mayfly")
	until(t, "the issuer's keys", func() (bool, string) {
		r := d.call("POST", "/jwt/7", "Authorization", ada)
		return r.status != 503, r.body
	})
	got := d.call("POST", "/jwt/7", "Authorization", ada)
	if got.status != 200 || got.attrs["auth.claims.name"] != "ada" || got.attrs["auth.iss"] != p.URL || got.attrs["auth.kind"] != "jwt" || got.attrs["topic.line"] != "7" {
		t.Errorf("%d %s", got.status, got.body)
	}
	for _, c := range []struct {
		path, token string
		status      int
		says        string
	}{
		{"/jwt/7", "", 401, "has no token"},
		{"/jwt/7", bob, 403, "email"},
		{"/jwt/7", "Bearer " + p.Token("ada", "other"), 401, "audience"},
		{"/jwt/7", ada[:len(ada)-8], 401, "not good"},
		{"/once", bob, 200, "auth.sub"},
		{"/once", ada, 429, "1/h"},
		{"/cert", ada, 403, "no client certificate"},
		{"/elsewhere", ada, 403, "nobody"},
		{"/file", ada, 403, "knows none"},
		{"/fn/door", ada, 200, "mayfly.http.request"}, // by name, from this machine
	} {
		if r := d.call("POST", c.path, "Authorization", c.token); r.status != c.status || !strings.Contains(r.body, c.says) {
			t.Errorf("%s with %.10s: %d %s; want %d %q", c.path, c.token, r.status, r.body, c.status, c.says)
		}
	}
	later := d.call("POST", "/jwt/9", "Authorization", ada, "Prefer", "respond-async")
	at := later.header.Get("Location")
	if later.status != 202 || at == "" {
		t.Fatalf("%d %v", later.status, later.header)
	}
	until(t, "the answer", func() (bool, string) {
		r := d.call("GET", at, "Authorization", ada)
		return r.status == 200 && r.attrs["topic.line"] == "9", r.body
	})
	if r := d.call("GET", at, "Authorization", bob); r.status != 403 && r.status != 404 {
		t.Errorf("bob reads ada's answer: %d %s", r.status, r.body)
	}
	pair, err := tls.LoadX509KeyPair(p.CA, p.Key)
	if err != nil {
		t.Fatal(err)
	}
	shown := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}}}
	defer shown.CloseIdleConnections()
	d.client = &http.Client{Transport: shown}
	if r := d.call("POST", "/cert"); r.status != 200 || r.attrs["auth.sub"] != "dex" {
		t.Errorf("with a certificate: %d %s", r.status, r.body)
	}
	p.Stop()
	n.kill()
	n.start()
	d.client = &http.Client{Transport: transport}
	if r := d.call("POST", "/jwt/7", "Authorization", ada); r.status != 200 {
		t.Errorf("after a power cut, without the provider: %d %s", r.status, r.body)
	}
	until(t, "the operator is told", func() (bool, string) {
		r := n.mayfly("status")
		return strings.Contains(r.out, "issuer site: its tokens are checked with keys of "), r.out
	})
}
