package faultlink

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"mayfly/test/torture/history"
)

// rig is a proxy between two ends a test holds.
type rig struct {
	proxy  *Proxy
	log    *history.Log
	listen net.Listener
}

func newRig(t *testing.T) *rig {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	log := history.New()
	p, err := New(l.Addr().String(), log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { p.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return &rig{p, log, l}
}

// dial returns both ends of a connection through the proxy.
func (r *rig) dial(t *testing.T) (agent, broker net.Conn) {
	t.Helper()
	agent, err := net.Dial("tcp", r.proxy.URL()[len("tcp://"):])
	if err != nil {
		t.Fatal(err)
	}
	if broker, err = r.listen.Accept(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []net.Conn{agent, broker} {
		t.Cleanup(func() { _ = c.Close() }) // may have been reset
		if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	return agent, broker
}

func message(topic, payload string, id byte) []byte {
	body := append([]byte{0, byte(len(topic))}, topic...)
	body = append(append(body, 0, id), payload...)
	return append([]byte{publish<<4 | 2, byte(len(body))}, body...)
}

func acknowledgement(id byte) []byte { return []byte{puback << 4, 2, 0, id} }

// through writes on one end and reads it on the other.
func through(t *testing.T, from, to net.Conn, b []byte) {
	t.Helper()
	if _, err := from.Write(b); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(b))
	if _, err := io.ReadFull(to, got); err != nil || string(got) != string(b) {
		t.Fatalf("%q, %v", got, err)
	}
}

func TestTapSeesMessagesAndAcknowledgements(t *testing.T) {
	r := newRig(t)
	agent, broker := r.dial(t)
	e := history.Event{Stream: "relay/2", Seq: 17}
	in := message("in/relay/2", `{"k":2,"s":17}`, 9)
	through(t, broker, agent, in[:7]) // in two pieces
	if r.log.Saw(e, history.Delivered) {
		t.Fatal("half a message was taken for a whole one")
	}
	through(t, broker, agent, in[7:])
	through(t, agent, broker, message("out/relay/2", `{"k":2,"s":17}`, 9)) // the same id, the other direction
	for _, c := range []struct {
		sight history.Sight
		want  bool
	}{{history.Delivered, true}, {history.Published, true}, {history.Acked, false}, {history.Confirmed, false}} {
		if r.log.Saw(e, c.sight) != c.want {
			t.Fatalf("sight %d: %v", c.sight, !c.want)
		}
	}
	through(t, broker, agent, acknowledgement(9))
	if !r.log.Saw(e, history.Confirmed) || r.log.Saw(e, history.Acked) {
		t.Fatal("the broker's acknowledgement is that of the effect")
	}
	through(t, agent, broker, append(acknowledgement(9), acknowledgement(10)...))
	if _, total := r.log.Count(history.Acked); total != 1 || !r.log.Saw(e, history.Acked) {
		t.Fatal("the agent's acknowledgement is that of the event, once")
	}
}

func TestTearEndsAConnectionInTheMiddleOfAPacket(t *testing.T) {
	r := newRig(t)
	agent, broker := r.dial(t)
	r.proxy.Tear()
	m := message("in/relay/2", `{"k":2,"s":17}`, 9)
	if _, err := agent.Write(m); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(broker)
	if len(got) >= len(m) || err == nil && len(got) == 0 || r.proxy.Torn() != 1 {
		t.Fatalf("%d of %d bytes, %v, %d torn", len(got), len(m), err, r.proxy.Torn())
	}
	other, end := r.dial(t)
	through(t, other, end, m)
}

func TestSilentLinkDeliversLater(t *testing.T) {
	r := newRig(t)
	agent, broker := r.dial(t)
	r.proxy.Set(Fault{Silent: true})
	if _, err := agent.Write(acknowledgement(1)); err != nil {
		t.Fatal(err)
	}
	if err := broker.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	var late net.Error
	if n, err := broker.Read(make([]byte, 1)); !errors.As(err, &late) || !late.Timeout() {
		t.Fatalf("%d bytes came through, %v", n, err)
	}
	if err := broker.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	r.proxy.Set(Fault{})
	if _, err := io.ReadFull(broker, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
}

func TestForgottenConnectionIsDeadAndNewOnesAreNot(t *testing.T) {
	r := newRig(t)
	agent, broker := r.dial(t)
	through(t, agent, broker, acknowledgement(1))
	r.proxy.Forget()
	if _, err := agent.Write(acknowledgement(2)); err != nil {
		t.Fatal(err)
	}
	if err := broker.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := broker.Read(make([]byte, 1)); err == nil {
		t.Fatalf("%d bytes came through", n)
	}
	other, end := r.dial(t)
	through(t, other, end, acknowledgement(3))
}

func TestSlowLink(t *testing.T) {
	r := newRig(t)
	agent, broker := r.dial(t)
	r.proxy.Set(Fault{Rate: 2000})
	began := time.Now()
	through(t, agent, broker, make([]byte, 600))
	if took := time.Since(began); took < 150*time.Millisecond {
		t.Fatalf("600 bytes at 2000 a second took %v", took)
	}
}

func TestCutResets(t *testing.T) {
	r := newRig(t)
	agent, broker := r.dial(t)
	through(t, agent, broker, acknowledgement(1))
	r.proxy.Cut()
	for _, c := range []net.Conn{agent, broker} {
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Fatal("the connection lives")
		}
	}
}
