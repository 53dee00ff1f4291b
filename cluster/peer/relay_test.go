package peer

import (
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// relay is a link between clients and a server that can break, lose a reply, or go silent.
type relay struct {
	ln      net.Listener
	cut     atomic.Int64 // a reply of at least so many bytes is lost, once, and the connection with it; 0 = none
	swallow atomic.Bool  // everything is lost and nobody is told, as when a cable was pulled

	mu  sync.Mutex
	all []net.Conn
}

func newRelay(t testing.TB, to string) *relay {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{ln: ln}
	var group sync.WaitGroup
	group.Go(func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				_ = in.Close()
				continue
			}
			r.mu.Lock()
			r.all = append(r.all, in, out)
			r.mu.Unlock()
			group.Go(func() { r.carry(out, in, false) })
			group.Go(func() { r.carry(in, out, true) })
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		r.breakAll()
		group.Wait()
	})
	return r
}

// breakAll ends the connections there are.
func (r *relay) breakAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.all {
		_ = c.Close()
	}
	r.all = nil
}

func (r *relay) carry(to, from net.Conn, back bool) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if lose := r.cut.Load(); back && lose > 0 && int64(n) >= lose {
			r.cut.Store(0)
			return
		}
		if n > 0 && !r.swallow.Load() {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
