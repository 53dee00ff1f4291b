package simnet_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"mayfly/internal/simnet"
)

var (
	client = netip.MustParseAddrPort("10.0.0.1:1")
	server = netip.MustParseAddrPort("10.0.0.2:2")
)

// pair is a network with one stream on it, and the link's state.
type pair struct {
	net       *simnet.Net
	link      atomic.Pointer[simnet.Link]
	near, far net.Conn
	ports     []io.Closer
}

func newPair(t *testing.T, link simnet.Link) *pair {
	t.Helper()
	p := &pair{net: simnet.New(1)}
	p.link.Store(&link)
	p.net.Shape(func(netip.Addr, netip.Addr) simnet.Link { return *p.link.Load() })
	ln, err := p.net.Host(server).ListenStreams()
	if err != nil {
		t.Fatal(err)
	}
	from, err := p.net.Host(client).Listen()
	if err != nil {
		t.Fatal(err)
	}
	p.ports = []io.Closer{ln, from}
	t.Cleanup(func() {
		for _, c := range p.ports {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	if p.near, err = from.DialContext(t.Context(), server.String()); err != nil {
		t.Fatal(err)
	}
	if p.far, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	return p
}

func read(t *testing.T, c net.Conn, want string) {
	t.Helper()
	b := make([]byte, len(want))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != want {
		t.Fatalf("read %q, %v; want %q", b, err, want)
	}
}

// Two writers must not wait for each other's link: they hold locks, which virtual time does not pass under.
func TestAWriteIsOnItsWayAndArrivesInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, simnet.Link{Delay: 20 * time.Millisecond, Jitter: 20 * time.Millisecond, Loss: 0.3})
		began := time.Now()
		var want []byte
		for i := range 200 {
			b := bytes.Repeat([]byte{byte(i)}, 100)
			want = append(want, b...)
			if _, err := p.near.Write(b); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took > 0 {
			t.Errorf("writing took %v", took)
		}
		got := make([]byte, len(want))
		if _, err := io.ReadFull(p.far, got); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("what arrived is not what was sent: %v", err)
		}
		if took := time.Since(began); took < 20*time.Millisecond {
			t.Errorf("it arrived after %v", took)
		}
	})
}

func TestAStreamOutlivesAShortOutageAndNotALongOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, simnet.Link{})
		up, down := &simnet.Link{}, &simnet.Link{Down: true}
		p.link.Store(down)
		for _, word := range []string{"one", "two"} {
			if _, err := p.near.Write([]byte(word)); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(30 * time.Second)
		p.link.Store(up)
		read(t, p.far, "onetwo")

		p.link.Store(down)
		if _, err := p.near.Write([]byte("lost")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		if _, err := p.near.Write([]byte("x")); !errors.Is(err, syscall.ETIMEDOUT) {
			t.Errorf("a write after two minutes of outage: %v", err)
		}
		if err := p.far.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := p.far.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the other end, which heard nothing: %v", err)
		}
	})
}

func TestTheEndComesAfterWhatWasWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, simnet.Link{Delay: 10 * time.Millisecond})
		if _, err := p.near.Write([]byte("last words")); err != nil {
			t.Fatal(err)
		}
		if err := p.near.Close(); err != nil {
			t.Fatal(err)
		}
		read(t, p.far, "last words")
		if _, err := p.far.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("after the end: %v", err)
		}
		if _, err := p.far.Write([]byte("too late")); err != nil {
			t.Errorf("the first write learns nothing: %v", err)
		}
		time.Sleep(time.Second)
		if _, err := p.far.Write([]byte("too late")); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("a later one: %v", err)
		}
		if _, err := p.near.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("a read on the closed end: %v", err)
		}
	})
}

func TestWhoeverIsNotReadFromWaitsForRoomUntilItsDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, simnet.Link{})
		if err := p.near.SetWriteDeadline(time.Now().Add(5 * time.Second)); err != nil {
			t.Fatal(err)
		}
		began, sent := time.Now(), 0
		for {
			n, err := p.near.Write(make([]byte, 64<<10))
			sent += n
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took != 5*time.Second || sent > 2<<20 {
			t.Errorf("%d bytes were taken, and the deadline came after %v", sent, took)
		}
		if err := p.near.SetWriteDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = io.Copy(io.Discard, p.far) }()
		if _, err := p.near.Write([]byte("x")); err != nil {
			t.Errorf("with room again: %v", err)
		}
	})
}

func TestDialEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, simnet.Link{})
		p.link.Store(&simnet.Link{Down: true})
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		from := p.ports[1].(*simnet.Port)
		if c, err := from.DialContext(ctx, server.String()); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("dialled over a dead link: %v, %v", c, err)
		}
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("it took %v", took)
		}
		p.link.Store(&simnet.Link{})
		if c, err := from.DialContext(t.Context(), "10.0.0.9:9"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("dialled where nobody listens: %v, %v", c, err)
		}
	})
}
