package peer

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mayfly/event"
	"mayfly/function"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// authority is a small certificate authority.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	pool *x509.CertPool
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{key: key, pool: x509.NewCertPool()}
	a.cert = a.sign(t, "ca", &key.PublicKey, true)
	a.pool.AddCert(a.cert)
	return a
}

func (a *authority) sign(t testing.TB, name string, key *ecdsa.PublicKey, ca bool) *x509.Certificate {
	t.Helper()
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: ca, BasicConstraintsValid: true,
	}
	parent := a.cert
	if ca {
		c.KeyUsage, parent = x509.KeyUsageCertSign, c
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key, a.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func (a *authority) certificate(t testing.TB, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := a.sign(t, name, &key.PublicKey, false)
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}
}

func nodeOf(s *tls.ConnectionState) (string, bool) {
	if s == nil || !s.HandshakeComplete || len(s.VerifiedChains) == 0 {
		return "", false
	}
	return s.PeerCertificates[0].Subject.CommonName, true
}

// site is nodes that trust one authority.
type site struct {
	ca      *authority
	mu      sync.Mutex
	address map[string]string
	revoked map[string]bool
}

func newSite(t testing.TB) *site {
	return &site{ca: newAuthority(t), address: map[string]string{}, revoked: map[string]bool{}}
}

func (s *site) resolve(node string) (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, ok := s.address[node]
	return a, ok
}

func (s *site) at(node, address string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.address[node] = address
}

func (s *site) admitted(node string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.revoked[node]
}

func (s *site) trust(t testing.TB, name string) Trust {
	c := s.ca.certificate(t, name)
	return Trust{
		TLS: func() *tls.Config {
			return &tls.Config{Certificates: []tls.Certificate{c}, ClientCAs: s.ca.pool, ClientAuth: tls.VerifyClientCertIfGiven}
		},
		NodeOf: nodeOf, Admitted: s.admitted,
		Operator: func(state *tls.ConnectionState) bool { n, ok := nodeOf(state); return ok && n == "operator" },
	}
}

// serve runs a server for name until the test ends, or until stop is called.
func (s *site) serve(t testing.TB, name string, doors Doors, limits Limits) (srv *Server, stop func()) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv = NewServer(s.trust(t, name), doors, limits, quietLog())
	s.at(name, ln.Addr().String())
	return srv, running(t, srv, ln)
}

func running(t testing.TB, srv *Server, ln net.Listener) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx, ln) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("server: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func (s *site) clientTLS(c tls.Certificate) func(node string) *tls.Config {
	return func(node string) *tls.Config {
		return &tls.Config{Certificates: []tls.Certificate{c}, RootCAs: s.ca.pool, ServerName: node}
	}
}

// peers returns the asking side of name.
func (s *site) peers(t testing.TB, name string) *Peers {
	t.Helper()
	p := NewPeers(Config{TLS: s.clientTLS(s.ca.certificate(t, name)), NodeOf: nodeOf, Resolve: s.resolve}, quietLog())
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func quietLog() *slog.Logger { return slog.New(slog.DiscardHandler) }

// exec is an Executor made of a function.
type exec func(ctx context.Context, from string, r *ExecRequest) (*function.Result, error)

func (e exec) Exec(ctx context.Context, from string, r *ExecRequest) (*function.Result, error) {
	return e(ctx, from, r)
}

func echo(_ context.Context, from string, r *ExecRequest) (*function.Result, error) {
	return &function.Result{
		Publishes: []event.Message{{Topic: "from/" + from, Data: r.Event.Data, QoS: 1}},
		Log:       []function.LogLine{{Time: time.Unix(1, 0).UTC(), Level: function.LevelInfo, Text: r.Trigger}},
		Usage:     function.Usage{CPU: time.Millisecond, Memory: 65536},
	}, nil
}

var theFunction = &function.Function{Manifest: function.Manifest{Name: "f"}, Module: function.DigestOf([]byte("f")), Version: 7}

func callOf(id string) *function.Call {
	return &function.Call{
		Function: theFunction, Trigger: "mqtt[0]", Attempt: 1, Deadline: time.Now().Add(10 * time.Second),
		Event: &event.Event{ID: id, Source: "mqtt://site/a", Type: event.TypeMQTT, Time: time.Now(), Topic: "a", QoS: 1, Data: []byte("payload of " + id)},
	}
}

func invoke(t testing.TB, p *Peers, node string, c *function.Call) (*function.Result, error) {
	t.Helper()
	n, ok := p.To(node)
	if !ok {
		t.Fatalf("%s has no address", node)
	}
	res := &function.Result{}
	return res, n.Invoke(context.Background(), c, res)
}

func wantClass(t testing.TB, err error, class function.Class, kind string) {
	t.Helper()
	var e *function.Error
	if !errors.As(err, &e) || e.Class != class || e.Kind != kind || e.Op == "" || e.Subject == "" {
		t.Errorf("error %v of class %s, kind %s; want %s, %s", err, function.ClassOf(err), function.KindOf(err), class, kind)
	}
}

// eventually waits until ok, at most ten seconds.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("never: %s", what)
		}
	}
}
