package dispatch

import (
	"context"
	"errors"
	"time"

	"mayfly/agent/placement"
	"mayfly/function"
	"mayfly/triggers"
)

// guestCall is a peer's call on its way through a slot of this node. It is the receipt of its own task.
type guestCall struct {
	ctx  context.Context //nolint:containedctx // of the caller, who waits; ends the run
	call *function.Call
	res  function.Result
	done chan error
	lane *lane // its own; guarded by Dispatcher.mu
}

// Settle implements triggers.Receipt: the dispatcher stops and gives the call back.
func (g *guestCall) Settle(s triggers.Settlement) {
	err := s.Err
	if errors.Is(err, errClosing) {
		err = notHere(g.call, "stopping", errClosing)
	}
	g.done <- err
}

// ExecuteHere runs a peer's call in a slot of this node and returns what it asked for, as data: nothing of it is committed here, and
// nothing of it travels on to a third node ([P2]). But for a function whose state follows its trigger and is here: then it becomes true here,
// and what is returned says what did ([U6]). Of call.Function it needs name, version and module; what is run is the function
// deployed here, if it is the same. Its deadline is not looked at, clocks differ: the function's own timeout holds, and ctx.
//
// A call that finds as many waiting as there are slots is refused, and so is one that waited for Patience: class overload, not run.
// Class not-here, not run either: this node does not have that version, is not eligible, or stops; or the function has state. Other
// errors are the function's own. The load is this node's at the end, whatever the end was. ctx ends a call that runs, too.
func (d *Dispatcher) ExecuteHere(ctx context.Context, call *function.Call) (*function.Result, placement.Load, error) {
	if ours, err := d.ownable(call); ours || err != nil {
		var res *function.Result
		if err == nil {
			res, err = d.ownHere(ctx, call)
		}
		return res, d.Load(), err
	}
	g := &guestCall{ctx: ctx, call: call, done: make(chan error, 1)}
	err := d.admit(g)
	if err == nil {
		err = d.await(g)
	}
	load := d.Load()
	if err != nil {
		return nil, load, err
	}
	return &g.res, load, nil
}

// Load is how busy this node is.
func (d *Dispatcher) Load() placement.Load {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.home()
}

// admit queues g among this node's own events.
func (d *Dispatcher) admit(g *guestCall) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	name := g.call.Function.Name()
	u := d.units[name]
	var f *function.Function
	if u != nil {
		f = u.same(g.call.Function)
	}
	switch {
	case d.closing, d.broken.Load():
		return notHere(g.call, "stopping", errClosing)
	case f == nil:
		return notHere(g.call, "version", errors.New("this version of the function is not deployed here"))
	case u.fn.Paused:
		return notHere(g.call, "paused", errors.New("the function is paused"))
	}
	g.call.Function = f
	c, ok := placement.Local(u.fn, d.dep.View.View(u.fn))
	switch {
	case c.Reason == placement.ReasonState || c.Reason == placement.ReasonStranded:
		return notHere(g.call, "state", errors.New("its state is where its trigger is"))
	case !ok && c.Reason != placement.ReasonPeer: // somewhere else it may be liked better: its node knows
		return notHere(g.call, "not-eligible", errors.New(string(c.Reason)))
	case d.home().Full(), !u.mayRun() && len(u.parked) >= max(1, u.fn.Manifest.Limits.Concurrency):
		return &function.Error{Op: "execute", Subject: name, Class: function.ClassOverload, Kind: "full", Err: errors.New("as many calls wait as run here")}
	}
	l := &lane{unit: u}
	l.push(&task{
		unit: u, route: &Route{Function: name, Trigger: g.call.Trigger}, ev: g.call.Event, receipt: g, guest: true, sync: true,
		received: d.now(), attempt: 1,
	})
	g.lane = l
	d.makeReady(l)
	return nil
}

// await returns when g is over, or will not begin any more.
func (d *Dispatcher) await(g *guestCall) error {
	patience := time.NewTimer(d.cfg.Patience)
	defer patience.Stop()
	select {
	case err := <-g.done:
		return err
	case <-g.ctx.Done():
	case <-patience.C:
	}
	if d.withdraw(g) {
		return &function.Error{
			Op: "execute", Subject: g.call.Function.Name(), Class: function.ClassOverload, Kind: "full", Err: errors.New("no slot was free in time"),
		}
	}
	return <-g.done
}

// withdraw keeps a call that has not begun from running. It reports whether that was so.
func (d *Dispatcher) withdraw(g *guestCall) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	t := g.lane.head
	if t == nil || g.lane.state == laneRunning || !t.settled.CompareAndSwap(false, true) {
		return false
	}
	t.skip = true
	return true
}

// host runs a guest's call in w's slot.
func (d *Dispatcher) host(w *worker, t *task) {
	g := t.receipt.(*guestCall)
	if w.fn != g.call.Function {
		t.settle(triggers.Settlement{Err: notHere(g.call, "version", errors.New("another version was deployed meanwhile"))})
		return
	}
	start := d.now()
	g.call.Deadline, g.call.Node = start.Add(w.fn.Manifest.Limits.Timeout), d.cfg.Node
	if len(w.fn.Manifest.Permissions.Secrets) > 0 && d.dep.Secrets != nil {
		g.call.Secrets = d.dep.Secrets(w.fn)
	}
	if len(w.fn.Manifest.Permissions.HTTP) > 0 {
		g.call.HTTP = d.dep.HTTP
	}
	err := d.dep.Local.Invoke(g.ctx, g.call, &g.res)
	run := d.now().Sub(start)
	if g.res.Usage.Wall == 0 {
		g.res.Usage.Wall = run
	}
	t.unit.stats.Hosted.Add(1)
	t.unit.stats.learn(run, d.dep.View.View(w.fn).Self.Speed)
	t.settle(triggers.Settlement{Err: err})
}

func notHere(call *function.Call, kind string, err error) error {
	return &function.Error{Op: "execute", Subject: call.Function.Name(), Class: function.ClassNotHere, Kind: kind, Err: err}
}
