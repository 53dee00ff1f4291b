package agent

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"mayfly/agent/ownership"
	"mayfly/event"
	"mayfly/function"
	"mayfly/internal/mosquitto"
	"mayfly/store"
	"mayfly/triggers"
)

// alone is a membership of one node.
type alone struct{ id string }

func (a alone) Nodes(*function.Function, string) []ownership.Node {
	return []ownership.Node{{ID: a.id, Weight: 1, Eligible: true, BrokerUp: true}}
}
func (alone) Watch() <-chan struct{} { return nil }
func (alone) Revoked(string) bool    { return false }

// idle gives nothing back.
type idle struct{}

func (idle) Withdraw(string, bool) int   { return 0 }
func (idle) Fence(string, string) uint64 { return 0 }

// ledger is a sink that says how often each message came; some it gives back at first. It knows a redelivery by what a state's done mark knows it
// by [D4]: after an interruption a broker may not have looked at all acknowledgements.
type ledger struct {
	done    map[string]bool
	mu      sync.Mutex
	times   map[string]int
	refuses int
}

func (l *ledger) Accept(_ context.Context, ev *event.Event, r triggers.Receipt) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refuses > 0 && r != nil {
		l.refuses--
		r.Settle(triggers.Settlement{Err: errFull})
		return nil
	}
	mark := fmt.Sprint(ev.Delivery.Session, ev.Delivery.PacketID, ev.Topic, string(ev.Data))
	if ev.Dup && l.done[mark] {
		r.Settle(triggers.Settlement{})
		return nil
	}
	l.done[mark] = true
	l.times[string(ev.Data)]++
	if r != nil {
		r.Settle(triggers.Settlement{})
	}
	return nil
}

var errFull = fmt.Errorf("no room")

func (l *ledger) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.times)
}

// heirsOf is subscriptions of a node that has just founded a cluster, on the disk of one that was alone.
func heirsOf(t *testing.T, url string, s *store.Store, l *ledger, functions ...*function.Function) *rig {
	t.Helper()
	r := newRig(t, url, s)
	r.subs.join(&team{cluster: "plant", self: "c", members: alone{"c"}, events: idle{}})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = r.subs.sites["site"].Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	r.subs.everywhere(functions)
	groups, claims := r.subs.plan(functions)
	if err := r.subs.apply(groups, claims, func(string) triggers.Sink { return l }); err != nil {
		t.Fatal(err)
	}
	if err := r.subs.retireForgotten(); err != nil {
		t.Fatal(err)
	}
	return r
}

// speak publishes messages numbered from said until stop is closed and at least least are there, and returns how many there are.
func speak(t *testing.T, url string, said, least int, stop chan struct{}) int {
	t.Helper()
	all, err := sites(&Config{Brokers: map[string]BrokerConfig{"site": {URLs: []string{url}}}}, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Error(err)
		return said
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = all["site"].Run(ctx) }()
	defer func() { cancel(); <-ended }()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !all["site"].Ready() {
		<-tick.C
	}
	for {
		told := make(confirmation, 1)
		m := event.Message{Topic: fmt.Sprintf("in/%d", said%2), Data: fmt.Appendf(nil, "%d", said), QoS: 1}
		if err := all["site"].Publish(&m, told); err != nil {
			t.Error(err)
			return said
		}
		if err := <-told; err != nil {
			t.Error(err)
			return said
		}
		said++
		<-tick.C
		select {
		case <-stop:
			if said >= least {
				return said
			}
		default:
		}
	}
}

// What the broker has queued for the sessions a node had alone, and what is published while it becomes the first of a cluster, comes exactly once,
// what is older first; and the old sessions are gone [U5]. That also holds when it is interrupted in the middle.
func TestTheClusterInheritsSessions(t *testing.T) {
	for _, c := range []struct {
		name     string
		refuses  int
		restarts int
	}{{"at once", 0, 0}, {"some are given back", 3, 0}, {"interrupted", 0, 4}} {
		t.Run(c.name, func(t *testing.T) {
			broker := mosquitto.Run(t, mosquitto.Options{MaxQueued: -1})
			s, _ := opened(t, t.TempDir())
			functions := []*function.Function{on(t, "f", "in/0", "in/1"), on(t, "g", "other")}
			before := newRig(t, broker.URL(), s)
			before.deploy(functions...)
			before.subs.close()
			none := make(chan struct{})
			close(none)
			l := &ledger{done: map[string]bool{}, times: map[string]int{}, refuses: c.refuses}
			said := speak(t, broker.URL(), 0, 300, none)
			stop, spoken := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(spoken)
				said = speak(t, broker.URL(), said, 400, stop)
			}()
			for range c.restarts {
				r := heirsOf(t, broker.URL(), s, l, functions...)
				r.until("some came", func() bool { return l.count() > 20 })
				r.subs.close()
			}
			r := heirsOf(t, broker.URL(), s, l, functions...)
			r.until("the old sessions are handed over", func() bool {
				r.subs.mu.Lock()
				defer r.subs.mu.Unlock()
				return len(r.subs.estate) == 0
			})
			close(stop)
			<-spoken
			r.until("everything came", func() bool { return l.count() == said })
			for m, n := range l.times {
				if n != 1 {
					t.Errorf("%s came %d times", m, n)
				}
			}
			if err := s.Scan(estateKey(""), nil, func(k, _ []byte, _ uint64) bool { t.Errorf("left: %q", k); return true }); err != nil {
				t.Error(err)
			}
		})
	}
}

// A broker that takes no mark, because its access list keeps this user out of mayfly/, loses nothing either; what comes in between may come twice.
func TestInheritingWithoutAMark(t *testing.T) {
	acl := filepath.Join(t.TempDir(), "acl")
	if err := os.WriteFile(acl, []byte("topic readwrite in/#\ntopic readwrite other\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	broker := mosquitto.Run(t, mosquitto.Options{MaxQueued: -1, Lines: []string{"acl_file " + acl}})
	s, _ := opened(t, t.TempDir())
	f := on(t, "f", "in/0", "in/1")
	before := newRig(t, broker.URL(), s)
	before.deploy(f)
	before.subs.close()
	none := make(chan struct{})
	close(none)
	said := speak(t, broker.URL(), 0, 50, none)
	l := &ledger{done: map[string]bool{}, times: map[string]int{}}
	r := heirsOf(t, broker.URL(), s, l, f)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(time.Minute); l.count() < said; {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%d of %d came", l.count(), said)
		}
	}
	for m, n := range l.times {
		if n != 1 { // nothing came in between
			t.Errorf("%s came %d times", m, n)
		}
	}
	r.subs.close()
}
