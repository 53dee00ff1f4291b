package dispatch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mayfly/agent/placement"
	"mayfly/event"
	"mayfly/function"
	"mayfly/triggers"
)

// town is several dispatchers that reach each other over links with a latency, inside a synctest bubble.
type town struct {
	t       *testing.T
	fn      *function.Function
	route   *Route
	slots   int
	latency time.Duration
	window  int // of a's source
	order   []string
	houses  map[string]*house

	mu       sync.Mutex
	cut      map[string]error // by node: what its peers get instead of an answer
	lost     map[string]bool  // by node: it runs what it is given, and its answers get lost
	draining map[string]bool
	epoch    uint64
}

// house is one of them, with its stations.
type house struct {
	*bench
	name   string
	town   *town
	mu     sync.Mutex
	placed []placement.Decision
	ran    int // calls that ran in its slots
}

const townSlots = 2

// newTown builds houses a, b, c... that all run g.
func newTown(t *testing.T, n int, g guest, change func(*function.Manifest, *Route)) *town {
	t.Helper()
	return newTownOfWindow(t, 1000, n, g, change)
}

// newTownOfWindow is for sources with an in-flight window of that size: they see their events journaled when it is full.
func newTownOfWindow(t *testing.T, window, n int, g guest, change func(*function.Manifest, *Route)) *town {
	t.Helper()
	w := &town{t: t, slots: townSlots, latency: 2 * time.Millisecond, window: window, houses: map[string]*house{}, cut: map[string]error{}, lost: map[string]bool{}, draining: map[string]bool{}}
	w.fn, w.route = routed(t, change)
	w.fn.Version, w.fn.Module = 7, function.Digest{1}
	for i := range n {
		w.order = append(w.order, string(rune('a'+i)))
	}
	for _, name := range w.order {
		w.houses[name] = w.build(name, g)
	}
	return w
}

func (w *town) build(name string, g guest) *house {
	h := &house{name: name, town: w, bench: stations(w.t, w.fn, w.route)}
	local := func(call *function.Call, res *function.Result) error {
		h.mu.Lock()
		h.ran++
		h.mu.Unlock()
		return g(call, res)
	}
	h.d = New(Config{Node: name, Window: w.window, SpillAfter: 50 * time.Millisecond, Workers: w.slots, Patience: 200 * time.Millisecond}, Deps{
		Local: guest(local), Store: h.store, Journal: h.journal, Loader: h.journal, Graves: h.journal, Outbox: h.outbox,
		View: h, Observer: h, Peers: h.peer, Probe: h.probe, Log: slog.New(slog.DiscardHandler),
	})
	h.run()
	return h
}

// View is of a second ago: everybody seems idle.
func (h *house) View(*function.Function) *placement.View {
	h.town.mu.Lock()
	defer h.town.mu.Unlock()
	v := &placement.View{Epoch: 1 + h.town.epoch}
	for _, name := range h.town.order {
		n := placement.Node{ID: name, Slots: h.town.slots, Speed: 1, Arch: "arm64", Age: time.Second, Draining: h.town.draining[name]}
		if name == h.name {
			v.Self = n
			continue
		}
		n.RTT = 2 * h.town.latency
		v.Peers = append(v.Peers, n)
	}
	return v
}

func (h *house) Observed(*Record) {}

func (h *house) Logged(*function.Function, *event.Event, []function.LogLine, int) {}

func (h *house) Placed(p *placement.Decision) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.placed = append(h.placed, *p)
}

func (h *house) decisions() []placement.Decision {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.placed)
}

func (h *house) runs() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ran
}

func (h *house) peer(node string) (Invoker, bool) {
	to := h.town.houses[node]
	return link{to}, to != nil
}

func (h *house) probe(_ context.Context, node string) (placement.Load, error) {
	time.Sleep(2 * h.town.latency)
	if err := h.town.trouble(node); err != nil {
		return placement.Load{}, err
	}
	return h.town.houses[node].d.Load(), nil
}

func (w *town) trouble(node string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cut[node]
}

func (w *town) loses(node string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lost[node]
}

func (w *town) breakLink(node string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut[node] = err
}

// link carries calls to a house, as a peer that speaks over the network does: what arrives is a copy.
type link struct{ to *house }

func (l link) Invoke(ctx context.Context, call *function.Call, res *function.Result) error {
	time.Sleep(l.to.town.latency)
	if err := l.to.town.trouble(l.to.name); err != nil {
		return err
	}
	there := *call
	there.Function = &function.Function{Manifest: function.Manifest{Name: call.Function.Name()}, Module: call.Function.Module, Version: call.Function.Version}
	got, _, err := l.to.d.ExecuteHere(ctx, &there)
	time.Sleep(l.to.town.latency)
	switch {
	case l.to.town.loses(l.to.name):
		return classed(function.ClassRetry)
	case err != nil:
		return err
	}
	*res = *got
	return nil
}

// busy is a function that takes 20 ms of a slot.
func busy(call *function.Call, res *function.Result) error {
	time.Sleep(20 * time.Millisecond)
	return echo(call, res)
}

func unordered(_ *function.Manifest, r *Route) { r.Order = nil }

// One of five nodes gets all events of a function that keeps slots busy: together they do nearly what they do alone.
func TestOneOwnerUsesAllNodes(t *testing.T) {
	for _, c := range []struct {
		ordered     bool
		concurrency int // what waits is ready for a slot, or parked by its function, or some of both
	}{{false, 4}, {true, 4}, {false, townSlots}, {false, 1000}} {
		synctest.Test(t, func(t *testing.T) {
			w := newTown(t, 5, busy, func(m *function.Manifest, r *Route) {
				if m.Limits.Concurrency = c.concurrency; !c.ordered {
					r.Order = nil
				}
			})
			a := w.houses["a"]
			const events, inFlight = 2000, 60
			start := time.Now()
			for i := range events {
				for i-a.done.count() >= inFlight {
					time.Sleep(time.Millisecond)
				}
				a.send(fmt.Sprintf("in/%d", i%200), fmt.Sprint(i))
			}
			for a.done.count() < events {
				time.Sleep(time.Millisecond)
			}
			took := time.Since(start)
			sum := float64(len(w.order)*townSlots) / 0.020
			rate := events / took.Seconds()
			t.Logf("%+v: %.0f/s of %.0f/s, by node: %v", c, rate, sum, w.shares())
			if rate < 0.8*sum {
				t.Errorf("%.0f events a second, the nodes could do %.0f", rate, sum)
			}
			for i := range events {
				a.wantSafe(fmt.Sprint(i), false)
			}
		})
	}
}

func (w *town) shares() (all []int) {
	for _, name := range w.order {
		all = append(all, w.houses[name].runs())
	}
	return all
}

// pass lets that much time pass, and everything happen that is due then.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// The order of a key holds when its events run on any node, and one runs at a time.
func TestOrderPerKeyHoldsAcrossNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var order []string
		running := map[string]int{}
		w := newTown(t, 4, func(call *function.Call, res *function.Result) error {
			mu.Lock()
			running[call.Event.Topic]++
			if running[call.Event.Topic] > 1 {
				t.Errorf("two of %s at once", call.Event.Topic)
			}
			mu.Unlock()
			time.Sleep(20 * time.Millisecond)
			mu.Lock()
			defer mu.Unlock()
			running[call.Event.Topic]--
			order = append(order, call.Event.Topic+" "+call.Event.ID)
			return echo(call, res)
		}, nil)
		a := w.houses["a"]
		for i := range 400 {
			a.send(fmt.Sprintf("in/%02d", i%20), fmt.Sprintf("%04d", i))
		}
		pass(10 * time.Second)
		if away := slices.Max(w.shares()[1:]); len(order) != 400 || away < 40 {
			t.Fatalf("%d ran, shares %v", len(order), w.shares())
		}
		for k := range 20 {
			if lane := byPrefix(order, fmt.Sprintf("in/%02d", k)); !slices.IsSorted(lane) {
				t.Errorf("out of order: %v", lane)
			}
		}
	})
}

// What a peer returns becomes true here, all of it and nothing there ([P2]).
func TestRemoteResultIsCommittedHere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t, 2, echo, func(m *function.Manifest, _ *Route) { m.Placement.Require = []string{"node:b"} })
		a, b := w.houses["a"], w.houses["b"]
		a.outbox.hold = true
		a.send("in/x", "1")
		pass(time.Second)
		if _, early := a.done.of("1"); early {
			t.Fatal("acknowledged because a peer ran it, before its publish was confirmed [D1]")
		}
		a.outbox.held[0](nil)
		synctest.Wait()
		a.wantSafe("1", false)
		if got, there := a.outbox.topics(), b.outbox.topics(); !slices.Equal(got, []string{"out/1"}) || len(there) != 0 {
			t.Errorf("published %v here and %v there", got, there)
		}
		if a.runs() != 0 || b.runs() != 1 {
			t.Errorf("ran %v", w.shares())
		}
		d := a.decisions()
		if len(d) != 1 || d[0].Node != "b" || d[0].Reason != placement.ReasonRequired || d[0].Event != "1" || d[0].Took < 2*w.latency {
			t.Errorf("decided %+v", d)
		}
		a.d.Deploy(nil, nil)
		if len(a.d.units) != 0 {
			t.Error("what was removed is kept, as if something of it were under way")
		}
		if n := a.store.batches + b.store.batches; n != 0 {
			t.Errorf("%d batches written for a function without state [D2]", n)
		}
	})
}

// A call that waits for a peer occupies no slot: what is for this node runs meanwhile.
func TestWaitingForAPeerOccupiesNoSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		block := make(chan struct{})
		w := newTown(t, 2, func(call *function.Call, res *function.Result) error {
			if call.Node == "b" {
				<-block
			}
			return echo(call, res)
		}, func(m *function.Manifest, r *Route) {
			r.Order = nil
			m.Placement.Require = []string{"node:b"}
			m.Limits.Timeout = time.Hour
		})
		a := w.houses["a"]
		near := &function.Function{Manifest: function.Manifest{Name: "near", Limits: function.Limits{Timeout: time.Second, Concurrency: 4}}}
		a.d.Deploy([]*function.Function{a.fn, near}, []*Route{a.route})
		for i := range 10 {
			a.send("in/x", fmt.Sprint(i))
		}
		synctest.Wait()
		if err := a.d.Invoke(t.Context(), Request{Function: "near", Event: &event.Event{ID: "n"}}, receipt{a.done, "n"}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		a.wantSafe("n", false)
		close(block)
		pass(10 * time.Second)
		if a.done.count() != 11 {
			t.Errorf("%d of 11 settled", a.done.count())
		}
	})
}

// Refused by everybody, an event for another node waits and is not attempted ([D6], [P2]).
func TestRefusalIsNotAnAttempt(t *testing.T) {
	for _, class := range []function.Class{function.ClassOverload, function.ClassNotHere} {
		synctest.Test(t, func(t *testing.T) {
			w := newTown(t, 3, echo, func(m *function.Manifest, _ *Route) { m.Placement.Require = []string{"node:b|c"} })
			a := w.houses["a"]
			w.breakLink("b", classed(class))
			w.breakLink("c", classed(class))
			a.send("in/x", "1")
			pass(30 * time.Second)
			if _, over := a.done.of("1"); over || len(a.journal.buried) != 0 || a.journal.len() != 0 {
				t.Fatal("an event that everybody refuses stays with its sender")
			}
			w.breakLink("c", nil)
			pass(2 * time.Second)
			a.wantSafe("1", false)
			last := a.decisions()[len(a.decisions())-1]
			if last.Node != "c" {
				t.Errorf("the last decision is %+v", last)
			}
		})
	}
}

// One that is refused goes to whoever has room, and home when nobody has.
func TestRefusedCallIsProbedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t, 3, busy, unordered)
		a := w.houses["a"]
		for _, name := range []string{"b", "c"} { // their own work fills them
			for i := range 200 {
				w.houses[name].send("in/own", fmt.Sprint(name, i))
			}
		}
		for i := range 40 {
			a.send("in/x", fmt.Sprint(i))
		}
		pass(20 * time.Second)
		for i := range 40 {
			a.wantSafe(fmt.Sprint(i), false)
		}
		refused := 0
		for _, d := range a.decisions() {
			refused += len(d.Refusals)
		}
		if refused == 0 || a.d.units["f"].stats.Refused.Load() != int64(refused) {
			t.Errorf("%d refusals explained, %d counted", refused, a.d.units["f"].stats.Refused.Load())
		}
		for _, name := range []string{"b", "c"} {
			if n := w.houses[name].done.count(); n != 200 {
				t.Errorf("%s did %d of its own", name, n)
			}
		}
	})
}

// Of two nodes that seem equal, one is full: who hears so there asks both, and has the answer of the other at once.
func TestRefusedCallGoesWhereThereIsRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t, 3, busy, func(m *function.Manifest, r *Route) { r.Order = nil; m.Placement.Require = []string{"node:b|c"} })
		a, b := w.houses["a"], w.houses["b"]
		own := &function.Function{Manifest: function.Manifest{
			Name: "own", Limits: function.Limits{Timeout: time.Second, Concurrency: 1000}, Placement: function.Placement{Require: []string{"node:b"}},
		}}
		b.d.Deploy([]*function.Function{w.fn, own}, []*Route{{Function: "own", Trigger: "mqtt[0]", Source: "s", Pattern: w.route.Pattern}})
		for i := range 1000 {
			b.send("in/own", fmt.Sprint("b", i))
		}
		probed := 0
		for i := range 20 {
			a.send("in/x", fmt.Sprint(i))
			pass(50 * time.Millisecond)
			a.wantSafe(fmt.Sprint(i), false)
			d := a.decisions()[i]
			if d.Node != "c" {
				t.Errorf("%+v: only c has room", d)
			}
			if d.Reason == placement.ReasonProbed && len(d.Refusals) == 1 && d.Refusals[0].Node == "b" && d.Refusals[0].Kind == "full" {
				probed++
			}
		}
		if probed == 0 || probed == 20 {
			t.Errorf("%d of 20 asked the full one first, it is drawn", probed)
		}
	})
}

// Where nobody it likes better takes it, an event runs here, and is not offered around any more.
func TestUnlikedHomeIsBetterThanNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t, 3, echo, func(m *function.Manifest, r *Route) { r.Order = nil; m.Placement.Prefer = []string{"node:b"} })
		a := w.houses["a"]
		a.send("in/x", "1")
		pass(time.Second)
		if d := a.decisions(); len(d) != 1 || d[0].Node != "b" || w.houses["b"].runs() != 1 {
			t.Fatalf("b is preferred and idle: %+v", d)
		}
		for _, name := range []string{"b", "c"} {
			w.breakLink(name, classed(function.ClassNotHere))
		}
		a.send("in/x", "2")
		pass(time.Second)
		a.wantSafe("2", false)
		if d := a.decisions(); len(d) != 2 || !d[1].Here || len(d[1].Refusals) == 0 || a.runs() != 1 {
			t.Errorf("%d decisions, %d runs here: %+v", len(d), a.runs(), d[len(d)-1])
		}
	})
}

// A failure of the function on a peer is the function's: it is retried by its policy, and a dead letter here in the end.
func TestRemoteFailureIsTheFunctions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t, 2, func(*function.Call, *function.Result) error { return classed(function.ClassRetry) },
			func(m *function.Manifest, _ *Route) { m.Placement.Require = []string{"node:b"} })
		a, b := w.houses["a"], w.houses["b"]
		a.send("in/x", "1")
		pass(30 * time.Second)
		if b.runs() != 3 || len(a.journal.buried) != 1 || len(b.journal.buried) != 0 {
			t.Errorf("%d runs, %d dead letters here, %d there", b.runs(), len(a.journal.buried), len(b.journal.buried))
		}
	})
}

// A peer whose disk is broken does not break us.
func TestBrokenPeerDoesNotStopUs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t, 3, echo, func(m *function.Manifest, _ *Route) { m.Placement.Require = []string{"node:b|c"} })
		a := w.houses["a"]
		w.breakLink("b", classed(function.ClassFatal))
		for i := range 20 {
			a.send(fmt.Sprint("in/", i), fmt.Sprint(i))
		}
		pass(20 * time.Second)
		for i := range 20 {
			a.wantSafe(fmt.Sprint(i), false)
		}
		if a.d.broken.Load() {
			t.Error("we stopped for a peer's disk")
		}
	})
}

// Draining lets calls on peers finish, and gives back what has not left.
func TestStopWaitsForPeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t, 2, busy, func(m *function.Manifest, r *Route) { r.Order = nil; m.Placement.Require = []string{"node:b"} })
		a := w.houses["a"]
		a.d.mu.Lock()
		a.d.cfg.Away = 3
		a.d.mu.Unlock()
		for i := range 100 {
			a.send("in/x", fmt.Sprint(i))
		}
		pass(10 * time.Millisecond)
		if n := len(a.d.away.out); n == 0 {
			t.Error("nothing waits for a courier, so nothing is shown")
		}
		if err := a.stop(); err != nil {
			t.Fatal(err)
		}
		safe, back := 0, 0
		for i := range 100 {
			switch s, ok := a.done.of(fmt.Sprint(i)); {
			case !ok:
				t.Fatalf("%d is not settled", i)
			case errors.Is(s.Err, errClosing):
				back++
			case s.Err == nil:
				safe++
			}
		}
		if safe == 0 || safe+back != 100 {
			t.Errorf("%d done, %d given back", safe, back)
		}
	})
}

// An HTTP request for a function that is not eligible here is answered by a peer, through the same code.
func TestInvokeReachesAPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t, 2, func(call *function.Call, res *function.Result) error {
			res.Response = &function.Response{Data: []byte("from " + call.Node)}
			return nil
		}, func(m *function.Manifest, _ *Route) { m.Placement.Require = []string{"node:b"} })
		a := w.houses["a"]
		ask := func(id string) triggers.Settlement {
			if err := a.d.Invoke(t.Context(), Request{Function: "f", Event: &event.Event{ID: id}}, receipt{a.done, id}); err != nil {
				t.Fatal(err)
			}
			pass(5 * time.Second)
			s, _ := a.done.of(id)
			return s
		}
		if s := ask("1"); s.Err != nil || s.Response == nil || string(s.Response.Data) != "from b" {
			t.Errorf("answered %+v", s)
		}
		w.breakLink("b", classed(function.ClassOverload))
		if s := ask("2"); function.ClassOf(s.Err) != function.ClassOverload {
			t.Errorf("all are full, and the caller hears %v", s.Err)
		}
	})
}
