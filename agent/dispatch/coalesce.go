package dispatch

import (
	"mayfly/event"
	"mayfly/triggers"
)

// Where a trigger coalesces, an event is ended without running when a later one of its key waits that will run ([D12]): one that the trigger
// wants, that was not handled before, and that is no easier lost. The later one takes over the done marks of those it stands for, so
// that they are known when they are delivered again behind its commit: run then, they would turn the state back.

// maxLook is how many of the events behind one are looked at for one that stands for it.
const maxLook = 64

// replaced ends t, which runs next, if an event behind it stands for it.
func (d *Dispatcher) replaced(w *worker, t *task) bool {
	if !t.route.Coalesce {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	next := t.next
	for range maxLook {
		if next == nil {
			return false
		}
		if d.follows(t, next) {
			ev, seq := next.ev, next.seq
			d.mu.Unlock() // the condition reads the payload; only this worker takes tasks out of the lane
			stands := d.wanted(w, t, next, ev, seq)
			d.mu.Lock()
			if stands && d.follows(t, next) {
				d.standFor(w, t, next)
				return true
			}
		}
		next = next.next
	}
	return false
}

// follows says whether next, which waits behind t, could stand for it. Called with mu held.
func (d *Dispatcher) follows(t, next *task) bool {
	switch {
	case next.skip, next.sync, next.guest, next.ending, next.spilling != nil:
		return false
	case !next.route.Coalesce || next.route.Trigger != t.route.Trigger:
		return false
	case !next.durable() && t.durable():
		return false
	}
	return next.seq == 0 || t.seq != 0 // what was spilled in order has its marks; else the record would be restored without ours
}

// wanted says whether next will run, being ev.
func (d *Dispatcher) wanted(w *worker, t, next *task, ev *event.Event, seq uint64) bool {
	if ev == nil {
		e, err := d.dep.Loader.Load(next.unit.name, seq)
		if err != nil {
			return false // it is counted when its turn comes
		}
		ev = e.Event
	}
	if !t.route.sameKey(t.ev, ev) {
		return false
	}
	if max := next.route.MaxAge; max > 0 && w.at.Sub(ev.Time) > max {
		return false
	}
	if next.route.When != nil {
		if wanted, err := next.route.When(ev); err != nil || !wanted {
			return false
		}
	}
	return seq != 0 || !d.handled(w.fn, next)
}

// standFor hands over to next what t has that outlives it. Called with mu held.
func (d *Dispatcher) standFor(w *worker, t, next *task) {
	if t.seq == 0 {
		next.besides = append(next.besides, d.markOps(w.fn, t)...)
	}
	next.turn = next.turn || t.turn
	t.besides = nil
}

// sameKey says whether two events have one order key; that they share a lane says so of its hash only.
func (r *Route) sameKey(a, b *event.Event) bool {
	x, ordered := r.key(a)
	y, _ := r.key(b)
	return ordered && x == y
}

// absorb puts t's event in the place of the last one of its lane, when neither is held by anybody else: however fast they come, one waits.
// It returns what will not run, nil when t is to be queued. Called with mu held.
func (d *Dispatcher) absorb(t *task) *task {
	if !t.route.Coalesce || t.receipt != nil || t.route.When != nil || t.route.ID != nil {
		return nil
	}
	l := d.lanes[laneKey{t.route.Function, t.lane}]
	if l == nil || l.tail == nil || l.tail == l.head && l.state == laneRunning {
		return nil
	}
	last := l.tail
	switch {
	case last.durable(), last.skip, last.sync, last.guest, last.ending, last.spilling != nil, last.attempt > 1:
		return nil
	case last.route.Trigger != t.route.Trigger || !t.route.sameKey(last.ev, t.ev):
		return nil
	}
	old := &task{unit: l.unit, route: last.route, ev: last.ev, received: last.received, attempt: 1}
	last.ev, last.received, last.route = t.ev, t.received, t.route
	l.unit.stats.Received.Add(1)
	return old
}

// thin marks what waits in l, and what a later one of it stands for, as not to be run: a full window need not go to the disk then. It leaves
// to replaced what cannot be said at a glance. Called with mu held.
func (d *Dispatcher) thin(l *lane, into []*task) []*task {
	var last *task // that stays
	for t := l.head; t != nil; t = t.next {
		next := d.successor(l, t)
		if next == nil {
			last = t
			continue
		}
		next.besides = append(next.besides, d.markOps(l.unit.fn, t)...)
		next.turn = next.turn || t.turn
		t.besides, t.skip = nil, true
		into = append(into, t)
		if last == nil { // the lane's head is its worker's to take away
			last = t
		} else {
			last.next = t.next // t still leads there: who looks behind it finds the others
		}
	}
	return into
}

// successor returns the next event behind t in l that stands for it at a glance. Called with mu held.
func (d *Dispatcher) successor(l *lane, t *task) *task {
	begun := t == l.head && l.state == laneRunning
	if !t.route.Coalesce || begun || t.seq != 0 || t.ev == nil || t.sync || t.guest || t.ending || t.skip || t.spilling != nil {
		return nil
	}
	next := t.next
	for range maxLook {
		if next == nil {
			return nil
		}
		plain := next.ev != nil && !next.ev.Dup && next.route.When == nil && next.route.ID == nil
		if plain && d.follows(t, next) && t.route.sameKey(t.ev, next.ev) {
			return next
		}
		next = next.next
	}
	return nil
}

// coalesced ends the events that thin took.
func (d *Dispatcher) coalesced(thinned []*task) {
	for _, t := range thinned {
		d.tellCoalesced(t)
		d.over(t, triggers.Settlement{})
	}
}

// tellCoalesced counts and shows that t will not run.
func (d *Dispatcher) tellCoalesced(t *task) {
	t.unit.stats.Coalesced.Add(1)
	d.dep.Observer.Observed(&Record{
		Time: t.received, Event: t.ev, Function: t.route.Function, Trigger: t.route.Trigger, Node: d.cfg.Node,
		Attempt: t.attempt, Wait: d.now().Sub(t.received), Outcome: "coalesced",
	})
}
