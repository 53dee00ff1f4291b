package identity

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

// watch is a clock that a test sets.
type watch struct{ at atomic.Int64 }

func (w *watch) now() time.Time      { return time.Unix(0, w.at.Load()) }
func (w *watch) set(t time.Time)     { w.at.Store(t.UnixNano()) }
func (w *watch) add(d time.Duration) { w.at.Add(int64(d)) }

func newWatch(t time.Time) *watch {
	w := &watch{}
	w.set(t)
	return w
}

// today is when the clusters of tests are founded.
func today() time.Time { return time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC) }

// device is one node of a test, with its own clock and directories.
type device struct {
	*Membership
	node  Node
	clock *watch
	dir   string
}

// open opens the device's membership again, as after a restart.
func (d *device) open(t *testing.T) {
	t.Helper()
	m, err := Open(d.dir, d.node, d.clock.now)
	if err != nil {
		t.Fatal(err)
	}
	d.Membership = m
}

func newDevice(t *testing.T) *device {
	t.Helper()
	dir := t.TempDir()
	node, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	return &device{node: node, clock: newWatch(today()), dir: filepath.Join(dir, "identity")}
}

// site is a cluster with its signer.
type site struct {
	signer *device
	a      *Authority
}

func newSite(t *testing.T, name string) *site {
	t.Helper()
	s := &site{signer: newDevice(t)}
	m, err := Found(s.signer.dir, s.signer.node, name, s.signer.clock.now)
	if err != nil {
		t.Fatal(err)
	}
	s.signer.Membership = m
	s.restart(t)
	return s
}

// restart opens the signer's files again, as after a restart.
func (s *site) restart(t *testing.T) {
	t.Helper()
	s.signer.open(t)
	a, err := OpenAuthority(s.signer.dir, s.signer.Membership)
	if err != nil {
		t.Fatal(err)
	}
	s.a = a
}

func (s *site) token(t *testing.T, o TokenOptions) Token {
	t.Helper()
	token, err := s.a.CreateToken(o)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// admit asks for membership without a network.
func (s *site) admit(t *testing.T, d *device, token Token) (Grant, error) {
	t.Helper()
	r, err := token.Request(d.node)
	if err != nil {
		t.Fatal(err)
	}
	return s.a.Admit(r)
}

func (s *site) join(t *testing.T) *device {
	t.Helper()
	d := newDevice(t)
	d.clock = newWatch(s.signer.clock.now())
	s.admitted(t, d)
	return d
}

func (s *site) admitted(t *testing.T, d *device) {
	t.Helper()
	token := s.token(t, TokenOptions{TTL: time.Hour, Uses: 1})
	g, err := s.admit(t, d, token)
	if err != nil {
		t.Fatal(err)
	}
	if g, err = DecodeGrant(g.Encode()); err != nil {
		t.Fatal(err)
	}
	if d.Membership, err = Join(d.dir, d.node, token, g, d.clock.now); err != nil {
		t.Fatal(err)
	}
}

// call shakes hands over a loopback connection and sends a secret each way. It returns the two ends' states and errors. An end
// that does not trust the other fails before it has sent anything.
func call(t *testing.T, server, client *tls.Config) (atServer, atClient tls.ConnectionState, serverErr, clientErr error) {
	t.Helper()
	a, b := connect(t)
	deadline := time.Now().Add(20 * time.Second)
	_ = a.SetDeadline(deadline)
	_ = b.SetDeadline(deadline)
	done := make(chan error, 1)
	sc := tls.Server(a, server)
	go func() {
		err := exchange(sc, "from the server")
		_ = a.Close()
		done <- err
	}()
	cc := tls.Client(b, client)
	clientErr = exchange(cc, "from the client")
	_ = b.Close()
	serverErr = <-done
	return sc.ConnectionState(), cc.ConnectionState(), serverErr, clientErr
}

// connect returns both ends of a connection. One in memory would not do: it holds nothing, so two ends that tell each other of
// their errors at the same time wait for ever.
func connect(t *testing.T) (server, client net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err = (&net.Dialer{}).DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return server, client
}

func exchange(c *tls.Conn, say string) error {
	if err := c.Handshake(); err != nil {
		return err
	}
	sent := make(chan error, 1)
	go func() {
		_, err := io.WriteString(c, say)
		sent <- err
	}()
	heard := make([]byte, len("from the server"))
	_, err := io.ReadFull(c, heard)
	return errors.Join(err, <-sent)
}
