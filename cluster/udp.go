package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

// UDP is the real network: packets over UDP and streams over TCP on one port number. IPv4 and IPv6; bound to [::] it speaks both.
type UDP struct {
	bind   netip.AddrPort // with the port that was given
	fixed  netip.Addr
	packet *net.UDPConn
	stream *net.TCPListener

	ctx    context.Context //nolint:containedctx // it ends dials when the network is closed
	cancel context.CancelFunc
	wait   sync.WaitGroup
	mu     sync.Mutex
	open   map[net.Conn]struct{}
	closed bool
	last   netip.Addr // what Addr found out
}

// ListenUDP opens the network on bind; port 0 takes a free one. advertise is the address others shall use; the invalid address
// lets the node find out, again whenever it is asked.
func ListenUDP(bind netip.AddrPort, advertise netip.Addr) (*UDP, error) {
	var errs []error
	for range 10 { // a port that is free for streams may be taken for packets
		u, err := listen(bind, advertise)
		if err == nil {
			return u, nil
		}
		errs = append(errs, err)
		if bind.Port() != 0 || !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
	}
	return nil, fmt.Errorf("cluster: listen on %s: %w", bind, errors.Join(errs...))
}

func listen(bind netip.AddrPort, advertise netip.Addr) (*UDP, error) {
	stream, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(bind))
	if err != nil {
		return nil, err
	}
	port := stream.Addr().(*net.TCPAddr).AddrPort().Port()
	bind = netip.AddrPortFrom(bind.Addr(), port)
	packet, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(bind))
	if err != nil {
		return nil, errors.Join(err, stream.Close())
	}
	u := &UDP{bind: bind, fixed: advertise, packet: packet, stream: stream, open: map[net.Conn]struct{}{}}
	u.ctx, u.cancel = context.WithCancel(context.Background())
	return u, nil
}

// Start implements Network.
func (u *UDP) Start(packet func(b []byte, from net.Addr, at time.Time), stream func(net.Conn)) {
	u.wait.Go(func() { u.readPackets(packet) })
	u.wait.Go(func() { u.acceptStreams(stream) })
}

// readPackets reads into one buffer and hands out copies of the right size: a packet is mostly 100 bytes, and it may wait.
func (u *UDP) readPackets(receive func(b []byte, from net.Addr, at time.Time)) {
	buffer := make([]byte, packetMax+1) // one more, so that what is too large is seen to be
	for {
		n, from, err := u.packet.ReadFromUDPAddrPort(buffer)
		if err != nil {
			if u.over(err) {
				return
			}
			continue
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		receive(append(make([]byte, 0, n), buffer[:n]...), net.UDPAddrFromAddrPort(from), time.Now())
	}
}

func (u *UDP) acceptStreams(receive func(net.Conn)) {
	for {
		c, err := u.stream.AcceptTCP()
		if err != nil {
			if u.over(err) {
				return
			}
			continue
		}
		if kept := u.keep(c); kept != nil {
			receive(kept)
		}
	}
}

// over says whether a failed read ends the loop. Others are about one packet or one connection, or about file descriptors that
// are used up: those wait a moment.
func (u *UDP) over(err error) bool {
	if errors.Is(err, net.ErrClosed) {
		return true
	}
	t := time.NewTimer(10 * time.Millisecond)
	defer t.Stop()
	select {
	case <-u.ctx.Done():
		return true
	case <-t.C:
		return false
	}
}

// Addr implements Network.
func (u *UDP) Addr() netip.AddrPort {
	if u.fixed.IsValid() || !u.bind.Addr().IsUnspecified() {
		return netip.AddrPortFrom(reachable(u.bind.Addr(), u.fixed, netip.Addr{}, nil), u.bind.Port())
	}
	own := ownAddresses()
	u.mu.Lock()
	defer u.mu.Unlock()
	if !lasting(u.last, own) {
		u.last = reachable(u.bind.Addr(), netip.Addr{}, defaultRoute(), own)
	}
	return netip.AddrPortFrom(u.last, u.bind.Port())
}

// Send implements Network.
func (u *UDP) Send(b []byte, to string) error {
	addr, err := netip.ParseAddrPort(to)
	if err != nil {
		return err
	}
	_, err = u.packet.WriteToUDPAddrPort(b, addr)
	return err
}

// Dial implements Network.
func (u *UDP) Dial(to string, timeout time.Duration) (net.Conn, error) {
	c, err := (&net.Dialer{Timeout: timeout}).DialContext(u.ctx, "tcp", to)
	if err != nil {
		return nil, err
	}
	if kept := u.keep(c); kept != nil {
		return kept, nil
	}
	return nil, net.ErrClosed
}

// Close implements Network.
func (u *UDP) Close() error {
	u.mu.Lock()
	if u.closed {
		u.mu.Unlock()
		return nil
	}
	u.closed = true
	open := u.open
	u.open = nil
	u.mu.Unlock()
	u.cancel()
	errs := []error{u.packet.Close(), u.stream.Close()}
	for c := range open {
		errs = append(errs, c.Close())
	}
	u.wait.Wait()
	return errors.Join(errs...)
}

// keep notes an open stream so that Close ends it; nil when the network is closed already.
func (u *UDP) keep(c net.Conn) net.Conn {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		_ = c.Close() // nobody knows of it yet
		return nil
	}
	u.open[c] = struct{}{}
	return &keptConn{Conn: c, forget: func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		delete(u.open, c)
	}}
}

type keptConn struct {
	net.Conn
	forget func()
}

func (c *keptConn) Close() error {
	c.forget()
	return c.Conn.Close()
}
