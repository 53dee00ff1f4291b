package dispatch

import (
	"testing"
	"testing/synctest"

	"mayfly/agent/journal"
	"mayfly/function"
)

// TestNothingOvertakesWhatTheDiskRefused (promise D5): an event waits in the journal when the disk fails. The later events of its key
// must not leave before it, however long the end takes: after the restart their sender sends all of them again, in order.
func TestNothingOvertakesWhatTheDiskRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, echo, nil)
		_ = b.stop() // Run has ended; the dispatcher below has none yet that could hear of the failure
		b.journal.broken = classed(function.ClassFatal)
		b.d = New(b.d.cfg, b.d.dep)
		b.d.Deploy([]*function.Function{b.fn}, []*Route{b.route})
		b.d.Restore([]journal.Waiting{{Function: "f", Trigger: "mqtt[0]", Seq: 1, Lane: laneHash("in/a"), Attempt: 1}})
		for _, id := range []string{"2", "3"} {
			b.send("in/a", id)
		}
		synctest.Wait()
		if got := b.outbox.topics(); len(got) > 0 {
			t.Errorf("published %v before the first of their key", got)
		}
		if err := b.d.Run(t.Context()); function.ClassOf(err) != function.ClassFatal {
			t.Errorf("Run returned %v, want the fatal error", err)
		}
		for _, id := range []string{"2", "3"} {
			if s, ok := b.done.of(id); !ok || s.Err == nil && !s.Journaled {
				t.Errorf("%s: settled %v with %+v, want given back or journaled [D1]", id, ok, s)
			}
		}
	})
}
