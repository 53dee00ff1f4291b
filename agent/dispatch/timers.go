package dispatch

import (
	"container/heap"
	"time"
)

// timerQueue holds blocked lanes, the one to wake first on top.
type timerQueue []*lane

func (q timerQueue) Len() int           { return len(q) }
func (q timerQueue) Less(i, j int) bool { return q[i].until.Before(q[j].until) }
func (q timerQueue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }

// Push is for container/heap.
func (q *timerQueue) Push(l any) { *q = append(*q, l.(*lane)) }

// Pop is for container/heap.
func (q *timerQueue) Pop() any {
	old := *q
	l := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	return l
}

// block lets l wait before its head is tried again. Called with mu held.
func (d *Dispatcher) block(l *lane, wait time.Duration) {
	l.state, l.until = laneBlocked, d.now().Add(wait)
	heap.Push(&d.timers, l)
	if d.timers[0] == l {
		select {
		case d.alarm <- struct{}{}:
		default:
		}
	}
	d.askSpill()
}

// runTimers makes blocked lanes ready when their time has come. Waiting is by the monotonic clock: a jump of the wall clock
// moves nothing.
func (d *Dispatcher) runTimers() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		timer.Reset(d.wakeLanes())
		select {
		case <-d.stop:
			return
		case <-d.alarm:
		case <-timer.C:
		}
	}
}

func (d *Dispatcher) wakeLanes() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.now()
	for len(d.timers) > 0 {
		if wait := d.timers[0].until.Sub(now); wait > 0 {
			return wait
		}
		d.makeReady(heap.Pop(&d.timers).(*lane))
	}
	return time.Hour
}
