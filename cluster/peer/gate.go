package peer

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// gate bounds the connections of a listener. A connection is pending until its first request from an admitted node or operator:
// so nobody without a certificate takes the place of somebody who has one.
type gate struct {
	net.Listener
	limits  Limits
	dropped *atomic.Int64

	mu      sync.Mutex
	pending map[netip.Addr]int
	waiting int            // sum of pending
	nodes   map[string]int // connections by node
	settled int            // sum of nodes
	open    map[*visitor]struct{}
}

func newGate(ln net.Listener, l Limits, dropped *atomic.Int64) *gate {
	return &gate{
		Listener: ln, limits: l, dropped: dropped,
		pending: map[netip.Addr]int{}, nodes: map[string]int{}, open: map[*visitor]struct{}{},
	}
}

// visitor is one connection that was let through the gate.
type visitor struct {
	net.Conn
	gate     *gate
	addr     netip.Addr
	node     string // "" = pending
	expelled *time.Timer
	once     sync.Once
}

// Accept returns the next connection that is within the bounds, and closes the others.
func (g *gate) Accept() (net.Conn, error) {
	for {
		c, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if v := g.enter(c); v != nil {
			return v, nil
		}
		g.dropped.Add(1)
		_ = c.Close() // it did not come in
	}
}

func (g *gate) enter(c net.Conn) *visitor {
	v := &visitor{Conn: c, gate: g, addr: addressOf(c.RemoteAddr())}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.waiting >= g.limits.Pending || g.pending[v.addr] >= g.limits.PerIP {
		return nil
	}
	g.waiting++
	g.pending[v.addr]++
	g.open[v] = struct{}{}
	v.expelled = time.AfterFunc(g.limits.Patience, func() { _ = v.Close() })
	return v
}

// addressOf groups IPv6 by /64, which is what one host may have.
func addressOf(remote net.Addr) netip.Addr {
	ap, err := netip.ParseAddrPort(remote.String())
	if err != nil {
		return netip.Addr{}
	}
	a := ap.Addr().Unmap().WithZone("")
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a
}

// isNode settles the connection as one of node's, unless it has too many of them. An operator's is that of node "".
func (v *visitor) isNode(node string) bool {
	g := v.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	key := "node " + node
	if v.node != "" {
		return v.node == key
	}
	if _, ok := g.open[v]; !ok || g.settled >= g.limits.Nodes || g.nodes[key] >= g.limits.PerNode {
		return false
	}
	g.leavePending(v)
	g.settled++
	g.nodes[key]++
	v.node = key
	v.expelled.Stop()
	return true
}

func (g *gate) leavePending(v *visitor) {
	g.waiting--
	if g.pending[v.addr]--; g.pending[v.addr] == 0 {
		delete(g.pending, v.addr)
	}
}

// Close closes the connection and gives its place back.
func (v *visitor) Close() error {
	v.once.Do(func() {
		g := v.gate
		g.mu.Lock()
		defer g.mu.Unlock()
		delete(g.open, v)
		v.expelled.Stop()
		if v.node == "" {
			g.leavePending(v)
			return
		}
		g.settled--
		if g.nodes[v.node]--; g.nodes[v.node] == 0 {
			delete(g.nodes, v.node)
		}
	})
	return v.Conn.Close()
}

// closeAll closes what a stopping HTTP server leaves open: connections in their handshake.
func (g *gate) closeAll() {
	g.mu.Lock()
	left := make([]*visitor, 0, len(g.open))
	for v := range g.open {
		left = append(left, v)
	}
	g.mu.Unlock()
	for _, v := range left {
		_ = v.Close() // nobody reads from it any more
	}
}

type visitorKey struct{}

// withVisitor lets handlers find the connection of a request.
func withVisitor(ctx context.Context, c net.Conn) context.Context {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	return context.WithValue(ctx, visitorKey{}, c)
}

func visitorOf(r *http.Request) *visitor { return r.Context().Value(visitorKey{}).(*visitor) }
