package mqtt

import (
	"testing"

	"mayfly/event"
	"mayfly/function"
	"mayfly/internal/mosquitto"
)

// Promise D7. Every case: a retained message is there, the session subscribes, leaves, comes back with the broker still
// holding the session, and comes back after the broker lost it.
func TestRetainedPolicies(t *testing.T) {
	cases := []struct {
		policy                  function.Retained
		first, present, renewed bool // is the retained message handed on?
	}{
		{function.RetainedSkip, false, false, false},
		{function.RetainedOnce, true, false, false},
		{function.RetainedAlways, true, false, true},
	}
	for _, c := range cases {
		t.Run(string(c.policy), func(t *testing.T) {
			broker := mustRun(t, mosquitto.Options{})
			b, memory := at(broker.URL()), &notes{}
			p, _ := publisher(t, b)
			config := sub("state/#")
			config.Topics[0].Retained = c.policy
			retained := event.Message{Topic: "state/lamp", Data: []byte("on"), QoS: 1, Retain: true}
			say(t, p, retained)
			visit := func(when string, want bool) {
				s := session(t, b, config, memory) // as after a restart of the agent
				in, r := listen(t, s)
				say(t, p, event.Message{Topic: "state/end", QoS: 1})
				g := in.next(t)
				if g.ev.Retained != want {
					t.Errorf("%s: first event is %s retained=%t, want retained=%t", when, g.ev.Topic, g.ev.Retained, want)
				}
				g.settle(nil)
				if g.ev.Retained {
					in.next(t).settle(nil)
				}
				r.stop(t)
				if st := s.Status(); st.Acked < 1 {
					t.Errorf("%s: %d acknowledged", when, st.Acked)
				}
			}
			visit("first subscription", c.first)
			visit("session present", c.present)
			if err := broker.Restart(); err != nil { // without persistence: sessions and retained messages are gone
				t.Fatal(err)
			}
			eventually(t, "publisher is back", p.Ready)
			eventually(t, "said again", func() bool {
				o := make(outcome, 1)
				return p.Publish(&retained, o) == nil && o.wait(t) == nil
			})
			visit("session lost", c.renewed)
		})
	}
}

// A first subscription whose retained messages were not all settled: they come again and are still new.
func TestRetainedOnceSurvivesACutBeforeItIsSettled(t *testing.T) {
	b, memory := at(mustRun(t, mosquitto.Options{}).URL()), &notes{}
	p, _ := publisher(t, b)
	say(t, p, event.Message{Topic: "state/lamp", Data: []byte("on"), QoS: 1, Retain: true})
	in, r := listen(t, session(t, b, sub("state/#"), memory))
	in.next(t)
	r.stop(t)
	in, _ = listen(t, session(t, b, sub("state/#"), memory))
	if g := in.next(t); !g.ev.Retained || !g.ev.Dup {
		t.Errorf("got %+v", g.ev)
	}
}

// Another node was subscribed before: its session is present and not in our memory. The subscription is made sure of,
// and what is retained is not new.
func TestRetainedOnceAfterATakeover(t *testing.T) {
	b := at(mustRun(t, mosquitto.Options{}).URL())
	p, _ := publisher(t, b)
	say(t, p, event.Message{Topic: "state/lamp", Data: []byte("on"), QoS: 1, Retain: true})
	in, r := listen(t, session(t, b, sub("state/#"), &notes{}))
	in.next(t).settle(nil)
	r.stop(t)
	memory := &notes{}
	in, r = listen(t, session(t, b, sub("state/#"), memory))
	say(t, p, event.Message{Topic: "state/end", QoS: 1})
	g := in.next(t)
	if g.ev.Retained {
		t.Errorf("the new owner was handed %+v", g.ev)
	}
	g.settle(nil)
	r.stop(t)
	if n, _ := memory.Subscribed(clientID(sub("state/#"))); n["state/#"] != repeatedly {
		t.Errorf("remembered as subscribed %v times, want %v: it was not the first", n, repeatedly)
	}
}
