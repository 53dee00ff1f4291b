package mqtt

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mayfly/event"
	"mayfly/function"
	"mayfly/internal/mosquitto"
	"mayfly/triggers"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait of a test; it is only used up when the test fails.
const patience = 15 * time.Second

// notes is a Memory that lives as long as the test.
type notes struct {
	mu    sync.Mutex
	times map[string]map[string]uint32
}

func (n *notes) Subscribed(session string) (map[string]uint32, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.times[session], nil
}

func (n *notes) Remember(session string, filters map[string]uint32) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.times == nil {
		n.times = map[string]map[string]uint32{}
	}
	n.times[session] = filters
	return nil
}

// got is what a sink was handed.
type got struct {
	ev *event.Event
	r  triggers.Receipt
}

func (g got) settle(err error) { g.r.Settle(triggers.Settlement{Err: err}) }

// basket is a sink that keeps everything for the test to look at.
type basket struct {
	events chan got
	refuse error
}

func newBasket() *basket { return &basket{events: make(chan got, 4096)} }

func (b *basket) Accept(_ context.Context, ev *event.Event, r triggers.Receipt) error {
	if b.refuse != nil {
		return b.refuse
	}
	b.events <- got{ev, r}
	return nil
}

func (b *basket) next(t *testing.T) got {
	t.Helper()
	select {
	case g := <-b.events:
		return g
	case <-time.After(patience):
		t.Fatal("no event came")
		return got{}
	}
}

func (b *basket) take(t *testing.T, n int) []got {
	t.Helper()
	all := make([]got, n)
	for i := range all {
		all[i] = b.next(t)
	}
	return all
}

// eventually waits until the condition holds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not reached: %s", what)
		}
	}
}

// running is something whose Run was started by a test.
type running struct {
	cancel context.CancelFunc
	ended  chan error
}

func start(t *testing.T, run func(context.Context) error) *running {
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{cancel, make(chan error, 1)}
	go func() { r.ended <- run(ctx) }()
	t.Cleanup(func() { r.stop(t) })
	return r
}

func (r *running) stop(t *testing.T) {
	t.Helper()
	if r.ended == nil {
		return
	}
	r.cancel()
	select {
	case err := <-r.ended:
		if err != nil {
			t.Errorf("Run: %v", err)
		}
	case <-time.After(patience):
		t.Fatal("Run does not end")
	}
	r.ended = nil
}

func discardLog() *slog.Logger { return slog.New(slog.DiscardHandler) }

func at(url string) Broker { return Broker{Name: "site", URLs: []string{url}} }

func sub(filters ...string) Subscription {
	c := Subscription{Cluster: "c", Session: "triggers-0", HoldOff: 200 * time.Millisecond, Drain: 50 * time.Millisecond}
	for _, f := range filters {
		c.Topics = append(c.Topics, Topic{Filter: f, QoS: 1, Retained: function.RetainedOnce})
	}
	return c
}

func session(t *testing.T, b Broker, c Subscription, m Memory) *Session {
	t.Helper()
	s, err := NewSession(b, c, m, discardLog())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// listen runs a session into a basket and returns when it is subscribed.
func listen(t *testing.T, s *Session) (*basket, *running) {
	t.Helper()
	b := newBasket()
	r := start(t, func(ctx context.Context) error { return s.Run(ctx, b) })
	eventually(t, "subscribed", func() bool { return s.Status().Connected })
	return b, r
}

func publisher(t *testing.T, b Broker) (*Publisher, *running) {
	t.Helper()
	p, err := NewPublisher(b, "", discardLog())
	if err != nil {
		t.Fatal(err)
	}
	r := start(t, p.Run)
	eventually(t, "publisher connected", p.Ready)
	return p, r
}

// outcome collects confirmations.
type outcome chan error

func (o outcome) Confirmed(err error) { o <- err }

func (o outcome) wait(t *testing.T) error {
	t.Helper()
	select {
	case err := <-o:
		return err
	case <-time.After(patience):
		t.Fatal("never confirmed")
		return nil
	}
}

// say publishes and waits for the broker's word.
func say(t *testing.T, p *Publisher, messages ...event.Message) {
	t.Helper()
	o := make(outcome, len(messages))
	for i := range messages {
		if err := p.Publish(&messages[i], o); err != nil {
			t.Fatalf("publish %d: %v", i, err)
		}
	}
	for range messages {
		if err := o.wait(t); err != nil {
			t.Fatalf("not confirmed: %v", err)
		}
	}
}

func numbered(topic string, from, to int) []event.Message {
	var all []event.Message
	for i := from; i < to; i++ {
		all = append(all, event.Message{Topic: topic, QoS: 1, Data: fmt.Append(nil, i)})
	}
	return all
}

func mustRun(t *testing.T, o mosquitto.Options) *mosquitto.Broker {
	t.Helper()
	return mosquitto.Run(t, o)
}
