package simnet

import (
	"net"
	"time"
)

// backlog is how many streams may wait to be accepted; further ones are closed.
const backlog = 128

// ListenStreams opens the host's only port for streams that are accepted one after the other, as a server does.
func (h *Host) ListenStreams() (*Listener, error) {
	p, err := h.Listen()
	if err != nil {
		return nil, err
	}
	l := &Listener{Port: p, streams: make(chan net.Conn, backlog)}
	p.Start(func([]byte, net.Addr, time.Time) {}, func(c net.Conn) {
		select {
		case l.streams <- c:
		default:
			_ = c.Close() // nobody has it yet
		}
	})
	return l, nil
}

// Listener is a port as a net.Listener.
type Listener struct {
	*Port
	streams chan net.Conn
}

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.streams:
		return c, nil
	case <-l.closed:
		return nil, &net.OpError{Op: "accept", Net: "sim", Err: net.ErrClosed}
	}
}

// Addr implements net.Listener.
func (l *Listener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.Port.Addr()) }
