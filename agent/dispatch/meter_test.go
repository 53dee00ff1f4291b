package dispatch

import (
	"testing"
	"time"

	"mayfly/function"
)

// What a run used is counted: memory times how long it ran, without running over for the largest and longest run there can be.
func TestMemoryTime(t *testing.T) {
	t.Parallel()
	d := &Dispatcher{}
	for _, c := range []struct {
		memory int64
		run    time.Duration
		want   int64
	}{{64 << 10, 3 * time.Microsecond, 196}, {16 << 20, time.Second, 16 << 20 * 1000}, {4 << 30, time.Hour, 4 << 30 * 3_600_000}} {
		w, task := &worker{}, &task{unit: &unit{}}
		w.res.Usage = function.Usage{Memory: c.memory}
		d.account(w, task, c.run)
		if got := task.unit.stats.MemoryTime.Load(); got != c.want {
			t.Errorf("%d bytes for %v: %d byte-ms, not %d", c.memory, c.run, got, c.want)
		}
	}
}

// What metering adds to every event: one counter. Beside it, all that is counted of a run.
func BenchmarkMetering(b *testing.B) {
	d := &Dispatcher{}
	w, task := &worker{}, &task{unit: &unit{}}
	w.res.Usage = function.Usage{Memory: 1 << 20, CPU: 1000, BytesIn: 100, BytesOut: 100}
	b.Run("counter", func(b *testing.B) {
		for b.Loop() {
			task.unit.stats.MemoryTime.Add(int64(float64(w.res.Usage.Memory) * float64(w.rec.Run) / float64(time.Millisecond)))
		}
	})
	b.Run("all", func(b *testing.B) {
		for b.Loop() {
			d.account(w, task, 4*time.Microsecond)
		}
	})
}
