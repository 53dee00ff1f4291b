package broker

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	paho "github.com/eclipse/paho.mqtt.golang"

	"mayfly/event"
	"mayfly/function"
	"mayfly/triggers"
)

var errDisk = errors.New("disk full")

func TestAcknowledgedOnlyWhenSafeAndInOrder(t *testing.T) {
	b, address := start(t, nil)
	in := make(inbox, 10)
	run(t, b, Trigger{Name: "temp", Filters: []string{"plant/+/temp"}, QoS: 1}, in)
	c := dial(t, address)
	c.hello("p", 4, true)
	c.send(publishPacket("plant/1/temp", 1, 1, false, "a"), publishPacket("plant/2/temp", 1, 2, false, "b"),
		publishPacket("other", 1, 3, false, "c"), []byte{0xC0, 0})
	first, second := get(t, "first event", in), get(t, "second event", in)
	if first.ev.Topic != "plant/1/temp" || string(first.ev.Data) != "a" || first.ev.QoS != 1 || first.ev.Dup || first.ev.Broker != "local" ||
		first.ev.Type != event.TypeMQTT || first.ev.ID == "" || first.ev.ID == second.ev.ID {
		t.Errorf("event %+v", first.ev)
	}
	c.want(0xD0) // PINGRESP: everything was read, nothing acknowledged, not even the one no trigger wants
	second.r.Settle(triggers.Settlement{})
	c.send([]byte{0xC0, 0})
	c.want(0xD0)
	first.r.Settle(triggers.Settlement{Journaled: true})
	first.r.Settle(triggers.Settlement{Err: errDisk}) // a second word is not heard
	c.want(0x40, 0, 1)
	c.want(0x40, 0, 2)
	c.want(0x40, 0, 3)
}

func TestUnsafeIsNotAcknowledgedAndComesAgain(t *testing.T) {
	for _, version := range []byte{4, 5} {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			b, address := start(t, nil)
			in := make(inbox, 10)
			run(t, b, Trigger{Name: "x", Filters: []string{"x"}, QoS: 1}, in)
			send := func(dup bool, payload string) *raw {
				c := dial(t, address)
				c.hello("p", version, false)
				c.send(publishWith(version, publishPacket("x", 1, 7, dup, payload), payload))
				return c
			}
			c := send(false, "one")
			first := get(t, "event", in)
			first.r.Settle(triggers.Settlement{Err: errDisk})
			switch f, body := c.next(); {
			case version == 4 && f != 0:
				t.Fatalf("received %#x % x, want the end of the connection", f, body)
			case version == 5 && f != 0xE0:
				t.Fatalf("received %#x % x, want DISCONNECT", f, body)
			}
			c = send(true, "one")
			again := get(t, "event again", in)
			a, z := first.ev.Delivery, again.ev.Delivery
			if a != (event.Delivery{Session: "local/p", Epoch: 1, PacketID: 7}) || z != (event.Delivery{Session: "local/p", Epoch: 2, PacketID: 7}) ||
				first.ev.Dup || !again.ev.Dup {
				t.Errorf("evidence %+v dup %v, then %+v dup %v", a, first.ev.Dup, z, again.ev.Dup)
			}
			again.r.Settle(triggers.Settlement{})
			if f, _ := c.next(); f != 0x40 {
				t.Fatalf("received %#x, want PUBACK", f)
			}
			if n := b.Status().Losses["unsettled"]; n != 1 {
				t.Errorf("counted %d unsettled", n)
			}
		})
	}
}

// publishWith turns a 3.1.1 PUBLISH without properties into one of the version.
func publishWith(version byte, p []byte, payload string) []byte {
	if version < 5 {
		return p
	}
	body := append([]byte(nil), p[2:len(p)-len(payload)]...)
	return packet(p[0], append(append(body, 0), payload...))
}

func TestQoS2IsReleasedOnlyWhenSafe(t *testing.T) {
	b, address := start(t, nil)
	in := make(inbox, 10)
	run(t, b, Trigger{Name: "x", Filters: []string{"x"}, QoS: 1}, in)
	c := dial(t, address)
	c.hello("p", 4, true)
	c.send(publishPacket("x", 2, 9, false, "v"), []byte{0xC0, 0})
	got := get(t, "event", in)
	if got.ev.QoS != 1 {
		t.Errorf("event has QoS %d", got.ev.QoS)
	}
	c.want(0xD0)
	got.r.Settle(triggers.Settlement{})
	c.want(0x50, 0, 9)
	c.send(publishPacket("x", 2, 9, true, "v")) // again before PUBREL: the broker has it already
	c.want(0x50, 0, 9)
	c.send([]byte{0x62, 2, 0, 9})
	c.want(0x70, 0, 9)
	if len(in) != 0 {
		t.Error("one QoS 2 message became two events")
	}
	if n := b.Status().Inflight; n != 0 {
		t.Errorf("%d in flight", n)
	}
}

func TestTwoTriggersBothHaveToSettle(t *testing.T) {
	b, address := start(t, nil)
	one, two, told := make(inbox, 1), make(inbox, 1), make(inbox, 1)
	run(t, b, Trigger{Name: "one", Filters: []string{"x", "+"}, QoS: 1}, one) // matches twice: one event
	run(t, b, Trigger{Name: "two", Filters: []string{"#"}, QoS: 1}, two)
	run(t, b, Trigger{Name: "told", Filters: []string{"#"}, QoS: 0}, told)
	c := dial(t, address)
	c.hello("p", 4, true)
	c.send(publishPacket("x", 1, 1, false, "v"))
	a, z, q := get(t, "event", one), get(t, "event", two), get(t, "event", told)
	if q.r != nil || q.ev.QoS != 0 {
		t.Error("a QoS 0 trigger got a receipt")
	}
	a.r.Settle(triggers.Settlement{})
	c.send([]byte{0xC0, 0})
	c.want(0xD0)
	z.r.Settle(triggers.Settlement{})
	c.want(0x40, 0, 1)
}

func TestHeldTriggerIsNotAcknowledged(t *testing.T) {
	b, address := start(t, nil)
	spec := Trigger{Name: "x", Filters: []string{"x"}, QoS: 1}
	s, err := b.Subscribe(spec)
	if err != nil {
		t.Fatal(err)
	}
	c := dial(t, address)
	c.hello("p", 4, false)
	c.send(publishPacket("x", 0, 0, false, "told"), publishPacket("x", 1, 1, false, "v"))
	if f, body := c.next(); f != 0 {
		t.Fatalf("received %#x % x, want the end of the connection", f, body)
	}
	if l := b.Status().Losses; l["trigger-held"] != 1 || l["unsettled"] != 1 {
		t.Errorf("losses %v", l)
	}
	s.Close()
	c = dial(t, address)
	c.hello("p", 4, false)
	c.send(publishPacket("x", 1, 1, true, "v"))
	c.want(0x40, 0, 1)
}

// An agent that exchanges its sources leaves no gap in which messages are acknowledged and told to nobody.
func TestHoldBridgesAnExchange(t *testing.T) {
	b, address := start(t, nil)
	spec := Trigger{Name: "x", Filters: []string{"x"}, QoS: 1}
	_, stop := run(t, b, spec, &settler{})
	try := func() byte {
		c := dial(t, address)
		c.hello("p", 4, false)
		c.send(publishPacket("x", 1, 1, false, "v"))
		f, _ := c.next()
		return f
	}
	if try() != 0x40 {
		t.Error("a running trigger is not acknowledged")
	}
	release := b.Hold()
	stop()
	if try() != 0 {
		t.Error("acknowledged in the gap")
	}
	_, stop = run(t, b, spec, &settler{})
	if try() != 0 {
		t.Error("acknowledged before the old trigger was let go")
	}
	release()
	if n := b.Status().Triggers; n != 1 || try() != 0x40 {
		t.Errorf("%d triggers after the exchange", n)
	}
	stop()
	if n := b.Status().Triggers; n != 0 || try() != 0x40 {
		t.Errorf("%d triggers after the last has ended", n)
	}
}

// A sink settles under its own lock, and a confirmation publishes to the same sink.
func TestConfirmationMayPublish(t *testing.T) {
	b, _ := start(t, nil)
	var lock sync.Mutex
	sink := sinkFunc(func(_ *event.Event, r triggers.Receipt) {
		lock.Lock()
		defer lock.Unlock()
		r.Settle(triggers.Settlement{Err: errDisk})
	})
	run(t, b, Trigger{Name: "x", Filters: []string{"x"}, QoS: 1}, sink)
	done := make(told, 1)
	err := b.Publish(&event.Message{Topic: "x", QoS: 1}, confirmFunc(func(error) {
		if err := b.Publish(&event.Message{Topic: "x", QoS: 1}, done); err != nil {
			t.Error(err)
		}
	}))
	if err != nil {
		t.Fatal(err)
	}
	if err := get(t, "answer", (<-chan error)(done)); !errors.Is(err, errDisk) {
		t.Errorf("confirmed %v", err)
	}
}

type confirmFunc func(error)

func (f confirmFunc) Confirmed(err error) { f(err) }

func TestRunWaitsForItsReceipts(t *testing.T) {
	b, address := start(t, nil)
	in := make(inbox, 1)
	_, stop := run(t, b, Trigger{Name: "x", Filters: []string{"x"}, QoS: 1}, in)
	c := dial(t, address)
	c.hello("p", 4, true)
	c.send(publishPacket("x", 1, 1, false, "v"))
	got := get(t, "event", in)
	stopped := make(chan struct{})
	go func() { stop(); close(stopped) }()
	select {
	case <-stopped:
		t.Error("Run ended with a receipt open")
	default:
	}
	got.r.Settle(triggers.Settlement{})
	c.want(0x40, 0, 1)
	get(t, "end of Run", stopped)
}

func TestWindowReadsAheadAndIsBounded(t *testing.T) {
	b, address := start(t, func(c *Config) { c.Limits.Unacknowledged = 4; c.Limits.Window = 1 })
	in := make(inbox, 10)
	run(t, b, Trigger{Name: "x", Filters: []string{"x"}, QoS: 1}, in)
	c := dial(t, address)
	c.hello("p", 4, true)
	for i := range 5 {
		c.send(publishPacket("x", 1, uint16(i+1), false, "v"))
	}
	var got []offered
	for range 4 {
		got = append(got, get(t, "event", in))
	}
	if f, _ := c.next(); f != 0 {
		t.Errorf("received %#x, want the end: the window stayed full", f)
	}
	for _, o := range got {
		o.r.Settle(triggers.Settlement{})
	}
	if n := b.Status().Losses["window-timeout"]; n != 1 {
		t.Errorf("losses %v", b.Status().Losses)
	}
}

type told chan error

func (c told) Confirmed(err error) { c <- err }

func TestPublishInProcess(t *testing.T) {
	b, address := start(t, nil)
	in := make(inbox, 10)
	run(t, b, Trigger{Name: "x", Filters: []string{"x"}, QoS: 1}, in)
	sub := connect(t, address, "s", nil)
	heard := make(chan string, 10)
	wait(t, "subscribe", sub.Subscribe("#", 1, func(_ paho.Client, m paho.Message) { heard <- m.Topic() + "=" + string(m.Payload()) }))

	done := make(told, 1)
	m := &event.Message{Topic: "x", Data: []byte("1"), QoS: 1}
	if err := b.Publish(m, done); err != nil {
		t.Fatal(err)
	}
	got := get(t, "event", in)
	if s := get(t, "message", heard); s != "x=1" {
		t.Errorf("subscriber heard %q", s)
	}
	select {
	case err := <-done:
		t.Errorf("confirmed (%v) before the trigger settled", err)
	default:
	}
	got.r.Settle(triggers.Settlement{Err: errDisk})
	if err := get(t, "answer", (<-chan error)(done)); !errors.Is(err, errDisk) {
		t.Errorf("done(%v)", err)
	}
	if err := b.Publish(&event.Message{Topic: "y", Data: []byte("2"), QoS: 1}, done); err != nil {
		t.Fatal(err)
	}
	if err := get(t, "answer", (<-chan error)(done)); err != nil {
		t.Errorf("done(%v)", err)
	}
	for _, topic := range []string{"", "a/+", "$SYS/x"} {
		if err := b.Publish(&event.Message{Topic: topic}, nil); function.ClassOf(err) != function.ClassReject {
			t.Errorf("publish to %q: %v", topic, err)
		}
	}
}

func TestRetainedForTriggers(t *testing.T) {
	b, _ := start(t, nil)
	if err := b.Publish(&event.Message{Topic: "cfg/a", Data: []byte("1"), QoS: 1, Retain: true}, nil); err != nil {
		t.Fatal(err)
	}
	for policy, want := range map[function.Retained]int{function.RetainedSkip: 0, function.RetainedOnce: 1, function.RetainedAlways: 1} {
		in := make(inbox, 10)
		_, stop := run(t, b, Trigger{Name: "cfg", Filters: []string{"cfg/#", "cfg/+"}, QoS: 1, Retained: policy}, in)
		for range want {
			if o := get(t, "retained event", in); !o.ev.Retained || o.r != nil || o.ev.Topic != "cfg/a" {
				t.Errorf("%s: %+v", policy, o.ev)
			}
		}
		stop()
		if len(in) != 0 {
			t.Errorf("%s: %d events too many", policy, len(in))
		}
	}
}

func TestWillReachesTriggers(t *testing.T) {
	b, address := start(t, nil)
	in := make(inbox, 1)
	run(t, b, Trigger{Name: "gone", Filters: []string{"gone/+"}, QoS: 1}, in)
	c := dial(t, address)
	body := append(str("MQTT"), 4, 0x26, 0, 60) // clean session, will, to be retained
	body = append(append(append(body, str("w")...), str("gone/w")...), str("bye")...)
	c.send(packet(0x10, body))
	c.want(0x20, 0, 0)
	c.Close()
	if o := get(t, "will", in); o.ev.Topic != "gone/w" || string(o.ev.Data) != "bye" || o.r != nil {
		t.Errorf("event %+v", o.ev)
	}
	c = dial(t, address)
	c.hello("late", 4, true)
	c.send(subscribePacket(1, "gone/#", 0))
	c.want(0x90, 0, 1, 0)
	c.want(0x31, append(str("gone/w"), "bye"...)...)
}

// Nothing a publisher saw acknowledged is missing, over connections that fail at random places.
func TestNothingAcknowledgedIsLost(t *testing.T) {
	b, address := start(t, nil)
	var n atomic.Int64
	seen := make(map[string]bool)
	sink := sinkFunc(func(ev *event.Event, r triggers.Receipt) {
		if n.Add(1)%7 == 0 {
			r.Settle(triggers.Settlement{Err: errDisk})
			return
		}
		seen[string(ev.Data)] = true // one publisher: one goroutine
		r.Settle(triggers.Settlement{})
	})
	run(t, b, Trigger{Name: "x", Filters: []string{"x"}, QoS: 1}, sink)
	acked := map[uint16]bool{}
	const messages = 300
	for next := uint16(1); next <= messages; {
		c := dial(t, address)
		c.hello("p", 4, false)
		var p []byte
		for id := next; id < next+10 && id <= messages; id++ {
			p = append(p, publishPacket("x", 1, id, true, fmt.Sprint(id))...)
		}
		c.Write(p) // it may be refused half way
		c.Conn.(interface{ CloseWrite() error }).CloseWrite()
		for {
			f, body := c.next()
			if f != 0x40 {
				break
			}
			id := uint16(body[0])<<8 | uint16(body[1])
			if id != next {
				t.Fatalf("acknowledged %d, the next is %d", id, next)
			}
			acked[id] = true
			next++
		}
		c.Close()
	}
	until(t, "all connections ended", func() bool { return b.Status().Clients == 0 })
	for id := range acked {
		if !seen[fmt.Sprint(id)] {
			t.Errorf("message %d was acknowledged and is nowhere", id)
		}
	}
	if len(acked) != messages {
		t.Errorf("%d acknowledged", len(acked))
	}
}
