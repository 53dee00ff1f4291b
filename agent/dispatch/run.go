package dispatch

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"mayfly/agent/changelog"
	"mayfly/agent/placement"
	"mayfly/function"
	"mayfly/triggers"
)

// worker is what one goroutine reuses from call to call.
type worker struct {
	lane  *lane              // being run; guarded by Dispatcher.mu
	fn    *function.Function // current at the start of the step
	trial *trial             // that the function is part of
	skip  bool               // the task was shed meanwhile
	live  bool               // the task was not in the journal at the start of the step

	leave   bool             // the task is not for this node's slots
	courier bool             // it has no slot, only somewhere to go
	to      placement.Choice // the following are a courier's
	peer    string           // the one its call counts for
	took    time.Duration    // what the last one it asked took
	placed  placement.Decision

	call function.Call
	res  function.Result
	rec  Record
	at   time.Time // the run's start

	generation uint64 // of a state that follows its trigger, when the run began
}

const (
	overloadMin  = 10 * time.Millisecond
	overloadMax  = time.Second
	maxConflicts = 16
)

// run takes t through everything from matching to commit. It returns 0 when the lane is done with t, or how long the lane
// has to wait before t is tried again.
func (d *Dispatcher) run(w *worker, t *task) (wait time.Duration) {
	if w.skip || !d.fetch(t) {
		return 0
	}
	if t.guest {
		d.host(w, t)
		return 0
	}
	d.begin(w, t)
	if over, wait := d.sift(w, t); over {
		return wait
	}
	for range maxConflicts {
		choice, err := d.invoke(w, t)
		w.rec.Reason = string(choice.Reason)
		if w.leave {
			return 0
		}
		if err == nil && w.res.Outcome == function.Done {
			w.answer(t)
			err = d.commit(w, t)
		}
		if function.ClassOf(err) == function.ClassConflict {
			t.unit.stats.Conflicts.Add(1)
			continue
		}
		return d.conclude(w, t, err)
	}
	return d.conclude(w, t, &function.Error{
		Op: "commit", Subject: t.route.Function, Class: function.ClassRetry, Kind: "conflict",
		Err:  fmt.Errorf("its state changed under it %d times in a row", maxConflicts),
		Hint: `let events that touch the same keys have one order key, or set limits.concurrency = 1`,
	})
}

// fetch makes sure that t has its event. It reports false when there is nothing left to run.
func (d *Dispatcher) fetch(t *task) bool {
	if t.ev != nil {
		return true
	}
	e, err := d.dep.Loader.Load(t.unit.name, t.seq)
	switch {
	case err != nil && function.ClassOf(err) == function.ClassFatal:
		d.fail(err)
		return false
	case err != nil:
		d.loss.add(LossCorrupt)
		d.dep.Log.Error("journal record lost", "function", t.unit.name, "seq", t.seq, "err", err)
		d.dep.Journal.Removed(t.unit.name, t.seq)
		return false
	}
	t.ev, t.attempt = e.Event, max(1, e.Attempt)
	return true
}

func (d *Dispatcher) begin(w *worker, t *task) {
	w.at = d.now()
	w.rec = Record{
		Time: t.received, Event: t.ev, Function: t.route.Function, Trigger: t.route.Trigger,
		Node: d.cfg.Node, Attempt: t.attempt, Wait: w.at.Sub(t.received),
	}
}

// sift settles what must not run: events of functions that are gone, too old, not wanted by `when`, already handled, stood for by a later
// one; and holds back those above the rate.
func (d *Dispatcher) sift(w *worker, t *task) (over bool, wait time.Duration) {
	switch {
	case w.fn == nil:
		return true, d.refuse(w, t, &function.Error{
			Op: "invoke", Subject: t.route.Function, Class: function.ClassReject, Kind: "not-found",
			Err: errors.New("the function was removed before this event ran"), Hint: "deploy it again, then: mayfly dlq replay",
		})
	case t.route.MaxAge > 0 && w.at.Sub(t.ev.Time) > t.route.MaxAge:
		d.loss.add(LossExpired)
		return true, d.drop(w, t, "expired")
	case w.live && (d.fenced(t) || d.overtaken(w, t)):
		return d.expel(w, t), 0
	case t.sync && d.elsewhere(w.fn):
		return true, d.refuse(w, t, stateElsewhere("invoke", t.route.Function))
	case d.ahead(w, t):
		return true, jitter(aheadMin, aheadMax, 5)
	}
	if t.route.When != nil && t.attempt == 1 {
		wanted, err := t.route.When(t.ev)
		if err != nil {
			return true, d.refuse(w, t, err)
		}
		if !wanted {
			t.unit.stats.Filtered.Add(1)
			return true, d.drop(w, t, "filtered")
		}
	}
	if w.live && d.handled(w.fn, t) {
		t.unit.stats.Duplicate.Add(1)
		return true, d.drop(w, t, "duplicate")
	}
	if d.replaced(w, t) {
		t.unit.stats.Coalesced.Add(1)
		return true, d.drop(w, t, "coalesced")
	}
	return d.restrain(w, t)
}

// refuse ends an event that can never run.
func (d *Dispatcher) refuse(w *worker, t *task, err error) time.Duration {
	d.note(t, err)
	if t.sync {
		w.failed("failed", err)
		d.observe(w)
		d.over(t, triggers.Settlement{Err: err})
		return 0
	}
	return d.bury(w, t, err)
}

// drop ends an event that is to have no effect.
func (d *Dispatcher) drop(w *worker, t *task, outcome string) time.Duration {
	d.claim(t)
	w.rec.Outcome = outcome
	d.observe(w)
	var s triggers.Settlement
	if log := d.changelog(w.fn); log != nil && t.seq == 0 {
		s.Forgotten = release(log, t, d.markOps(w.fn, t))
	}
	if t.seq == 0 && outcome == "duplicate" {
		// Its done mark may be seen before it is synced: an empty batch is done when everything before it is ([D1]).
		return d.submit(t, nil, func() { d.over(t, s) })
	}
	if t.seq == 0 {
		d.over(t, s)
		return 0
	}
	return d.submit(t, d.dep.Journal.RemoveOps(t.unit.name, t.seq), func() { d.over(t, triggers.Settlement{}) })
}

// invoke places and runs one call: here, where the worker has a slot, or it asks to leave. A courier's worker has no slot; its call goes
// to a peer.
func (d *Dispatcher) invoke(w *worker, t *task) (placement.Choice, error) {
	f := w.fn
	v := d.dep.View.View(f)
	if w.courier {
		return d.deliver(w, t, v)
	}
	choice, here := placement.Local(f, v)
	if !here && t.home == undecided {
		if choice.Reason == placement.ReasonNowhere || choice.Reason == placement.ReasonStranded || !d.away.on {
			return choice, nowhere(f, choice.Reason)
		}
		w.leave = true
		return choice, nil
	}
	if t.home != undecided {
		choice = placement.Choice{Node: v.Self.ID, Here: true, Reason: t.home.reason()}
	}
	start := d.now()
	w.res.Reset()
	d.prepare(w, t, start)
	w.rec.Node = choice.Node
	err := d.dep.Local.Invoke(context.Background(), &w.call, &w.res) // the call's deadline bounds it; a drain lets it finish
	run := d.now().Sub(start)
	d.account(w, t, run)
	t.unit.stats.learn(run, v.Self.Speed)
	return choice, err
}

func (d *Dispatcher) prepare(w *worker, t *task, now time.Time) {
	f := w.fn
	w.call = function.Call{
		Function: f, Event: t.ev, Trigger: t.route.Trigger, Pattern: t.route.Pattern,
		Captures: t.ev.Captures, Attempt: t.attempt,
		Deadline: now.Add(f.Manifest.Limits.Timeout), Node: d.cfg.Node, Epoch: t.ev.Delivery.Fence,
	}
	if f.Manifest.State.Scope != function.ScopeNone && f.Manifest.State.Scope != "" {
		w.call.State = &state{d.dep.Store, f.Name(), &t.unit.held, d.now}
		if log := d.changelog(f); log != nil {
			w.generation = log.Generation()
		}
	}
	if len(f.Manifest.Permissions.Secrets) > 0 && d.dep.Secrets != nil {
		w.call.Secrets = d.dep.Secrets(f)
	}
	if len(f.Manifest.Permissions.HTTP) > 0 {
		w.call.HTTP = d.dep.HTTP
	}
}

// account counts what a call cost, and hands a copy of its result to who asked for one.
func (d *Dispatcher) account(w *worker, t *task, run time.Duration) {
	res := &w.res
	w.rec.Run, w.rec.CPU, w.rec.Memory, w.rec.Cold = run, res.Usage.CPU, res.Usage.Memory, res.Usage.Cold
	if !d.cfg.Unmetered {
		t.unit.stats.meter(&res.Usage, run)
	}
	if t.trace != nil {
		*t.trace = *res
		t.trace.Publishes, t.trace.Writes, t.trace.Log = slices.Clone(res.Publishes), slices.Clone(res.Writes), slices.Clone(res.Log)
	}
}

// conclude acts on how a run ended. This is the only place where the class of a failure decides (promise D6).
func (d *Dispatcher) conclude(w *worker, t *task, err error) time.Duration {
	d.logged(w, t)
	if errors.Is(err, changelog.ErrMoved) && !t.sync && d.expel(w, t) {
		return 0
	}
	w.score(err)
	if err == nil {
		switch w.res.Outcome {
		case function.Done:
			return 0 // committed
		case function.Retry:
			err = &function.Error{
				Op: "invoke", Subject: t.route.Function, Class: function.ClassRetry, Kind: "asked",
				Err: said(&w.res, "the function asked for a retry"), After: w.res.RetryAfter,
			}
		case function.Reject:
			err = &function.Error{
				Op: "invoke", Subject: t.route.Function, Class: function.ClassReject, Kind: "rejected",
				Err: said(&w.res, "the function rejected the event"),
			}
		}
	}
	class := function.ClassOf(err)
	d.note(t, err)
	if t.sync {
		w.failed("failed", err)
		d.observe(w)
		d.over(t, triggers.Settlement{Err: err, Outcome: w.res.Outcome})
		return 0
	}
	switch class {
	case function.ClassFatal:
		d.fail(err)
		d.over(t, triggers.Settlement{Err: err})
		return 0
	case function.ClassOverload, function.ClassNotHere:
		t.unit.stats.Overloaded.Add(1)
		t.waits++
		d.mu.Lock()
		t.ending = false // it starts over: a spill that took those behind it and not itself would turn them around ([D5])
		d.mu.Unlock()
		return jitter(overloadMin, overloadMax, t.waits)
	case function.ClassReject:
		return d.bury(w, t, err)
	case function.ClassNone, function.ClassRetry, function.ClassConflict: // no class is nobody's verdict; run knows conflicts
		if t.attempt >= max(1, w.fn.Manifest.Retry.MaxAttempts) {
			return d.bury(w, t, fmt.Errorf("%d attempts are used up: %w", t.attempt, err))
		}
	}
	return d.retry(w, t, err)
}

func said(res *function.Result, otherwise string) error {
	if res.Failure != "" {
		return errors.New(res.Failure)
	}
	return errors.New(otherwise)
}

// jitter is exponential back-off with full jitter (Brooker, "Exponential backoff and jitter").
func jitter(lo, hi time.Duration, attempt int) time.Duration {
	ceiling := min(hi, lo<<min(attempt, 20))
	if ceiling <= lo {
		return max(lo, time.Millisecond)
	}
	return lo + rand.N(ceiling-lo)
}

func (d *Dispatcher) note(t *task, err error) {
	switch function.ClassOf(err) {
	case function.ClassOverload, function.ClassNotHere: // say nothing about the function
	case function.ClassReject:
		t.unit.stats.Rejected.Add(1)
	case function.ClassNone, function.ClassRetry, function.ClassConflict, function.ClassFatal:
		t.unit.stats.Failed.Add(1)
	}
	t.unit.stats.LastError.Store(&Failure{Time: d.now(), Event: t.ev.ID, Kind: function.KindOf(err), Text: err.Error()})
}

func (w *worker) failed(outcome string, err error) {
	w.rec.Outcome, w.rec.Kind, w.rec.Error = outcome, function.KindOf(err), err.Error()
}

func (d *Dispatcher) logged(w *worker, t *task) {
	if len(w.res.Log) > 0 || w.res.Dropped > 0 {
		t.unit.stats.LogDropped.Add(int64(w.res.Dropped))
		d.dep.Observer.Logged(w.fn, t.ev, w.res.Log, w.res.Dropped)
	}
}

func (d *Dispatcher) observe(w *worker) { d.dep.Observer.Observed(&w.rec) }

// over ends a task. Safe from any goroutine, any number of times.
func (d *Dispatcher) over(t *task, s triggers.Settlement) {
	if !t.settle(s) || t.receipt != nil {
		return
	}
	d.mu.Lock()
	d.live--
	d.mu.Unlock()
	if s.Err != nil {
		d.loss.add(LossUndelivered)
	}
}
