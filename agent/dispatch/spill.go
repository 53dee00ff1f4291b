package dispatch

import (
	"time"

	"mayfly/agent/journal"
	"mayfly/function"
	"mayfly/internal/crashpoint"
	"mayfly/store"
	"mayfly/triggers"
)

// Spilling keeps the broker's short queue from overflowing ([D3]): when a trigger's in-flight window stays full, the events in
// it that wait are journaled in synced batches and then acknowledged. Memory first, disk on overflow. A lane is journaled
// from its head, also when the head is running, so that what is in the journal is always older than what is only at the
// broker: the order per key survives a crash ([D5]). Events behind one that waits for its retry are journaled too, so that a
// waiting retry never blocks the window ([D6]).

const (
	// spillAgain is how soon after a spill the next look comes: who spills gets a window of new events at once, and as much
	// as one window each time is taken from the sender.
	spillAgain      = 10 * time.Millisecond
	spillBatch      = 256
	spillBatchBytes = 256 << 10 // well below what the store takes in one batch
)

// askSpill wakes runSpill. It never blocks.
func (d *Dispatcher) askSpill() {
	select {
	case d.spillq <- struct{}{}:
	default:
	}
}

func (d *Dispatcher) runSpill() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-d.stop:
			return
		case <-d.spillq:
		case <-timer.C:
		}
		next, again := time.Hour, true
		for again {
			var batch, shed, thinned []*task
			batch, shed, thinned, again = d.pressed()
			for _, t := range shed {
				d.loss.add(LossShed)
				d.over(t, triggers.Settlement{})
			}
			d.coalesced(thinned)
			if len(batch) > 0 && !d.spill(batch) {
				again = false
			}
			if len(batch)+len(thinned) > 0 || again {
				next = min(spillAgain, d.cfg.SpillAfter)
			}
		}
		if d.underPressure() {
			next = min(next, d.cfg.SpillAfter/2)
		}
		timer.Reset(next)
	}
}

// underPressure says whether a window is full now, whatever its age. If so, runSpill looks again soon by itself, and accept need
// not ask for it: under load a window becomes full with every event, and a look visits every lane.
func (d *Dispatcher) underPressure() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pressure = d.ready.len() > 0
	for _, w := range d.windows {
		d.pressure = d.pressure || w.full(d.cfg.Window)
	}
	return d.pressure
}

// pressed returns tasks that should be journaled now, marked as spilling, lane by lane from the head; tasks to be shed by their
// trigger's policy, or because a later one stands for them; and whether there are more.
func (d *Dispatcher) pressed() (batch, shed, thinned []*task, more bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now, size := d.now(), 0
	take := func(l *lane) bool {
		if l.spilling || !d.shouldSpill(l, now) {
			return true
		}
		n := len(thinned)
		if thinned = d.thin(l, thinned); len(thinned) > n {
			return true
		}
		if l.head.route.Overflow == function.OverflowShed && l.head.seq == 0 {
			shed = l.shed(shed)
			return true
		}
		for t := l.head; t != nil; t = t.next {
			if t.seq != 0 || t.sync || t.ending || t.skip {
				continue
			}
			if len(batch) >= spillBatch || size+len(t.ev.Data) > spillBatchBytes && len(batch) > 0 {
				return false
			}
			t.spilling = make(chan struct{})
			batch, size = append(batch, t), size+len(t.ev.Data)
			if !l.spilling {
				l.spilling = true
				d.spilling = append(d.spilling, l)
			}
		}
		return true
	}
	d.eachLane(func(l *lane) bool {
		more = !take(l)
		return !more
	})
	return batch, shed, thinned, more
}

// shouldSpill says whether l's tasks have waited long enough in a full window, or wait behind a retry.
func (d *Dispatcher) shouldSpill(l *lane, now time.Time) bool {
	h := l.head
	if h == nil || h.route.Overflow == function.OverflowHold || h.sync || d.changelog(l.unit.fn) != nil {
		return false
	}
	if h.ending || l.afloat.Load() > 0 { // what comes behind those would be in the journal before them
		return false
	}
	if l.state == laneBlocked && h.seq != 0 {
		return h.next != nil
	}
	if l.waitsAshore() {
		return true
	}
	w := l.tail.window // the head may have come to the journal in an earlier life
	return w != nil && now.Sub(h.received) >= d.cfg.SpillAfter && w.full(d.cfg.Window)
}

// eachLane visits every lane until visit returns false. Called with mu held.
func (d *Dispatcher) eachLane(visit func(*lane) bool) {
	for _, l := range d.lanes {
		if !visit(l) {
			return
		}
	}
	for i := range d.ready.len() {
		if l := d.ready.ring[(d.ready.at+i)%len(d.ready.ring)]; l.key.hash == 0 && !visit(l) {
			return
		}
	}
	for _, u := range d.units {
		for _, l := range u.parked {
			if l.key.hash == 0 && !visit(l) {
				return
			}
		}
	}
	for _, l := range d.away.out {
		if l.key.hash == 0 && !visit(l) {
			return
		}
	}
	for _, w := range d.crew {
		if w.lane != nil && w.lane.key.hash == 0 && !visit(w.lane) {
			return
		}
	}
	for _, l := range d.timers {
		if l.key.hash == 0 && !visit(l) {
			return
		}
	}
}

// spill journals the batch and then settles it. It reports false when the journal or the disk has no room: the events stay
// with their senders.
func (d *Dispatcher) spill(batch []*task) bool {
	fresh, again := d.unhandled(batch)
	entries, err := d.write(fresh)
	d.mu.Lock()
	for i, t := range fresh {
		if err == nil {
			t.seq = entries[i].Seq
		}
	}
	for _, t := range again {
		t.skip = true
	}
	for _, t := range batch {
		close(t.spilling)
		t.spilling = nil
	}
	for _, l := range d.spilling {
		l.spilling = false
		if err == nil {
			l.forget()
		}
		if l.state == laneHeld {
			d.makeReady(l)
		}
	}
	d.spilling = d.spilling[:0]
	d.mu.Unlock()
	for _, t := range again {
		t.unit.stats.Duplicate.Add(1)
	}
	d.overSynced(again)
	if err == nil {
		for _, t := range fresh {
			d.over(t, triggers.Settlement{Journaled: true})
		}
		d.spilled.Add(int64(len(fresh)))
	}
	return err == nil
}

// overSynced settles events that were dealt with before, when the done marks they were known by are synced ([D1]). While the
// disk takes nothing they stay with their senders.
func (d *Dispatcher) overSynced(again []*task) {
	if len(again) == 0 {
		return
	}
	settle := func(err error) {
		if function.ClassOf(err) == function.ClassFatal {
			d.fail(err)
		}
		for _, t := range again {
			d.over(t, triggers.Settlement{Err: err})
		}
	}
	if err := d.dep.Store.Submit(nil, settle); err != nil {
		settle(err)
	}
}

// unhandled takes the events out that were dealt with before: journaled once more they would run once more, because what is in
// the journal is not compared with the done marks, its own being among them ([D4]).
func (d *Dispatcher) unhandled(batch []*task) (fresh, again []*task) {
	functions := make([]*function.Function, len(batch))
	d.mu.Lock()
	for i, t := range batch {
		functions[i] = t.unit.fn
	}
	d.mu.Unlock()
	ids := map[string]bool{}
	for i, t := range batch {
		key, evidence := d.mark(functions[i], t)
		byID := key != nil && evidence == nil
		if byID && ids[string(key)] || d.handled(functions[i], t) {
			again = append(again, t)
			continue
		}
		if byID {
			ids[string(key)] = true
		}
		fresh = append(fresh, t)
	}
	return fresh, again
}

// write journals the events, with their done marks, and returns when that is synced.
func (d *Dispatcher) write(batch []*task) ([]*journal.Entry, error) {
	if len(batch) == 0 {
		return nil, nil
	}
	entries := make([]*journal.Entry, len(batch))
	var marks []store.Op
	d.mu.Lock()
	for i, t := range batch {
		entries[i] = d.entry(t)
		entries[i].NotBefore = t.after
		marks = append(marks, d.markOps(t.unit.fn, t)...)
	}
	d.mu.Unlock()
	ops, err := d.dep.Journal.AppendOps(entries)
	if err == nil {
		crashpoint.Here(crashpoint.Spill)
		synced := make(chan error, 1)
		if err = d.dep.Store.Submit(append(ops, marks...), func(err error) { synced <- err }); err == nil {
			crashpoint.Here(crashpoint.Spilling)
			err = <-synced
			if err != nil {
				d.fail(err)
			}
		}
	}
	if function.ClassOf(err) == function.ClassFatal {
		d.fail(err)
	}
	if err == nil {
		crashpoint.Here(crashpoint.Spilled)
		d.dep.Journal.Appended(entries)
	}
	return entries, err
}

// forget drops the payloads of what is in the journal and not running: memory stays bounded by the window.
func (l *lane) forget() {
	for t := l.head; t != nil; t = t.next {
		if t.seq != 0 && (t != l.head || l.state != laneRunning) {
			t.ev = nil
		}
	}
}

// shed marks what waits in l, but for the newest, as not to be run: the trigger's own wish under pressure.
func (l *lane) shed(into []*task) []*task {
	for t := l.head; t != l.tail; t = t.next {
		if t == l.head && l.state == laneRunning || t.ending || t.seq != 0 || t.sync || t.skip {
			continue
		}
		t.skip = true
		into = append(into, t)
	}
	return into
}
