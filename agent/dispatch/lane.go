package dispatch

import (
	"sync/atomic"
	"time"

	"mayfly/agent/changelog"
	"mayfly/agent/placement"
	"mayfly/event"
	"mayfly/function"
	"mayfly/store"
	"mayfly/triggers"
)

// task is one event on its way through one function. It belongs to exactly one lane from Accept until its lane lets go of
// it. Fields below the line are guarded by Dispatcher.mu; the others are set before it is queued.
type task struct {
	unit     *unit
	route    *Route
	ev       *event.Event // nil when it waits in the journal only
	receipt  triggers.Receipt
	sync     bool             // somebody waits for the answer: never journaled, never retried behind their back
	guest    bool             // a peer's call, the receipt is its guestCall: nothing of it is committed here
	home     verdict          // placement has decided for this node: it is not asked again before the next attempt
	trace    *function.Result // gets a copy of the result
	lane     uint64           // laneHash of its order key
	hash     uint64           // what the versions of a trial share events by; 0 = nobody asked yet
	received time.Time
	window   *window // that it occupies at its sender; nil = none
	place    uint64  // in window
	first    bool    // of its message's tasks

	waits    int // times there was no room for it; only its worker looks
	attempt  int
	after    time.Time     // not to be run before
	seq      uint64        // in the journal; 0 = not there
	spilling chan struct{} // closed when the spill that includes it is over
	ending   bool          // its worker has started to make its effects true: too late to spill it
	skip     bool          // shed
	turn     bool          // its trigger's rate lets it run
	besides  []store.Op    // done marks of those it stands for
	next     *task

	settled atomic.Bool
}

// verdict is what placement said of a task that is to run here.
type verdict uint8

const (
	undecided  verdict = iota
	homeLocal          // there is room
	homeQueued         // nobody is sooner done
)

func verdictOf(r placement.Reason) verdict {
	if r == placement.ReasonLocal {
		return homeLocal
	}
	return homeQueued
}

func (v verdict) reason() placement.Reason {
	if v == homeLocal {
		return placement.ReasonLocal
	}
	return placement.ReasonQueued
}

type laneKey struct {
	function string
	hash     uint64 // laneHash of the order key
}

type laneState uint8

const (
	laneQueued  laneState = iota // in ready
	laneRunning                  // a worker has its head
	laneBlocked                  // waits for its timer
	laneParked                   // waits for its function: paused, or at its concurrency limit
	laneHeld                     // waits for the end of a spill
	laneLeaving                  // waits for a peer, in away.out
	laneIdle                     // has no events, some are afloat
)

// lane is the FIFO of one function's events with one order key: one at a time, in the order received (promise D5). Events
// without an order have a lane each.
type lane struct {
	unit       *unit
	key        laneKey
	state      laneState
	head, tail *task
	until      time.Time // laneBlocked
	spilling   bool      // its tasks are being journaled: not to be run meanwhile
	afloat     atomic.Int32
}

func (l *lane) push(t *task) {
	if l.tail == nil {
		l.head = t
	} else {
		l.tail.next = t
	}
	l.tail = t
}

func (l *lane) pop() {
	t := l.head
	l.head, t.next = t.next, nil
	if l.head == nil {
		l.tail = nil
	}
}

// unit is what the dispatcher keeps for a function as long as it is deployed or has events. Guarded by Dispatcher.mu, except stats,
// held and fence, which guard themselves.
type unit struct {
	name    string
	fn      *function.Function // nil when not deployed
	log     *changelog.Log     // where its commits go when its state follows its trigger
	shut    bool               // its state is not on this node now
	running int
	abroad  int // lanes on their way to peers, or there
	leaving int // of these, not on their way yet
	ready   int // lanes in Dispatcher.ready
	parked  []*lane
	stats   Counters
	held    ledger // of its state
	fence   fence  // of its state too
	ring    *placement.Ring
	ringOf  *function.Function // what ring is of
	trial   *trial             // of a version beside fn
	paces   map[string]*pace   // of its triggers that have a rate
	called  *Route             // by which the last caller came who named a trigger
}

// maxLeaving bounds the lanes of a function that wait for a peer: the payload of what waits further back stays in the journal.
const maxLeaving = 64

// mayRun says whether one more lane may run, those that are ready included.
func (u *unit) mayRun() bool {
	return u.fn == nil || !u.fn.Paused && !u.shut && !u.full() && u.leaving < maxLeaving && u.running+u.ready < max(1, u.fn.Manifest.Limits.Concurrency)
}

// laneQueue is a ring of lanes.
type laneQueue struct {
	ring []*lane
	at   int
	n    int
}

func (q *laneQueue) len() int { return q.n }

func (q *laneQueue) push(l *lane) {
	if q.n == len(q.ring) {
		grown := make([]*lane, max(64, 2*len(q.ring)))
		for i := range q.n {
			grown[i] = q.ring[(q.at+i)%len(q.ring)]
		}
		q.ring, q.at = grown, 0
	}
	q.ring[(q.at+q.n)%len(q.ring)] = l
	q.n++
}

// get returns the i-th from the front.
func (q *laneQueue) get(i int) *lane { return q.ring[(q.at+i)%len(q.ring)] }

// remove takes the i-th from the front out.
func (q *laneQueue) remove(i int) {
	for ; i > 0; i-- {
		q.ring[(q.at+i)%len(q.ring)] = q.get(i - 1)
	}
	q.pop()
}

// pushFront makes l the next one.
func (q *laneQueue) pushFront(l *lane) {
	q.push(nil) // for the room
	q.at = (q.at + len(q.ring) - 1) % len(q.ring)
	q.ring[q.at] = l
}

func (q *laneQueue) pop() *lane {
	l := q.ring[q.at]
	q.ring[q.at] = nil
	q.at = (q.at + 1) % len(q.ring)
	q.n--
	return l
}

// enqueue puts t into its lane and wakes a worker if the lane was waiting for nothing else. Called with mu held.
func (d *Dispatcher) enqueue(t *task) {
	if t.lane == 0 {
		l := &lane{unit: t.unit}
		l.push(t)
		d.makeReady(l)
		return
	}
	k := laneKey{t.unit.name, t.lane}
	l := d.lanes[k]
	if l == nil {
		l = &lane{unit: t.unit, key: k}
		d.lanes[k] = l
		l.push(t)
		d.makeReady(l)
		return
	}
	if l.push(t); l.state == laneIdle {
		d.makeReady(l)
	}
}

// makeReady lets a worker take the lane's head, or parks the lane when its function has enough to do: no worker is woken for
// nothing. Called with mu held.
func (d *Dispatcher) makeReady(l *lane) {
	if !l.unit.takes(l) {
		d.park(l)
		return
	}
	l.state = laneQueued
	l.unit.ready++
	d.ready.push(l)
	d.rouse()
}

// park lets l wait until a lane of its function ends. Called with mu held.
func (d *Dispatcher) park(l *lane) {
	l.state = laneParked
	l.unit.parked = append(l.unit.parked, l)
	d.askAway()
}

// rouse gets a worker going for the ready lanes, unless as many workers are awake and about to look for one: to wake one more
// costs more than a short call. Called with mu held.
func (d *Dispatcher) rouse() {
	looking := d.workers - d.idle - d.busy
	switch {
	case d.closing, d.ready.len() <= looking:
	case d.idle > 0:
		d.idle-- // here and not when it wakes: the next one must not count on it too
		d.wake.Signal()
	case d.workers < d.cfg.Workers:
		d.workers++
		go d.work()
	default:
		d.askAway()
	}
}

// work is one worker: it takes ready lanes until the dispatcher closes.
func (d *Dispatcher) work() {
	w := new(worker)
	d.mu.Lock()
	d.crew = append(d.crew, w)
	for {
		for !d.closing && (d.ready.len() == 0 || d.broken.Load()) {
			d.idle++
			d.wake.Wait()
		}
		if d.closing {
			break
		}
		l := d.ready.pop()
		l.unit.ready--
		switch {
		case l.spilling:
			l.state = laneHeld
			d.unpark(l.unit) // in its place
		case !l.unit.takes(l): // paused, or allowed less meanwhile
			d.park(l)
		default:
			d.step(w, l)
		}
	}
	d.workers--
	d.left()
	d.mu.Unlock()
}

// left says that the last one is gone, when it is. Called with mu held.
func (d *Dispatcher) left() {
	if d.closing && d.workers+d.away.running+d.callers == 0 {
		close(d.drained)
	}
}

// step runs the head of l. Called and returns with mu held; not held while the function runs.
func (d *Dispatcher) step(w *worker, l *lane) {
	t, u := l.head, l.unit
	l.state, w.lane = laneRunning, l
	u.running++
	d.busy++
	w.fn, w.trial, w.skip, w.live, w.leave = u.version(t), u.trial, t.skip, t.seq == 0, false
	d.mu.Unlock()
	wait := d.run(w, t)
	d.mu.Lock()
	w.lane = nil
	d.busy--
	u.running--
	if w.leave {
		d.sendOff(l)
		d.unpark(u)
		return
	}
	d.goOn(l, wait)
}

// goOn lets l go on when its head was run: to the next one, or to the same after wait. Called with mu held.
func (d *Dispatcher) goOn(l *lane, wait time.Duration) {
	u := l.unit
	if d.broken.Load() { // what was not made true must not be overtaken ([D5]); giveBack tells the senders
		d.block(l, time.Hour)
		return
	}
	if wait == 0 {
		l.pop()
	} else {
		l.head.home = undecided
	}
	d.unpark(u)
	switch {
	case l.head == nil:
		d.empty(l)
	case wait > 0:
		d.block(l, wait)
	case l.head.after.After(d.now()):
		d.block(l, l.head.after.Sub(d.now()))
	default:
		d.makeReady(l)
	}
}

// unpark lets one more lane of u try again. Called with mu held.
func (d *Dispatcher) unpark(u *unit) {
	if len(u.parked) == 0 || !u.mayRun() {
		return
	}
	l := u.parked[0]
	u.parked[0] = nil
	if u.parked = u.parked[1:]; len(u.parked) == 0 {
		u.parked = nil
	}
	d.makeReady(l)
}

// unparkAll is for when a function's limits or its pause changed. Called with mu held.
func (d *Dispatcher) unparkAll(u *unit) {
	parked := u.parked
	u.parked = nil
	for _, l := range parked {
		d.makeReady(l)
	}
}

// giveBack settles everything still queued as not safe: its sender keeps it. What is in the journal stays there.
func (d *Dispatcher) giveBack() {
	var left []*task
	d.mu.Lock()
	d.eachLane(func(l *lane) bool {
		for t := l.head; t != nil; t = t.next {
			left = append(left, t)
		}
		return true
	})
	d.mu.Unlock()
	for _, t := range left {
		d.over(t, triggers.Settlement{Err: errClosing})
	}
}

// settle tells the source, once. From then on the task, if it is not over, lives in the journal. It reports whether this was
// the time.
func (t *task) settle(s triggers.Settlement) bool {
	if !t.settled.CompareAndSwap(false, true) {
		return false
	}
	if t.receipt != nil {
		t.receipt.Settle(s)
	}
	return true
}
