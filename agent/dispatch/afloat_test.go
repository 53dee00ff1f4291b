package dispatch

import (
	"testing"
	"testing/synctest"
	"time"

	"mayfly/event"
	"mayfly/function"
)

// failsOnce asks for a retry at the first attempt of "2" and echoes otherwise.
func failsOnce(call *function.Call, res *function.Result) error {
	if call.Event.ID == "2" && call.Attempt == 1 {
		res.Outcome = function.Retry
		return nil
	}
	return echo(call, res)
}

// TestNothingIsJournaledBeforeWhatIsAfloat: what is in the journal runs first after a crash, so a retry, and what waits behind it, is
// journaled only when the earlier events of its key cannot be delivered again unseen [D5]. From then on it fills no window [D6].
func TestNothingIsJournaledBeforeWhatIsAfloat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, failsOnce, func(m *function.Manifest, _ *Route) { m.Retry.BackoffMin = 800 * time.Millisecond })
		b.outbox.hold = true
		for _, id := range []string{"1", "2", "3"} {
			b.send("in/a", id)
		}
		time.Sleep(300 * time.Millisecond) // of the bubble; three times SpillAfter
		synctest.Wait()
		if n := b.journal.len(); n != 0 || b.done.count() != 0 {
			t.Fatalf("%d events journaled and %d settled while an earlier one is not confirmed", n, b.done.count())
		}
		b.outbox.held[0](nil)
		synctest.Wait()
		b.wantSafe("1", false)
		b.wantSafe("2", true)
		b.wantSafe("3", true)
		if e, err := b.journal.Load("f", 1); err != nil || e.Event.ID != "2" || e.Attempt != 2 || e.NotBefore.IsZero() {
			t.Fatalf("journaled first: %+v (%v), want the second attempt of 2, with its time", e, err)
		}
		b.outbox.mu.Lock()
		b.outbox.hold = false
		b.outbox.mu.Unlock()
		time.Sleep(time.Second)
		synctest.Wait()
		if got := b.outbox.topics(); len(got) != 3 || got[1] != "out/2" || got[2] != "out/3" || b.journal.len() != 0 || !b.d.Idle() {
			t.Errorf("published %v, %d left in the journal", got, b.journal.len())
		}
	})
}

// TestFullWindowBehindWhatIsAfloatWaits: the same for a window that is spilled, whose oldest event keeps it full anyway [D3] [D5].
func TestFullWindowBehindWhatIsAfloatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		b := newBench(t, func(call *function.Call, res *function.Result) error {
			if call.Event.ID == "2" {
				<-gate
			}
			return echo(call, res)
		}, nil)
		b.outbox.hold = true
		for _, id := range []string{"1", "2", "3", "4", "5", "6", "7", "8", "9", "10"} {
			b.send("in/a", id)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if n := b.journal.len(); n != 0 {
			t.Fatalf("%d events journaled before an earlier one was confirmed", n)
		}
		b.outbox.held[0](nil)
		b.send("in/a", "11") // the window is full again
		time.Sleep(time.Second)
		synctest.Wait()
		if n := b.journal.len(); n != 10 || b.done.count() != 11 {
			t.Errorf("%d journaled and %d settled, want 10 and 11", n, b.done.count())
		}
		close(gate)
		synctest.Wait()
	})
}

// TestLaneLivesAsLongAsAnythingIsAfloat: a key whose events all ran is remembered until they are confirmed, and no longer.
func TestLaneLivesAsLongAsAnythingIsAfloat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, failsOnce, nil)
		b.outbox.hold = true
		b.send("in/a", "0")
		b.send("in/a", "1")
		synctest.Wait()
		b.send("in/a", "2")
		synctest.Wait()
		if n := b.journal.len(); n != 0 {
			t.Fatalf("%d events journaled before earlier ones were confirmed", n)
		}
		b.outbox.held[1](nil)
		synctest.Wait()
		if n := b.journal.len(); n != 0 {
			t.Fatalf("%d events journaled before the first was confirmed", n)
		}
		b.outbox.held[0](nil)
		time.Sleep(10 * time.Second) // "2" runs again
		synctest.Wait()
		if n := len(b.outbox.held); n != 3 {
			t.Fatalf("%d published, want 3", n)
		}
		b.outbox.held[2](&function.Error{Op: "publish", Class: function.ClassReject, Kind: "too-large", Err: event.ErrTopic})
		synctest.Wait()
		b.d.mu.Lock()
		defer b.d.mu.Unlock()
		if n := len(b.d.lanes); n != 0 {
			t.Errorf("%d lanes are left", n)
		}
	})
}
