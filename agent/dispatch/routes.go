package dispatch

import (
	"context"
	"errors"
	"sync"
	"time"

	"mayfly/agent/journal"
	"mayfly/event"
	"mayfly/function"
	"mayfly/internal/crashpoint"
	"mayfly/triggers"
)

var errClosing = errors.New("the agent is stopping")

// Route is one trigger of one function, compiled. Nil functions mean the manifest does not ask for it.
type Route struct {
	Function string
	Trigger  string // "mqtt[0]"
	Source   string // which source brings its events
	Pattern  event.Pattern
	Order    func(*event.Event) (string, bool) // nil: no order
	ID       func(*event.Event) (string, bool) // the sender's own message id
	When     func(*event.Event) (bool, error)
	MaxAge   time.Duration
	Overflow function.Overflow
	Rate     function.Rate // zero: none
	Burst    int
	Coalesce bool // of what waits with one key only the latest runs

	// Reply returns where the answer to an event goes, and where its failure does; "" = nobody is answered.
	Reply func(*event.Event) (result, failure string)
}

// lane returns the hash of ev's order key. Events in which it is not found are kept in the order of their topic.
func (r *Route) lane(ev *event.Event) uint64 {
	key, ordered := r.key(ev)
	if !ordered {
		return 0
	}
	return laneHash(key)
}

// key returns ev's order key, false when its trigger has no order.
func (r *Route) key(ev *event.Event) (string, bool) {
	if r.Order == nil {
		return "", false
	}
	key, ok := r.Order(ev)
	if !ok {
		key = ev.Topic
	}
	return key, true
}

// table is what is deployed, as one immutable value.
type table struct {
	routes  []*Route
	sources map[string]*event.Index[*Route]
}

func (d *Dispatcher) routes() []*Route { return d.table.Load().routes }

// Deploy makes routes and functions what events are matched against from now on. Events already queued run with the
// function of the same name, or become dead letters when there is none any more.
func (d *Dispatcher) Deploy(functions []*function.Function, routes []*Route) {
	entries := map[string][]event.Entry[*Route]{}
	for _, r := range routes {
		entries[r.Source] = append(entries[r.Source], event.Entry[*Route]{Filter: r.Pattern.Filter(), Value: r})
	}
	t := &table{routes: routes, sources: map[string]*event.Index[*Route]{}}
	for source, list := range entries {
		t.sources[source] = event.NewIndex(list)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, u := range d.units {
		u.fn, u.log = nil, nil
		u.held.forget() // what is removed loses its state, behind our back
	}
	for _, f := range functions {
		u := d.unit(f.Name())
		u.fn, u.log, u.shut = f, d.changelog(f), d.elsewhere(f)
	}
	for _, u := range d.units {
		u.try()
	}
	for name, u := range d.units {
		if u.fn == nil && u.running+u.ready+u.abroad+len(u.parked) == 0 && !d.holds(u) {
			delete(d.units, name)
			continue
		}
		d.unparkAll(u)
	}
	d.table.Store(t)
}

func (d *Dispatcher) holds(u *unit) bool {
	for _, l := range d.lanes {
		if l.unit == u {
			return true
		}
	}
	return false
}

// unit returns the unit of that name, made if need be. Called with mu held.
func (d *Dispatcher) unit(name string) *unit {
	u := d.units[name]
	if u == nil {
		u = &unit{name: name}
		d.units[name] = u
	}
	return u
}

// Sink returns where the source of that name hands its events over. Each source has its own, because an event is matched only
// against the triggers its source subscribed for: overlapping filters live in different sources, and none is run twice.
func (d *Dispatcher) Sink(source string) triggers.Sink {
	d.mu.Lock()
	defer d.mu.Unlock()
	w := d.windows[source]
	if w == nil {
		w = new(window)
		d.windows[source] = w
	}
	return &sink{d: d, source: source, window: w}
}

type sink struct {
	d      *Dispatcher
	source string
	window *window

	mu    sync.Mutex
	match []*Route // reused
}

// Accept matches ev and queues it once for each function that wants it. An event nobody wants, or that is larger than what the
// disk takes, is settled at once: its sender could only send it again.
func (s *sink) Accept(_ context.Context, ev *event.Event, r triggers.Receipt) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.match = s.match[:0]
	if x := s.d.table.Load().sources[s.source]; x != nil {
		s.match = x.Match(ev.Topic, s.match)
	}
	switch {
	case len(s.match) == 0:
		return s.turnAway(LossUnmatched, r)
	case !journal.Fits(ev):
		s.d.dep.Log.Warn("event is larger than what can be kept", "topic", ev.Topic[:min(len(ev.Topic), 200)], "bytes", len(ev.Data))
		return s.turnAway(LossTooLarge, r)
	}
	if len(s.match) > 1 && r != nil {
		r = &fanout{left: len(s.match), to: r}
	}
	var w *window
	if r != nil {
		w = s.window
	}
	now := s.d.now()
	crashpoint.Here(crashpoint.Matched)
	for i, route := range s.match {
		s.d.accept(&task{route: route, ev: ev, receipt: r, received: now, attempt: 1, window: w, first: i == 0})
	}
	crashpoint.Here(crashpoint.Queued)
	return nil
}

// turnAway settles an event that reaches no function.
func (s *sink) turnAway(reason Loss, r triggers.Receipt) error {
	s.d.loss.add(reason)
	if r != nil {
		r.Settle(triggers.Settlement{})
	}
	return nil
}

func (d *Dispatcher) accept(t *task) {
	t.lane = t.route.lane(t.ev)
	d.mu.Lock()
	if old := d.absorb(t); old != nil {
		d.mu.Unlock()
		d.tellCoalesced(old)
		return
	}
	if d.closing || t.receipt == nil && d.live >= d.cfg.MaxQueued {
		closing := d.closing
		d.mu.Unlock()
		if !closing {
			d.loss.add(LossQueueFull)
		} else if t.receipt != nil {
			t.receipt.Settle(triggers.Settlement{Err: errClosing}) // not under mu: a receipt may take its source's lock
		}
		return
	}
	defer d.mu.Unlock()
	t.unit = d.unit(t.route.Function)
	t.unit.stats.Received.Add(1)
	if t.receipt == nil {
		d.live++
	}
	d.enqueue(t)
	if t.window == nil {
		return
	}
	t.window.add(t)
	if !d.pressure && t.window.full(d.cfg.Window) {
		d.askSpill()
	}
}

// fanout settles one receipt when every function that got the event has settled it. One that is not safe makes the whole
// event not safe: its sender will send it again, and the functions that were done recognise it.
type fanout struct {
	mu   sync.Mutex
	left int
	sum  triggers.Settlement
	to   triggers.Receipt
}

func (f *fanout) Settle(s triggers.Settlement) {
	f.mu.Lock()
	if s.Err != nil && f.sum.Err == nil {
		f.sum.Err = s.Err
	}
	f.sum.Journaled = f.sum.Journaled || s.Journaled
	f.left--
	last := f.left == 0
	f.mu.Unlock()
	if last {
		f.to.Settle(f.sum)
	}
}
