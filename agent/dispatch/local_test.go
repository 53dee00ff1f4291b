package dispatch

import (
	"context"
	"log/slog"
	"strconv"
	"testing"
	"time"

	"mayfly/agent/outbox"
	"mayfly/agent/placement"
	"mayfly/event"
	"mayfly/function"
	"mayfly/triggers"
)

type tokens chan struct{}

func (c tokens) Settle(triggers.Settlement) { <-c }

// still is a view that is not made for each event.
type still struct{ view *placement.View }

func (s still) View(*function.Function) *placement.View { return s.view }

// BenchmarkLocal is an event that runs here because there is room: the way of nearly all events, without sandbox and disk.
func BenchmarkLocal(b *testing.B) {
	view := placement.View{Self: placement.Node{ID: "here", Slots: 2, Speed: 1}, Epoch: 1}
	b.Run("alone", func(b *testing.B) { benchmarkLocal(b, view, nil) })
	for range 29 {
		view.Peers = append(view.Peers, placement.Node{ID: "far" + strconv.Itoa(len(view.Peers)), Slots: 2, Speed: 1, RTT: time.Millisecond})
	}
	b.Run("in a cluster", func(b *testing.B) { benchmarkLocal(b, view, func(string) (Invoker, bool) { return nil, false }) })
}

func benchmarkLocal(b *testing.B, view placement.View, peers func(string) (Invoker, bool)) {
	f := &function.Function{Manifest: function.Manifest{Name: "f", Limits: function.Limits{Concurrency: 4}, State: function.StatePolicy{Scope: function.ScopeNone}}}
	pattern, err := event.ParsePattern("in/#")
	if err != nil {
		b.Fatal(err)
	}
	out := &memOutbox{ready: map[outbox.Ticket][]event.Message{}}
	d := New(Config{Node: "here", Workers: 2, Window: 1 << 20}, Deps{
		Local:  guest(func(*function.Call, *function.Result) error { return nil }),
		Outbox: out, View: still{&view}, Peers: peers, Observer: quiet{}, Log: slog.New(slog.DiscardHandler),
	})
	d.Deploy([]*function.Function{f}, []*Route{{Function: "f", Trigger: "mqtt[0]", Source: "s", Pattern: pattern}})
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	sink, inFlight := d.Sink("s"), make(tokens, 64)
	ev := &event.Event{ID: "1", Topic: "in/x"}
	b.ReportAllocs()
	for b.Loop() {
		inFlight <- struct{}{}
		if err := sink.Accept(ctx, ev, inFlight); err != nil {
			b.Fatal(err)
		}
	}
	for range cap(inFlight) {
		inFlight <- struct{}{}
	}
	cancel()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
}
