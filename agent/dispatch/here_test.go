package dispatch

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"mayfly/event"
	"mayfly/function"
)

// Callers who lend their goroutines never run more at once than there are workers or the function allows, nothing is lost or left behind,
// and a drain waits for them.
func TestCallersRunTheirOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var running, most, ran atomic.Int64
		b := newBench(t, func(*function.Call, *function.Result) error {
			now := running.Add(1)
			defer running.Add(-1)
			for m := most.Load(); now > m && !most.CompareAndSwap(m, now); m = most.Load() {
			}
			time.Sleep(time.Millisecond)
			ran.Add(1)
			return nil
		}, func(m *function.Manifest, _ *Route) { m.Limits.Concurrency = 3 })
		var callers sync.WaitGroup
		const n = 100
		for i := range n {
			callers.Go(func() {
				id := fmt.Sprint(i)
				q := Request{Function: "f", Event: &event.Event{ID: id}, Here: time.Duration(i%2) * time.Minute} // half of them do not lend it
				if err := b.d.Invoke(t.Context(), q, receipt{b.done, id}); err != nil {
					t.Error(err)
				}
			})
		}
		callers.Wait()
		synctest.Wait()
		time.Sleep(time.Second)
		if most.Load() > 3 || ran.Load() != n || b.done.count() != n || !b.d.Idle() {
			t.Errorf("%d at once, %d ran, %d settled, idle %v", most.Load(), ran.Load(), b.done.count(), b.d.Idle())
		}
		b.d.mu.Lock()
		defer b.d.mu.Unlock()
		if b.d.callers != 0 || b.d.busy != 0 || b.d.idle != b.d.workers || len(b.d.stands) > 3 {
			t.Errorf("%d callers, %d busy, %d of %d idle, %d stands", b.d.callers, b.d.busy, b.d.idle, b.d.workers, len(b.d.stands))
		}
	})
}
