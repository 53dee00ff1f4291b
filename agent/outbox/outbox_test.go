package outbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"

	"mayfly/event"
	"mayfly/function"
	"mayfly/store"
)

// run runs o until the returned function is called.
func run(t *testing.T, o *Outbox) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- o.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
	t.Cleanup(stop)
	return stop
}

// Promise D2: a volatile message writes nothing to disk and is done when the broker has confirmed it.
func TestSendIsDoneWhenConfirmed(t *testing.T) {
	w, d := newWire(10), newDisk()
	w.up = true
	o := open(t, Config{}, w, d)
	var results []error
	done := func(err error) { results = append(results, err) }
	if err := o.Send([]event.Message{say("a", 1), say("a", 2)}, done); err != nil {
		t.Fatal(err)
	}
	w.confirm(1)
	if len(results) != 0 {
		t.Fatal("done with one of two confirmed")
	}
	w.confirm(0)
	if len(results) != 1 || results[0] != nil || d.records() != 0 {
		t.Fatalf("done %v, %d records on disk", results, d.records())
	}
	if err := o.Send(nil, done); err != nil || len(results) != 2 {
		t.Errorf("sending nothing: %v, done %d times", err, len(results))
	}
}

func TestUnknownOnesAreSentAgainInOrder(t *testing.T) {
	w, d := newWire(4), newDisk()
	o := open(t, Config{}, w, d)
	run(t, o)
	finished := make(chan error, 10)
	for i := range 6 {
		if err := o.Send([]event.Message{say("a", i)}, func(err error) { finished <- err }); err != nil {
			t.Fatal(err)
		}
	}
	w.set(true)
	eventually(t, "window is full", func() bool { return len(w.said()) == 4 })
	w.confirm(1) // 1 is safe; 0, 2, 3, 4 are unknown
	w.set(false)
	w.set(true)
	eventually(t, "sent again", func() bool { return len(w.said()) == 9 })
	if got, want := w.said()[5:], []string{"0", "2", "3", "4"}; !slices.Equal(got, want) {
		t.Errorf("sent again %v, want %v", got, want)
	}
	for w.confirm(0) {
	}
	eventually(t, "all done", func() bool { return len(finished) == 6 })
}

// The broker is away: durable messages wait on disk and memory stays bounded; when it comes back they leave in order.
func TestLongOutageCostsDiskNotMemory(t *testing.T) {
	const n = 2000
	w, d := newWire(20), newDisk()
	o := open(t, Config{MemoryBytes: 1000}, w, d)
	run(t, o)
	for i := range n {
		commit(t, o, d, say("a", i))
	}
	pipes, bytes := o.Stats()
	if pipes[0].Durable > 1500 || !pipes[0].Backlog || bytes["f"] < n*5 {
		t.Errorf("in memory %d bytes, backlog %t, on disk %d bytes", pipes[0].Durable, pipes[0].Backlog, bytes["f"])
	}
	if err := o.Send([]event.Message{{Topic: "a", Data: make([]byte, 900)}}, func(error) {}); err != nil {
		t.Errorf("one volatile message: %v", err)
	}
	if err := o.Send([]event.Message{{Topic: "a", Data: make([]byte, 900)}}, nil); function.ClassOf(err) != function.ClassOverload {
		t.Errorf("volatile messages beyond memory: %v", err)
	}
	w.set(true)
	eventually(t, "all sent and erased", func() bool {
		for w.confirm(0) {
		}
		return d.records() == 0 && len(w.said()) == n+1
	})
	for i, text := range w.said()[:n] {
		if text != fmt.Sprint(i) {
			t.Fatalf("message %d is %s", i, text)
		}
	}
	if err := o.Drain(t.Context()); err != nil {
		t.Error(err)
	}
	if _, bytes := o.Stats(); len(bytes) != 0 {
		t.Errorf("still charged: %v", bytes)
	}
}

func TestRestartSendsWhatTheDiskHolds(t *testing.T) {
	w, d := newWire(10), newDisk()
	o := open(t, Config{}, w, d)
	stop := run(t, o)
	commit(t, o, d, say("a", 0), say("a", 1))
	commit(t, o, d, say("a", 2))
	stop()
	w = newWire(10)
	w.up = true
	o = open(t, Config{}, w, d)
	run(t, o)
	commit(t, o, d, say("a", 3))
	if err := o.Send([]event.Message{say("a", 4)}, func(error) {}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all sent", func() bool { return len(w.said()) == 5 })
	if got, want := w.said(), []string{"0", "1", "2", "3", "4"}; !slices.Equal(got, want) {
		t.Errorf("sent %v, want %v", got, want)
	}
}

func TestQuotaOfOneFunctionDoesNotTouchAnother(t *testing.T) {
	w, d := newWire(1), newDisk()
	o := open(t, Config{Quota: 300}, w, d)
	big := event.Message{Topic: "a", Data: make([]byte, 200)}
	commit(t, o, d, big)
	_, _, err := o.Ops("f", []event.Message{big})
	if e, ok := errors.AsType[*function.Error](err); !ok || e.Class != function.ClassOverload || e.Kind != "outbox-full" {
		t.Errorf("beyond the quota: %v", err)
	}
	if _, _, err := o.Ops("g", []event.Message{big}); err != nil {
		t.Errorf("another function: %v", err)
	}
}

// A message the broker will never take must not hold up the ones behind it.
func TestRejectedMessagesDoNotBlockThePipe(t *testing.T) {
	w, d := newWire(10), newDisk()
	w.up = true
	var buried []string
	o := open(t, Config{Rejected: func(f string, m event.Message, err error) {
		buried = append(buried, f+" "+m.Topic+" "+function.KindOf(err))
	}}, w, d)
	var results []error
	done := func(err error) { results = append(results, err) }
	if err := o.Send([]event.Message{say("never", 0)}, done); function.ClassOf(err) != function.ClassReject {
		t.Errorf("at once: %v", err)
	}
	if err := o.Send([]event.Message{{Broker: "nowhere", Topic: "a"}}, done); function.KindOf(err) != "unknown-broker" {
		t.Errorf("unknown broker: %v", err)
	}
	if _, _, err := o.Ops("f", []event.Message{say("never", 0)}); function.ClassOf(err) != function.ClassReject {
		t.Errorf("durable, at once: %v", err)
	}
	commit(t, o, d, say("too-large-now", 1), say("a", 2))
	if err := o.Send([]event.Message{say("too-large-now", 3), say("a", 4)}, done); err != nil {
		t.Fatal(err)
	}
	if got := w.said(); !slices.Equal(got, []string{"2", "4"}) {
		t.Errorf("sent %v", got)
	}
	for w.confirm(0) {
	}
	if len(results) != 1 || function.ClassOf(results[0]) != function.ClassReject {
		t.Errorf("done %v", results)
	}
	if !slices.Equal(buried, []string{"f too-large-now too-large"}) {
		t.Errorf("told of %v", buried)
	}
	run(t, o)
	eventually(t, "erased", func() bool { return d.records() == 0 })
}

// Effects wait for the sync: a record that is visible but not released is not published, whenever pages are read.
func TestNothingLeavesBeforeItIsReleased(t *testing.T) {
	w, d := newWire(100), newDisk()
	o := open(t, Config{MemoryBytes: 50}, w, d)
	run(t, o)
	for i := range 5 {
		commit(t, o, d, say("a", i))
	}
	d.mu.Lock()
	d.manual = true
	d.mu.Unlock()
	commit(t, o, d, say("a", 99)) // submitted, not synced
	w.set(true)
	eventually(t, "the others are sent", func() bool {
		for w.confirm(0) {
		}
		d.sync2()
		p, _ := o.Stats()
		return len(w.said()) >= 5 && !p[0].Backlog
	})
	if slices.Contains(w.said(), "99") {
		t.Fatal("published before it was synced")
	}
	d.sync()
	eventually(t, "sent after the sync", func() bool { return slices.Contains(w.said(), "99") })
	d.mu.Lock()
	d.manual = false
	d.mu.Unlock()
	d.sync()
}

// sync2 syncs everything but the oldest batch.
func (d *disk) sync2() {
	d.mu.Lock()
	if len(d.queue) < 2 {
		d.mu.Unlock()
		return
	}
	queue := d.queue[1:]
	d.queue = d.queue[:1:1]
	d.mu.Unlock()
	for _, f := range queue {
		f()
	}
}

func TestDamagedRecordIsCountedAndPassed(t *testing.T) {
	w, d := newWire(10), newDisk()
	w.up = true
	o := open(t, Config{}, w, d)
	ops, _, err := o.Ops("f", []event.Message{say("a", 1), say("a", 2)})
	if err != nil {
		t.Fatal(err)
	}
	ops[0].Value = nil
	if err := d.Submit(ops, func(error) {}); err != nil {
		t.Fatal(err)
	}
	o = open(t, Config{}, w, d)
	run(t, o)
	eventually(t, "the good one is sent", func() bool { return slices.Equal(w.said(), []string{"2"}) })
	w.confirm(0)
	eventually(t, "both are erased", func() bool { return d.records() == 0 })
	if p, _ := o.Stats(); p[0].Corrupt != 1 {
		t.Errorf("counted %d", p[0].Corrupt)
	}
}

func TestStopGivesVolatileMessagesBack(t *testing.T) {
	w, d := newWire(1), newDisk()
	w.up = true
	o := open(t, Config{}, w, d)
	stop := run(t, o)
	results := make(chan error, 3)
	for i := range 2 {
		if err := o.Send([]event.Message{say("a", i)}, func(err error) { results <- err }); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := o.Drain(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("drained with messages underway: %v", err)
	}
	stop()
	if err := o.Send([]event.Message{say("a", 2)}, func(err error) { results <- err }); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := <-results; !errors.Is(err, ErrStopped) {
			t.Errorf("told %v", err)
		}
	}
	w.confirm(0) // too late, and harmless
	if len(results) != 0 {
		t.Error("told twice")
	}
}

func TestFailedDiskEndsRun(t *testing.T) {
	w, d := newWire(10), newDisk()
	w.up = true
	o := open(t, Config{}, w, d)
	commit(t, o, d, say("a", 1))
	d.fail = &function.Error{Op: "store", Class: function.ClassFatal, Kind: "disk"}
	ended := make(chan error, 1)
	go func() { ended <- o.Run(t.Context()) }()
	w.confirm(0)
	if err := <-ended; function.ClassOf(err) != function.ClassFatal {
		t.Errorf("Run: %v", err)
	}
}

// With the real store: what is committed survives a close, leaves, and is gone afterwards.
func TestWithTheStore(t *testing.T) {
	dir := t.TempDir()
	quiet := slog.New(slog.DiscardHandler)
	session := func(do func(o *Outbox, s *store.Store, w *wire)) {
		s, _, err := store.Open(store.Config{Dir: dir}, quiet)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		storeEnded := make(chan error, 1)
		go func() { storeEnded <- s.Run(ctx) }()
		w := newWire(10)
		o, err := Open(Config{Default: "site"}, map[string]Publisher{"site": w}, s, quiet)
		if err != nil {
			t.Fatal(err)
		}
		stop := run(t, o)
		do(o, s, w)
		stop()
		cancel()
		if err := errors.Join(<-storeEnded, s.Close()); err != nil {
			t.Error(err)
		}
	}
	session(func(o *Outbox, s *store.Store, _ *wire) {
		synced := make(chan error, 1)
		for i := range 50 {
			ops, ticket, err := o.Ops("f", []event.Message{say("a", i)})
			if err == nil {
				err = s.Submit(ops, func(err error) { o.Release(ticket); synced <- err })
			}
			if err == nil {
				err = <-synced
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	})
	session(func(o *Outbox, _ *store.Store, w *wire) {
		w.set(true)
		eventually(t, "all sent", func() bool {
			for w.confirm(0) {
			}
			_, bytes := o.Stats()
			return len(w.said()) == 50 && len(bytes) == 0
		})
		for i, text := range w.said() {
			if text != fmt.Sprint(i) {
				t.Errorf("message %d is %s", i, text)
			}
		}
	})
	session(func(o *Outbox, _ *store.Store, w *wire) {
		if p, bytes := o.Stats(); len(bytes) != 0 || p[0].Backlog {
			t.Errorf("left on disk: %v, %+v", bytes, p)
		}
	})
}
