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
	"net"
	"net/http"
	"net/netip"
	"slices"
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
	Late     triggers.Receipt // Post: settled when the function has run, or was given up; not after a restart. nil = nobody asks
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
// every program on this machine may run functions by their names, but no web page may. On any other address nobody may without Tokens, and
// TLS is required unless PlainHTTP says that something in front of the gateway provides it.
type Config struct {
	Address   string // host:port; port 0 takes a free one
	TLS       *tls.Config
	PlainHTTP bool
	Tokens    *Tokens
	Issuers   map[string]Verifier // of JWTs, by the names manifests use
	Callers   bool                // TLS asks for client certificates and checks them
	Built     time.Time           // a time that is certainly over: while the clock shows less, tokens that end are not believed
	Proxies   Proxies             // who may say for whom a request is
	Origins   []string            // of web pages that may read answers, "https://app.example"; "*" = all
	Rate      function.Rate       // of each caller on each route whose manifest says nothing; zero = unlimited
	Refresh   []Refresher         // looked at while the gateway runs; Tokens need not be named
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
	running   atomic.Int64 // functions that run or wait to run for callers
	closing   atomic.Bool
	ran       atomic.Bool
	listening chan struct{}
	address   string // written before listening is closed
	table     atomic.Pointer[table]
	loopback  bool
	origin    *http.CrossOriginProtection
	limits    *limiter
	results   *results
	answered  [600]atomic.Int64 // by status
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
	if c.Tokens != nil {
		c.Refresh = append(slices.Clone(c.Refresh), c.Tokens)
	}
	g := &Gateway{
		c: c, listening: make(chan struct{}),
		loopback: isLoopback(host), origin: http.NewCrossOriginProtection(), limits: newLimiter(), results: newResults(),
	}
	for _, o := range c.Origins {
		if err := checkOrigin(o); err != nil {
			return nil, configError("origins", err, "")
		}
		if o != "*" { // everybody's pages may read answers, but not run functions by name
			if err := g.origin.AddTrustedOrigin(o); err != nil {
				return nil, configError("origins", err, "")
			}
		}
	}
	g.SetRoutes(nil)
	return g, nil
}

// checkOpen refuses an address other machines can reach unless what is said there is hidden. Who may call is a matter of each route;
// functions are not run by their names there without a token.
func (c *Config) checkOpen(host string) error {
	if isLoopback(host) || c.TLS != nil || c.PlainHTTP {
		return nil
	}
	return configError(c.Address, errors.New("not a loopback address: tokens and answers would cross the network in clear text"),
		"set gateway.cert and gateway.key, or gateway.plain = true if a proxy in front of it speaks TLS")
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
	g.address, g.loopback = ln.Addr().String(), isLoopback(host)
	ln = newBounded(ln, g.c.Limits.Connections)
	if g.c.TLS != nil {
		ln = tls.NewListener(ln, g.c.TLS)
	}
	l := &g.c.Limits
	server := &http.Server{
		HTTP2:   &http.HTTP2Config{MaxConcurrentStreams: 100},
		Handler: g.handler(), ReadHeaderTimeout: l.Header, ReadTimeout: l.Read, IdleTimeout: l.Idle,
		WriteTimeout: l.Read + l.Timeout + 10*time.Second, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(g.c.Log.Handler(), slog.LevelDebug),
	}
	var looking sync.WaitGroup
	looking.Go(func() { g.refresh(ctx) })
	defer looking.Wait()
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
	s := Status{Running: int(g.running.Load()), Answered: map[int]int64{}}
	select {
	case <-g.listening:
		s.Address = g.address
	default:
	}
	for status := range g.answered {
		if n := g.answered[status].Load(); n > 0 {
			s.Answered[status] = n
		}
	}
	return s
}
