package dispatch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"mayfly/agent/placement"
	"mayfly/event"
	"mayfly/function"
	"mayfly/triggers"
)

// A call of a function whose state follows its trigger runs where the state is, whichever node it comes to: that node passes it on, once, and
// hands the answer back ([U6]). Unlike a call that placement sends to a peer ([P2]) it becomes true there, by the commit of any other call:
// what comes back is what was done, and nothing of it is committed here.

const (
	// ownerPatience is how long a call may wait at the owner, besides the function's own timeout, when its caller does not say.
	ownerPatience = 10 * time.Second
	// movingAfter is when a call is worth another try whose function's state is with nobody, or was a moment ago.
	movingAfter = time.Second
)

// pass has the owner of u's state run q. r is settled with what came of it. Called with mu held.
func (d *Dispatcher) pass(ctx context.Context, u *unit, q Request, route *Route, r triggers.Receipt) error {
	switch {
	case q.passed || d.dep.Owner == nil || !d.away.on:
		return stateElsewhere("invoke", u.name)
	case !d.mayDepart():
		return &function.Error{
			Op: "invoke", Subject: u.name, Class: function.ClassOverload, Kind: "full", Err: errors.New("as many calls as may wait for other nodes do"),
		}
	}
	d.away.running++
	call := d.passing(ctx, u.fn, q.Event, route)
	go func() {
		r.Settle(d.atOwner(ctx, call, &q))
		d.mu.Lock()
		defer d.mu.Unlock()
		d.away.running--
		if d.away.asked {
			d.wakeAway() // there is room at a peer, and somebody waits
		}
		d.left()
	}()
	return nil
}

func (d *Dispatcher) passing(ctx context.Context, f *function.Function, ev *event.Event, route *Route) *function.Call {
	call := &function.Call{
		Function: f, Event: ev, Trigger: route.Trigger, Pattern: route.Pattern, Captures: ev.Captures, Attempt: 1,
		Deadline: d.now().Add(f.Manifest.Limits.Timeout + ownerPatience),
	}
	if end, ok := ctx.Deadline(); ok && end.Before(call.Deadline) {
		call.Deadline = end
	}
	return call
}

// atOwner is one call at the node that has the state, or why there is none.
func (d *Dispatcher) atOwner(ctx context.Context, call *function.Call, q *Request) triggers.Settlement {
	start := d.now()
	placed := placement.Decision{
		Time: start, Event: call.Event.ID, Function: call.Function.Name(), Trigger: call.Trigger, Reason: placement.ReasonOwner,
	}
	var res function.Result
	err := d.askOwner(ctx, call, &res, &placed)
	placed.Took = d.now().Sub(start)
	if err != nil {
		placed.Refusals = []placement.Refusal{{Node: placed.Node, Kind: function.KindOf(err), Why: err.Error(), Took: placed.Took}}
	}
	if refused(err) {
		placed.Node = ""
		if e, ok := errors.AsType[*function.Error](err); ok && e.After == 0 {
			e.After = movingAfter
		}
	}
	d.dep.Observer.Placed(&placed)
	if q.Trace != nil {
		*q.Trace = res
	}
	if q.Where != nil {
		*q.Where = placed.Node
	}
	return triggers.Settlement{Response: res.Response, Outcome: res.Outcome, Err: err}
}

func (d *Dispatcher) askOwner(ctx context.Context, call *function.Call, res *function.Result, placed *placement.Decision) error {
	node := d.dep.Owner(call.Function)
	if node == "" || node == d.dep.View.View(call.Function).Self.ID {
		return stateMoving(call.Function.Name())
	}
	placed.Node, call.Node = node, node
	peer, ok := d.dep.Peers(node)
	if !ok {
		return &function.Error{
			Op: "invoke", Subject: call.Function.Name(), Class: function.ClassNotHere, Kind: "no-peer",
			Err: fmt.Errorf("node %s has its state, and cannot be reached", node), Hint: "mayfly nodes ls",
		}
	}
	ctx, cancel := context.WithDeadline(ctx, call.Deadline.Add(grace))
	defer cancel()
	return peer.Invoke(ctx, call, res)
}

func stateMoving(name string) error {
	return &function.Error{
		Op: "invoke", Subject: name, Class: function.ClassNotHere, Kind: "state-moving", After: movingAfter,
		Err: errors.New("its state is where its trigger is, and that has no owner now, or not yet"), Hint: "mayfly fn show " + name + " names the owner",
	}
}

// waiter is the receipt of a call that another node has passed on.
type waiter chan triggers.Settlement

// Settle implements triggers.Receipt.
func (w waiter) Settle(s triggers.Settlement) { w <- s }

// ownable says whether a peer's call is of a function whose state is, or should be, with its owner. The error says why it does not run here.
func (d *Dispatcher) ownable(call *function.Call) (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	u := d.units[call.Function.Name()]
	switch {
	case u == nil || u.same(call.Function) == nil || d.changelog(u.fn) == nil:
		return false, nil
	case d.closing, d.broken.Load():
		return false, notHere(call, "stopping", errClosing)
	case d.home().Full():
		return false, &function.Error{Op: "execute", Subject: u.name, Class: function.ClassOverload, Kind: "full", Err: errors.New("as many calls wait as run here")}
	}
	return true, nil
}

// ownHere runs a call that another node has passed on, because the state is here, as one of this node's own callers: it becomes true here, and
// the result says what did. It is not passed on again. When ctx ends the caller is told nothing more; the call goes on.
func (d *Dispatcher) ownHere(ctx context.Context, call *function.Call) (*function.Result, error) {
	name := call.Function.Name()
	res, wait := new(function.Result), make(waiter, 1)
	q := Request{Function: name, Trigger: call.Trigger, Event: call.Event, Trace: res, passed: true}
	if call.Pattern.Filter() != "" || call.Trigger == byHand {
		q.Trigger = "" // found again by its topic
	}
	if err := d.Invoke(ctx, q, wait); err != nil {
		return nil, err
	}
	select {
	case s := <-wait:
		if s.Err != nil {
			res = &function.Result{Log: res.Log, Dropped: res.Dropped, Usage: res.Usage} // nothing else of it became true
		}
		res.Outcome = s.Outcome
		return res, s.Err
	case <-ctx.Done():
		return nil, &function.Error{
			Op: "invoke", Subject: name, Class: function.ClassRetry, Kind: "canceled", Err: ctx.Err(), Hint: "it goes on by itself: mayfly events tail --function " + name,
		}
	}
}

// stateLeft is for callers whose commit the broker has confirmed when the state was not here any more: whoever has it now began before the
// commit, or after it.
func stateLeft(name string) error {
	return &function.Error{
		Op: "invoke", Subject: name, Class: function.ClassRetry, Kind: "state-left",
		Err: errors.New("its state went to another node meanwhile: it may have been done, or not"), Hint: "look at what it changes before asking again",
	}
}
