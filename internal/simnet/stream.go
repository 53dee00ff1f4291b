package simnet

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// retransmit is what a lost segment costs a stream: the first retransmission timeout of TCP (RFC 6298 asks for at least a second
// to begin with; Linux goes down to 200 ms once it knows the round trip).
const (
	retransmitDial = time.Second
	retransmit     = 200 * time.Millisecond
)

// Dial opens a stream. A link that is down in either direction costs the whole timeout, as it does on a real network.
func (p *Port) Dial(to string, timeout time.Duration) (net.Conn, error) {
	dst, err := netip.ParseAddrPort(to)
	if err != nil {
		return nil, err
	}
	from := p.Addr()
	wait := time.Duration(0)
	n := p.host.net
	there, lost, d1 := n.draw(from.Addr(), dst.Addr())
	back, lostBack, d2 := n.draw(dst.Addr(), from.Addr())
	wait = d1 + d2
	for lost || lostBack {
		wait += retransmitDial
		_, lost, _ = n.draw(from.Addr(), dst.Addr())
		_, lostBack, _ = n.draw(dst.Addr(), from.Addr())
		if wait > timeout {
			break
		}
	}
	if there.Down || back.Down || wait > timeout {
		if err := p.sleep(timeout); err != nil {
			return nil, err
		}
		return nil, &net.OpError{Op: "dial", Net: "sim", Err: os.ErrDeadlineExceeded}
	}
	if err := p.sleep(wait); err != nil {
		return nil, err
	}
	return p.connect(n.at(dst), from, dst)
}

// sleep waits unless the port is closed first.
func (p *Port) sleep(d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-p.closed:
		return net.ErrClosed
	case <-t.C:
		return nil
	}
}

func (p *Port) connect(there *Port, from, to netip.AddrPort) (net.Conn, error) {
	if there == nil {
		return nil, &net.OpError{Op: "dial", Net: "sim", Err: syscall.ECONNREFUSED}
	}
	a, b := net.Pipe()
	mine := &conn{Conn: a, port: p, local: from, remote: to, gone: make(chan struct{})}
	theirs := &conn{Conn: b, port: there, local: to, remote: from, gone: make(chan struct{})}
	if !p.keep(mine) {
		return nil, errors.Join(net.ErrClosed, a.Close(), b.Close())
	}
	if !there.keep(theirs) {
		return nil, errors.Join(&net.OpError{Op: "dial", Net: "sim", Err: syscall.ECONNREFUSED}, mine.Close(), b.Close())
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
	net.Conn
	port          *Port
	local, remote netip.AddrPort
	once          sync.Once
	gone          chan struct{}

	mu       sync.Mutex
	deadline time.Time // of writes
}

func (c *conn) LocalAddr() net.Addr  { return net.TCPAddrFromAddrPort(c.local) }
func (c *conn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.remote) }

func (c *conn) SetDeadline(t time.Time) error {
	c.note(t)
	return c.unlessGone(c.Conn.SetDeadline(t))
}

func (c *conn) SetReadDeadline(t time.Time) error { return c.unlessGone(c.Conn.SetReadDeadline(t)) }

func (c *conn) SetWriteDeadline(t time.Time) error {
	c.note(t)
	return c.unlessGone(c.Conn.SetWriteDeadline(t))
}

// unlessGone: a pipe refuses deadlines when its other end is closed, a socket only when it is closed itself.
func (c *conn) unlessGone(err error) error {
	select {
	case <-c.gone:
		return net.ErrClosed
	default:
	}
	if errors.Is(err, io.ErrClosedPipe) {
		return nil
	}
	return err
}

func (c *conn) note(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = t
}

// Write takes as long as the link takes. On a link that is down it fails when its deadline is over, or after a minute.
func (c *conn) Write(b []byte) (int, error) {
	link, lost, delay := c.port.host.net.draw(c.local.Addr(), c.remote.Addr())
	c.mu.Lock()
	deadline := c.deadline
	c.mu.Unlock()
	for lost {
		delay += retransmit
		_, lost, _ = c.port.host.net.draw(c.local.Addr(), c.remote.Addr())
		if link.Loss >= 1 {
			link.Down = true
			break
		}
	}
	if link.Down {
		delay = time.Minute
	}
	late := !deadline.IsZero() && time.Now().Add(delay).After(deadline)
	if late {
		delay = max(0, time.Until(deadline))
	}
	if err := c.sleep(delay); err != nil {
		return 0, err
	}
	if late || link.Down {
		return 0, os.ErrDeadlineExceeded
	}
	c.port.host.streamBytes.Add(int64(len(b)))
	return c.Conn.Write(b)
}

func (c *conn) sleep(d time.Duration) error {
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-c.gone:
		return net.ErrClosed
	case <-t.C:
		return nil
	}
}

func (c *conn) Close() error {
	err := error(nil)
	c.once.Do(func() {
		close(c.gone)
		c.port.mu.Lock()
		delete(c.port.open, c)
		c.port.mu.Unlock()
		err = c.Conn.Close()
	})
	return err
}
