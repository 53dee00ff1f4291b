package dispatch

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

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

// TestConcurrencyIsKeptAndUsed: of many lanes as many run as the function allows, all of them in the end, through pauses and
// changed limits, and no more workers are started for them.
func TestConcurrencyIsKeptAndUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		running, most := 0, 0
		b := newBench(t, func(*function.Call, *function.Result) error {
			mu.Lock()
			running++
			most = max(most, running)
			mu.Unlock()
			time.Sleep(time.Millisecond)
			mu.Lock()
			running--
			mu.Unlock()
			return nil
		}, func(m *function.Manifest, r *Route) {
			m.Limits.Concurrency = 3
			r.Overflow = function.OverflowHold
		})
		const lanes, each = 40, 5
		for i := range lanes * each {
			b.send(fmt.Sprintf("in/%d", i%lanes), fmt.Sprint(i))
		}
		deploy := func(limit int, paused bool) {
			f := *b.fn
			f.Manifest.Limits.Concurrency, f.Paused = limit, paused
			b.d.Deploy([]*function.Function{&f}, []*Route{b.route})
		}
		expect := func(want int) {
			t.Helper()
			mu.Lock()
			most = 0
			mu.Unlock()
			time.Sleep(5 * time.Millisecond)
			mu.Lock()
			defer mu.Unlock()
			if most != want {
				t.Errorf("%d run at once, want %d", most, want)
			}
		}
		expect(3)
		deploy(3, true)
		time.Sleep(2 * time.Millisecond)
		expect(0)
		deploy(2, false)
		expect(2)
		deploy(6, false)
		expect(6)
		time.Sleep(time.Second)
		synctest.Wait()
		if n := b.done.count(); n != lanes*each {
			t.Errorf("%d of %d events were settled", n, lanes*each)
		}
		b.d.mu.Lock()
		defer b.d.mu.Unlock()
		if u := b.d.units["f"]; b.d.workers > 6 || u.running+u.ready+len(u.parked) != 0 || len(b.d.lanes) != 0 {
			t.Errorf("%d workers; %d lanes run, %d are ready, %d parked, %d in all", b.d.workers, u.running, u.ready, len(u.parked), len(b.d.lanes))
		}
	})
}
