package broker

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"time"

	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"
)

// gate is one listening address, in the form the library wants. Unlike the library's own it lets a connection panic
// without the process, bounds the connections, survives passing errors of accept, and ends without losing any.
type gate struct {
	b       *Broker
	id      string
	ln      net.Listener
	spec    Listener
	stopped chan struct{}

	mu     sync.Mutex
	conns  map[*conn]struct{}
	closed bool
	wg     sync.WaitGroup // of the accept loop and two goroutines for each connection
}

func (b *Broker) openGate(l Listener) (*gate, error) {
	ln, err := b.open("tcp", l.Address)
	if err != nil {
		return nil, configError(l.Address, err, "is another broker running there? choose another address or stop it")
	}
	host, _, _ := net.SplitHostPort(ln.Addr().String())
	if err := l.checkOpen(isLoopback(host)); err != nil {
		ln.Close()
		return nil, err
	}
	g := &gate{b: b, id: ln.Addr().String(), ln: ln, spec: l, stopped: make(chan struct{}), conns: map[*conn]struct{}{}}
	g.wg.Add(1) // for Serve, which the library starts on a goroutine of its own
	return g, nil
}

func (g *gate) Init(*slog.Logger) error { return nil }
func (g *gate) ID() string              { return g.id }
func (g *gate) Address() string         { return g.id }
func (g *gate) Protocol() string        { return "tcp" }

// Serve accepts connections until Close.
func (g *gate) Serve(establish listeners.EstablishFn) {
	defer g.wg.Done()
	select {
	case <-g.b.ready: // the library has published its first $SYS topics, without a lock
	case <-g.stopped:
		return
	}
	pause := 5 * time.Millisecond
	for {
		raw, err := g.ln.Accept()
		if err == nil {
			pause = 5 * time.Millisecond
			g.admit(raw, establish)
			continue
		}
		timer := time.NewTimer(pause) // out of descriptors, or closed
		pause = min(2*pause, time.Second)
		select {
		case <-g.stopped:
			timer.Stop()
			return
		case <-timer.C:
			g.b.log.Debug("accept failed", "address", g.id, "error", err)
		}
	}
}

func (g *gate) admit(raw net.Conn, establish listeners.EstablishFn) {
	if g.b.connections.Add(1) > int64(g.b.limits.Clients) {
		g.b.connections.Add(-1)
		g.b.losses.count(lossConnections, raw.RemoteAddr().String())
		raw.Close()
		return
	}
	if g.spec.TLS != nil {
		raw = tls.Server(raw, g.spec.TLS) // shakes hands on the first read
	}
	c := newConn(raw, g.spec.Users, g.b.limits)
	raw.SetReadDeadline(time.Now().Add(g.b.limits.Connect))
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		g.b.connections.Add(-1)
		raw.Close()
		return
	}
	g.conns[c] = struct{}{}
	g.wg.Go(c.send)
	g.wg.Go(func() { g.attend(c, establish) })
}

// attend runs one connection from its CONNECT to its end.
func (g *gate) attend(c *conn, establish listeners.EstablishFn) {
	defer func() {
		if p := recover(); p != nil {
			g.b.losses.count(lossMalformed, c.RemoteAddr().String())
			g.b.log.Debug("connection ended by a panic", "remote", c.RemoteAddr(), "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			g.b.scanned(c)
			g.b.abandon(c)
		}
		c.Close()
		g.mu.Lock()
		delete(g.conns, c)
		g.mu.Unlock()
		g.b.connections.Add(-1)
	}()
	if err := establish(g.id, c); err != nil {
		g.b.log.Debug("connection ended", "remote", c.RemoteAddr(), "error", err)
	}
}

// Close stops accepting, says goodbye to the clients, closes the rest, and waits for all of them. The library's own
// goodbye takes one read lock inside another and can wait for ever.
func (g *gate) Close(listeners.CloseFn) {
	g.mu.Lock()
	again := g.closed
	g.closed = true
	g.mu.Unlock()
	if again {
		return
	}
	close(g.stopped)
	g.ln.Close()
	for _, cl := range g.b.server.Clients.GetAll() {
		if cl.Net.Listener == g.id && !cl.Closed() {
			_ = g.b.server.DisconnectClient(cl, packets.ErrServerShuttingDown) // returns its argument
		}
	}
	g.mu.Lock()
	for c := range g.conns {
		c.Close()
	}
	g.mu.Unlock()
	g.wg.Wait()
}

// abandon does for a client whose connection panicked what the library does at the end of an ordinary one, except for
// its will: that is not sent.
func (b *Broker) abandon(c *conn) {
	cl := c.client
	if cl == nil {
		return
	}
	known, ok := b.server.Clients.Get(cl.ID)
	if !ok || known != cl {
		return
	}
	keep := !cl.Properties.Clean
	if cl.Properties.ProtocolVersion == 5 {
		keep = cl.Properties.Props.SessionExpiryInterval > 0
	}
	if keep {
		return
	}
	cl.ClearInflights()
	b.server.UnsubscribeClient(cl)
	b.server.Clients.Delete(cl.ID)
}
