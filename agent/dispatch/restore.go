package dispatch

import (
	"time"

	"mayfly/agent/journal"
)

// Restore queues what the journal holds, which must be given in the order of Seq. At the start it is called after Deploy and
// before any source starts, so that what is in the journal runs before what the brokers still hold.
func (d *Dispatcher) Restore(all []journal.Waiting) {
	routes := map[[2]string]*Route{}
	for _, r := range d.routes() {
		routes[[2]string{r.Function, r.Trigger}] = r
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.now()
	for i := range all {
		x := &all[i]
		r := routes[[2]string{x.Function, x.Trigger}]
		if r == nil { // its trigger is gone; the function, if there is one, still gets it
			r = &Route{Function: x.Function, Trigger: x.Trigger}
		}
		t := &task{
			unit: d.unit(x.Function), route: r, lane: x.Lane, received: now,
			attempt: max(1, x.Attempt), after: x.NotBefore, seq: x.Seq,
		}
		t.settled.Store(true) // nobody waits for it
		d.enqueueLater(t, now)
	}
}

// enqueueLater is enqueue for a task whose time may not have come. Called with mu held.
func (d *Dispatcher) enqueueLater(t *task, now time.Time) {
	wait := t.after.Sub(now)
	if wait <= 0 || t.lane != 0 && d.lanes[laneKey{t.unit.name, t.lane}] != nil {
		d.enqueue(t)
		return
	}
	l := &lane{unit: t.unit}
	if t.lane != 0 {
		l.key = laneKey{t.unit.name, t.lane}
		d.lanes[l.key] = l
	}
	l.push(t)
	d.block(l, wait)
}
