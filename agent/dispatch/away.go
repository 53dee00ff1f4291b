package dispatch

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"mayfly/agent/placement"
	"mayfly/function"
)

// What waits here is looked over for peers that would be done sooner. That takes no slot: a worker that meets an event which is not
// for this node sends its lane off at once, one goroutine (runAway) chooses where lanes go, and a courier per lane, a goroutine
// without a slot, waits for the peer. What comes back is committed here like the result of a call that ran here: a peer hands over
// data and nothing else ([P2]). A lane is at one place at a time, so its order is kept wherever its events run ([D5]).

// Prober asks a peer how busy it is, now. An error means that it did not answer.
type Prober func(ctx context.Context, node string) (placement.Load, error)

// away is what is on its way to peers. Guarded by Dispatcher.mu, except on and wake.
type away struct {
	on      bool // there may be peers
	wake    chan struct{}
	asked   bool           // a look is due, or one was a moment ago and the next comes by itself
	out     []*lane        // not for this node's slots
	sent    map[string]int // our calls at each peer
	running int            // couriers
	idle    []*worker      // of couriers that ended
}

const (
	awayScan  = 64                    // of what waits, so many lanes are looked over at once: the lock is held meanwhile
	awayPause = time.Millisecond      // until the next look after one that moved nothing, doubled each time
	awayLong  = 16 * time.Millisecond // at most
)

// askAway has what waits looked over. It costs nothing on a node that is alone. Called with mu held.
func (d *Dispatcher) askAway() {
	if d.away.on && !d.away.asked {
		d.away.asked = true
		d.wakeAway()
	}
}

func (d *Dispatcher) wakeAway() {
	select {
	case d.away.wake <- struct{}{}:
	default:
	}
}

// sendOff takes l out of the way of the workers: it waits for a peer. Called with mu held.
func (d *Dispatcher) sendOff(l *lane) {
	l.state = laneLeaving
	l.unit.abroad++
	l.unit.leaving++
	d.away.out = append(d.away.out, l)
	d.wakeAway()
}

// runAway looks over what waits whenever there is something to look at.
func (d *Dispatcher) runAway() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	pause := awayPause
	for {
		select {
		case <-d.stop:
			return
		case <-d.away.wake:
		case <-timer.C:
		}
		moved, waiting := d.look()
		switch {
		case moved, !waiting:
			pause = awayPause
		default:
			pause = min(2*pause, awayLong)
		}
		if waiting {
			timer.Reset(pause)
		} else {
			timer.Reset(time.Hour)
		}
	}
}

// look sends lanes to peers that are expected to be done with their heads sooner. It reports whether it sent any, and whether others
// wait still: it is to be called again then.
func (d *Dispatcher) look() (moved, waiting bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closing || d.broken.Load() {
		return false, false
	}
	moved = d.lookOut()
	moved = d.lookReady() || moved
	for _, u := range d.units {
		if u.fn != nil && !u.fn.Paused {
			moved = d.lookParked(u) || moved
			waiting = waiting || len(u.parked) > 0
		}
	}
	waiting = waiting || d.ready.len() > 0 || len(d.away.out) > 0
	d.away.asked = waiting
	return moved, waiting
}

// lookOut places the lanes that workers have sent off. Called with mu held.
func (d *Dispatcher) lookOut() (moved bool) {
	all := d.away.out
	d.away.out = nil
	for _, l := range all {
		if l.spilling || !d.mayDepart() {
			d.away.out = append(d.away.out, l)
			continue
		}
		moved = true
		l.unit.abroad--
		l.unit.leaving--
		d.unpark(l.unit)
		if l.unit.fn == nil || l.unit.fn.Paused {
			d.makeReady(l) // a worker ends it, or it is parked
			continue
		}
		d.place(l, d.home())
	}
	return moved
}

// lookReady places what waits for a slot, the oldest first. Called with mu held.
func (d *Dispatcher) lookReady() (moved bool) {
	stay := map[*unit]bool{}
	at := d.cfg.Workers - d.busy // those before it find a slot at once
	for range awayScan {
		if at >= d.ready.len() || !d.mayDepart() {
			break
		}
		l, home := d.ready.get(at), d.home()
		home.Queued = d.ready.len() - 1
		if !d.worth(l, stay, home) {
			at++
			continue
		}
		home.Queued = at
		if c, q := d.choose(l, home); c.Here || c.Node == "" {
			at++
		} else {
			moved = true
			d.ready.remove(at)
			l.unit.ready--
			d.depart(l, c, q)
			d.unpark(l.unit)
		}
	}
	return moved
}

// lookParked places what waits for its function's concurrency, which is that of one node. Called with mu held.
func (d *Dispatcher) lookParked(u *unit) (moved bool) {
	stay := map[*unit]bool{}
	at := 0
	for range awayScan {
		if at >= len(u.parked) || !d.mayDepart() {
			break
		}
		l, home := u.parked[at], d.home()
		home.Slots = min(home.Slots, max(1, u.fn.Manifest.Limits.Concurrency))
		home.Running = u.running + u.ready
		home.Queued = len(u.parked) - 1
		if !d.worth(l, stay, home) {
			at++
			continue
		}
		home.Queued = at
		if c, q := d.choose(l, home); c.Here || c.Node == "" {
			at++
		} else {
			moved = true
			u.parked = slices.Delete(u.parked, at, at+1)
			d.depart(l, c, q)
		}
	}
	return moved
}

// home is this node's load. Called with mu held.
func (d *Dispatcher) home() placement.Load {
	return placement.Load{Running: d.busy, Queued: d.ready.len(), Slots: d.cfg.Workers}
}

// worth says whether l may leave and there is any point in choosing: when the last one of the queue stays, all do. stay remembers
// that. Called with mu held.
func (d *Dispatcher) worth(l *lane, stay map[*unit]bool, last placement.Load) bool {
	if l.spilling || l.head.guest || l.head.home != undecided || l.head.skip || l.unit.fn == nil || stay[l.unit] {
		return false
	}
	c, _ := d.choose(l, last)
	stay[l.unit] = c.Here || c.Node == ""
	return !stay[l.unit]
}

// choose asks placement where the head of l runs. Called with mu held.
func (d *Dispatcher) choose(l *lane, home placement.Load) (placement.Choice, *placement.Query) {
	q := d.query(l.unit, l.unit.fn, home)
	return placement.Choose(q), q
}

// query is what placement is asked about a call of u's function. It is used with mu held. Called with mu held.
func (d *Dispatcher) query(u *unit, f *function.Function, home placement.Load) *placement.Query {
	v := d.dep.View.View(f)
	if u.ringOf != f || v.Epoch == 0 || u.ring.Epoch != v.Epoch {
		ring := placement.RingOf(f, v)
		u.ring, u.ringOf = &ring, f
	}
	return &placement.Query{
		Function: f, View: v, Ring: u.ring, Exec: time.Duration(u.stats.Average.Load()), Home: home,
		Sent: func(node string) int { return d.away.sent[node] }, Rand: rand.IntN,
	}
}

// place sends a lane that is in no queue where placement says: to a peer, or to the front of the queue here. Called with mu held.
func (d *Dispatcher) place(l *lane, home placement.Load) {
	c, q := d.choose(l, home)
	if c.Here {
		d.bringHome(l, c.Reason)
		return
	}
	d.depart(l, c, q) // also to nowhere: the courier concludes that
}

// bringHome puts l before all others: its head has waited longer, and placement is not asked again. Called with mu held.
func (d *Dispatcher) bringHome(l *lane, why placement.Reason) {
	l.head.home = verdictOf(why)
	u := l.unit
	if !u.mayRun() {
		l.state = laneParked
		u.parked = slices.Insert(u.parked, 0, l)
		return
	}
	l.state = laneQueued
	u.ready++
	d.ready.pushFront(l)
	d.rouse()
}

func (d *Dispatcher) mayDepart() bool { return d.away.running < d.cfg.Away }
