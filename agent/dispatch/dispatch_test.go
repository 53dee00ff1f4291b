package dispatch

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mayfly/agent/journal"
	"mayfly/agent/outbox"
	"mayfly/event"
	"mayfly/function"
	"mayfly/triggers"
)

// bench is a dispatcher among fakes, run inside a synctest bubble.
type bench struct {
	t       *testing.T
	d       *Dispatcher
	store   *memStore
	journal *memJournal
	outbox  *memOutbox
	done    *receipts
	stop    func() error
	fn      *function.Function
	route   *Route
}

func newBench(t *testing.T, g guest, change func(*function.Manifest, *Route)) *bench {
	t.Helper()
	fn, route := routed(t, change)
	b := stations(t, fn, route)
	b.start(g)
	return b
}

// routed is function f with the route of in/# in the order of topics, changed as a test wants them.
func routed(t *testing.T, change func(*function.Manifest, *Route)) (*function.Function, *Route) {
	t.Helper()
	fn := &function.Function{Manifest: function.Manifest{
		Name: "f", Limits: function.Limits{Timeout: time.Second, Concurrency: 4},
		Retry: function.RetryPolicy{MaxAttempts: 3, BackoffMin: 100 * time.Millisecond, BackoffMax: time.Second},
		State: function.StatePolicy{Scope: function.ScopeNone},
	}}
	pattern, err := event.ParsePattern("in/#")
	if err != nil {
		t.Fatal(err)
	}
	route := &Route{
		Function: "f", Trigger: "mqtt[0]", Source: "s", Pattern: pattern,
		Order: func(ev *event.Event) (string, bool) { return ev.Topic, true },
	}
	if change != nil {
		change(&fn.Manifest, route)
	}
	return fn, route
}

// stations are fakes around a dispatcher that is yet to be made.
func stations(t *testing.T, fn *function.Function, route *Route) *bench {
	b := &bench{
		t: t, store: newMemStore(), journal: &memJournal{entries: map[uint64]*journal.Entry{}},
		outbox: &memOutbox{ready: map[outbox.Ticket][]event.Message{}},
		done:   &receipts{all: map[string]triggers.Settlement{}},
		fn:     fn, route: route,
	}
	t.Cleanup(func() { close(b.store.dones) }) // the last of all
	return b
}

func (b *bench) start(g guest) {
	b.d = New(Config{Node: "here", Window: 10, SpillAfter: 100 * time.Millisecond}, Deps{
		Local: g, Store: b.store, Journal: b.journal, Loader: b.journal, Graves: b.journal, Outbox: b.outbox,
		View: alone{}, Observer: quiet{}, Log: slog.New(slog.DiscardHandler),
	})
	b.run()
}

// run lets the dispatcher run until stop is called or the test ends.
func (b *bench) run() {
	b.d.Deploy([]*function.Function{b.fn}, []*Route{b.route})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- b.d.Run(ctx) }()
	b.stop = sync.OnceValue(func() error { cancel(); return <-ended })
	b.t.Cleanup(func() { b.stop() })
}

func (b *bench) send(topic, id string) {
	ev := &event.Event{ID: id, Topic: topic, Data: []byte(id), Time: time.Now()}
	if err := b.d.Sink("s").Accept(b.t.Context(), ev, receipt{b.done, id}); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) wantSafe(id string, journaled bool) {
	b.t.Helper()
	s, ok := b.done.of(id)
	if !ok || s.Err != nil || s.Journaled != journaled {
		b.t.Fatalf("event %s: settled %v with %+v, want safe, journaled %v", id, ok, s, journaled)
	}
}

func echo(call *function.Call, res *function.Result) error {
	res.Publishes = append(res.Publishes, event.Message{Topic: "out/" + call.Event.ID, Data: call.Event.Data, QoS: 1})
	return nil
}

func TestStatelessEventTouchesNoDiskAndIsAcknowledgedAfterTheBroker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, echo, nil)
		b.outbox.hold = true
		b.send("in/a", "1")
		synctest.Wait()
		if _, early := b.done.of("1"); early {
			t.Fatal("acknowledged before the broker confirmed its publish [D1]")
		}
		b.outbox.held[0](nil)
		synctest.Wait()
		b.wantSafe("1", false)
		if b.store.batches != 0 {
			t.Errorf("%d batches written, want 0 [D2]", b.store.batches)
		}
	})
}

func TestStatefulEventIsAcknowledgedAndPublishedAfterTheSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(call *function.Call, res *function.Result) error {
			res.Writes = append(res.Writes, function.StateWrite{Key: []byte("n"), Value: []byte("1")})
			return echo(call, res)
		}, func(m *function.Manifest, _ *Route) { m.State.Scope = function.ScopeNode })
		b.store.hold = make(chan struct{})
		b.send("in/a", "1")
		synctest.Wait()
		if _, early := b.done.of("1"); early || len(b.outbox.topics()) != 0 {
			t.Fatal("acknowledged or published before the commit was synced [D1] [D4]")
		}
		close(b.store.hold)
		synctest.Wait()
		b.wantSafe("1", false)
		if got := b.outbox.topics(); !slices.Equal(got, []string{"out/1"}) {
			t.Errorf("published %v", got)
		}
	})
}

func TestRedeliveryOfAHandledEventDoesNotRunAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runs := 0
		b := newBench(t, func(_ *function.Call, res *function.Result) error {
			runs++
			res.Writes = append(res.Writes, function.StateWrite{Key: []byte("n"), Value: []byte("1")})
			return nil
		}, func(m *function.Manifest, _ *Route) { m.State.Scope = function.ScopeNode })
		deliver := func(id string, packet uint16, dup bool, data string) {
			ev := &event.Event{
				ID: id, Topic: "in/a", Data: []byte(data), Dup: dup,
				Delivery: event.Delivery{Session: "s1", Epoch: 1, PacketID: packet},
			}
			if err := b.d.Sink("s").Accept(t.Context(), ev, receipt{b.done, id}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		deliver("first", 7, false, "21.5")
		deliver("again", 7, true, "21.5")
		if runs != 1 {
			t.Errorf("ran %d times, want 1 [D4]", runs)
		}
		b.wantSafe("again", false)
		deliver("equal reading", 8, false, "21.5")
		deliver("packet id reused", 7, false, "21.5")
		deliver("redelivered, other payload", 7, true, "22")
		if runs != 4 {
			t.Errorf("ran %d times, want 4: equal readings are events of their own [D4]", runs)
		}
	})
}

// A done mark that is not synced yet is no reason to acknowledge: a power cut would take it back.
func TestRedeliveryIsAcknowledgedAfterTheSyncOfItsMark(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(_ *function.Call, res *function.Result) error {
			res.Writes = append(res.Writes, function.StateWrite{Key: []byte("n"), Value: []byte("1")})
			return nil
		}, func(m *function.Manifest, _ *Route) { m.State.Scope = function.ScopeNode })
		b.store.mu.Lock()
		b.store.hold = make(chan struct{})
		b.store.mu.Unlock()
		for i, id := range []string{"first", "again"} {
			ev := &event.Event{
				ID: id, Topic: "in/a", Data: []byte("21.5"), Dup: i > 0,
				Delivery: event.Delivery{Session: "s1", Epoch: 1, PacketID: 7},
			}
			if err := b.d.Sink("s").Accept(t.Context(), ev, receipt{b.done, id}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		if n := b.done.count(); n != 0 {
			t.Errorf("%d acknowledged before the sync [D1]", n)
		}
		close(b.store.hold)
		synctest.Wait()
		b.wantSafe("first", false)
		b.wantSafe("again", false)
	})
}

func TestOrderPerKeyAndParallelAcrossKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var order []string
		b := newBench(t, func(call *function.Call, _ *function.Result) error {
			if strings.HasSuffix(call.Event.ID, "slow") {
				time.Sleep(50 * time.Millisecond)
			}
			mu.Lock()
			order = append(order, call.Event.Topic+" "+call.Event.ID)
			mu.Unlock()
			return nil
		}, nil)
		b.send("in/a", "a1slow")
		for i := range 5 {
			b.send("in/a", fmt.Sprint("a", i+2))
		}
		b.send("in/b", "b1")
		time.Sleep(10 * time.Millisecond)
		synctest.Wait()
		mu.Lock()
		if got := byPrefix(order, "in/b"); len(got) != 1 {
			t.Error("another key waited [D5]")
		}
		mu.Unlock()
		time.Sleep(time.Second)
		synctest.Wait()
		if got := byPrefix(order, "in/a"); !slices.IsSorted(got[1:]) || got[0] != "in/a a1slow" || len(got) != 6 {
			t.Errorf("order of one key: %v [D5]", got)
		}
	})
}

func TestRetryIsJournaledHoldsBackItsKeyAndThenDeadLetters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var order []string
		var mu sync.Mutex
		b := newBench(t, func(call *function.Call, _ *function.Result) error {
			mu.Lock()
			defer mu.Unlock()
			order = append(order, call.Event.ID)
			if call.Event.ID == "bad" {
				return classed(function.ClassRetry)
			}
			return nil
		}, nil)
		b.send("in/a", "bad")
		b.send("in/a", "next")
		b.send("in/b", "other")
		synctest.Wait()
		b.wantSafe("bad", true)
		b.wantSafe("other", false)
		mu.Lock()
		if slices.Contains(order, "next") {
			t.Error("an event overtook the retry of its own key [D5] [D6]")
		}
		mu.Unlock()
		time.Sleep(150 * time.Millisecond)
		synctest.Wait()
		b.wantSafe("next", true) // journaled, so that the window is free
		time.Sleep(5 * time.Second)
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		want := []string{"bad", "bad", "bad", "next"}
		if got := slices.DeleteFunc(slices.Clone(order), func(s string) bool { return s == "other" }); !slices.Equal(got, want) {
			t.Errorf("ran %v, want %v", got, want)
		}
		if len(b.journal.buried) != 1 || b.journal.buried[0].Event.ID != "bad" || b.journal.len() != 0 {
			t.Errorf("%d dead letters, %d left in the journal", len(b.journal.buried), b.journal.len())
		}
	})
}

func TestRejectIsADeadLetterAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(_ *function.Call, res *function.Result) error {
			res.Outcome, res.Failure = function.Reject, "not a reading"
			return nil
		}, func(m *function.Manifest, _ *Route) { m.Retry.DeadLetter = "dead" })
		b.send("in/a", "1")
		synctest.Wait()
		b.wantSafe("1", false)
		if len(b.journal.buried) != 1 || b.journal.buried[0].LastError == "" || !slices.Equal(b.outbox.topics(), []string{"dead"}) {
			t.Errorf("dead letters %v, published %v", b.journal.buried, b.outbox.topics())
		}
	})
}

func TestFullWindowSpillsInOrderAndAcknowledges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var order []string
		gate := make(chan struct{})
		b := newBench(t, func(call *function.Call, _ *function.Result) error {
			<-gate
			mu.Lock()
			defer mu.Unlock()
			order = append(order, call.Event.ID)
			return nil
		}, nil)
		for i := range 12 {
			b.send("in/a", fmt.Sprintf("e%02d", i))
		}
		synctest.Wait()
		if n := b.done.count(); n != 0 {
			t.Fatalf("%d settled before the window was full for long", n)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if n := b.done.count(); n != 12 {
			t.Errorf("%d of 12 acknowledged after the spill, the running head included [D3]", n)
		}
		b.send("in/a", "late")
		close(gate)
		time.Sleep(time.Second)
		synctest.Wait()
		if !slices.IsSorted(order) || len(order) != 13 {
			t.Errorf("order across the spill: %v [D5]", order)
		}
		if b.journal.len() != 0 {
			t.Errorf("%d left in the journal", b.journal.len())
		}
	})
}

// After a crash the broker sends again what it was not told about, and it queues behind what the journal held. Spilled, it must
// not get into the journal a second time.
func TestSpilledRedeliveryOfHandledEventsDoesNotRunAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runs, gate := 0, make(chan struct{})
		b := newBench(t, func(call *function.Call, res *function.Result) error {
			if runs++; call.Event.ID == "slow" {
				<-gate
			}
			res.Writes = append(res.Writes, function.StateWrite{Key: []byte("n"), Value: []byte("1")})
			return nil
		}, func(m *function.Manifest, _ *Route) { m.State.Scope = function.ScopeNode })
		deliver := func(id string, packet int, dup bool) {
			ev := &event.Event{
				ID: id, Topic: "in/a", Data: fmt.Append(nil, packet), Dup: dup,
				Delivery: event.Delivery{Session: "s1", Epoch: 1, PacketID: uint16(packet)},
			}
			if err := b.d.Sink("s").Accept(t.Context(), ev, receipt{b.done, id}); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 12 {
			deliver(fmt.Sprint("first ", i), 1+i, false)
		}
		synctest.Wait()
		deliver("slow", 100, false)
		for i := range 12 {
			deliver(fmt.Sprint("again ", i), 1+i, true)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		b.wantSafe("slow", true)
		for i := range 12 {
			b.wantSafe(fmt.Sprint("again ", i), false)
		}
		close(gate)
		time.Sleep(time.Second)
		synctest.Wait()
		if runs != 13 || b.journal.len() != 0 {
			t.Errorf("ran %d times, want 13 [D4]; %d left in the journal", runs, b.journal.len())
		}
	})
}

func TestFullJournalHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		b := newBench(t, func(*function.Call, *function.Result) error { <-gate; return nil }, nil)
		b.journal.full = classed(function.ClassOverload)
		for i := range 12 {
			b.send("in/a", fmt.Sprint(i))
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if n := b.done.count(); n != 0 {
			t.Errorf("%d acknowledged although the journal is full [D1]", n)
		}
		close(gate)
		time.Sleep(time.Second)
		synctest.Wait()
		if n := b.done.count(); n != 12 {
			t.Errorf("%d of 12 settled", n)
		}
	})
}

func TestConflictRunsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runs := 0
		b := newBench(t, nil, nil)
		b.fn.Manifest.State.Scope = function.ScopeNode
		b.d.dep.Local = guest(func(call *function.Call, res *function.Result) error {
			runs++
			_, version, _ := call.State.Get([]byte("n"))
			if runs == 1 { // somebody else is faster
				version = 99
			}
			res.Writes = append(res.Writes, function.StateWrite{Key: []byte("n"), Value: []byte("1"), Checked: true, Expect: version})
			return nil
		})
		b.send("in/a", "1")
		synctest.Wait()
		b.wantSafe("1", false)
		if runs != 2 || b.journal.len() != 0 {
			t.Errorf("ran %d times", runs)
		}
	})
}

func TestOverloadIsNotAnAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runs := 0
		b := newBench(t, func(call *function.Call, _ *function.Result) error {
			if runs++; runs < 10 {
				return classed(function.ClassOverload)
			}
			if call.Attempt != 1 {
				t.Errorf("attempt %d", call.Attempt)
			}
			return nil
		}, nil)
		b.send("in/a", "1")
		time.Sleep(20 * time.Second)
		synctest.Wait()
		b.wantSafe("1", false)
	})
}

// While there is no room for long, an event asks ever less often, at least every second, and it is not the function's failure.
func TestLastingOverloadCostsLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runs := 0
		b := newBench(t, func(*function.Call, *function.Result) error {
			runs++
			return classed(function.ClassOverload)
		}, nil)
		b.send("in/a", "1")
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if runs < 300 || runs > 1200 {
			t.Errorf("%d runs in five minutes", runs)
		}
		functions, _ := b.d.Stats()
		if c := functions[0].Counters; c.Failed.Load() != 0 || c.LastError.Load() == nil {
			t.Errorf("%d failures, last error %v", c.Failed.Load(), c.LastError.Load())
		}
	})
}

func TestFailedSyncAcknowledgesNothingAndStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(_ *function.Call, res *function.Result) error {
			res.Writes = append(res.Writes, function.StateWrite{Key: []byte("n"), Value: []byte("1")})
			return nil
		}, func(m *function.Manifest, _ *Route) { m.State.Scope = function.ScopeNode })
		b.store.broken = classed(function.ClassFatal)
		b.send("in/a", "1")
		synctest.Wait()
		if s, ok := b.done.of("1"); !ok || s.Err == nil {
			t.Errorf("settled %v %+v, want refused [D1]", ok, s)
		}
		if err := b.stop(); function.ClassOf(err) != function.ClassFatal {
			t.Errorf("Run returned %v, want the fatal error", err)
		}
	})
}

func TestStopGivesBackWhatIsQueued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(*function.Call, *function.Result) error { time.Sleep(time.Second); return nil }, nil)
		b.send("in/a", "running")
		b.send("in/a", "queued")
		synctest.Wait()
		if err := b.stop(); err != nil {
			t.Fatal(err)
		}
		b.wantSafe("running", false)
		if s, _ := b.done.of("queued"); s.Err == nil {
			t.Error("a queued event was acknowledged at the stop [D1]")
		}
	})
}

func TestRestoredEventsRunBeforeNewOnesOfTheirKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var order []string
		b := newBench(t, func(call *function.Call, _ *function.Result) error {
			order = append(order, call.Event.ID)
			return nil
		}, func(m *function.Manifest, _ *Route) { m.Limits.Concurrency = 1 })
		var waiting []journal.Waiting
		for i := range 3 {
			seq := uint64(i + 1)
			ev := &event.Event{ID: fmt.Sprint("old", i), Topic: "in/a"}
			b.journal.entries[seq] = &journal.Entry{Seq: seq, Function: "f", Trigger: "mqtt[0]", Event: ev}
			waiting = append(waiting, journal.Waiting{Function: "f", Trigger: "mqtt[0]", Seq: seq, Lane: laneHash("in/a")})
		}
		b.d.Restore(waiting)
		b.send("in/a", "new")
		time.Sleep(time.Second)
		synctest.Wait()
		if want := []string{"old0", "old1", "old2", "new"}; !slices.Equal(order, want) {
			t.Errorf("ran %v, want %v [D5]", order, want)
		}
		if b.journal.len() != 0 {
			t.Errorf("%d left in the journal", b.journal.len())
		}
	})
}

func TestInvokeAnswersAndNeverRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runs := 0
		b := newBench(t, func(_ *function.Call, res *function.Result) error {
			if runs++; runs == 1 {
				res.Response = &function.Response{Data: []byte("hello")}
				return nil
			}
			return classed(function.ClassRetry)
		}, nil)
		for i := range 2 {
			id := fmt.Sprint(i)
			if err := b.d.Invoke(t.Context(), Request{Function: "f", Event: &event.Event{ID: id}}, receipt{b.done, id}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		if s, _ := b.done.of("0"); s.Response == nil || string(s.Response.Data) != "hello" {
			t.Errorf("answer %+v", s)
		}
		if s, _ := b.done.of("1"); s.Err == nil || b.journal.len() != 0 {
			t.Errorf("a failed invocation was settled with %+v", s)
		}
		if err := b.d.Invoke(t.Context(), Request{Function: "g", Event: &event.Event{}}, nil); function.KindOf(err) != "not-found" {
			t.Errorf("unknown function: %v", err)
		}
	})
}

func TestRedeployWhileEventsRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var versions []uint64
		b := newBench(t, func(call *function.Call, _ *function.Result) error {
			time.Sleep(10 * time.Millisecond)
			versions = append(versions, call.Function.Version)
			return nil
		}, nil)
		b.send("in/a", "1")
		b.send("in/a", "2")
		synctest.Wait()
		next := *b.fn
		next.Version = 2
		b.d.Deploy([]*function.Function{&next}, []*Route{b.route})
		time.Sleep(time.Second)
		synctest.Wait()
		if !slices.Equal(versions, []uint64{0, 2}) {
			t.Errorf("versions %v", versions)
		}
		next2 := next
		next2.Paused = true
		b.d.Deploy([]*function.Function{&next2}, []*Route{b.route})
		b.send("in/a", "3")
		time.Sleep(time.Second)
		synctest.Wait()
		if len(versions) != 2 {
			t.Error("a paused function ran")
		}
		b.d.Deploy([]*function.Function{&next}, []*Route{b.route})
		time.Sleep(time.Second)
		synctest.Wait()
		b.wantSafe("3", false)
	})
}
