package dispatch

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"mayfly/function"
)

// What a function is told to have done is what it did: a verdict, a failure and a wait for room are three things.
func TestCountersTellOutcomesApart(t *testing.T) {
	type counts struct{ done, rejected, failed, overloaded, cold int64 }
	for name, c := range map[string]struct {
		outcome function.Outcome
		class   function.Class
		want    counts
	}{
		"done":     {want: counts{done: 1, cold: 1}},
		"rejected": {outcome: function.Reject, want: counts{rejected: 1, cold: 1}},
		"a limit":  {class: function.ClassReject, want: counts{rejected: 1, cold: 1}},
		"a trap":   {class: function.ClassRetry, want: counts{failed: 1, cold: 1}},
		"no room":  {class: function.ClassOverload, want: counts{done: 1, overloaded: 1, cold: 2}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				calls := 0
				b := newBench(t, func(_ *function.Call, res *function.Result) error {
					calls++
					res.Outcome, res.Usage.Cold = c.outcome, true
					if c.class == function.ClassNone || c.class == function.ClassOverload && calls > 1 {
						return nil
					}
					return &function.Error{Op: "invoke", Class: c.class, Kind: "test", Err: errors.New(name)}
				}, func(m *function.Manifest, _ *Route) { m.Retry.MaxAttempts = 1 })
				b.send("in/a", "1")
				time.Sleep(time.Second) // of the bubble: room comes back
				synctest.Wait()
				functions, _ := b.d.Stats()
				n := functions[0].Counters
				got := counts{n.Done.Load(), n.Rejected.Load(), n.Failed.Load(), n.Overloaded.Load(), n.Cold.Load()}
				if got != c.want || n.Received.Load() != 1 {
					t.Errorf("%+v, want %+v", got, c.want)
				}
			})
		})
	}
}
