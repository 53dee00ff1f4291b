// Package gateway runs functions for HTTP requests, by the routes of their manifests and by their names at POST /fn/<name>: it
// hands the body to the function and answers with what it responded. Nothing is stored: the caller waits, and a caller that
// gets no answer asks again. One who does not want to wait says so (Prefer: respond-async, RFC 7240 section 4.1) and is told 202 when
// the event is safe.
package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"mayfly/event"
	"mayfly/function"
	"mayfly/triggers"
)

// Call is a request for a function.
type Call struct {
	Function string
	Trigger  string // "http[0]"; "" when it is called by its name
	Event    *event.Event
}

// Functions runs functions. Both methods settle r later, exactly once, unless they return an error: there is no such function
// (kind "not-found"), it does not run now, there is no room.
type Functions interface {
	// Invoke runs the function for somebody who waits; it does not wait itself.
	Invoke(ctx context.Context, c Call, r triggers.Receipt) error
	// Post keeps the event and settles r when it is safe; the function runs some time.
	Post(c Call, r triggers.Receipt) error
}

// Config is what a gateway is made of. Only Address and Functions are required. On a loopback address Tokens may be nil: then
// every program on this machine may run functions, but no web page may. On any other address Tokens are required, and TLS too
// unless PlainHTTP says that something in front of the gateway provides it.
type Config struct {
	Address   string // host:port; port 0 takes a free one
	TLS       *tls.Config
	PlainHTTP bool
	Tokens    *Tokens
	Functions Functions
	Names     func() []string // of deployed functions, to suggest one for a misspelt name; may be nil
	Ready     func() error    // what /readyz asks; nil = always ready
	Log       *slog.Logger    // nil = discard
	Limits    Limits          // zero fields take their defaults
}

// Limits bound what callers can make the gateway hold. A zero field takes the default named beside it.
type Limits struct {
	Body        int64         // bytes: 1 MiB
	Concurrency int           // functions that run or wait to run for callers: 64
	Connections int           // 512
	Header      time.Duration // from the first byte of a request to the end of its header: 5 s
	Read        time.Duration // to the end of its body: 30 s
	Timeout     time.Duration // from the end of the body to the answer: 30 s
	Idle        time.Duration // between two requests of a connection: 60 s
	Drain       time.Duration // for requests underway when Run is told to end: 10 s
}

func (l Limits) withDefaults() Limits {
	for _, d := range []struct {
		p *time.Duration
		v time.Duration
	}{{&l.Header, 5 * time.Second}, {&l.Read, 30 * time.Second}, {&l.Timeout, 30 * time.Second}, {&l.Idle, time.Minute}, {&l.Drain, 10 * time.Second}} {
		if *d.p == 0 {
			*d.p = d.v
		}
	}
	if l.Body == 0 {
		l.Body = 1 << 20
	}
	if l.Concurrency == 0 {
		l.Concurrency = 64
	}
	if l.Connections == 0 {
		l.Connections = 512
	}
	return l
}

// Gateway is one HTTP server. New makes it, Run runs it.
type Gateway struct {
	c         Config
	slots     chan struct{}
	closing   atomic.Bool
	ran       atomic.Bool
	listening chan struct{}
	address   string // written before listening is closed
	table     atomic.Pointer[table]

	mu       sync.Mutex
	answered map[int]int64 // by status
}

// New checks the configuration and makes a gateway that listens nowhere yet.
func New(c Config) (*Gateway, error) {
	c.Limits = c.Limits.withDefaults()
	if c.Functions == nil {
		return nil, configError("functions", errors.New("nothing to run them"), "")
	}
	if c.Limits.Body < 0 || c.Limits.Concurrency < 0 || c.Limits.Connections < 0 {
		return nil, configError("limits", errors.New("a limit is negative"), "")
	}
	host, _, err := net.SplitHostPort(c.Address)
	if err != nil {
		return nil, configError(c.Address, err, "write host:port")
	}
	if err := c.checkOpen(host); err != nil {
		return nil, err
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	g := &Gateway{c: c, slots: make(chan struct{}, c.Limits.Concurrency), listening: make(chan struct{}), answered: map[int]int64{}}
	g.SetRoutes(nil)
	return g, nil
}

// checkOpen refuses an address other machines can reach unless it asks who is there and hides what is said.
func (c *Config) checkOpen(host string) error {
	switch {
	case isLoopback(host):
		return nil
	case c.Tokens == nil:
		return configError(c.Address, errors.New("not a loopback address, and there are no tokens"), "name a tokens file, or listen on 127.0.0.1")
	case c.TLS == nil && !c.PlainHTTP:
		return configError(c.Address, errors.New("not a loopback address, and tokens would cross the network in clear text"),
			"give it a certificate, or allow plain HTTP if a proxy in front of it speaks TLS")
	}
	return nil
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true // checked again once it is bound: names can point anywhere
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

func configError(subject string, err error, hint string) error {
	return &function.Error{Op: "configure gateway", Subject: subject, Class: function.ClassReject, Kind: "config", Err: err, Hint: hint}
}

// Run listens and serves until ctx ends, then lets the requests underway finish, at most for Limits.Drain. It may be called
// once.
func (g *Gateway) Run(ctx context.Context) error {
	if !g.ran.CompareAndSwap(false, true) {
		return errors.New("gateway runs twice")
	}
	ln, err := net.Listen("tcp", g.c.Address)
	if err != nil {
		return configError(g.c.Address, err, "is another server running there? choose another address or stop it")
	}
	host, _, _ := net.SplitHostPort(ln.Addr().String())
	if err := g.c.checkOpen(host); err != nil {
		ln.Close()
		return err
	}
	g.address = ln.Addr().String()
	ln = newBounded(ln, g.c.Limits.Connections)
	if g.c.TLS != nil {
		ln = tls.NewListener(ln, g.c.TLS)
	}
	l := &g.c.Limits
	server := &http.Server{
		Handler: g.handler(), ReadHeaderTimeout: l.Header, ReadTimeout: l.Read, IdleTimeout: l.Idle,
		WriteTimeout: l.Read + l.Timeout + 10*time.Second, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(g.c.Log.Handler(), slog.LevelDebug),
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	close(g.listening)
	g.c.Log.Info("gateway listens", "address", g.address)
	select {
	case err := <-served:
		return fmt.Errorf("run gateway: %w", err)
	case <-ctx.Done():
	}
	g.closing.Store(true)
	grace, cancel := context.WithTimeout(context.Background(), l.Drain)
	defer cancel()
	err = server.Shutdown(grace)
	if err != nil {
		server.Close()
		err = fmt.Errorf("drain gateway: requests were cut off: %w", err)
	}
	if serving := <-served; !errors.Is(serving, http.ErrServerClosed) {
		err = errors.Join(err, fmt.Errorf("run gateway: %w", serving))
	}
	return err
}

// Listening is closed when the gateway accepts connections.
func (g *Gateway) Listening() <-chan struct{} { return g.listening }

// Address returns where it listens. Call it when it is Listening.
func (g *Gateway) Address() string { return g.address }

// Status is what the gateway does now and has answered since it started.
type Status struct {
	Address  string // "" before it listens
	Running  int    // functions that run or wait to run for callers
	Answered map[int]int64
}

// Status returns a snapshot.
func (g *Gateway) Status() Status {
	s := Status{Running: len(g.slots)}
	select {
	case <-g.listening:
		s.Address = g.address
	default:
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	s.Answered = maps.Clone(g.answered)
	return s
}

// bounded accepts only so many connections at once; the others wait in the kernel's queue.
type bounded struct {
	net.Listener
	places chan struct{}
	closed chan struct{}
	once   sync.Once
}

func newBounded(ln net.Listener, n int) *bounded {
	return &bounded{Listener: ln, places: make(chan struct{}, n), closed: make(chan struct{})}
}

func (b *bounded) Accept() (net.Conn, error) {
	select {
	case b.places <- struct{}{}:
	case <-b.closed:
		return nil, net.ErrClosed
	}
	c, err := b.Listener.Accept()
	if err != nil {
		<-b.places
		return nil, err
	}
	return &placed{Conn: c, leave: sync.OnceFunc(func() { <-b.places })}, nil
}

func (b *bounded) Close() error {
	b.once.Do(func() { close(b.closed) })
	return b.Listener.Close()
}

type placed struct {
	net.Conn
	leave func()
}

func (p *placed) Close() error {
	defer p.leave()
	return p.Conn.Close()
}
