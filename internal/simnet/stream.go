package simnet

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// retransmitDial is what a lost packet costs who opens a stream: RFC 6298 asks for at least a second to begin with.
const retransmitDial = time.Second

// Dial opens a stream. A link that is down in either direction costs the whole timeout, as it does on a real network.
func (p *Port) Dial(to string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return p.DialContext(ctx, to)
}

// DialContext opens a stream to "ip:port". Over a link that is down it ends with ctx, or after two minutes.
func (p *Port) DialContext(ctx context.Context, to string) (net.Conn, error) {
	dst, err := netip.ParseAddrPort(to)
	if err != nil {
		return nil, err
	}
	from, n := p.Addr(), p.host.net
	there, lost, d1 := n.draw(from.Addr(), dst.Addr())
	back, lostBack, d2 := n.draw(dst.Addr(), from.Addr())
	wait := d1 + d2
	for (lost || lostBack) && wait < dialMost {
		wait += retransmitDial
		_, lost, _ = n.draw(from.Addr(), dst.Addr())
		_, lostBack, _ = n.draw(dst.Addr(), from.Addr())
	}
	if there.Down || back.Down {
		wait = dialMost
	}
	if err := p.sleep(ctx, wait); err != nil {
		return nil, err
	}
	if wait >= dialMost {
		return nil, &net.OpError{Op: "dial", Net: "sim", Err: syscall.ETIMEDOUT}
	}
	return p.connect(n.at(dst), from, dst)
}

// dialMost is how long an attempt takes at most: about what Linux does.
const dialMost = 2 * time.Minute

// sleep waits unless the port is closed, or ctx ends, first.
func (p *Port) sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-p.closed:
		return net.ErrClosed
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return &net.OpError{Op: "dial", Net: "sim", Err: os.ErrDeadlineExceeded}
		}
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

func (p *Port) connect(there *Port, from, to netip.AddrPort) (net.Conn, error) {
	if there == nil {
		return nil, &net.OpError{Op: "dial", Net: "sim", Err: syscall.ECONNREFUSED}
	}
	out, in := newLane(p.host.net, from.Addr(), to.Addr()), newLane(p.host.net, to.Addr(), from.Addr())
	mine := &conn{port: p, local: from, remote: to, in: in, out: out}
	theirs := &conn{port: there, local: to, remote: from, in: out, out: in}
	if !p.keep(mine) {
		return nil, net.ErrClosed
	}
	if !there.keep(theirs) {
		return nil, errors.Join(&net.OpError{Op: "dial", Net: "sim", Err: syscall.ECONNREFUSED}, mine.Close())
	}
	p.host.streams.Add(1)
	there.mu.Lock()
	accept := there.stream
	there.mu.Unlock()
	if accept == nil {
		return nil, errors.Join(&net.OpError{Op: "dial", Net: "sim", Err: syscall.ECONNREFUSED}, mine.Close(), theirs.Close())
	}
	accept(theirs)
	return mine, nil
}

// keep notes an open stream, so that Close ends it.
func (p *Port) keep(c *conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.done {
		return false
	}
	p.open[c] = struct{}{}
	return true
}

// conn is one end of a stream.
type conn struct {
	port          *Port
	local, remote netip.AddrPort
	in, out       *lane
	once          sync.Once
}

func (c *conn) LocalAddr() net.Addr  { return net.TCPAddrFromAddrPort(c.local) }
func (c *conn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.remote) }

// Read waits for what the other end wrote.
func (c *conn) Read(b []byte) (int, error) { return c.in.read(b) }

// Write returns before the other end has what was written. On a link that is down writes fail after a minute.
func (c *conn) Write(b []byte) (int, error) {
	n, err := c.out.write(b)
	c.port.host.streamBytes.Add(int64(n))
	return n, err
}

func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

func (c *conn) SetReadDeadline(t time.Time) error {
	c.in.set(&c.in.reads, t)
	return nil
}

func (c *conn) SetWriteDeadline(t time.Time) error {
	c.out.set(&c.out.writes, t)
	return nil
}

// Close ends both directions. What was written before still arrives.
func (c *conn) Close() error {
	c.once.Do(func() {
		c.port.mu.Lock()
		delete(c.port.open, c)
		c.port.mu.Unlock()
		c.in.abandon()
		c.out.finish()
	})
	return nil
}
