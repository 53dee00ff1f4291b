package dispatch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"mayfly/agent/journal"
	"mayfly/event"
	"mayfly/function"
	"mayfly/store"
	"mayfly/triggers"
)

// Request is an event for one function, addressed to it by name.
type Request struct {
	Function string
	Trigger  string // "http[0]", "cron[1]"; "" = asked for by hand: the trigger whose pattern matches the event's topic lends its captures
	Event    *event.Event

	Here  time.Duration    // Invoke: a function that is limited to this may run on the caller's goroutine, before Invoke returns; 0 = none
	Where *string          // Invoke: gets the node that ran it, when it is another one, before the receipt is settled; nil = nobody asks
	Trace *function.Result // Invoke: gets a copy of the result, complete when the receipt is settled; nil = nobody looks
	Late  triggers.Receipt // Post: settled when the event has run or was given up, unless the agent ends before; nil = nobody asks
	Lane  string           // Post: events of one lane run one at a time, in the order posted; "" = no order
	Also  []store.Op       // Post: becomes true together with the event

	passed bool // another node has passed it on: it is not passed on again
}

// byHand is the trigger of who asks for a function by its name.
const byHand = "invoke"

// Invoke runs a function now, for somebody who waits for the answer: it is not journaled and a failure is theirs, in the
// settlement. The error says that there is no such function, or that it is paused; r is not settled then. Where another node has the
// function's state, it runs there (owner.go).
func (d *Dispatcher) Invoke(ctx context.Context, q Request, r triggers.Receipt) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("invoke %s: %w", q.Function, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	u, err := d.addressed("invoke", q.Function)
	if err != nil {
		return err
	}
	route := u.routeOf(&q)
	if u.fn.Paused {
		hint := "mayfly fn resume " + q.Function
		if u.fn.Manifest.Budget.Then == function.ThenStop { // perhaps it rests until its next period: nobody can resume it then
			hint = "mayfly fn show " + q.Function
		}
		return &function.Error{
			Op: "invoke", Subject: q.Function, Class: function.ClassOverload, Kind: "paused", Err: errors.New("the function is paused"), Hint: hint,
		}
	}
	switch {
	case u.shut && d.elsewhere(u.fn): // else it waits until that is known here
		return d.pass(ctx, u, q, route, r)
	case u.full():
		return &function.Error{
			Op: "invoke", Subject: q.Function, Class: function.ClassOverload, Kind: "unconfirmed", Err: errors.New("its trigger's broker has not confirmed the commits before"),
		}
	}
	u.stats.Received.Add(1)
	v := &visit{task{unit: u, route: route, ev: q.Event, receipt: r, sync: true, trace: q.Trace, received: d.now(), attempt: 1}, lane{unit: u}}
	if q.Here < u.fn.Manifest.Limits.Timeout || !d.runHere(v) {
		d.enqueue(&v.task)
	}
	return nil
}

// Post takes an event that nobody else holds: of a schedule, or of a caller who does not wait. It is in the journal before
// anything else happens to it; r is settled as journaled when that is synced, and only then it is queued ([D1]). From there on it
// goes the way of every journaled event: retries, dead letters, restarts. While the function is paused it waits. The error says
// that nothing happened, and r is not settled then: there is no such function, or no room (class overload).
func (d *Dispatcher) Post(q Request, r triggers.Receipt) error {
	var route *Route
	d.mu.Lock()
	u, err := d.addressed("post", q.Function)
	shut := err == nil && u.shut
	if err == nil {
		route = u.routeOf(&q)
	}
	d.mu.Unlock()
	switch {
	case err != nil:
		return err
	case shut:
		return stateElsewhere("post", q.Function)
	}
	now := d.now()
	e := &journal.Entry{Function: q.Function, Trigger: route.Trigger, Attempt: 1, Received: now, Event: q.Event}
	if q.Lane != "" {
		e.Lane = laneHash(q.Lane)
	}
	ops, err := d.dep.Journal.AppendOps([]*journal.Entry{e})
	if err != nil {
		return err
	}
	d.dep.Journal.Appended([]*journal.Entry{e}) // before it can run, and be removed
	err = d.dep.Store.Submit(append(ops, q.Also...), func(err error) {
		if err != nil {
			d.fail(err)
			r.Settle(triggers.Settlement{Err: err})
			return
		}
		d.posted(e, route, q.Late)
		r.Settle(triggers.Settlement{Journaled: true})
	})
	if err != nil {
		d.dep.Journal.Removed(e.Function, e.Seq)
		if function.ClassOf(err) == function.ClassFatal {
			d.fail(err)
		}
	}
	return err
}

// posted queues what Post journaled. Its payload stays on disk until it runs: what waits costs a small struct.
func (d *Dispatcher) posted(e *journal.Entry, route *Route, late triggers.Receipt) {
	t := &task{route: route, lane: e.Lane, received: e.Received, attempt: 1, seq: e.Seq, receipt: late}
	t.settled.Store(late == nil) // Post settles its own receipt
	d.mu.Lock()
	defer d.mu.Unlock()
	t.unit = d.unit(e.Function)
	t.unit.stats.Received.Add(1)
	d.enqueue(t)
}

// addressed returns the unit of a function that can be called by name. Called with mu held.
func (d *Dispatcher) addressed(op, name string) (*unit, error) {
	u := d.units[name]
	switch {
	case u == nil || u.fn == nil:
		return nil, &function.Error{
			Op: op, Subject: name, Class: function.ClassReject, Kind: "not-found", Err: errors.New("no such function is deployed"), Hint: "mayfly fn ls",
		}
	case d.closing:
		return nil, &function.Error{Op: op, Subject: name, Class: function.ClassOverload, Kind: "stopping", Err: errClosing}
	}
	return u, nil
}

// routeOf is the route that an addressed event goes by. A trigger lends its pattern also where it is not subscribed, for want
// of a broker. Called with mu held, for a function that is deployed.
func (u *unit) routeOf(q *Request) *Route {
	if q.Trigger != "" {
		if u.called == nil || u.called.Trigger != q.Trigger {
			u.called = &Route{Function: q.Function, Trigger: q.Trigger}
		}
		return u.called
	}
	route := &Route{Function: q.Function, Trigger: byHand}
	for i := range u.fn.Manifest.MQTT {
		if p := u.fn.Manifest.MQTT[i].Topic; p.Match(q.Event.Topic) {
			route.Trigger, route.Pattern = fmt.Sprintf("mqtt[%d]", i), p
			break
		}
	}
	return route
}
