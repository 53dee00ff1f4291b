package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"time"

	"mayfly/function"
)

// How long a node that could not be connected to is left alone. It is short, because placement learns of deaths by gossip too, and
// a node that came back should get work.
const (
	backOffMin = 200 * time.Millisecond
	backOffMax = 5 * time.Second
)

// link is the connection to one node.
type link struct {
	cfg  Config
	node string
	used time.Time // guarded by the lock of Peers

	mu       sync.Mutex
	conn     *http.ClientConn
	address  string    // that conn leads to, or that was tried last
	attempt  *attempt  // to connect; nil = none is under way
	failed   error     // of the last attempt
	failures int       // in a row
	until    time.Time // no attempt before
	closed   bool

	load   Load
	loadAt time.Time // zero = never
	rtt    time.Duration
}

// attempt is one attempt to connect, which everybody waits for who needs the connection.
type attempt struct {
	done   chan struct{}
	cancel context.CancelFunc
}

func newLink(cfg Config, node string) *link { return &link{cfg: cfg, node: node} }

func (l *link) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.attempt != nil {
		l.attempt.cancel()
	}
	l.drop()
}

// drop gives up the connection. The lock is held.
func (l *link) drop() {
	if l.conn != nil {
		_ = l.conn.Close() // what is under way on it fails, and says so
		l.conn = nil
	}
}

func unreachable(node string, err error) error {
	return &function.Error{
		Op: "connect", Subject: node, Class: function.ClassNotHere, Kind: KindUnreachable, Err: err,
		Hint: "see whether the node runs and its peer port is reachable: mayfly node ls",
	}
}

var errUnknown = errors.New("its address is not known")

// connection returns the connection, making it if need be. It waits for it at most until ctx ends.
func (l *link) connection(ctx context.Context) (*http.ClientConn, error) {
	address, ok := l.cfg.Resolve(l.node)
	if !ok {
		return nil, unreachable(l.node, errUnknown)
	}
	for {
		l.mu.Lock()
		if l.closed {
			l.mu.Unlock()
			return nil, unreachable(l.node, errClosed)
		}
		if l.conn != nil && (l.address != address || l.conn.Err() != nil) {
			l.drop()
		}
		if c := l.conn; c != nil {
			l.mu.Unlock()
			return c, nil
		}
		if l.attempt == nil {
			if l.address == address && time.Now().Before(l.until) {
				err := l.failed
				l.mu.Unlock()
				return nil, unreachable(l.node, err)
			}
			l.connect(address)
		}
		a := l.attempt
		l.mu.Unlock()
		select {
		case <-a.done:
		case <-ctx.Done():
			return nil, unreachable(l.node, ctx.Err())
		}
	}
}

// connect starts an attempt. The lock is held.
func (l *link) connect(address string) {
	ctx, cancel := context.WithTimeout(context.Background(), l.cfg.Connect)
	a := &attempt{make(chan struct{}), cancel}
	if l.address != address {
		l.failures = 0
	}
	l.attempt, l.address = a, address
	go func() {
		defer close(a.done)
		defer cancel()
		conn, err := route{address, l.cfg.TLS(l.node), l.is, l.cfg.Ping, l.cfg.Dial}.connect(ctx)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.attempt = nil
		switch {
		case err != nil:
			l.failed = err
			pause := min(backOffMax, backOffMin<<min(l.failures, 10))
			l.until = time.Now().Add(pause/2 + rand.N(pause/2))
			l.failures++
		case l.closed:
			_ = conn.Close() // nobody wants it any more
		default:
			l.conn, l.failures = conn, 0
		}
	}()
}

// is says whether the other end is the node.
func (l *link) is(state *tls.ConnectionState) error {
	if who, ok := l.cfg.NodeOf(state); !ok || who != l.node {
		return fmt.Errorf("it is %q, not %q", who, l.node)
	}
	return nil
}

// Dial opens the connection below TLS to a node.
type Dial func(ctx context.Context, network, address string) (net.Conn, error)

// route is how one node is reached.
type route struct {
	address string
	config  *tls.Config
	check   func(*tls.ConnectionState) error // a word besides config's on who that is
	ping    time.Duration                    // silence after which the connection is tested; it is dead 3 s later
	dial    Dial                             // nil = over this machine's network
}

// connect makes one HTTP/2 connection.
func (r route) connect(ctx context.Context) (*http.ClientConn, error) {
	config := tightened(r.config)
	if config.ServerName == "" {
		config.ServerName, _, _ = net.SplitHostPort(r.address) // dialing says what is wrong with an address
	}
	dial := r.dial
	if dial == nil {
		dial = (&net.Dialer{KeepAlive: 15 * time.Second}).DialContext
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	t := &http.Transport{
		DialTLSContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			raw, err := dial(ctx, network, address)
			if err != nil {
				return nil, err
			}
			c := tls.Client(raw, config)
			if err = c.HandshakeContext(ctx); err == nil {
				state := c.ConnectionState()
				err = r.check(&state)
			}
			if err != nil {
				_ = raw.Close() // err says why
				return nil, err
			}
			return c, nil
		},
		Protocols:              protocols,
		DisableCompression:     true,
		IdleConnTimeout:        2 * time.Minute, // before the server's
		MaxResponseHeaderBytes: 8 << 10,
		HTTP2: &http.HTTP2Config{
			StrictMaxConcurrentRequests: true, // otherwise what is beyond the node's limit fails instead of waiting
			SendPingTimeout:             r.ping, PingTimeout: 3 * time.Second, WriteByteTimeout: 5 * time.Second,
			MaxReceiveBufferPerConnection: 4<<20 - 1, MaxReceiveBufferPerStream: 1 << 20,
		},
	}
	return t.NewClientConn(ctx, "https", r.address)
}

// roundTrip makes one request. An error of kind KindUnreachable says that it was not sent; any other that it may have been. The
// caller closes the body of the response.
func (l *link) roundTrip(ctx context.Context, r *http.Request) (*http.Response, error) {
	var sent atomic.Bool
	r = r.WithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { sent.Store(true) }}))
	for again := false; ; again = true {
		conn, err := l.connection(ctx)
		if err != nil {
			return nil, err
		}
		began := time.Now()
		resp, err := conn.RoundTrip(r)
		switch {
		case err == nil:
			l.learn(resp.Header.Get(headerLoad), time.Since(began))
			return resp, nil
		case sent.Load():
			return nil, &function.Error{
				Op: "ask", Subject: l.node, Class: function.ClassRetry, Kind: KindLostReply, Err: fmt.Errorf("no reply: %w", err),
			}
		}
		l.retire(conn)
		if again || ctx.Err() != nil {
			return nil, unreachable(l.node, err)
		}
	}
}

// retire lets a connection that takes no more requests, because the node is stopping or it was idle for long, finish those it has.
func (l *link) retire(conn *http.ClientConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn == conn {
		l.conn = nil
	}
}

// learn takes the load word of a reply.
func (l *link) learn(word string, took time.Duration) {
	load, spent, err := parseLoad(word)
	if err != nil {
		return // a refusal carries none
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.load, l.loadAt = load, time.Now()
	if sample := max(took-spent, time.Microsecond); l.rtt == 0 {
		l.rtt = sample
	} else {
		l.rtt += (sample - l.rtt) / 8
	}
}

func (l *link) state() (State, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.loadAt.IsZero() {
		return State{}, false
	}
	return State{l.load, time.Since(l.loadAt), l.rtt}, true
}
