package mqtt

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"mayfly/event"
	"mayfly/internal/mosquitto"
	"mayfly/triggers"
)

// word is what a settlement's Forgotten was called with.
type word chan bool

func (c word) settlement() triggers.Settlement {
	return triggers.Settlement{Forgotten: func(all bool) { c <- all }}
}

func (c word) within(t *testing.T, what string) (all bool) {
	t.Helper()
	select {
	case all = <-c:
	case <-time.After(patience):
		t.Fatal("nobody said that the broker has forgotten ", what)
	}
	return all
}

// [U4] What is acknowledged is forgotten when the broker has shown that it has the acknowledgement, also when the connection that brought it has
// ended meanwhile; what is sent again says nothing about what was sent before.
func TestTheBrokerShowsThatItForgets(t *testing.T) {
	b := at(mustRun(t, mosquitto.Options{}).URL())
	s := session(t, b, sub("in"), &notes{})
	in, _ := listen(t, s)
	p, _ := publisher(t, b)
	say(t, p, numbered("in", 0, 3)...)
	all := in.take(t, 3)
	first, second, third := make(word, 9), make(word, 9), make(word, 9)
	all[2].r.Settle(third.settlement())
	all[0].r.Settle(first.settlement())
	if !first.within(t, "the first, which came without DUP") {
		t.Error("what is new shows that all before it is forgotten")
	}
	s.cut()
	all[1].r.Settle(second.settlement())
	if second.within(t, "the second") || third.within(t, "the third") {
		t.Error("what came again shows nothing about others")
	}
	if len(first)+len(second)+len(third) != 0 {
		t.Error("told more than once")
	}
}

// answered is a link's receiver that tells a window of answers.
type answered struct {
	discard
	w *window
}

func (a *answered) pong(n uint64) { a.w.proven(n) }

// The answer to the client's own PINGREQ, written before the acknowledgement, proves nothing; nor does the end of the connection.
func TestOnlyTheRightAnswerProves(t *testing.T) {
	near, far := net.Pipe()
	l := newLink(near, &Broker{Name: "site", WriteTimeout: patience})
	w := newWindow(l, time.Hour, &counters{})
	l.start(&answered{w: w})
	go func() { _, _ = io.Copy(io.Discard, l) }()
	wire := make(chan byte, 64) // the kinds of the packets, each of which has its length in its second byte
	go func() {
		for b := make([]byte, 64); ; {
			n, err := far.Read(b)
			for i := 0; i < n; i += int(b[i+1]) + 2 {
				wire <- b[i] >> 4
			}
			if err != nil {
				return
			}
		}
	}()
	expect := func(kind byte) {
		t.Helper()
		select {
		case got := <-wire:
			if got != kind {
				t.Fatalf("packet of type %d, want %d", got, kind)
			}
		case <-time.After(patience):
			t.Fatal("nothing was written")
		}
	}
	answer := func() {
		t.Helper()
		if _, err := far.Write([]byte{packets.Pingresp << 4, 0}); err != nil {
			t.Fatal(err)
		}
	}
	settle := func(id uint16) word {
		t.Helper()
		d := &delivery{event: event.Event{Delivery: event.Delivery{PacketID: id}}}
		w.add(d)
		c := make(word, 9)
		d.Settle(c.settlement())
		return c
	}
	if _, err := l.Write(pingreq[:]); err != nil {
		t.Fatal(err)
	}
	expect(packets.Pingreq)
	first := settle(1)
	expect(packets.Puback)
	expect(packets.Pingreq)
	answer()
	second := settle(2) // its acknowledgement is written behind the question
	expect(packets.Puback)
	if len(first) != 0 {
		t.Error("proven by the answer to an earlier question")
	}
	answer()
	first.within(t, "the first")
	expect(packets.Pingreq)
	if len(second) != 0 {
		t.Error("proven by the answer to a question before it")
	}
	w.close()
	_ = far.Close()
	_ = l.Close()
	if len(second) != 0 {
		t.Error("proven by the end of the connection")
	}
}
