package dispatch

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"mayfly/agent/journal"
	"mayfly/event"
	"mayfly/function"
	"mayfly/store"
)

func tickOf(id string) Request {
	return Request{
		Function: "f", Trigger: "cron[0]", Lane: "cron[0]", Event: &event.Event{ID: id, Data: []byte(id), Captures: []event.Attr{{Name: "line", Value: "7"}}},
		Also: []store.Op{{Key: []byte("t/last"), Value: []byte(id)}},
	}
}

// What is posted is journaled and synced, together with what was to become true with it, before it runs and before its
// sender is told.
func TestPostedIsSafeBeforeItRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ran []string
		b := newBench(t, func(call *function.Call, _ *function.Result) error {
			line, _ := call.Attr("topic.line")
			ran = append(ran, call.Event.ID+" "+call.Trigger+" "+line)
			return nil
		}, nil)
		b.store.hold = make(chan struct{})
		for i := range 3 {
			if err := b.d.Post(tickOf(fmt.Sprint(i)), receipt{b.done, fmt.Sprint(i)}); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if b.done.count() != 0 || len(ran) != 0 || b.journal.len() != 3 {
			t.Fatalf("before the sync %d were settled, %v ran, %d are in the journal [D1]", b.done.count(), ran, b.journal.len())
		}
		close(b.store.hold)
		synctest.Wait()
		if s, _ := b.done.of("0"); !s.Journaled || s.Err != nil {
			t.Errorf("settled with %+v", s)
		}
		if want := []string{"0 cron[0] 7", "1 cron[0] 7", "2 cron[0] 7"}; !slices.Equal(ran, want) {
			t.Errorf("ran %v, want %v", ran, want)
		}
		if last, _, _ := b.store.Get([]byte("t/last")); string(last) != "2" {
			t.Errorf("what was to be true with it is %q", last)
		}
		if b.journal.len() != 0 {
			t.Errorf("%d left in the journal", b.journal.len())
		}
	})
}

// A power cut between the sync and the run: the next start runs it.
func TestPostedSurvivesARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ran []string
		g := func(call *function.Call, _ *function.Result) error { ran = append(ran, call.Event.ID); return nil }
		b := newBench(t, g, nil)
		paused := *b.fn
		paused.Paused = true
		b.d.Deploy([]*function.Function{&paused}, []*Route{b.route})
		if err := b.d.Post(tickOf("a"), receipt{b.done, "a"}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if s, _ := b.done.of("a"); !s.Journaled || len(ran) != 0 {
			t.Fatalf("a paused function's event: settled %+v, ran %v", s, ran)
		}
		if err := b.stop(); err != nil {
			t.Fatal(err)
		}
		b.start(g)
		e := b.journal.entries[1]
		b.d.Restore([]journal.Waiting{{Function: e.Function, Trigger: e.Trigger, Seq: e.Seq, Lane: e.Lane, Attempt: e.Attempt}})
		synctest.Wait()
		if !slices.Equal(ran, []string{"a"}) || b.journal.len() != 0 {
			t.Errorf("after the restart %v ran, %d are in the journal", ran, b.journal.len())
		}
	})
}

func TestPostedIsRetriedAndRefusedWithoutRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		attempts := 0
		b := newBench(t, func(*function.Call, *function.Result) error {
			if attempts++; attempts < 3 {
				return classed(function.ClassRetry)
			}
			return nil
		}, nil)
		if err := b.d.Post(tickOf("a"), receipt{b.done, "a"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if attempts != 3 || b.journal.len() != 0 {
			t.Errorf("%d attempts, %d left in the journal", attempts, b.journal.len())
		}
		b.journal.full = classed(function.ClassOverload)
		if err := b.d.Post(tickOf("b"), receipt{b.done, "b"}); function.ClassOf(err) != function.ClassOverload {
			t.Errorf("a full journal: %v", err)
		}
		q := tickOf("c")
		q.Function = "g"
		if err := b.d.Post(q, receipt{b.done, "c"}); function.KindOf(err) != "not-found" {
			t.Errorf("an unknown function: %v", err)
		}
		if b.done.count() != 1 {
			t.Errorf("%d were settled; what was refused must not be", b.done.count())
		}
	})
}

// Who posted an event and asks later is told how it ended, once: after its retries, or that it was given up.
func TestPostedTellsLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(call *function.Call, res *function.Result) error {
			id := call.Event.ID
			switch {
			case id == "bad":
				res.Outcome = function.Reject
			case call.Attempt < 3:
				res.Outcome = function.Retry
			default:
				res.Response = &function.Response{Data: []byte("answer to " + id)}
			}
			return nil
		}, nil)
		for _, id := range []string{"good", "bad"} {
			q := tickOf(id)
			q.Lane, q.Also, q.Late = "", nil, receipt{b.done, "late " + id}
			if err := b.d.Post(q, receipt{b.done, id}); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if s, ok := b.done.of("good"); !ok || !s.Journaled {
			t.Errorf("settled with %+v", s)
		}
		if s, ok := b.done.of("late good"); ok {
			t.Errorf("told %+v before it was done", s)
		}
		if s, ok := b.done.of("late bad"); !ok || s.Outcome != function.Reject {
			t.Errorf("given up, and told %+v", s)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if s, ok := b.done.of("late good"); !ok || s.Err != nil || s.Journaled || s.Response == nil || string(s.Response.Data) != "answer to good" {
			t.Errorf("told %+v", s)
		}
	})
}
