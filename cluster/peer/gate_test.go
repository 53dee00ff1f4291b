package peer

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mayfly/function"
)

// every is all doors, each of which says that it was reached.
func every(reached *atomic.Int64) Doors {
	answer := func(context.Context, string, []byte) ([]byte, error) { reached.Add(1); return []byte("secret"), nil }
	return Doors{
		Exec: exec(func(context.Context, string, *ExecRequest) (*function.Result, error) {
			reached.Add(1)
			return &function.Result{}, nil
		}),
		Blob: func(function.Digest) (io.ReadSeekCloser, int64, error) {
			reached.Add(1)
			return nil, 0, errors.New("not here")
		},
		State:   map[string]Answer{"catalog": answer},
		Keyring: func(context.Context, string) ([]byte, error) { reached.Add(1); return []byte("secret"), nil },
		Admin:   http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }),
	}
}

// raw posts or gets with a configuration of the caller's and returns the status and the body, or the error of the connection.
func raw(t testing.TB, address string, config *tls.Config, method, path string) (int, []byte, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	conn, err := route{address, config, func(*tls.ConnectionState) error { return nil }, time.Minute, nil}.connect(ctx)
	if err != nil {
		return 0, nil, err
	}
	defer conn.Close()
	r, err := request(ctx, method, path, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := conn.RoundTrip(r)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, b, err
}

var everyPath = []string{"/v1/exec", "/v1/load", "/v1/blobs/" + strings.Repeat("a", 64), "/v1/state/catalog", "/v1/keyring", "/v1/admin/functions", "/v1/join", "/v1/renew", "/", "/v1/none"}

// Whoever is not an admitted node gets not a byte of service, whatever certificate he shows and whatever he asks for. [N1]
func TestStrangersGetNothing(t *testing.T) {
	s, foreign := newSite(t), newSite(t)
	var reached atomic.Int64
	s.serve(t, "b", every(&reached), Limits{})
	address, _ := s.resolve("b")
	mine, other := s.ca.certificate(t, "a"), s.ca.certificate(t, "a")
	stolen := tls.Certificate{Certificate: mine.Certificate, PrivateKey: other.PrivateKey} // without its key
	s.revoked["revoked"] = true
	for name, certs := range map[string][]tls.Certificate{
		"none": nil, "another authority's": {foreign.ca.certificate(t, "a")}, "stolen": {stolen}, "revoked": {s.ca.certificate(t, "revoked")},
		"another's, of the same name as ours": {func() tls.Certificate {
			c := foreign.ca.certificate(t, "a")
			return tls.Certificate{Certificate: append(c.Certificate, s.ca.cert.Raw), PrivateKey: c.PrivateKey}
		}()},
	} {
		for _, path := range everyPath {
			for _, method := range []string{http.MethodGet, http.MethodPost} {
				config := &tls.Config{RootCAs: s.ca.pool, ServerName: "b", GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
					if certs == nil {
						return &tls.Certificate{}, nil
					}
					return &certs[0], nil
				}}
				status, body, err := raw(t, address, config, method, path)
				if err == nil && (status != http.StatusForbidden && status != http.StatusMethodNotAllowed || status == http.StatusForbidden && len(body) > 0) {
					t.Errorf("%s, %s %s: status %d, %q", name, method, path, status, body)
				}
			}
		}
	}
	if reached.Load() != 0 {
		t.Errorf("%d doors were reached", reached.Load())
	}
}

// A node that is revoked is turned away at its next request, on the connection it has.
func TestRevokedDuringAConnection(t *testing.T) {
	s := newSite(t)
	s.serve(t, "b", Doors{Exec: exec(echo)}, Limits{})
	p := s.peers(t, "a")
	if _, err := invoke(t, p, "b", callOf("1")); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	s.revoked["a"] = true
	s.mu.Unlock()
	_, err := invoke(t, p, "b", callOf("2"))
	wantClass(t, err, function.ClassNotHere, KindDenied)
}

// The caller does not talk to a node that is another one, though its certificate is good and its name resolves to it.
func TestWrongNodeAtTheAddress(t *testing.T) {
	s := newSite(t)
	var reached atomic.Int64
	s.serve(t, "evil", every(&reached), Limits{})
	address, _ := s.resolve("evil")
	s.at("b", address)
	p := s.peers(t, "a")
	p.cfg.TLS = func(string) *tls.Config { // that checks the chain alone
		c := s.clientTLS(s.ca.certificate(t, "a"))("b")
		c.InsecureSkipVerify = true
		c.VerifyConnection = func(state tls.ConnectionState) error {
			_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: s.ca.pool})
			return err
		}
		return c
	}
	p.cfg.NodeOf = func(state *tls.ConnectionState) (string, bool) {
		return state.PeerCertificates[0].Subject.CommonName, state.HandshakeComplete
	}
	_, err := invoke(t, p, "b", callOf("1"))
	wantClass(t, err, function.ClassNotHere, KindUnreachable)
	if reached.Load() != 0 || err == nil || !strings.Contains(err.Error(), `it is "evil", not "b"`) {
		t.Errorf("%v", err)
	}
}

// Other protocols end at once.
func TestOtherProtocols(t *testing.T) {
	s := newSite(t)
	var reached atomic.Int64
	s.serve(t, "b", every(&reached), Limits{Patience: 300 * time.Millisecond})
	address, _ := s.resolve("b")
	certs := []tls.Certificate{s.ca.certificate(t, "a")}
	for name, connect := range map[string]func() (net.Conn, error){
		"plain": func() (net.Conn, error) { return net.Dial("tcp", address) },
		"TLS 1.2": func() (net.Conn, error) {
			return tls.Dial("tcp", address, &tls.Config{RootCAs: s.ca.pool, ServerName: "b", MaxVersion: tls.VersionTLS12, Certificates: certs})
		},
		"no ALPN": func() (net.Conn, error) {
			return tls.Dial("tcp", address, &tls.Config{RootCAs: s.ca.pool, ServerName: "b", Certificates: certs})
		},
		"HTTP/1.1": func() (net.Conn, error) {
			return tls.Dial("tcp", address, &tls.Config{RootCAs: s.ca.pool, ServerName: "b", Certificates: certs, NextProtos: []string{"http/1.1"}})
		},
		"silence": func() (net.Conn, error) { return net.Dial("tcp", address) },
	} {
		c, err := connect()
		if err != nil {
			continue // refused in the handshake
		}
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		if name != "silence" {
			_, _ = io.WriteString(c, "GET /v1/load HTTP/1.1\r\nHost: b\r\n\r\n") // what comes back says enough
		}
		text, err := io.ReadAll(c)
		if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() {
			t.Errorf("%s: still open after %v", name, 5*time.Second)
		}
		if bytes.Contains(text, []byte("200")) {
			t.Errorf("%s: %q", name, text)
		}
		_ = c.Close()
	}
	if reached.Load() != 0 {
		t.Errorf("%d doors were reached", reached.Load())
	}
}

// Strangers cannot take the connections of nodes, and cannot keep theirs.
func TestStrangersAreBounded(t *testing.T) {
	s := newSite(t)
	srv, _ := s.serve(t, "b", Doors{Exec: exec(echo)}, Limits{Pending: 10, PerIP: 10, Patience: 2 * time.Second})
	address, _ := s.resolve("b")
	p := s.peers(t, "a")
	if _, err := invoke(t, p, "b", callOf("1")); err != nil {
		t.Fatal(err)
	}
	for range 50 {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	eventually(t, "those beyond the bound are closed", func() bool { return srv.Counters().Dropped.Load() == 40 })
	if _, err := invoke(t, p, "b", callOf("2")); err != nil {
		t.Errorf("a node that is connected: %v", err)
	}
	another := s.peers(t, "c")
	eventually(t, "their time is over and another node comes in", func() bool {
		_, err := invoke(t, another, "b", callOf("3"))
		return err == nil
	})
}

// A node has so many connections and no more.
func TestConnectionsOfOneNode(t *testing.T) {
	s := newSite(t)
	s.serve(t, "b", Doors{Exec: exec(echo)}, Limits{PerNode: 2})
	for i := range 4 {
		_, err := invoke(t, s.peers(t, "a"), "b", callOf(fmt.Sprint(i)))
		if (err == nil) != (i < 2) {
			t.Errorf("connection %d: %v", i, err)
		}
	}
	if _, err := invoke(t, s.peers(t, "c"), "b", callOf("1")); err != nil {
		t.Error(err)
	}
}

func TestJoin(t *testing.T) {
	s := newSite(t)
	doors := every(new(atomic.Int64))
	doors.Join = func(_ context.Context, from Stranger, request []byte) ([]byte, error) {
		if from.TLS == nil || !strings.HasPrefix(from.Address, "127.0.0.1:") {
			t.Errorf("%+v", from)
		}
		if string(request) != "token" {
			return nil, &function.Error{Op: "join", Subject: "token", Class: function.ClassReject, Kind: "used-up", Err: errors.New("it was used"), Hint: "make another"}
		}
		return []byte("grant"), nil
	}
	s.serve(t, "b", doors, Limits{Joins: 3})
	address, _ := s.resolve("b")
	desk := Signer{Address: address, TLS: &tls.Config{RootCAs: s.ca.pool, ServerName: "b"}}
	ctx := context.Background()
	if b, err := desk.Join(ctx, []byte("token")); err != nil || string(b) != "grant" {
		t.Errorf("%q %v", b, err)
	}
	_, err := desk.Join(ctx, []byte("old"))
	wantClass(t, err, function.ClassReject, "used-up")
	_, err = desk.Join(ctx, make([]byte, MaxRequest+1))
	if function.KindOf(err) != "too-large" {
		t.Errorf("%v", err)
	}
	_, err = desk.Join(ctx, []byte("token"))
	if function.ClassOf(err) != function.ClassOverload {
		t.Errorf("the fourth within a minute: %v", err)
	}
	_, err = desk.Renew(ctx, nil)
	if function.ClassOf(err) == function.ClassNone {
		t.Error("renewed where nobody can")
	}
	_, err = Signer{Address: address, TLS: &tls.Config{RootCAs: newAuthority(t).pool, ServerName: "b"}}.Join(ctx, []byte("token"))
	wantClass(t, err, function.ClassRetry, KindUnreachable)
}

// Ten thousand malformed requests of an admitted node leave nothing behind. [N3]
func TestMalformedRequestsAreCheap(t *testing.T) {
	s := newSite(t)
	srv, _ := s.serve(t, "b", every(new(atomic.Int64)), Limits{})
	p := s.peers(t, "a")
	good := requestOf(callOf("1")).encode(nil, time.Now())
	storm := func(n int) {
		var group sync.WaitGroup
		for i := range 8 {
			group.Go(func() { malformed(t, p, good, rand.New(rand.NewPCG(1, uint64(i))), n/8) })
		}
		group.Wait()
	}
	storm(1000)
	before, goroutines := heap(), runtime.NumGoroutine()
	storm(10_000)
	if after := heap(); after > before+8<<20 {
		t.Errorf("the heap grew from %d to %d KiB", before>>10, after>>10)
	}
	eventually(t, "no goroutine is left", func() bool { return runtime.NumGoroutine() <= goroutines+2 })
	if srv.Counters().Bad.Load() < 5000 || srv.bodies.used.Load() != 0 || srv.calls.Load() != 0 {
		t.Errorf("%d bad, %d bytes, %d calls", srv.Counters().Bad.Load(), srv.bodies.used.Load(), srv.calls.Load())
	}
	if _, err := invoke(t, p, "b", callOf("1")); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// malformed sends n requests that are parts of a good one, with some bytes changed, mostly to where it belongs.
func malformed(t testing.TB, p *Peers, good []byte, r *rand.Rand, n int) {
	for range n {
		body := bytes.Clone(good[:r.IntN(len(good)+1)])
		for range r.IntN(8) {
			if len(body) > 0 {
				body[r.IntN(len(body))] = byte(r.Uint32())
			}
		}
		path := "/v1/exec"
		if r.IntN(50) == 0 {
			path = everyPath[r.IntN(len(everyPath))]
		}
		resp, err := p.ask(context.Background(), "b", http.MethodPost, path, body)
		if kind := function.KindOf(err); kind == KindLostReply || kind == KindUnreachable {
			continue // whoever is refused may lose the connection
		} else if err != nil {
			t.Error(err)
			return
		}
		_ = resp.Body.Close()
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// Bodies have a length, and a bound, each and all together.
func TestBodiesAreBounded(t *testing.T) {
	s := newSite(t)
	hold, started := make(chan struct{}), make(chan struct{}, 1)
	srv, _ := s.serve(t, "b", Doors{State: map[string]Answer{"x": func(_ context.Context, _ string, b []byte) ([]byte, error) {
		started <- struct{}{}
		<-hold
		return nil, nil
	}}, Exec: exec(echo)}, Limits{Request: 1000, Bodies: 5000})
	p := s.peers(t, "a")
	l, err := p.link("b")
	if err != nil {
		t.Fatal(err)
	}
	send := func(body io.Reader, n int64) int {
		r, err := request(context.Background(), http.MethodPost, "/v1/exec", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Body, r.ContentLength = io.NopCloser(body), n
		resp, err := l.roundTrip(context.Background(), r)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	if got := send(endless{}, 1<<40); got != http.StatusRequestEntityTooLarge {
		t.Errorf("endless: %d", got)
	}
	if got := send(strings.NewReader("x"), -1); got != http.StatusLengthRequired {
		t.Errorf("of unknown length: %d", got)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if _, err := p.Pull(context.Background(), "b", "x", make([]byte, 4500)); err != nil {
			t.Error(err)
		}
	}()
	<-started
	c := callOf("1")
	c.Event.Data = make([]byte, 800)
	_, err = invoke(t, p, "b", c)
	wantClass(t, err, function.ClassOverload, "busy")
	close(hold)
	<-done
	if _, err := invoke(t, p, "b", c); err != nil || srv.bodies.used.Load() != 0 {
		t.Errorf("afterwards: %v", err)
	}
}

func TestTooManyCalls(t *testing.T) {
	s := newSite(t)
	hold, started := make(chan struct{}), make(chan struct{}, 4)
	s.serve(t, "b", Doors{Exec: exec(func(context.Context, string, *ExecRequest) (*function.Result, error) {
		started <- struct{}{}
		<-hold
		return nil, nil
	})}, Limits{Calls: 2})
	p := s.peers(t, "a")
	done := make(chan error, 2)
	for i := range 2 {
		go func() {
			_, err := invoke(t, p, "b", callOf(fmt.Sprint(i)))
			done <- err
		}()
		<-started
	}
	_, err := invoke(t, p, "b", callOf("x"))
	wantClass(t, err, function.ClassOverload, "busy")
	close(hold)
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
