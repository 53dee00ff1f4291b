package dispatch

import (
	"fmt"
	"testing"
	"testing/synctest"

	"mayfly/function"
)

// TestEveryReadyLaneGetsAWorker: a call that waits keeps no other lane from running, however few workers were waiting when
// the events came.
func TestEveryReadyLaneGetsAWorker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most = 8
		gate := make(chan struct{})
		b := newBench(t, func(*function.Call, *function.Result) error {
			<-gate
			return nil
		}, func(m *function.Manifest, _ *Route) { m.Limits.Concurrency = most })
		for waiting := range most { // so many workers wait, from the rounds before
			for i := range most {
				b.send(fmt.Sprintf("in/%d", i), fmt.Sprintf("%d-%d", waiting, i))
			}
			synctest.Wait() // all are blocked: in the gate, or in a lane that nobody took
			b.d.mu.Lock()
			busy, ready := b.d.busy, b.d.ready.len()
			b.d.mu.Unlock()
			if busy != most || ready != 0 {
				t.Fatalf("%d of %d events run, %d lanes are ready", busy, most, ready)
			}
			for range most {
				gate <- struct{}{}
			}
			synctest.Wait()
		}
		b.d.mu.Lock()
		defer b.d.mu.Unlock()
		if b.d.workers != most || b.d.idle != most || b.d.busy != 0 {
			t.Errorf("%d workers, %d idle, %d busy", b.d.workers, b.d.idle, b.d.busy)
		}
	})
}
