package dispatch

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"mayfly/agent/placement"
	"mayfly/function"
)

// grace is how much longer than the peer we wait for its answer.
const grace = time.Second

// depart takes the head of l to where c says, without a slot. Called with mu held.
func (d *Dispatcher) depart(l *lane, c placement.Choice, q *placement.Query) {
	var w *worker
	if n := len(d.away.idle); n > 0 {
		w, d.away.idle = d.away.idle[n-1], d.away.idle[:n-1]
	} else {
		w = &worker{courier: true}
		d.crew = append(d.crew, w)
	}
	t := l.head
	l.state, w.lane = laneRunning, l
	l.unit.abroad++
	d.away.running++
	w.fn, w.trial, w.skip, w.live, w.leave, w.to = l.unit.version(t), l.unit.trial, t.skip, t.seq == 0, false, c
	w.placed = placement.Decision{
		Time: d.now(), Function: l.unit.name, Trigger: t.route.Trigger, Reason: c.Reason, Exec: q.Exec, Waited: d.now().Sub(t.received),
		Eligible: q.Ring.Eligible, Filtered: q.Ring.Filtered, Candidates: q.Candidates(),
	}
	d.moveTo(w, c.Node)
	go d.carry(w, l)
}

// moveTo counts w's call at node, and nowhere else; "" = nowhere. Called with mu held.
func (d *Dispatcher) moveTo(w *worker, node string) {
	if w.peer != "" {
		if d.away.sent[w.peer]--; d.away.sent[w.peer] == 0 {
			delete(d.away.sent, w.peer)
		}
	}
	if w.peer = node; node != "" {
		d.away.sent[node]++
	}
}

// carry is one courier: it runs the head of l on a peer and gives the lane back.
func (d *Dispatcher) carry(w *worker, l *lane) {
	wait := d.run(w, l.head)
	d.mu.Lock()
	defer d.mu.Unlock()
	w.lane = nil
	d.moveTo(w, "")
	d.away.running--
	l.unit.abroad--
	d.away.idle = append(d.away.idle, w)
	if w.leave && !d.broken.Load() {
		d.bringHome(l, w.to.Reason)
	} else {
		d.goOn(l, wait)
	}
	if d.away.asked {
		d.wakeAway() // there is room at a peer, and somebody waits
	}
	d.left()
}

// deliver runs a courier's call where placement says. Refused for want of room, it asks everybody whom the function belongs to and
// goes to whoever is soonest done; told that it cannot run there, it chooses once more without that peer. Neither is an attempt
// ([D6]). If this node is what remains, the courier leaves the event to its workers.
func (d *Dispatcher) deliver(w *worker, t *task, v *placement.View) (placement.Choice, error) {
	began, c := d.now(), w.to
	var err error
	asked, again := false, false
	not := ""
	for c.Node != "" && !c.Here {
		if err = d.ask(w, t, c.Node, v); !refused(err) {
			break
		}
		t.unit.stats.Refused.Add(1)
		w.placed.Refusals = append(w.placed.Refusals, placement.Refusal{
			Node: c.Node, Kind: function.KindOf(err), Why: err.Error(), Took: w.took,
		})
		switch {
		case function.ClassOf(err) == function.ClassNotHere && !again:
			again, not = true, c.Node
			c = d.chooseAgain(w, not)
		case !asked:
			asked = true
			c = d.reconsider(w, not, true)
		default:
			c = d.reconsider(w, not, false)
		}
	}
	w.to, w.leave = c, c.Here
	if c.Node == "" {
		err = nowhere(w.fn, c.Reason)
	}
	w.placed.Event, w.placed.Node, w.placed.Here, w.placed.Reason = t.ev.ID, c.Node, c.Here, c.Reason
	w.placed.Took = d.now().Sub(began)
	if c.Node != "" || t.waits&(t.waits-1) == 0 { // what waits for long is not to crowd out all else
		d.dep.Observer.Placed(&w.placed)
	}
	w.placed = placement.Decision{}
	return c, err
}

// refused says whether a peer has not run the call at all.
func refused(err error) bool {
	class := function.ClassOf(err)
	return class == function.ClassOverload || class == function.ClassNotHere
}

// chooseAgain chooses among the others.
func (d *Dispatcher) chooseAgain(w *worker, not string) placement.Choice {
	d.mu.Lock()
	defer d.mu.Unlock()
	q := d.query(w.lane.unit, w.fn, d.home())
	q.Not = not
	c := placement.Choose(q)
	d.moveTo(w, placeOf(c))
	return c
}

// reconsider decides by what the members of the ring say now, or, when they are not asked, between here and nowhere.
func (d *Dispatcher) reconsider(w *worker, not string, ask bool) placement.Choice {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.moveTo(w, "")
	q := d.query(w.lane.unit, w.fn, d.home())
	var answers []placement.Answer
	if ask {
		d.mu.Unlock()
		answers = d.probe(q)
		d.mu.Lock()
		q.Home = d.home()
	}
	q.Not = not
	c := placement.Reconsider(q, answers)
	d.moveTo(w, placeOf(c))
	return c
}

// placeOf is the peer of a choice, "" when it is none.
func placeOf(c placement.Choice) string {
	if c.Here {
		return ""
	}
	return c.Node
}

// probeTime is how long the members of a ring have to answer.
const probeTime = 500 * time.Millisecond

// probe asks all peers of q's ring at once how busy they are. Without a prober it believes the view.
func (d *Dispatcher) probe(q *placement.Query) []placement.Answer {
	answers := make([]placement.Answer, len(q.Ring.Members))
	ctx, cancel := context.WithTimeout(context.Background(), probeTime)
	defer cancel()
	var wg sync.WaitGroup
	for i, place := range q.Ring.Members {
		switch {
		case place == placement.Here:
		case d.dep.Probe == nil:
			p := &q.View.Peers[place]
			answers[i] = placement.Answer{Load: placement.Load{Running: p.Running, Queued: p.Queued, Slots: p.Slots}, OK: true}
		default:
			wg.Go(func() {
				start := d.now()
				load, err := d.dep.Probe(ctx, q.View.Peers[place].ID)
				answers[i] = placement.Answer{Load: load, RTT: d.now().Sub(start), OK: err == nil}
			})
		}
	}
	wg.Wait()
	return answers
}

// ask has one peer run the call. A peer that does not answer in time has perhaps run it: that is an attempt.
func (d *Dispatcher) ask(w *worker, t *task, node string, v *placement.View) error {
	start := d.now()
	w.res.Reset()
	d.prepare(w, t, start)
	w.call.Deadline = w.call.Deadline.Add(d.cfg.Patience)
	w.call.Node, w.rec.Node = node, node
	var err error
	if peer, ok := d.dep.Peers(node); ok {
		ctx, cancel := context.WithDeadline(context.Background(), w.call.Deadline.Add(grace))
		err = peer.Invoke(ctx, &w.call, &w.res)
		cancel()
	} else {
		err = &function.Error{Op: "place", Subject: w.fn.Name(), Class: function.ClassNotHere, Kind: "no-peer", Err: errors.New("the peer cannot be reached")}
	}
	w.took = d.now().Sub(start)
	switch {
	case refused(err):
		return err
	case function.ClassOf(err) == function.ClassFatal: // for it, not for us
		return &function.Error{Op: "place", Subject: w.fn.Name(), Class: function.ClassNotHere, Kind: "broken", Err: err}
	}
	run := w.res.Usage.Wall
	if run > 0 {
		t.unit.stats.learn(run, speedOf(v, node))
	} else {
		run = w.took
	}
	t.unit.stats.Away.Add(1)
	d.account(w, t, run)
	return err
}

func speedOf(v *placement.View, node string) float64 {
	for i := range v.Peers {
		if v.Peers[i].ID == node {
			return v.Peers[i].Speed
		}
	}
	return 1
}

// nowhere says that nobody takes a call: it is not an attempt, and whoever sent the event keeps it.
func nowhere(f *function.Function, why placement.Reason) error {
	kind := "no-node"
	if why == placement.ReasonFull {
		kind = "full"
	}
	return &function.Error{
		Op: "place", Subject: f.Name(), Class: function.ClassOverload, Kind: kind,
		Err: errors.New(string(why)), Hint: fmt.Sprintf("mayfly fn show %s", f.Name()),
	}
}
