package dispatch

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"mayfly/event"
	"mayfly/function"
	"mayfly/triggers"
)

// TestSlowFunctionDoesNotHoldUpItsNeighbour (promise D3): two functions share a source, and so their sender's window of ten. One of
// them does not get done; what the other has done behind it cannot be acknowledged until the first is journaled.
func TestSlowFunctionDoesNotHoldUpItsNeighbour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		b := newBench(t, func(call *function.Call, _ *function.Result) error {
			if call.Function.Name() == "f" {
				<-gate
			}
			return nil
		}, nil)
		other := *b.fn
		other.Manifest.Name = "g"
		pattern, err := event.ParsePattern("other/#")
		if err != nil {
			t.Fatal(err)
		}
		b.d.Deploy([]*function.Function{b.fn, &other}, []*Route{b.route, {
			Function: "g", Trigger: "mqtt[0]", Source: "s", Pattern: pattern, Order: b.route.Order,
		}})
		b.send("in/a", "slow-1")
		b.send("in/b", "slow-2")
		for i := range 8 {
			b.send("other/a", fmt.Sprint("fast-", i))
		}
		synctest.Wait()
		b.wantSafe("fast-7", false)
		if _, early := b.done.of("slow-1"); early {
			t.Fatal("journaled before its window was full for long")
		}
		time.Sleep(time.Second)
		synctest.Wait()
		b.wantSafe("slow-1", true)
		b.wantSafe("slow-2", true)
		close(gate)
	})
}

// A window is as full as the messages from the oldest that is not settled on, whichever of them are; tasks of one message count once.
func TestWindowCountsFromTheOldest(t *testing.T) {
	var w window
	add := func(first bool) *task {
		x := &task{route: &Route{}, first: first}
		w.add(x)
		return x
	}
	want := func(n int) {
		t.Helper()
		if n > 0 && !w.full(n) || w.full(n+1) {
			t.Fatalf("not %d", n)
		}
	}
	want(0)
	a := add(true)
	want(1)
	b, b2 := add(true), add(false)
	c := add(true)
	want(3)
	b.settle(triggers.Settlement{})
	want(3)
	a.settle(triggers.Settlement{})
	want(2) // b's other task
	b2.settle(triggers.Settlement{})
	want(1)
	c.settle(triggers.Settlement{})
	want(0)
	for range 500 {
		add(true).settle(triggers.Settlement{})
	}
	last := add(true)
	want(1)
	if len(w.tasks) > 200 {
		t.Fatalf("%d tasks are kept for one", len(w.tasks))
	}
	last.settle(triggers.Settlement{})
	want(0)
}

// TestRefusedCommitIsSpilledWithThoseBehindIt (promise D5): an event whose commit found no room waits at the head of its lane. When its
// window is journaled it must be journaled first: a crash would otherwise run the later ones before it.
func TestRefusedCommitIsSpilledWithThoseBehindIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(call *function.Call, res *function.Result) error {
			if call.Event.ID == "e00" {
				return classed(function.ClassOverload) // as when the disk is full
			}
			return nil
		}, nil)
		tried := &task{unit: &unit{}, route: b.route, ending: true, ev: &event.Event{ID: "x"}}
		w := &worker{fn: b.fn}
		if wait := b.d.conclude(w, tried, classed(function.ClassOverload)); wait == 0 || tried.ending {
			t.Errorf("waits %v, ending %v: it could not be journaled any more", wait, tried.ending)
		}
		for i := range 10 {
			b.send("in/a", fmt.Sprintf("e%02d", i))
		}
		time.Sleep(time.Second)
		synctest.Wait()
		b.wantSafe("e00", true)
		b.wantSafe("e09", true)
	})
}
