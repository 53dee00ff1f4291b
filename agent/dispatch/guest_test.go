package dispatch

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"mayfly/event"
	"mayfly/function"
)

func guestOf(b *bench, id string) *function.Call {
	return &function.Call{
		Function: &function.Function{Manifest: function.Manifest{Name: "f"}, Version: b.fn.Version, Module: b.fn.Module},
		Event:    &event.Event{ID: id, Topic: "in/x"}, Trigger: "mqtt[0]", Attempt: 1,
	}
}

// A peer's call is run and handed back: nothing of it becomes true here ([P2]).
func TestGuestCommitsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, echo, nil)
		res, load, err := b.d.ExecuteHere(t.Context(), guestOf(b, "1"))
		if err != nil || len(res.Publishes) != 1 || load.Slots != 64 {
			t.Fatalf("%+v, %+v, %v", res, load, err)
		}
		synctest.Wait()
		if len(b.outbox.topics()) != 0 || b.store.batches != 0 || b.done.count() != 0 || !b.d.Idle() {
			t.Error("a peer's call left something behind")
		}
		if n := b.d.units["f"].stats.Done.Load(); n != 0 || b.d.units["f"].stats.Hosted.Load() != 1 {
			t.Errorf("%d done, %d hosted", n, b.d.units["f"].stats.Hosted.Load())
		}
	})
}

func TestGuestIsRefused(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*bench, *function.Call)
		class  function.Class
		kind   string
	}{
		{"another version", func(_ *bench, c *function.Call) { c.Function.Version = 99 }, function.ClassNotHere, "version"},
		{"another module", func(_ *bench, c *function.Call) { c.Function.Module = function.Digest{9} }, function.ClassNotHere, "version"},
		{"unknown", func(_ *bench, c *function.Call) { c.Function.Manifest.Name = "g" }, function.ClassNotHere, "version"},
		{"paused", func(b *bench, _ *function.Call) { b.fn.Paused = true }, function.ClassNotHere, "paused"},
		{"with state", func(b *bench, _ *function.Call) { b.fn.Manifest.State.Scope = function.ScopeNode }, function.ClassNotHere, "state"},
		{"not eligible", func(b *bench, _ *function.Call) { b.fn.Manifest.Placement.Require = []string{"label:x"} }, function.ClassNotHere, "not-eligible"},
		{"stopping", func(b *bench, _ *function.Call) {
			if err := b.stop(); err != nil {
				t.Error(err)
			}
		}, function.ClassNotHere, "stopping"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, func(*function.Call, *function.Result) error { t.Error("it ran"); return nil }, nil)
				call := guestOf(b, "1")
				c.change(b, call)
				_, _, err := b.d.ExecuteHere(t.Context(), call)
				if function.ClassOf(err) != c.class || function.KindOf(err) != c.kind {
					t.Errorf("got %v of class %v", err, function.ClassOf(err))
				}
			})
		})
	}
}

// As many may wait as run; who waits too long is refused without having run, and room is there again afterwards.
func TestGuestsAreAdmittedUpToABound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		block, ran := make(chan struct{}), 0
		w := newTown(t, 1, func(_ *function.Call, _ *function.Result) error { <-block; return nil }, nil)
		b := w.houses["a"].bench
		answers := make(chan error, 10)
		for i := range 10 {
			go func() {
				_, _, err := b.d.ExecuteHere(t.Context(), guestOf(b, fmt.Sprint(i)))
				answers <- err
			}()
			synctest.Wait()
		}
		if n := len(answers); n != 10-2*townSlots {
			t.Fatalf("%d of 10 were refused at once, want all but those that run or wait", n)
		}
		time.Sleep(time.Second) // longer than the patience of those that wait
		if n := len(answers); n != 10-townSlots {
			t.Fatalf("%d of 10 were refused in the end", n)
		}
		close(block)
		for range 10 {
			switch err := <-answers; {
			case err == nil:
				ran++
			case function.ClassOf(err) != function.ClassOverload:
				t.Errorf("refused with %v", err)
			}
		}
		synctest.Wait()
		if load := b.d.Load(); ran != townSlots || load.Running != 0 || load.Queued != 0 || w.houses["a"].runs() != townSlots {
			t.Errorf("%d answered, %d ran, load %+v", ran, w.houses["a"].runs(), load)
		}
	})
}

// The caller's end ends a call that runs: its context reaches the sandbox.
func TestGuestIsCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, nil, nil)
		b.d.dep.Local = untilCancelled{}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		start := time.Now()
		if _, _, err := b.d.ExecuteHere(ctx, guestOf(b, "1")); err == nil || time.Since(start) != 100*time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

type untilCancelled struct{}

func (untilCancelled) Invoke(ctx context.Context, _ *function.Call, _ *function.Result) error {
	<-ctx.Done()
	return ctx.Err()
}

// A peer's call that waits stays, though another node is idle: one hop is all ([P2]). If another version is deployed meanwhile, it is
// not run.
func TestGuestTravelsNoFurther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		block := make(chan struct{})
		w := newTown(t, 3, func(call *function.Call, _ *function.Result) error {
			if call.Event.Topic == "in/own" {
				<-block
			}
			return nil
		}, func(m *function.Manifest, r *Route) { r.Order = nil; m.Limits.Timeout = time.Hour })
		b, c := w.houses["b"], w.houses["c"]
		pinned := *w.fn
		pinned.Manifest.Name, pinned.Manifest.Placement.Require = "own", []string{"node:b"}
		own := &Route{Function: "own", Trigger: "mqtt[0]", Source: "s", Pattern: w.route.Pattern}
		b.d.Deploy([]*function.Function{w.fn, &pinned}, []*Route{own})
		b.d.mu.Lock()
		b.d.units["f"].stats.learn(time.Minute, 1) // for an event of its own, b would see that c is sooner done
		b.d.mu.Unlock()
		for i := range townSlots {
			b.send("in/own", fmt.Sprint("own", i))
		}
		synctest.Wait()
		answers := make(chan error, townSlots)
		for i := range townSlots {
			go func() {
				_, _, err := b.d.ExecuteHere(t.Context(), guestOf(b.bench, fmt.Sprint(i)))
				answers <- err
			}()
		}
		pass(100 * time.Millisecond)
		if c.runs() != 0 || len(answers) != 0 || b.d.Load().Queued != townSlots {
			t.Fatalf("%d ran at a third node, %d answered, load %+v", c.runs(), len(answers), b.d.Load())
		}
		later := *w.fn
		later.Version++
		b.d.Deploy([]*function.Function{&later, &pinned}, []*Route{own})
		close(block)
		for range townSlots {
			if err := <-answers; function.KindOf(err) != "version" || function.ClassOf(err) != function.ClassNotHere {
				t.Errorf("got %v", err)
			}
		}
	})
}
