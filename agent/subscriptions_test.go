package agent

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"mayfly/event"
	"mayfly/function"
	"mayfly/internal/mosquitto"
	"mayfly/store"
	"mayfly/triggers"
)

// opened is a store that runs for the duration of the test, or until it is closed.
func opened(t *testing.T, dir string) (*store.Store, func()) {
	t.Helper()
	s, _, err := store.Open(store.Config{Dir: dir}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	closed := false
	stop := func() {
		if closed {
			return
		}
		closed = true
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return s, stop
}

func on(t *testing.T, name string, topics ...string) *function.Function {
	t.Helper()
	f := &function.Function{Manifest: function.Manifest{Name: name}}
	for _, topic := range topics {
		p, err := event.ParsePattern(topic)
		if err != nil {
			t.Fatal(err)
		}
		f.Manifest.MQTT = append(f.Manifest.MQTT, function.MQTTTrigger{Topic: p, QoS: 1, Retained: function.RetainedOnce})
	}
	return f
}

// heard is what came to which source.
type heard struct {
	source string
	events chan string
}

func (h *heard) Accept(_ context.Context, ev *event.Event, r triggers.Receipt) error {
	h.events <- h.source + " " + ev.Topic
	if r != nil {
		r.Settle(triggers.Settlement{})
	}
	return nil
}

// rig is subscriptions at a real broker.
type rig struct {
	t      *testing.T
	subs   *subscriptions
	events chan string
}

func newRig(t *testing.T, url string, s *store.Store) *rig {
	t.Helper()
	all, err := sites(&Config{Brokers: map[string]BrokerConfig{"site": {URLs: []string{url}}}}, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t, newSubscriptions("c", all, "site", s, slog.New(slog.DiscardHandler)), make(chan string, 100)}
	t.Cleanup(r.subs.close)
	return r
}

func (r *rig) deploy(functions ...*function.Function) {
	r.t.Helper()
	groups, claims := r.subs.plan(functions)
	err := r.subs.apply(groups, claims, func(source string) triggers.Sink { return &heard{source, r.events} })
	if err != nil {
		r.t.Fatal(err)
	}
	r.until("subscribed", func() bool { return r.subs.waiting("") == "" })
}

func (r *rig) until(what string, ok func() bool) {
	r.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(10 * time.Second); !ok(); {
		select {
		case <-tick.C:
		case <-deadline:
			r.t.Fatal("not reached: ", what)
		}
	}
}

// say publishes until a message of that topic was heard, and returns where.
func (r *rig) say(topic string) string {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 10*time.Second)
	defer cancel()
	p := r.subs.sites["site"]
	go func() { _ = p.Run(ctx) }()
	r.until("publisher is up", p.Ready)
	told := make(confirmation, 1)
	if err := p.Publish(&event.Message{Topic: topic, QoS: 1}, told); err != nil {
		r.t.Fatal(err)
	}
	select {
	case got := <-r.events:
		return got
	case <-time.After(10 * time.Second):
		r.t.Fatal("nobody heard ", topic)
		return ""
	}
}

func TestAHundredFunctionsShareFewConnections(t *testing.T) {
	s, _ := opened(t, t.TempDir())
	r := newRig(t, mosquitto.Run(t, mosquitto.Options{}).URL(), s)
	var all []*function.Function
	for i := range 100 {
		all = append(all, on(t, fmt.Sprintf("f%03d", i), fmt.Sprintf("in/%d", i)))
	}
	r.deploy(all...)
	if n := len(r.subs.sessions); n != 4 {
		t.Errorf("%d sessions, want 4", n)
	}
	if got := r.say("in/42"); got != "site/0 in/42" {
		t.Errorf("heard %q", got)
	}
}

// Overlapping and equal filters come by different sessions, and each event once by each.
func TestOverlappingTriggersHaveTheirOwnSessions(t *testing.T) {
	s, _ := opened(t, t.TempDir())
	r := newRig(t, mosquitto.Run(t, mosquitto.Options{}).URL(), s)
	r.deploy(on(t, "f", "in/#"), on(t, "g", "in/1"), on(t, "h", "in/1"))
	heard := map[string]int{r.say("in/1"): 1}
	for range 2 {
		heard[<-r.events]++
	}
	for _, want := range []string{"site/0 in/1", "site/1 in/1", "site/2 in/1"} {
		if heard[want] != 1 {
			t.Errorf("heard %v, want %q once", heard, want)
		}
	}
}

// What a session missed while the agent was away comes when it is back, in the session that had it, also when a function that
// sorts before it has come meanwhile.
func TestSessionsSurviveARestart(t *testing.T) {
	dir, broker := t.TempDir(), mosquitto.Run(t, mosquitto.Options{})
	s, stop := opened(t, dir)
	first := newRig(t, broker.URL(), s)
	first.deploy(on(t, "f", "in/#"), on(t, "g", "in/1"))
	first.subs.close()
	speaker := newRig(t, broker.URL(), s)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	p := speaker.subs.sites["site"]
	go func() { _ = p.Run(ctx) }()
	speaker.until("publisher is up", p.Ready)
	told := make(confirmation, 1)
	if err := p.Publish(&event.Message{Topic: "in/1", QoS: 1}, told); err != nil {
		t.Fatal(err)
	}
	if err := <-told; err != nil {
		t.Fatal(err)
	}
	stop()
	s, _ = opened(t, dir)
	again := newRig(t, broker.URL(), s)
	again.deploy(on(t, "a", "in/1"), on(t, "f", "in/#"), on(t, "g", "in/1"))
	heard := map[string]bool{<-again.events: true, <-again.events: true}
	if !heard["site/0 in/1"] || !heard["site/1 in/1"] {
		t.Errorf("after the restart came %v", heard)
	}
}

// A function that is removed takes its subscription with it, and the last one of a session the session.
func TestRemovedTriggersLeaveNothingAtTheBroker(t *testing.T) {
	dir, broker := t.TempDir(), mosquitto.Run(t, mosquitto.Options{})
	s, _ := opened(t, dir)
	r := newRig(t, broker.URL(), s)
	var all []*function.Function // the last one shares the session of the first
	for i := range 5 {
		all = append(all, on(t, fmt.Sprintf("f%d", i), fmt.Sprintf("in/%d", i)))
	}
	r.deploy(all...)
	id := r.subs.sessions["site/0"].ClientID()
	r.deploy(all[1:]...)
	r.until("unsubscribed", func() bool { filters, _ := r.subs.Subscribed(id); return len(filters) == 1 })
	r.deploy()
	r.until("purged", func() bool { filters, err := r.subs.Subscribed(id); return err == nil && filters == nil })
	again := newRig(t, broker.URL(), s)
	if err := again.subs.retireForgotten(); err != nil {
		t.Fatal(err)
	}
	if n := len(r.subs.sessions); n != 0 {
		t.Errorf("%d sessions left", n)
	}
}

func TestTriggersWithoutABrokerSayWhy(t *testing.T) {
	s, _ := opened(t, t.TempDir())
	none := newSubscriptions("c", nil, "", s, slog.New(slog.DiscardHandler))
	f := on(t, "f", "in")
	g := on(t, "g", "in")
	g.Manifest.MQTT[0].Broker = "lost"
	if groups, _ := none.plan([]*function.Function{f, g}); len(groups) != 0 {
		t.Errorf("groups %v", groups)
	}
	for _, name := range []string{"f", "g"} {
		if why := none.fault(name, "mqtt[0]"); why == "" {
			t.Errorf("%s: nobody says why it gets nothing", name)
		}
	}
}
