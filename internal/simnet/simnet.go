// Package simnet is a network in memory, for tests of protocols under virtual time: packets and streams between hosts, with
// delay, loss in either direction and links that are down. It has the methods a cluster's network has and no real socket, so it
// works inside a testing/synctest bubble; after Close nothing of it is left running.
package simnet

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Link is what one direction between two addresses is like.
type Link struct {
	Delay  time.Duration // of everything
	Jitter time.Duration // added to Delay, uniformly distributed
	Loss   float64       // probability that a packet is lost; a stream loses time instead
	Down   bool          // nothing passes, and nobody is told
}

// Net is the network. Safe for concurrent use.
type Net struct {
	mu    sync.Mutex
	rng   *rand.Rand
	shape func(from, to netip.Addr) Link
	ports map[netip.AddrPort]*Port
}

// New makes a network without delay or loss. The same seed draws the same numbers; which packet gets which number is up to the
// scheduler.
func New(seed uint64) *Net {
	return &Net{
		rng:   rand.New(rand.NewPCG(seed, seed)),
		shape: func(netip.Addr, netip.Addr) Link { return Link{} },
		ports: map[netip.AddrPort]*Port{},
	}
}

// Shape says from now on what the links are like. shape must be quick and not call the network.
func (n *Net) Shape(shape func(from, to netip.Addr) Link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.shape = shape
}

// Partition cuts all links between addresses for which side differs, on top of link.
func Partition(link Link, side func(netip.Addr) int) func(from, to netip.Addr) Link {
	return func(from, to netip.Addr) Link {
		l := link
		l.Down = l.Down || side(from) != side(to)
		return l
	}
}

// Traffic is what a host sent, payload bytes only: a packet on a real network has 28 bytes more over IPv4, 48 over IPv6.
type Traffic struct{ Packets, PacketBytes, Streams, StreamBytes int64 }

// Host is a device: its address may change, and what it sent is counted over all its ports.
type Host struct {
	net                                        *Net
	packets, packetBytes, streams, streamBytes atomic.Int64

	mu   sync.Mutex
	addr netip.AddrPort
	port *Port
}

// Host makes a device with an address.
func (n *Net) Host(addr netip.AddrPort) *Host { return &Host{net: n, addr: addr} }

// Traffic returns what the host has sent so far.
func (h *Host) Traffic() Traffic {
	return Traffic{h.packets.Load(), h.packetBytes.Load(), h.streams.Load(), h.streamBytes.Load()}
}

// Addr returns the host's address.
func (h *Host) Addr() netip.AddrPort {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.addr
}

// Move gives the host another address. What is sent to the old one is lost; a socket that is open goes on at the new one, as one
// bound to all addresses does.
func (h *Host) Move(addr netip.AddrPort) {
	h.mu.Lock()
	old, port := h.addr, h.port
	h.addr = addr
	h.mu.Unlock()
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	if port != nil && h.net.ports[old] == port {
		delete(h.net.ports, old)
		h.net.ports[addr] = port
	}
}

// Listen opens the host's only port.
func (h *Host) Listen() (*Port, error) {
	p := &Port{host: h, open: map[*conn]struct{}{}, closed: make(chan struct{})}
	h.mu.Lock()
	addr := h.addr
	h.port = p
	h.mu.Unlock()
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	if h.net.ports[addr] != nil {
		return nil, fmt.Errorf("simnet: %s is in use", addr)
	}
	h.net.ports[addr] = p
	return p, nil
}

// Port is an open socket for packets and streams.
type Port struct {
	host   *Host
	closed chan struct{}

	mu     sync.Mutex
	packet func(b []byte, from net.Addr, at time.Time)
	stream func(net.Conn)
	open   map[*conn]struct{}
	done   bool
}

// Start names who receives. packet owns the bytes it gets. Neither function may block.
func (p *Port) Start(packet func(b []byte, from net.Addr, at time.Time), stream func(net.Conn)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.packet, p.stream = packet, stream
}

// Addr is where the port is reached now.
func (p *Port) Addr() netip.AddrPort { return p.host.Addr() }

// Send sends a packet. That it is lost is nothing the sender learns.
func (p *Port) Send(b []byte, to string) error {
	dst, err := netip.ParseAddrPort(to)
	if err != nil {
		return err
	}
	if p.isClosed() {
		return net.ErrClosed
	}
	from := p.Addr()
	p.host.packets.Add(1)
	p.host.packetBytes.Add(int64(len(b)))
	link, lost, delay := p.host.net.draw(from.Addr(), dst.Addr())
	if link.Down || lost {
		return nil
	}
	packet := append([]byte(nil), b...) // as the kernel does: the caller may reuse its buffer
	time.AfterFunc(delay, func() {
		if receive := p.host.net.receiver(dst); receive != nil {
			receive(packet, net.UDPAddrFromAddrPort(from), time.Now())
		}
	})
	return nil
}

// Close closes the port and every stream on it.
func (p *Port) Close() error {
	p.mu.Lock()
	if p.done {
		p.mu.Unlock()
		return nil
	}
	p.done = true
	close(p.closed)
	open := p.open
	p.open = nil
	p.mu.Unlock()
	n := p.host.net
	n.mu.Lock()
	for addr, port := range n.ports {
		if port == p {
			delete(n.ports, addr)
		}
	}
	n.mu.Unlock()
	var errs []error
	for c := range open {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

func (p *Port) isClosed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.done
}

// draw decides the fate of one packet.
func (n *Net) draw(from, to netip.Addr) (link Link, lost bool, delay time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	link = n.shape(from, to)
	delay = link.Delay
	if link.Jitter > 0 {
		delay += time.Duration(n.rng.Int64N(int64(link.Jitter)))
	}
	return link, n.rng.Float64() < link.Loss, delay
}

// receiver returns who receives packets at an address, nil for nobody.
func (n *Net) receiver(addr netip.AddrPort) func([]byte, net.Addr, time.Time) {
	p := n.at(addr)
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.done {
		return nil
	}
	return p.packet
}

func (n *Net) at(addr netip.AddrPort) *Port {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.ports[addr]
}
