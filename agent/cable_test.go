package agent

import (
	"io"
	"net"
	"sync"
	"testing"
)

// cable is the connection between one node and the broker.
type cable struct {
	listener net.Listener
	to       string

	mu    sync.Mutex
	off   bool
	conns []net.Conn
}

func newCable(t *testing.T, to string) *cable {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cable{listener: l, to: to}
	t.Cleanup(func() { _ = l.Close(); c.plug(false) })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			c.mu.Lock()
			if c.off || err != nil {
				_ = in.Close()
				if err == nil {
					_ = out.Close()
				}
			} else {
				c.conns = append(c.conns, in, out)
				go carry(in, out)
				go carry(out, in)
			}
			c.mu.Unlock()
		}
	}()
	return c
}

// carry takes what comes from one end to the other, its end too.
func carry(to, from net.Conn) {
	_, _ = io.Copy(to, from)
	_ = to.(*net.TCPConn).CloseWrite()
}

// plug connects or cuts the cable.
func (c *cable) plug(in bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.off = !in
	if !in {
		for _, conn := range c.conns {
			_ = conn.Close()
		}
		c.conns = nil
	}
}
