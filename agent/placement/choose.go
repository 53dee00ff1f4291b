package placement

import (
	"time"

	"mayfly/function"
)

// Query is one call to be placed.
type Query struct {
	Function *function.Function
	View     *View
	Ring     *Ring         // of Function in View
	Exec     time.Duration // what a call takes on a node of speed 1
	Home     Load          // this node's, now; what the view says of it is not looked at
	// Sent is how many calls of ours a peer has now: its own figures may not know of them yet. nil = none.
	Sent func(peer string) int
	Rand func(n int) int // 0 <= Rand(n) < n; each value as likely
	Not  string          // a peer that has said it cannot; "" = none
}

// Answer is what a peer said when it was asked.
type Answer struct {
	Load Load
	RTT  time.Duration
	OK   bool // false: it did not answer
}

// Choose places a call for which there is no slot here at once, or which this node is not eligible for: on the better of two random
// nodes of the ring, or in this node's queue if that is expected to be done no later. A peer that holds more calls of ours than it
// runs and queues is not asked. Ring members that are not in the view are a bug of the caller.
func Choose(q *Query) Choice {
	f, v := q.Function, q.View
	if stateful(f) {
		c, _ := Local(f, v)
		return c
	}
	here := failed(f, &v.Self, true) == ""
	if here && q.Home.Running < q.Home.Slots && unmet(f, v, &v.Self) == 0 {
		return Choice{v.Self.ID, true, ReasonLocal}
	}
	best, cost, others := q.draw()
	if here && (best == nil || q.home().Total() <= cost) {
		return Choice{v.Self.ID, true, q.stay()}
	}
	switch {
	case best != nil && here:
		return Choice{best.ID, false, ReasonPeer}
	case best != nil:
		return Choice{best.ID, false, ReasonRequired}
	case others:
		return Choice{Reason: ReasonFull}
	}
	return Choice{Reason: ReasonNowhere}
}

func (q *Query) stay() Reason {
	if q.Home.Running < q.Home.Slots {
		return ReasonLocal
	}
	return ReasonQueued
}

// draw returns the better of two random peers of the ring that may be asked, and whether there are others of the ring at all.
func (q *Query) draw() (best *Node, cost time.Duration, others bool) {
	var open [K]int
	n := 0
	for _, place := range q.Ring.Members {
		if place == Here || q.View.Peers[place].ID == q.Not {
			continue
		}
		others = true
		if p := &q.View.Peers[place]; q.sent(p) < 2*p.Slots {
			open[n] = place
			n++
		}
	}
	for range min(2, n) {
		i := q.Rand(n)
		p := &q.View.Peers[open[i]]
		n--
		open[i] = open[n]
		if c := q.peer(p).Total(); best == nil || c < cost {
			best, cost = p, c
		}
	}
	return best, cost, others
}

// Reconsider places a call that a peer refused, by what all members of the ring answered, in the ring's order: on the one that is
// soonest done and has room, or in this node's queue. Nowhere, for want of room, when this node is not eligible either: the event
// is not taken then, and whoever sent it keeps it.
func Reconsider(q *Query, answers []Answer) Choice {
	f, v := q.Function, q.View
	var best Choice
	var cost time.Duration
	if failed(f, &v.Self, true) == "" {
		best, cost = Choice{v.Self.ID, true, q.stay()}, q.home().Total()
	}
	for i, place := range q.Ring.Members {
		if place == Here || i >= len(answers) || !answers[i].OK || answers[i].Load.Full() {
			continue
		}
		n := v.Peers[place]
		n.Running, n.Queued = answers[i].Load.Running, answers[i].Load.Queued
		if answers[i].RTT > 0 {
			n.RTT = answers[i].RTT
		}
		if c := estimate(f, v, &n, q.Exec).Total(); n.ID != q.Not && (best.Node == "" || c < cost) {
			best, cost = Choice{n.ID, false, ReasonProbed}, c
		}
	}
	if best.Node == "" {
		best.Reason = ReasonFull
	}
	return best
}

// home is what the call would cost in this node's queue.
func (q *Query) home() Cost {
	n := q.View.Self
	n.Running, n.Queued, n.Slots, n.RTT = q.Home.Running, q.Home.Queued, q.Home.Slots, 0
	c := Estimate(&n, q.Exec)
	c.Prefer = PreferCost * time.Duration(unmet(q.Function, q.View, &q.View.Self))
	return c
}

// peer is what the call would cost on p.
func (q *Query) peer(p *Node) Cost {
	n := *p
	if sent := q.sent(p); sent > n.Running+n.Queued {
		n.Running, n.Queued = sent, 0
	}
	return estimate(q.Function, q.View, &n, q.Exec)
}

func (q *Query) sent(p *Node) int {
	if q.Sent == nil {
		return 0
	}
	return q.Sent(p.ID)
}
