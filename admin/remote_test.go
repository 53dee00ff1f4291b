package admin_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mayfly/admin"
	"mayfly/admin/admintest"
	"mayfly/function"
)

// newAuthority returns an authority, or ends the test.
func newAuthority(t *testing.T) *admintest.Authority {
	t.Helper()
	a, err := admintest.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func certify(t *testing.T, a *admintest.Authority, name string, until time.Duration) *tls.Certificate {
	t.Helper()
	c, err := a.Certify(name, until)
	if err != nil {
		t.Fatal(err)
	}
	return &c
}

// far is an agent that answers from afar.
type far struct {
	*admintest.Agent
	*admintest.Authority
	tokens  *admin.Tokens
	server  *admin.Server
	address string // HOST:PORT
	id      string // of the node
	said    *spoken
}

// spoken is what the server logged. It logs handshakes that fail after the client knows.
type spoken struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *spoken) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *spoken) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func afar(t *testing.T) *far {
	t.Helper()
	f := &far{Agent: fake(), Authority: newAuthority(t), said: &spoken{}}
	var err error
	f.tokens, err = admin.OpenTokens(filepath.Join(t.TempDir(), "tokens.json"), f.Pin, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	f.Keep = f.tokens
	f.server, err = admin.NewServer(admin.Config{}, f.Backend(), slog.New(slog.NewTextHandler(f.said, nil)))
	if err != nil {
		t.Fatal(err)
	}
	own := certify(t, f.Authority, "node", time.Hour)
	f.id = admintest.ID(*own)
	ln, err := tls.Listen("tcp", "127.0.0.1:0", f.Listening(*own))
	if err != nil {
		t.Fatal(err)
	}
	f.address = ln.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- f.server.ServeRemote(ctx, ln, admin.Gate{Tokens: f.tokens, Certificate: admintest.Operators})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("ServeRemote: %v", err)
		}
	})
	return f
}

func (f *far) token(t *testing.T, scope string) string {
	t.Helper()
	made, err := f.tokens.Create(admin.AccessRequest{Name: "test", Scope: scope})
	if err != nil {
		t.Fatal(err)
	}
	return made.Token
}

// dial returns a client; it ends with the test.
func dial(t *testing.T, r admin.Remote) *admin.Client {
	t.Helper()
	c, err := admin.NewRemoteClient(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestFromAfar(t *testing.T) {
	f := afar(t)
	token := f.token(t, admin.ScopeDeploy)
	pinless := strings.Join(strings.Split(token, ".")[:3], ".")
	operator := certify(t, f.Authority, "operator", time.Hour)
	stranger := newAuthority(t)
	elsewhere, err := admin.OpenTokens(filepath.Join(t.TempDir(), "x"), stranger.Pin, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := elsewhere.Create(admin.AccessRequest{Name: "x", Scope: admin.ScopeRead})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		r    admin.Remote
		kind string // "error" = none
		why  string
	}{
		{"the token pins the authority", admin.Remote{Address: "https://" + f.address, Token: token}, "error", ""},
		{"the authority is given", admin.Remote{Address: "https://" + f.address, Token: pinless, CA: f.Pool()}, "error", ""},
		{"the node is named", admin.Remote{Address: "https://" + f.id + "@" + f.address, Token: token}, "error", ""},
		{"a certificate", admin.Remote{Address: "https://" + f.address, Certificate: operator, CA: f.Pool()}, "error", ""},
		{"another node answers", admin.Remote{Address: "https://abcd@" + f.address, Token: token}, admin.KindDenied, "not abcd"},
		{"nobody says whom to trust", admin.Remote{Address: "https://" + f.address, Token: pinless}, admin.KindDenied, "--ca"},
		{"another authority is given", admin.Remote{Address: "https://" + f.address, Token: token, CA: stranger.Pool()}, admin.KindDenied, "--ca"},
		{"another authority is pinned", admin.Remote{Address: "https://" + f.address, Token: foreign.Token}, admin.KindDenied, "did not show the authority"},
		{"a token of another node", admin.Remote{Address: "https://" + f.address, Token: foreign.Token, CA: f.Pool()}, admin.KindDenied, "not valid on this node"},
		{"nothing is shown", admin.Remote{Address: "https://" + f.address, CA: f.Pool()}, admin.KindDenied, "mayfly access create"},
		{"nobody is there", admin.Remote{Address: "https://127.0.0.1:1", CA: f.Pool()}, admin.KindNotRunning, "firewall"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := dial(t, c.r).Status(t.Context())
			if kind(err) != c.kind {
				t.Fatalf("%v, want kind %s", err, c.kind)
			}
			fe, _ := errors.AsType[*function.Error](err)
			if c.why != "" && (fe == nil || !strings.Contains(fe.Error()+fe.Hint, c.why)) {
				t.Errorf("%v: want %q in it or in its hint", err, c.why)
			}
		})
	}
	for _, address := range []string{"", "http://h:1", "https://h", "https://h:1/x", "h:1", "https://h:1?x", "https://"} {
		if _, err := admin.NewRemoteClient(admin.Remote{Address: address}); kind(err) != admin.KindInvalid {
			t.Errorf("%q: %v", address, err)
		}
	}
	if _, err := admin.NewRemoteClient(admin.Remote{Address: "https://h:1", Token: "mayflyapi.x"}); kind(err) != admin.KindInvalid {
		t.Errorf("half a token: %v", err)
	}
}

// A deployment, a stream and its end, over TLS.
func TestWorkFromAfar(t *testing.T) {
	f := afar(t)
	c := dial(t, admin.Remote{Address: "https://" + f.address, Token: f.token(t, admin.ScopeDeploy)})
	if _, err := c.Deploy(t.Context(), admin.DeployRequest{Manifest: manifest}, admintest.Module("log info hot"), nil); err != nil {
		t.Fatal(err)
	}
	stop := errors.New("seen")
	err := c.Logs(t.Context(), admin.LogQuery{Follow: true}, func(fr admin.Frame[admin.LogRecord]) error {
		switch {
		case fr.Ready:
			_, err := c.Invoke(t.Context(), "overheat", admin.InvokeRequest{})
			return err
		case fr.Record != nil:
			return stop
		}
		return nil
	})
	if !errors.Is(err, stop) {
		t.Errorf("the stream ended with %v", err)
	}
}

// Every path, by everybody who may not come in: nobody gets anywhere ([O5]).
func TestRemoteSweep(t *testing.T) {
	f := afar(t)
	node, expired := certify(t, f.Authority, "another node", time.Hour), certify(t, f.Authority, "operator", -time.Minute)
	stranger := certify(t, newAuthority(t), "operator", time.Hour)
	revoked, err := f.tokens.Create(admin.AccessRequest{Name: "x", Scope: admin.ScopeAdmin})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.tokens.Revoke(revoked.ID); err != nil {
		t.Fatal(err)
	}
	for name, try := range map[string]struct {
		cert   *tls.Certificate
		bearer string
	}{
		"nothing": {}, "a node's certificate": {cert: node}, "an expired certificate": {cert: expired}, "a stranger's certificate": {cert: stranger},
		"a revoked token": {bearer: "Bearer " + revoked.Token}, "no bearer": {bearer: "Basic eDp5"}, "an empty token": {bearer: "Bearer "},
		"a bad token beside a good certificate": {cert: certify(t, f.Authority, "operator", time.Hour), bearer: "Bearer x"},
	} {
		t.Run(name, func(t *testing.T) {
			conf := &tls.Config{RootCAs: f.Pool(), InsecureSkipVerify: true}
			if try.cert != nil {
				conf.Certificates = []tls.Certificate{*try.cert}
			}
			transport := &http.Transport{TLSClientConfig: conf, ForceAttemptHTTP2: true}
			defer transport.CloseIdleConnections()
			for path := range f.server.Paths() {
				if status := knock(t, transport, path, "https://"+f.address, try.bearer); status != http.StatusForbidden && status != 0 {
					t.Errorf("%s: %d", path, status)
				}
			}
		})
	}
	if list, err := f.List(t.Context()); err != nil || len(list) > 0 || len(f.Published()) > 0 || len(f.tokens.List()) > 0 {
		t.Errorf("somebody got somewhere: %v, %v", list, err)
	}
	if n := strings.Count(f.said.String(), "operator from afar refused"); n != 1 {
		t.Errorf("refusals are logged %d times within ten seconds", n)
	}
}

// knock sends a request without a body to a path and returns the status, 0 for a handshake that failed.
func knock(t *testing.T, transport http.RoundTripper, pattern, base, bearer string) int {
	t.Helper()
	method, path, _ := strings.Cut(pattern, " ")
	path = strings.NewReplacer("{name}", "overheat", "{node}", "bench", "{id}", "x").Replace(path)
	req, err := http.NewRequestWithContext(t.Context(), method, base+path, strings.NewReader(`{"all": true}`))
	if err != nil {
		t.Fatal(err)
	}
	if bearer != "" {
		req.Header.Set("Authorization", bearer)
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

// Every path keeps to its scope, and the scopes are those that were meant ([O5]).
func TestScopes(t *testing.T) {
	f := afar(t)
	read := []string{
		"GET /v1/usage/verify", "POST /v1/usage", "GET /v1/status", "GET /v1/settings", "GET /v1/functions", "GET /v1/functions/{name}", "POST /v1/dead-letters", "GET /v1/dead-letters/{id}",
		"POST /v1/subscribe", "POST /v1/logs", "POST /v1/events", "GET /v1/nodes", "GET /v1/nodes/{node}", "GET /v1/keyring", "POST /v1/explain",
		"POST /v1/drill", "GET /v1/functions/{name}/rollout", "GET /v1/functions/{name}/history", "GET /v1/functions/{name}/canary", "GET /v1/secrets", "GET /v1/operators",
	}
	deploy := []string{
		"POST /v1/functions", "DELETE /v1/functions/{name}", "POST /v1/functions/{name}/pause", "POST /v1/functions/{name}/invoke", "POST /v1/dry-run",
		"POST /v1/dead-letters/replay", "POST /v1/dead-letters/drop", "POST /v1/publish", "POST /v1/plan", "POST /v1/functions/{name}/rollback", "POST /v1/functions/{name}/canary", "POST /v1/orders",
	}
	rank := map[string]int{admin.ScopeRead: 1, admin.ScopeDeploy: 2, admin.ScopeAdmin: 3}
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	for scope, have := range rank {
		bearer := "Bearer " + f.token(t, scope)
		for path, stated := range f.server.Paths() {
			want := admin.ScopeAdmin
			switch {
			case slices.Contains(read, path):
				want = admin.ScopeRead
			case slices.Contains(deploy, path):
				want = admin.ScopeDeploy
			}
			if stated != want {
				t.Errorf("%s needs scope %s, want %s", path, stated, want)
			}
			if have < rank[want] {
				if status := knock(t, transport, path, "https://"+f.address, bearer); status != http.StatusForbidden {
					t.Errorf("%s with scope %s: %d", path, scope, status)
				}
			}
		}
	}
	if status := knock(t, transport, "GET /v1/status", "https://"+f.address, "Bearer "+f.token(t, admin.ScopeRead)); status != http.StatusOK {
		t.Errorf("reading with scope read: %d", status)
	}
}

// The handler refuses what did not come over TLS, and pages of other origins, whatever they show.
func TestRemoteNeedsTLS(t *testing.T) {
	f := afar(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	plain := &http.Server{Handler: f.server.Remote(admin.Gate{Tokens: f.tokens}), ReadHeaderTimeout: time.Second}
	go func() { _ = plain.Serve(ln) }() // it ends with Close
	defer plain.Close()
	bearer := "Bearer " + f.token(t, admin.ScopeAdmin)
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	defer transport.CloseIdleConnections()
	if status := knock(t, transport, "GET /v1/status", "http://"+ln.Addr().String(), bearer); status != http.StatusForbidden {
		t.Errorf("in clear text: %d", status)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+f.address+"/v1/drill", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", bearer)
	req.Header.Set("Sec-Fetch-Site", "cross-site")
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("from another page: %d", resp.StatusCode)
	}
}

// A version that asks for more is refused, whoever sends it, also when it is only tried ([O4]).
func TestNewPermissionsNeedAWord(t *testing.T) {
	f := afar(t)
	c := dial(t, admin.Remote{Address: "https://" + f.address, Token: f.token(t, admin.ScopeDeploy)})
	module := admintest.Module("log info hot")
	deploy := func(permissions string, allow, dry bool) error {
		_, err := c.Deploy(t.Context(), admin.DeployRequest{
			Manifest: strings.Replace(manifest, `publish = ["plant/+/alarm"]`, permissions, 1), AllowNewPermissions: allow, DryRun: dry,
		}, module, nil)
		return err
	}
	if err := deploy(`publish = ["plant/+/alarm"]`, false, false); err != nil {
		t.Fatalf("the first: %v", err)
	}
	more := "publish = [\"plant/+/alarm\", \"other\"]\nsecrets = [\"k\"]"
	for _, dry := range []bool{false, true} {
		if err := deploy(more, false, dry); kind(err) != admin.KindPermission || !strings.Contains(err.Error(), "publish other; secret k") {
			t.Errorf("asking for more: %v", err)
		}
	}
	if got, err := f.Get(t.Context(), "overheat"); err != nil || strings.Contains(got.Manifest, "other") {
		t.Errorf("it was deployed: %v", err)
	}
	if err := deploy(more, true, false); err != nil {
		t.Errorf("with a word: %v", err)
	}
	if err := deploy(`publish = ["plant/7/alarm"]`, false, false); err != nil {
		t.Errorf("asking for less: %v", err)
	}
}
