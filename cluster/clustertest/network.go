package clustertest

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"

	"mayfly/cluster"
)

const patience = 5 * time.Second

// Network is what every cluster.Network promises. open opens another one that can reach those before it.
func Network(t *testing.T, open func(t *testing.T) cluster.Network) {
	t.Run("a packet arrives, in bytes of its own", func(t *testing.T) { packets(t, open(t), open(t)) })
	t.Run("a stream carries both ways and ends", func(t *testing.T) { streams(t, open(t), open(t)) })
	t.Run("closing ends everything", func(t *testing.T) { closing(t, open(t), open(t)) })
	t.Run("nobody there", func(t *testing.T) { nobody(t, open(t), open(t)) })
}

type received struct {
	b    []byte
	from net.Addr
}

func listen(n cluster.Network) (chan received, chan net.Conn) {
	packets, streams := make(chan received, 16), make(chan net.Conn, 16)
	n.Start(func(b []byte, from net.Addr, _ time.Time) { packets <- received{b, from} }, func(c net.Conn) { streams <- c })
	return packets, streams
}

func next[T any](t *testing.T, what string, ch chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatalf("%s: nothing came", what)
		panic("unreachable")
	}
}

func closed(t *testing.T, networks ...cluster.Network) {
	t.Helper()
	for _, n := range networks {
		if err := n.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
}

func packets(t *testing.T, a, b cluster.Network) {
	defer closed(t, a, b)
	atA, _ := listen(a)
	atB, _ := listen(b)
	if !b.Addr().IsValid() || b.Addr().Port() == 0 || b.Addr().Addr().IsUnspecified() {
		t.Fatalf("others cannot reach %v", b.Addr())
	}
	buffer := []byte("first")
	if err := a.Send(buffer, b.Addr().String()); err != nil {
		t.Fatal(err)
	}
	copy(buffer, "XXXXX")
	first := next(t, "the first packet", atB)
	if string(first.b) != "first" {
		t.Fatalf("received %q: the sender's buffer was kept", first.b)
	}
	if cap(first.b) > 64 {
		t.Errorf("a packet of 5 bytes holds %d", cap(first.b))
	}
	if err := b.Send([]byte("answer"), first.from.String()); err != nil {
		t.Fatal(err)
	}
	if got := next(t, "the answer to where it came from", atA); string(got.b) != "answer" {
		t.Fatalf("received %q", got.b)
	}
	large := bytes.Repeat([]byte{7}, 1400)
	if err := a.Send(large, b.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if got := next(t, "a full packet", atB); !bytes.Equal(got.b, large) || string(first.b) != "first" {
		t.Fatalf("received %d bytes; the first is now %q", len(got.b), first.b)
	}
}

func streams(t *testing.T, a, b cluster.Network) {
	defer closed(t, a, b)
	listen(a)
	_, atB := listen(b)
	near, err := a.Dial(b.Addr().String(), patience)
	if err != nil {
		t.Fatal(err)
	}
	far := next(t, "the stream", atB)
	body := bytes.Repeat([]byte("0123456789"), 10_000)
	wrote := make(chan error, 1)
	go func() {
		_, err := near.Write(body)
		wrote <- err
	}()
	got := make([]byte, len(body))
	if _, err := io.ReadFull(far, got); err != nil || !bytes.Equal(got, body) {
		t.Fatalf("the body did not come through: %v", err)
	}
	if err := next(t, "the write", wrote); err != nil {
		t.Fatal(err)
	}
	if err := far.SetReadDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := far.Read(got); !isTimeout(err) {
		t.Fatalf("a read without anything to read: %v", err)
	}
	if err := far.Close(); err != nil {
		t.Fatal(err)
	}
	if err := near.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := near.Read(got); err == nil || isTimeout(err) {
		t.Fatalf("the other end is closed: %v", err)
	}
	if err := near.Close(); err != nil {
		t.Fatal(err)
	}
}

func isTimeout(err error) bool {
	e, ok := err.(net.Error) //nolint:errorlint // the library's contract is about the error itself
	return ok && e.Timeout()
}

func closing(t *testing.T, a, b cluster.Network) {
	listen(a)
	atB, streamsB := listen(b)
	near, err := a.Dial(b.Addr().String(), patience)
	if err != nil {
		t.Fatal(err)
	}
	far := next(t, "the stream", streamsB)
	addr := b.Addr().String()
	ended := make(chan error, 2)
	for _, c := range []net.Conn{near, far} {
		go func() {
			_, err := c.Read(make([]byte, 1))
			ended <- err
		}()
	}
	closed(t, b, b) // twice is once
	for range 2 {
		if err := next(t, "the end of a read", ended); err == nil {
			t.Error("a read on a broken stream succeeded")
		}
	}
	if err := b.Send([]byte("x"), a.Addr().String()); err == nil {
		t.Error("a closed network sends")
	}
	if c, err := b.Dial(a.Addr().String(), patience); err == nil {
		t.Error("a closed network dials", c.Close())
	}
	if err := a.Send([]byte("late"), addr); err != nil {
		t.Logf("sending to a closed port: %v", err) // a network may know
	}
	closed(t, a)
	if len(atB) != 0 {
		t.Error("a closed network received")
	}
}

func nobody(t *testing.T, a, b cluster.Network) {
	listen(a)
	listen(b)
	addr := b.Addr().String()
	closed(t, b)
	if c, err := a.Dial(addr, patience); err == nil {
		t.Error("dialled where nobody listens", c.Close())
	}
	if err := a.Send([]byte("x"), "nonsense"); err == nil {
		t.Error("sent to an address that is none")
	}
	closed(t, a)
}
