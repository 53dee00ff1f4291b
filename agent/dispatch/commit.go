package dispatch

import (
	"errors"
	"time"

	"mayfly/agent/changelog"
	"mayfly/agent/journal"
	"mayfly/agent/outbox"
	"mayfly/event"
	"mayfly/function"
	"mayfly/internal/crashpoint"
	"mayfly/store"
	"mayfly/triggers"
)

// commit makes the effects of a call true and then settles the event ([D1], [D4]).
//
// A call without state whose event the sender still holds writes nothing to disk: its publishes leave, and when the broker
// has confirmed them the event is settled ([D2]). Everything else is one transaction: state, publishes in the outbox, the
// done mark, and the event's removal from the journal; the event is settled and the publishes leave when it is synced.
func (d *Dispatcher) commit(w *worker, t *task) error {
	d.claim(t)
	crashpoint.Here(crashpoint.Ran)
	res := &w.res
	settlement := triggers.Settlement{Response: res.Response}
	var err error
	switch quiet := len(res.Publishes) == 0; {
	case t.seq == 0 && w.call.State == nil && quiet, t.seq == 0 && quiet && len(res.Writes) == 0 && res.Response == nil:
		d.over(t, settlement)
	case w.call.State == nil && !(t.sync && !d.connected(res.Publishes)):
		err = d.send(w, t, settlement)
	default:
		err = d.transact(w, t, settlement)
	}
	if err == nil {
		s := &t.unit.stats
		s.Done.Add(1)
		s.Published.Add(int64(len(res.Publishes)))
		w.rec.Outcome, w.rec.Writes = "done", len(res.Writes)
		w.rec.Published = res.Publishes
		d.observe(w)
	}
	return err
}

// claim waits until no spill includes t, and keeps later ones from including it: from here on t.seq is final.
func (d *Dispatcher) claim(t *task) {
	d.mu.Lock()
	t.ending = true
	spilling := t.spilling
	d.mu.Unlock()
	if spilling != nil {
		<-spilling
	}
}

func (d *Dispatcher) connected(msgs []event.Message) bool {
	for i := range msgs {
		if !d.dep.Outbox.Connected(msgs[i].Broker) {
			return false
		}
	}
	return true
}

// send is the way without disk.
func (d *Dispatcher) send(w *worker, t *task, s triggers.Settlement) error {
	unjournal := func() time.Duration {
		return d.submit(t, d.dep.Journal.RemoveOps(t.unit.name, t.seq), func() { d.over(t, s) })
	}
	if len(w.res.Publishes) == 0 { // out of the journal
		d.insist(unjournal)
		return nil
	}
	f, from := w.fn, w.launch(t)
	err := d.dep.Outbox.Send(w.res.Publishes, func(err error) {
		crashpoint.Here(crashpoint.Unsettled)
		if err == nil || function.ClassOf(err) == function.ClassReject {
			d.ashore(from)
		}
		switch {
		case err == nil && t.seq != 0:
			d.insist(unjournal)
		case err == nil:
			d.over(t, s)
		case function.ClassOf(err) == function.ClassReject && !t.sync:
			d.insist(func() time.Duration { return d.entomb(f, t, err) })
		default:
			d.over(t, triggers.Settlement{Err: err})
		}
	})
	if err != nil {
		d.ashore(from)
	}
	return err
}

// transact is the way through the disk: all or nothing.
func (d *Dispatcher) transact(w *worker, t *task, s triggers.Settlement) error {
	name := t.route.Function
	ops := stateOps(name, w.res.Writes)
	var ticket outbox.Ticket
	if len(w.res.Publishes) > 0 {
		out, tk, err := d.dep.Outbox.Ops(name, w.res.Publishes)
		if err != nil {
			return err
		}
		ops, ticket = append(ops, out...), tk
	}
	marks := d.markOps(w.fn, t)
	ops = append(ops, marks...)
	if t.seq != 0 {
		ops = append(ops, d.dep.Journal.RemoveOps(t.unit.name, t.seq)...)
	}
	published := len(w.res.Publishes) > 0
	crashpoint.Here(crashpoint.Commit)
	synced := func(err error) {
		if err != nil {
			d.fail(err)
			d.over(t, triggers.Settlement{Err: err})
			return
		}
		crashpoint.Here(crashpoint.Committed)
		if published {
			d.dep.Outbox.Release(ticket)
		}
		crashpoint.Here(crashpoint.Released)
		if t.seq != 0 {
			d.dep.Journal.Removed(t.unit.name, t.seq)
		}
	}
	log, generation := d.changelog(w.fn), w.generation
	done := func(err error) {
		switch {
		case err != nil:
			s = triggers.Settlement{Err: err}
		case t.sync && log != nil && !log.Holds(generation):
			s = triggers.Settlement{Err: stateLeft(name)}
		default:
			s.Forgotten = release(log, t, marks)
		}
		d.over(t, s)
	}
	err := t.unit.held.commit(d.dep.Store, name, w.res.Writes, func() error {
		return t.unit.fence.pass(d.dep.Store, t, func(besides []store.Op) error {
			return d.record(w, changelog.Change{Ops: append(ops, besides...), Marks: marks, Synced: synced, Done: done})
		})
	})
	if errors.Is(err, store.ErrConflict) {
		return &function.Error{Op: "commit", Subject: name, Class: function.ClassConflict, Kind: "conflict", Err: err}
	}
	return err
}

// submit makes ops true, or breaks the node: for operations that cannot conflict. While the disk has no room it asks to be
// tried again after the time returned.
func (d *Dispatcher) submit(t *task, ops []store.Op, then func()) time.Duration {
	err := d.dep.Store.Submit(ops, func(err error) {
		if err != nil {
			d.fail(err)
			d.over(t, triggers.Settlement{Err: err})
			return
		}
		if t.seq != 0 {
			d.dep.Journal.Removed(t.unit.name, t.seq)
		}
		then()
	})
	switch function.ClassOf(err) {
	case function.ClassNone:
		return 0
	case function.ClassOverload:
		return jitter(overloadMin, overloadMax, 5)
	case function.ClassRetry, function.ClassReject, function.ClassNotHere, function.ClassConflict, function.ClassFatal:
		d.fail(err) // nothing is checked and everything is of bounded size: a store that refuses this is broken
	}
	return 0
}

// insist ends an event for which no lane waits any more: as often as it takes, while the disk has no room. If the dispatcher
// stops meanwhile, the event's sender or the journal still has it.
func (d *Dispatcher) insist(end func() time.Duration) {
	wait := end()
	if wait == 0 {
		return
	}
	time.AfterFunc(wait, func() {
		select {
		case <-d.stop:
		default:
			d.insist(end)
		}
	})
}

// retry puts t into the journal until its time comes; its sender is told that it is safe. Where the journal has no room, t
// waits in memory and its sender keeps it.
func (d *Dispatcher) retry(w *worker, t *task, cause error) time.Duration {
	d.claim(t)
	policy := w.fn.Manifest.Retry
	wait := jitter(policy.BackoffMin, policy.BackoffMax, t.attempt-1)
	if e, ok := errors.AsType[*function.Error](cause); ok && e.After > 0 {
		wait = min(e.After, max(policy.BackoffMax, wait))
	}
	w.failed("retry", cause)
	d.observe(w)
	t.unit.stats.Retried.Add(1)
	t.attempt++
	entry := d.entry(t)
	entry.LastError, entry.NotBefore = cause.Error(), d.now().Add(wait)
	switch {
	case t.seq != 0:
		d.reschedule(t, entry)
	case d.changelog(w.fn) != nil, w.lane.afloat.Load() > 0:
		d.hold(t, entry.NotBefore)
	default:
		d.keep(w.fn, t, entry)
	}
	return wait
}

// reschedule changes a record that is in the journal already. Where that fails for want of room the attempt is forgotten by a
// restart, nothing else.
func (d *Dispatcher) reschedule(t *task, entry *journal.Entry) {
	crashpoint.Here(crashpoint.Reschedule)
	err := d.dep.Store.Submit(d.dep.Journal.RescheduleOps(entry), func(err error) {
		if err != nil {
			d.fail(err)
		}
	})
	if function.ClassOf(err) == function.ClassFatal {
		d.fail(err)
	}
	d.mu.Lock()
	t.ending, t.after, t.ev = false, entry.NotBefore, nil
	d.mu.Unlock()
}

// keep journals a task that so far only its sender held.
func (d *Dispatcher) keep(f *function.Function, t *task, entry *journal.Entry) {
	entries := []*journal.Entry{entry}
	ops, err := d.dep.Journal.AppendOps(entries)
	if err == nil {
		ops = append(ops, d.markOps(f, t)...)
		crashpoint.Here(crashpoint.Retry)
		err = d.dep.Store.Submit(ops, func(err error) {
			if err != nil {
				d.fail(err)
				d.over(t, triggers.Settlement{Err: err})
				return
			}
			crashpoint.Here(crashpoint.Journaled)
			d.over(t, triggers.Settlement{Journaled: true})
		})
	}
	if function.ClassOf(err) == function.ClassFatal {
		d.fail(err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	t.ending = false
	if err == nil {
		d.dep.Journal.Appended(entries)
		t.seq, t.after, t.ev = entry.Seq, entry.NotBefore, nil
	}
}

// bury makes a dead letter of t ([D6]).
func (d *Dispatcher) bury(w *worker, t *task, cause error) time.Duration {
	d.claim(t)
	w.failed("dead-letter", cause)
	wait := d.entomb(w.fn, t, cause)
	if wait == 0 {
		d.observe(w)
	} else {
		d.mu.Lock()
		t.ending = false
		d.mu.Unlock()
	}
	return wait
}

func (d *Dispatcher) entomb(f *function.Function, t *task, cause error) time.Duration {
	entry := d.entry(t)
	entry.LastError = cause.Error()
	ops, err := d.dep.Graves.BuryOps(entry, function.KindOf(cause))
	if err != nil {
		return jitter(overloadMin, overloadMax, 5)
	}
	var ticket outbox.Ticket
	announced := false
	if msgs := notices(f, t, cause); len(msgs) > 0 {
		if out, tk, err := d.dep.Outbox.Ops(t.route.Function, msgs); err == nil {
			ops, ticket, announced = append(ops, out...), tk, true
		}
	}
	if t.seq != 0 {
		ops = append(ops, d.dep.Journal.RemoveOps(t.unit.name, t.seq)...)
	}
	ops = append(ops, d.markOps(f, t)...)
	crashpoint.Here(crashpoint.Bury)
	return d.submit(t, ops, func() {
		crashpoint.Here(crashpoint.Buried)
		if announced {
			d.dep.Outbox.Release(ticket)
		}
		d.dep.Graves.Buried(entry)
		t.unit.stats.Dead.Add(1)
		d.over(t, triggers.Settlement{Outcome: function.Reject})
	})
}

func (d *Dispatcher) entry(t *task) *journal.Entry {
	return &journal.Entry{
		Seq: t.seq, Function: t.route.Function, Trigger: t.route.Trigger, Lane: t.lane, Attempt: t.attempt,
		Received: t.received, Event: t.ev,
	}
}
