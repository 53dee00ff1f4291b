// Package faultlink is a TCP proxy between an agent and its broker that can do to the link what networks do, and notes every
// message and acknowledgement that passes in a history.
//
// What counts as said is what was read from the one who said it, whether or not it was passed on.
package faultlink

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"mayfly/test/torture/history"
)

// Fault is what is wrong with the link now. The zero Fault is a good link.
type Fault struct {
	Delay  time.Duration // of every piece, each way
	Rate   int           // bytes a second, each way; 0 = no limit
	Silent bool          // half open: nothing passes, nothing is closed, connections are taken and lead nowhere
	Refuse bool          // connections are closed at once
}

// Proxy passes connections on to one address. Safe for concurrent use.
type Proxy struct {
	target string
	log    *history.Log
	listen net.Listener
	all    sync.WaitGroup

	mu      sync.Mutex
	fault   Fault
	changed chan struct{} // closed when fault changes
	conns   map[*pair]bool
	tear    bool // the next piece ends its connection in the middle of a packet
	closed  bool
	torn    int
}

// pair is one connection through the proxy.
type pair struct {
	agent, broker net.Conn
	dead          atomic.Bool   // nothing passes any more, for ever, and nothing is closed
	gone          chan struct{} // closed by end
	once          sync.Once
}

// end closes both sides with a reset, as a broken router or a crashed peer does.
func (p *pair) end() {
	p.once.Do(func() { close(p.gone) })
	for _, c := range []net.Conn{p.agent, p.broker} {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // as good as it gets: the close below counts
		}
		if c != nil {
			_ = c.Close()
		}
	}
}

// New listens on a free loopback port; Run serves.
func New(target string, log *history.Log) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	return &Proxy{target: target, log: log, listen: l, changed: make(chan struct{}), conns: map[*pair]bool{}}, nil
}

// URL is what the agent is told to connect to.
func (p *Proxy) URL() string { return "tcp://" + p.listen.Addr().String() }

// Run serves until ctx ends.
func (p *Proxy) Run(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() {
		_ = p.listen.Close()
		p.mu.Lock()
		p.closed = true
		p.mu.Unlock()
		p.Set(Fault{})
		p.Cut()
	})
	defer stop()
	for {
		conn, err := p.listen.Accept()
		if err != nil {
			break
		}
		p.all.Go(func() { p.serve(conn) })
	}
	p.all.Wait()
}

// Set makes the link as f says from now on.
func (p *Proxy) Set(f Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = f
	close(p.changed)
	p.changed = make(chan struct{})
}

// Cut resets every connection.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.end()
	}
}

// Forget makes every connection half open for good: neither side hears of the other again, and nobody tells them. A router that
// lost its tables does that. New connections are as good as ever.
func (p *Proxy) Forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.dead.Store(true)
	}
}

// Tear resets the next connection on which something passes, after half of a packet went through.
func (p *Proxy) Tear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tear = true
}

// Torn returns how many packets were torn.
func (p *Proxy) Torn() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.torn
}

func (p *Proxy) now() (Fault, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fault, p.changed
}

var errClosed = errors.New("the proxy is closed")

// add registers a connection.
func (p *Proxy) add(c *pair) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return errClosed
	}
	p.conns[c] = true
	return nil
}

func (p *Proxy) serve(agent net.Conn) {
	c := &pair{agent: agent, gone: make(chan struct{})}
	defer c.end()
	f, _ := p.now()
	if f.Refuse {
		return
	}
	broker, err := net.DialTimeout("tcp", p.target, 5*time.Second)
	if err != nil {
		return
	}
	c.broker = broker
	if p.add(c) != nil {
		return
	}
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.conns, c)
	}()
	t := newTap(p.log)
	var both sync.WaitGroup
	both.Go(func() { p.pass(c, c.agent, c.broker, t.fromAgent()) })
	both.Go(func() { p.pass(c, c.broker, c.agent, t.fromBroker()) })
	both.Wait()
}

// pass copies one direction until it ends, and then ends the connection.
func (p *Proxy) pass(c *pair, from, to net.Conn, see *splitter) {
	defer c.end()
	buf := make([]byte, 16<<10)
	for {
		f, changed := p.now()
		for f.Silent { // what is in the sockets' buffers stays there
			<-changed
			f, changed = p.now()
		}
		piece := buf
		if f.Rate > 0 {
			piece = buf[:max(16, f.Rate/20)]
		}
		n, err := from.Read(piece)
		if n > 0 {
			if f, _ = p.now(); f.Silent {
				p.wait(0, true)
			}
			if c.dead.Load() {
				<-c.gone
				return
			}
			see.feed(piece[:n])
			if p.tears(n) {
				_, _ = to.Write(piece[:1+rand.IntN(n-1)])
				return
			}
			p.wait(f.Delay+delayOf(n, f.Rate), false)
			if _, err := to.Write(piece[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func delayOf(n, rate int) time.Duration {
	if rate == 0 {
		return 0
	}
	return time.Duration(n) * time.Second / time.Duration(rate)
}

// wait waits that long, or while the link is silent.
func (p *Proxy) wait(d time.Duration, silent bool) {
	if silent {
		for {
			f, changed := p.now()
			if !f.Silent {
				return
			}
			<-changed
		}
	}
	if d > 0 {
		_, changed := p.now()
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-changed:
		}
	}
}

// tears reports whether a piece of n bytes is the one to tear.
func (p *Proxy) tears(n int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.tear || n < 8 {
		return false
	}
	p.tear = false
	p.torn++
	return true
}
