package dispatch

import (
	"time"

	"mayfly/function"
)

// What is in the journal runs first after a crash, before what the brokers deliver again. So nothing may be journaled while an earlier
// event of its key is at its broker only and nobody has seen its effect: a crash would turn the two around ([D5]). Such events are
// afloat: their publishes were sent, without a trace on disk, and are not confirmed. The lane goes on meanwhile, so it is the lane
// that counts them, and it stays as long as there are any.

// launch says that t's publishes are about to be sent from w's lane. It returns the lane if that makes t afloat: ashore is then to be
// called; nil if t is in the journal, nobody delivers it again, or its order is nobody's business.
func (w *worker) launch(t *task) *lane {
	l := w.lane
	if t.seq != 0 || t.receipt == nil || t.sync || l.key.hash == 0 {
		return nil
	}
	l.afloat.Add(1)
	return l
}

// ashore says that one of l's publishes is confirmed, or will never be taken. A publish whose outcome is unknown when the node stops
// stays afloat.
func (d *Dispatcher) ashore(l *lane) {
	if l == nil || l.afloat.Add(-1) > 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case l.afloat.Load() > 0:
	case l.state == laneIdle:
		if d.lanes[l.key] == l {
			delete(d.lanes, l.key)
		}
	case l.state == laneBlocked:
		d.askSpill()
	}
}

// empty lets go of a lane that has no events any more. Called with mu held.
func (d *Dispatcher) empty(l *lane) {
	switch {
	case l.key.hash == 0:
	case l.afloat.Load() > 0:
		l.state = laneIdle
	default:
		delete(d.lanes, l.key)
	}
}

// hold leaves a task that is to be tried again at the time given in memory; its sender keeps it.
func (d *Dispatcher) hold(t *task, after time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	t.ending, t.after = false, after
}

// waitsAshore says whether the head of l waits in memory for its next attempt and could wait in the journal, where it fills no window
// ([D6]). Called with mu held.
func (l *lane) waitsAshore() bool {
	h := l.head
	return l.state == laneBlocked && h.attempt > 1 && !h.after.IsZero() && h.route.Overflow != function.OverflowShed
}
