package dispatch

import (
	"errors"
	"time"

	"mayfly/agent/changelog"
	"mayfly/function"
	"mayfly/store"
)

// The state of some functions follows their trigger from node to node ([U4]). Only the node that has the trigger has the state: elsewhere
// nothing of such a function runs, its events wait like those of a paused one. Every commit goes through the function's changelog and is
// over when the broker has it. And its events stay with the broker until then: they are not journaled, neither spilled nor for a retry,
// because what is on this disk only would be lost with this node, and could not run on the next one.

// changelog returns where f's commits go, nil when its state stays here.
func (d *Dispatcher) changelog(f *function.Function) *changelog.Log {
	if f == nil || f.Manifest.State.Scope != function.ScopeCluster || d.dep.Changelog == nil {
		return nil
	}
	return d.dep.Changelog(f)
}

// elsewhere says whether f's state is not on this node now.
func (d *Dispatcher) elsewhere(f *function.Function) bool {
	log := d.changelog(f)
	return log != nil && log.Claim() == 0
}

// Moved has to be called after a function's changelog was opened or closed.
func (d *Dispatcher) Moved(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	u := d.units[name]
	if u == nil {
		return
	}
	u.log = d.changelog(u.fn)
	if u.shut = d.elsewhere(u.fn); !u.shut {
		u.held.forget() // what is here now may be what another node wrote
	}
	d.unparkAll(u)
}

// takes says whether the head of l may go to a worker: because it may run, or because somebody waits for it who has to be told that it will
// not. Called with Dispatcher.mu held.
func (u *unit) takes(l *lane) bool { return u.mayRun() || u.shut && l.head.sync }

// overtaken says whether t came under a claim that is not the one under which the state is here. While it is not here at all nobody can say.
func (d *Dispatcher) overtaken(w *worker, t *task) bool {
	log := d.changelog(w.fn)
	if log == nil || t.ev.Delivery.Fence == 0 {
		return false
	}
	claim := log.Claim()
	return claim != 0 && claim != t.ev.Delivery.Fence
}

// record makes c true, of a function whose state follows its trigger also in its changelog.
func (d *Dispatcher) record(w *worker, c changelog.Change) error {
	if log := d.changelog(w.fn); log != nil {
		c.Generation, c.Writes = w.generation, w.res.Writes
		return log.Commit(c)
	}
	return d.dep.Store.Submit(c.Ops, func(err error) {
		if c.Synced(err); err == nil {
			c.Done(nil)
		}
	})
}

// release returns what ends the travels of t's done marks when its sender has shown that it does not send it again. Where nobody will show
// that, they end at once. A nil log has none.
func release(log *changelog.Log, t *task, marks []store.Op) func(all bool) {
	if log == nil {
		return nil
	}
	forgotten := log.Release(marks, t.received)
	if t.receipt == nil && forgotten != nil {
		forgotten(false)
		return nil
	}
	return forgotten
}

const (
	// maxAhead is how many messages of a sender, from the oldest that is not settled on, may be dealt with out of order: it acknowledges in
	// order, so the done marks of all of them have to travel.
	maxAhead = 512

	aheadMin = 5 * time.Millisecond
	aheadMax = 100 * time.Millisecond
)

// ahead says whether t, of a function whose state follows its trigger, has to wait because its sender waits for one that came long before.
func (d *Dispatcher) ahead(w *worker, t *task) bool {
	if t.window == nil || !w.live || d.changelog(w.fn) == nil {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	oldest := t.window.oldest()
	return oldest != nil && t.place-oldest.place > maxAhead
}

// Room has to be called when a function's changelog is not full any more.
func (d *Dispatcher) Room(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if u := d.units[name]; u != nil {
		d.unpark(u)
	}
}

// full says whether a commit of u's function would be refused: to run it would be for nothing. Called with Dispatcher.mu held.
func (u *unit) full() bool { return u.log != nil && u.log.Full() }

func stateElsewhere(op, name string) error {
	return &function.Error{
		Op: op, Subject: name, Class: function.ClassNotHere, Kind: "state-elsewhere",
		After: movingAfter, Err: errors.New("its state is where its trigger is, and that is not this node, or not yet"), Hint: "mayfly fn show " + name + " names the owner",
	}
}
