package mqtt

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"mayfly/event"
	"mayfly/function"
	"mayfly/internal/mosquitto"
)

func TestEventCarriesWhatTheMessageSaid(t *testing.T) {
	b := at(mustRun(t, mosquitto.Options{}).URL())
	s := session(t, b, sub("plant/+/temp"), &notes{})
	in, _ := listen(t, s)
	p, _ := publisher(t, b)
	say(t, p, event.Message{Topic: "plant/7/temp", Data: []byte("21"), QoS: 1}, event.Message{Topic: "plant/7/temp", QoS: 0})

	first, second := in.next(t), in.next(t)
	ev := first.ev
	if ev.Topic != "plant/7/temp" || ev.Subject != ev.Topic || ev.Source != "mqtt://site/plant/7/temp" || ev.Broker != "site" ||
		ev.Type != event.TypeMQTT || string(ev.Data) != "21" || ev.QoS != 1 || ev.Retained || ev.Dup || ev.ID == "" || ev.Time.IsZero() {
		t.Errorf("event is %+v", ev)
	}
	if want := (event.Delivery{Session: s.ClientID(), Epoch: 1, PacketID: 1}); ev.Delivery != want {
		t.Errorf("delivery is %+v, want %+v", ev.Delivery, want)
	}
	if second.r != nil || second.ev.QoS != 0 || second.ev.Delivery != (event.Delivery{}) || second.ev.ID == ev.ID {
		t.Errorf("QoS 0: receipt %v, event %+v", second.r, second.ev)
	}
	first.settle(nil)
	eventually(t, "acknowledged", func() bool { return s.Status().Acked == 1 })
}

// Promise D5: acknowledgements leave in the order received, whatever the order of settling.
func TestAcknowledgementsLeaveInTheOrderReceived(t *testing.T) {
	b := at(mustRun(t, mosquitto.Options{}).URL())
	s := session(t, b, sub("in"), &notes{})
	in, _ := listen(t, s)
	p, _ := publisher(t, b)
	say(t, p, numbered("in", 0, 25)...)
	first := in.take(t, 20) // mosquitto's window
	for i := 19; i > 0; i-- {
		first[i].settle(nil)
	}
	if st := s.Status(); st.Acked != 0 || st.Unsettled != 1 {
		t.Fatalf("%d acknowledged, %d unsettled while the oldest is open", st.Acked, st.Unsettled)
	}
	first[0].settle(nil)
	first[0].settle(errors.New("twice")) // harmless
	rest := in.take(t, 5)
	for i, g := range append(first, rest...) {
		if string(g.ev.Data) != fmt.Sprint(i) {
			t.Errorf("event %d carries %s", i, g.ev.Data)
		}
	}
	if st := s.Status(); st.Acked != 20 || st.Unsettled != 5 {
		t.Errorf("%d acknowledged, %d unsettled, want 20 and 5", st.Acked, st.Unsettled)
	}
}

// Promise D1 and D4: what is not settled is not acknowledged, so the broker sends it again after the connection was lost; as
// long as the first delivery is in somebody's hands it is not handed on a second time, and its receipt acknowledges the second.
func TestUnsettledEventsKeepTheirReceiptOverALostConnection(t *testing.T) {
	b := at(mustRun(t, mosquitto.Options{}).URL())
	s := session(t, b, sub("in"), &notes{})
	in, _ := listen(t, s)
	p, _ := publisher(t, b)
	say(t, p, numbered("in", 0, 5)...)
	all := in.take(t, 5)
	all[0].settle(nil)
	eventually(t, "acknowledged", func() bool { return s.Status().Acked == 1 })
	for round := range 2 {
		s.cut()
		eventually(t, "redelivered", func() bool { return s.Status().Redelivered >= uint64(4+4*round) })
	}
	all[2].settle(nil)
	all[1].settle(nil)
	s.cut() // perhaps before the acknowledgements were read: then these two come again, and are known
	all[3].settle(nil)
	eventually(t, "back", func() bool { return s.Status().Connects == 4 })
	all[4].settle(nil)
	eventually(t, "all acknowledged", func() bool { st := s.Status(); return st.Unsettled == 0 && st.Acked >= 5 })
	say(t, p, numbered("in", 5, 6)...)
	for g := in.next(t); string(g.ev.Data) != "5"; g = in.next(t) {
		if data := string(g.ev.Data); data != "1" && data != "2" || !g.ev.Dup {
			t.Errorf("%s was handed on a second time", data)
		}
		g.settle(nil)
	}
}

// What another process was handed, which is what a restart makes of us, comes again with DUP and the same packet ids.
func TestUnsettledEventsComeAgainAfterARestart(t *testing.T) {
	b, memory := at(mustRun(t, mosquitto.Options{}).URL()), &notes{}
	in, r := listen(t, session(t, b, sub("in"), memory))
	p, _ := publisher(t, b)
	say(t, p, numbered("in", 0, 3)...)
	before := in.take(t, 3)
	r.stop(t)
	in, _ = listen(t, session(t, b, sub("in"), memory))
	for i, g := range in.take(t, 3) {
		want := before[i].ev
		if string(g.ev.Data) != string(want.Data) || !g.ev.Dup || g.ev.Delivery.PacketID != want.Delivery.PacketID {
			t.Errorf("redelivery %d: %s dup=%t %+v, before %s %+v", i, g.ev.Data, g.ev.Dup, g.ev.Delivery, want.Data, want.Delivery)
		}
	}
}

// cut ends the connection as a failing network would, when there is one.
func (s *Session) cut() {
	for {
		s.mu.Lock()
		link := s.window.link
		s.mu.Unlock()
		if link != nil {
			_ = link.end(errors.New("cut by the test"))
			return
		}
		<-time.After(time.Millisecond)
	}
}

func TestEventGivenBackComesAgainAfterTheHoldOff(t *testing.T) {
	b := at(mustRun(t, mosquitto.Options{}).URL())
	s := session(t, b, sub("in"), &notes{})
	in, _ := listen(t, s)
	p, _ := publisher(t, b)
	say(t, p, numbered("in", 0, 3)...)
	first := in.take(t, 3)
	first[0].settle(nil)
	first[1].settle(errors.New("disk full"))
	first[2].settle(nil)
	again := in.next(t) // only this one: the other was settled, and is acknowledged in its turn
	if string(again.ev.Data) != "1" || !again.ev.Dup {
		t.Errorf("redelivery is %s dup=%t, want 1", again.ev.Data, again.ev.Dup)
	}
	again.settle(nil)
	eventually(t, "acknowledged on the second connection", func() bool { st := s.Status(); return st.Acked == 3 && st.Connects == 2 })
	if st := s.Status(); st.GivenBack != 1 || st.Unsettled != 0 {
		t.Errorf("given back %d, unsettled %d", st.GivenBack, st.Unsettled)
	}
}

func TestFloodIsLeftToTheBroker(t *testing.T) {
	b := at(mustRun(t, mosquitto.Options{}).URL())
	c := sub("in")
	c.MaxEvents = 3
	s := session(t, b, c, &notes{})
	in, _ := listen(t, s)
	p, _ := publisher(t, b)
	say(t, p, numbered("in", 0, 5)...)
	first := in.take(t, 3)
	eventually(t, "connection given up", func() bool { return s.Status().Connects == 2 })
	if len(in.events) > 3 {
		t.Fatalf("%d events beyond the bound", len(in.events))
	}
	for _, g := range first {
		g.settle(nil) // of the connection before: they are known when they come again
	}
	for want := 3; want < 5; want++ {
		g := in.next(t)
		if string(g.ev.Data) != fmt.Sprint(want) {
			t.Errorf("event %s, want %d", g.ev.Data, want)
		}
		g.settle(nil)
	}
	eventually(t, "all acknowledged", func() bool { return s.Status().Acked == 5 })
}

func TestVolatileMessagesAreShedAndCounted(t *testing.T) {
	b := at(mustRun(t, mosquitto.Options{}).URL())
	b.MaxPayload = 10
	s := session(t, b, sub("in"), &notes{})
	in := newBasket()
	in.refuse = &function.Error{Class: function.ClassOverload, Kind: "queue-full"}
	start(t, func(ctx context.Context) error { return s.Run(ctx, in) })
	eventually(t, "subscribed", func() bool { return s.Status().Connected })
	big := b
	big.MaxPayload = 100
	p, _ := publisher(t, big)
	long := make([]byte, 11)
	say(t, p, event.Message{Topic: "in"}, event.Message{Topic: "in"}, event.Message{Topic: "in", Data: long},
		event.Message{Topic: "in", Data: long, QoS: 1}, event.Message{Topic: "in", Data: long, QoS: 1})
	eventually(t, "shed", func() bool { return s.Status().Shed["too-large"] == 3 })
	if st := s.Status(); st.Shed["queue-full"] != 2 || st.Acked != 2 {
		t.Errorf("status %+v", st)
	}
}

func TestRunDrainsWhatIsSettledInTime(t *testing.T) {
	b := at(mustRun(t, mosquitto.Options{}).URL())
	c := sub("in")
	c.Drain = patience
	memory := &notes{}
	s := session(t, b, c, memory)
	in, r := listen(t, s)
	p, _ := publisher(t, b)
	say(t, p, numbered("in", 0, 2)...)
	all := in.take(t, 2)
	r.cancel()
	say(t, p, numbered("in", 2, 3)...) // stays at the broker
	all[0].settle(nil)
	all[1].settle(nil)
	r.stop(t)
	if n := len(in.events); n != 0 {
		t.Fatalf("%d events handed on while stopping", n)
	}
	in, _ = listen(t, session(t, b, c, memory))
	g := in.next(t)
	if string(g.ev.Data) != "2" {
		t.Errorf("after the restart came %s, want 2", g.ev.Data)
	}
	g.settle(nil)
}

// Whoever connects with the trigger's id has the session, and what was unacknowledged.
func TestTakeover(t *testing.T) {
	b := at(mustRun(t, mosquitto.Options{}).URL())
	old := session(t, b, sub("in"), &notes{})
	in, r := listen(t, old)
	p, _ := publisher(t, b)
	say(t, p, numbered("in", 0, 3)...)
	in.take(t, 3)
	r.cancel() // so that it does not fight back
	in, _ = listen(t, session(t, b, sub("in"), &notes{}))
	for want := range 3 {
		if g := in.next(t); string(g.ev.Data) != fmt.Sprint(want) {
			t.Errorf("the new owner got %s, want %d", g.ev.Data, want)
		}
	}
}

func TestPurgeMakesTheBrokerForget(t *testing.T) {
	b := at(mustRun(t, mosquitto.Options{}).URL())
	memory := &notes{}
	s := session(t, b, sub("in"), memory)
	_, r := listen(t, s)
	r.stop(t)
	p, _ := publisher(t, b)
	say(t, p, numbered("in", 0, 1)...)
	if err := s.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Purge(t.Context()); err != nil {
		t.Fatalf("second time: %v", err)
	}
	if filters, _ := memory.Subscribed(s.ClientID()); len(filters) != 0 {
		t.Errorf("still remembered as subscribed to %v", filters)
	}
	in, _ := listen(t, session(t, b, sub("in"), memory))
	say(t, p, numbered("in", 1, 2)...)
	if g := in.next(t); string(g.ev.Data) != "1" {
		t.Errorf("got %s of the purged session", g.ev.Data)
	}
}

func TestClientIDBelongsToTheTriggers(t *testing.T) {
	id := func(c Subscription) string { return session(t, at("tcp://h:1"), c, &notes{}).ClientID() }
	c := sub("a", "b")
	if got := id(sub("c")); got != id(c) || len(got) != 23 {
		t.Errorf("id %q: it must not depend on the topics and must have 23 letters", got)
	}
	seen := map[string]bool{id(c): true}
	for _, change := range []func(*Subscription){
		func(c *Subscription) { c.Cluster = "d" }, func(c *Subscription) { c.Session = "g" }, func(c *Subscription) { c.Volatile = true },
	} {
		other := c
		change(&other)
		if got := id(other); seen[got] {
			t.Errorf("%+v has an id that is taken", other)
		} else {
			seen[got] = true
		}
	}
}

func TestOverlappingTopicsAreRefused(t *testing.T) {
	s := session(t, at("tcp://h:1"), sub("a/+"), &notes{})
	if err := s.SetTopics([]Topic{{Filter: "a/+"}, {Filter: "$share/g/a/b"}}); err == nil {
		t.Error("overlapping filters were taken")
	}
}

// Topics come and go while the session is up; the others' subscriptions, and what is retained there, are not touched.
func TestSetTopics(t *testing.T) {
	b, memory := at(mustRun(t, mosquitto.Options{}).URL()), &notes{}
	p, _ := publisher(t, b)
	for _, topic := range []string{"a", "b"} {
		say(t, p, event.Message{Topic: topic, Data: []byte("retained"), QoS: 1, Retain: true})
	}
	s := session(t, b, sub("a"), memory)
	in, _ := listen(t, s)
	in.next(t).settle(nil)
	if err := s.SetTopics(sub("a", "b").Topics); err != nil {
		t.Fatal(err)
	}
	if g := in.next(t); g.ev.Topic != "b" || !g.ev.Retained {
		t.Errorf("after b was added came %+v", g.ev)
	} else {
		g.settle(nil)
	}
	if err := s.SetTopics(sub("b").Topics); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a is forgotten", func() bool {
		filters, _ := memory.Subscribed(s.ClientID())
		return len(filters) == 1 && filters["b"] == 1
	})
	say(t, p, event.Message{Topic: "a", QoS: 1}, event.Message{Topic: "b", QoS: 1})
	if g := in.next(t); g.ev.Topic != "b" || g.ev.Retained {
		t.Errorf("after a was removed came %+v", g.ev)
	}
}

// A topic that was removed while the connection was down is unsubscribed when it is back.
func TestSetTopicsWhileDown(t *testing.T) {
	b, memory := at(mustRun(t, mosquitto.Options{}).URL()), &notes{}
	s := session(t, b, sub("a", "b"), memory)
	_, r := listen(t, s)
	r.stop(t)
	p, _ := publisher(t, b)
	in, _ := listen(t, session(t, b, sub("b", "c"), memory))
	say(t, p, event.Message{Topic: "a", QoS: 1}, event.Message{Topic: "b", QoS: 1}, event.Message{Topic: "c", QoS: 1})
	for _, want := range []string{"b", "c"} {
		if g := in.next(t); g.ev.Topic != want {
			t.Errorf("got %s, want %s", g.ev.Topic, want)
		}
	}
}

func TestBackoff(t *testing.T) {
	var b backoff
	next := func(up time.Duration, limits ...time.Duration) {
		t.Helper()
		for n, limit := range limits {
			if got := b.next(up); got < 0 || got >= limit {
				t.Errorf("up %v, retry %d waits %v, want less than %v", up, n, got, limit)
			}
		}
	}
	next(0, firstRetry, 1e9, 2e9, 4e9, 8e9, 16e9, 32e9, 60e9, 60e9, 60e9)
	next(time.Second, 4e9, 4e9, 4e9) // it comes up and does not stay
	next(stableFor, firstRetry)
}
