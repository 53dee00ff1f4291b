package dispatch

import (
	"time"

	"mayfly/function"
)

// pace is how far a trigger's rate is used up on this node: the generic cell rate algorithm, one moment in time. Guarded by Dispatcher.mu.
type pace struct {
	rate  function.Rate
	burst int
	next  time.Time // when the next event is due, had all come evenly
}

// wait returns how long an event has to wait that comes now; 0 = it may run.
func (p *pace) wait(now time.Time) time.Duration {
	if !p.next.After(now) {
		return 0
	}
	ahead := time.Duration(max(1, p.burst)-1) * p.every()
	return max(0, p.next.Sub(now)-ahead)
}

// take uses up an event's turn, whenever that is.
func (p *pace) take(now time.Time) {
	if p.next.Before(now) {
		p.next = now
	}
	p.next = p.next.Add(p.every())
}

func (p *pace) every() time.Duration { return p.rate.Per / time.Duration(p.rate.Count) }

// pace returns that of a trigger, from the beginning when its manifest changed. Called with mu held.
func (u *unit) pace(r *Route) *pace {
	p := u.paces[r.Trigger]
	if p == nil || p.rate != r.Rate || p.burst != r.Burst {
		if u.paces == nil {
			u.paces = map[string]*pace{}
		}
		p = &pace{rate: r.Rate, burst: r.Burst}
		u.paces[r.Trigger] = p
	}
	return p
}

// restrain holds t back until its trigger's rate lets it run ([D11]). It has its turn from then on, so that those that wait run evenly and in
// the order in which they came to the head of their lanes; attempts after the first are not new events. What nobody holds for us
// (QoS 0) is shed instead, unless it stands for what came before it.
func (d *Dispatcher) restrain(w *worker, t *task) (over bool, wait time.Duration) {
	r := t.route
	if r.Rate.Count == 0 || t.attempt > 1 {
		return false, 0
	}
	now := d.now()
	d.mu.Lock()
	if t.turn {
		d.mu.Unlock()
		return false, 0
	}
	p := t.unit.pace(r)
	wait = p.wait(now)
	shed := wait > 0 && !t.durable() && !r.Coalesce
	if !shed {
		p.take(now)
		t.turn = true
	}
	d.mu.Unlock()
	if shed {
		d.loss.add(LossRate)
		return true, d.drop(w, t, "shed")
	}
	return wait > 0, wait
}

// durable says whether somebody still has t's event when this process dies.
func (t *task) durable() bool { return t.receipt != nil || t.seq != 0 }
