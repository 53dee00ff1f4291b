package dispatch

import (
	"math/bits"
	"sync"
	"time"

	"mayfly/function"
)

// trial is a version on trial beside the deployed one: what both did since it began, on this node. It guards itself; what a step
// needs of it, it takes with Dispatcher.mu held.
type trial struct {
	canary *function.Canary

	mu      sync.Mutex
	stopped bool // this node does not use it any more
	arms    [2]arm
}

// The versions of a trial.
const (
	armOld = iota
	armNew
)

// arm is what one of the two versions did.
type arm struct {
	events, failed uint64
	times          [256]uint32 // runs by bucketOf
	timed          uint64
}

// Arm is what one of the two versions of a trial did on this node since it began.
type Arm struct {
	Events uint64        // attempts that ended
	Failed uint64        // of these: not done
	P90    time.Duration // nine tenths of the runs took no longer, to within an eighth; 0 = nothing ran
}

// Trial is how a version on trial does on this node.
type Trial struct {
	Function *function.Function // the deployed one
	Canary   *function.Canary
	Stopped  bool
	Old, New Arm
}

// bucketOf sorts durations into eighths of an octave, of microseconds.
func bucketOf(d time.Duration) int {
	us := uint64(max(d.Microseconds(), 0)) + 8
	octave := bits.Len64(us) - 4
	return min(octave*8+int(us>>octave)-8, 255)
}

// upTo is the longest duration of a bucket.
func upTo(bucket int) time.Duration {
	octave, eighth := bucket/8, bucket%8
	return time.Duration((uint64(eighth+9)<<octave)-8) * time.Microsecond
}

func (a *arm) sum() Arm {
	out := Arm{Events: a.events, Failed: a.failed}
	seen := uint64(0)
	for bucket, n := range a.times {
		if seen += uint64(n); a.timed > 0 && seen*10 >= a.timed*9 {
			out.P90 = upTo(bucket)
			break
		}
	}
	return out
}

// try makes what u's function says of a trial so. A pause or another change of the record does not begin it anew. Called with mu held.
func (u *unit) try() {
	switch c := u.canary(); {
	case c == nil:
		u.trial = nil
	case u.trial == nil || !u.trial.canary.Since.Equal(c.Since):
		u.trial = &trial{canary: c}
	default:
		u.trial.canary = c
	}
}

func (u *unit) canary() *function.Canary {
	if u.fn == nil {
		return nil
	}
	return u.fn.Canary
}

// version says which of u's versions t meets. It is the same at every attempt and on every node, until the trial ends or this node
// stops it [R3]. Called with mu held.
func (u *unit) version(t *task) *function.Function {
	switch {
	case u.trial == nil:
		return u.fn
	case t.guest:
		if f := u.same(t.receipt.(*guestCall).call.Function); f != nil {
			return f
		}
		return u.fn
	case t.hash == 0:
		t.hash = hashOf(t)
	}
	u.trial.mu.Lock()
	defer u.trial.mu.Unlock()
	if !u.trial.stopped && u.trial.canary.Takes(t.hash) {
		return u.trial.canary.Function
	}
	return u.fn
}

// hashOf is what decides which version t meets: its order key; without an order the event is its own key, or, as long as only the journal has
// it, its place there.
func hashOf(t *task) uint64 {
	switch {
	case t.lane != 0:
		return t.lane
	case t.ev == nil:
		return t.seq
	}
	return laneHash(t.ev.ID)
}

// same returns the version of u that a peer means, nil when it is not here. Called with mu held.
func (u *unit) same(f *function.Function) *function.Function {
	is := func(g *function.Function) bool { return g != nil && g.Module == f.Module && g.Version == f.Version }
	if is(u.fn) {
		return u.fn
	}
	if u.trial == nil || !is(u.trial.canary.Function) {
		return nil
	}
	u.trial.mu.Lock()
	defer u.trial.mu.Unlock()
	if u.trial.stopped {
		return nil
	}
	return u.trial.canary.Function
}

// score counts how an attempt of a function on trial, or of the version beside it, ended. What never ran says nothing about either.
func (w *worker) score(err error) {
	if w.trial == nil || w.fn == nil {
		return
	}
	switch function.ClassOf(err) {
	case function.ClassOverload, function.ClassNotHere, function.ClassConflict, function.ClassFatal:
		return
	case function.ClassNone, function.ClassRetry, function.ClassReject:
	}
	w.trial.mu.Lock()
	defer w.trial.mu.Unlock()
	a := &w.trial.arms[armOld]
	if w.fn.Trial {
		a = &w.trial.arms[armNew]
	}
	a.events++
	if err != nil || w.res.Outcome != function.Done {
		a.failed++
	}
	if w.rec.Run > 0 && !w.rec.Cold {
		a.times[bucketOf(w.rec.Run)]++
		a.timed++
	}
}

// Trials returns how the versions on trial do on this node.
func (d *Dispatcher) Trials() []Trial {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []Trial
	for _, u := range d.units {
		if u.trial == nil || u.fn == nil {
			continue
		}
		t := u.trial
		t.mu.Lock()
		all = append(all, Trial{Function: u.fn, Canary: t.canary, Stopped: t.stopped, Old: t.arms[armOld].sum(), New: t.arms[armNew].sum()})
		t.mu.Unlock()
	}
	return all
}

// StopTrial gives all events that come to this node to the deployed version, until the trial that began then is replaced by another. What
// waits for another attempt is among them.
func (d *Dispatcher) StopTrial(name string, since time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	u := d.units[name]
	if u == nil || u.trial == nil || !u.trial.canary.Since.Equal(since) {
		return
	}
	u.trial.mu.Lock()
	defer u.trial.mu.Unlock()
	u.trial.stopped = true
}
