// Package dispatch carries an event from its source to its effects: match, order, dedupe, place, execute, classify, retry,
// commit. DESIGN.md beside this file walks what happens when the node dies between any two of these steps.
package dispatch

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"mayfly/agent/changelog"
	"mayfly/agent/journal"
	"mayfly/agent/outbox"
	"mayfly/agent/placement"
	"mayfly/event"
	"mayfly/function"
	"mayfly/store"
)

// Invoker runs one call and fills in res: a local sandbox, or a peer. Safe for concurrent use. A failure is a
// *function.Error whose class says what it means for the event.
type Invoker interface {
	Invoke(ctx context.Context, call *function.Call, res *function.Result) error
}

// Store makes a batch of operations true, all or nothing, and answers reads that see every batch submitted before.
type Store interface {
	Submit(ops []store.Op, done func(error)) error
	Get(key []byte) (value []byte, version uint64, err error)
	Scan(prefix, after []byte, yield func(key, value []byte, version uint64) bool) error
}

// Journal is the durable queue of events that nobody else holds.
type Journal interface {
	AppendOps(entries []*journal.Entry) ([]store.Op, error)
	Appended(entries []*journal.Entry)
	RescheduleOps(e *journal.Entry) []store.Op
	RemoveOps(function string, seq uint64) []store.Op
	Removed(function string, seq uint64)
}

// Loader reads back what was journaled.
type Loader interface {
	Load(function string, seq uint64) (*journal.Entry, error)
}

// Graves keeps events that were given up.
type Graves interface {
	BuryOps(e *journal.Entry, kind string) ([]store.Op, error)
	Buried(e *journal.Entry)
}

// Outbox takes publishes until the broker has confirmed them.
type Outbox interface {
	Send(msgs []event.Message, done func(error)) error
	Ops(function string, msgs []event.Message) ([]store.Op, outbox.Ticket, error)
	Release(t outbox.Ticket)
	Connected(broker string) bool
}

// Viewer shows the cluster as placement needs it. View is called for every event, sometimes under the dispatcher's lock: it answers
// with what it has and does not call back.
type Viewer interface {
	View(f *function.Function) *placement.View
}

// Observer is told of every event that was handled. It must not block, and is called from any goroutine.
type Observer interface {
	Observed(r *Record)
	Placed(p *placement.Decision) // of a call that did not simply run here
	Logged(f *function.Function, ev *event.Event, lines []function.LogLine, dropped int)
}

// Config bounds the dispatcher.
type Config struct {
	Node       string
	Workers    int           // calls at once over all functions; default 64
	MaxQueued  int           // QoS 0 events waiting; beyond it they are shed and counted; default 10,000
	SpillAfter time.Duration // how long a full window may wait before it is journaled; default 500 ms
	Window     int           // in-flight window the brokers are assumed to have; default 20
	Dedupe     time.Duration // how long the id of a handled event is remembered; default 24 h
	Away       int           // calls at once that run on peers, over all of them; default 256
	Unmetered  bool          // what runs cost is not counted: there is no usage then, and it is for measuring what counting costs
	Patience   time.Duration // how long a peer's call waits for a slot here, and ours for one there; default 1 s
}

// WithDefaults fills in what is zero.
func (c Config) WithDefaults() Config {
	c.Workers = orElse(c.Workers, 64)
	c.MaxQueued = orElse(c.MaxQueued, 10_000)
	c.SpillAfter = orElse(c.SpillAfter, 500*time.Millisecond)
	c.Window = orElse(c.Window, 20)
	c.Dedupe = orElse(c.Dedupe, 24*time.Hour)
	c.Away = orElse(c.Away, 256)
	c.Patience = orElse(c.Patience, time.Second)
	return c
}

func orElse[T int | time.Duration](v, otherwise T) T {
	if v == 0 {
		return otherwise
	}
	return v
}

// Deps are the stations an event passes after it was accepted.
type Deps struct {
	Local   Invoker
	Peers   func(node string) (Invoker, bool) // nil on a node that is alone; see away.go for what its failures mean
	Probe   Prober                            // nil: what the view says is believed
	Store   Store
	Journal Journal
	Loader  Loader
	Graves  Graves
	Outbox  Outbox

	// Changelog returns where the commits of a function go whose state follows its trigger; nil when its state stays on this node. A nil
	// function: no function's does.
	Changelog func(f *function.Function) *changelog.Log

	// Owner returns the node that should have the state of such a function now, as far as this node knows, "" when nobody has; nil on a node
	// that is alone.
	Owner func(f *function.Function) string

	View     Viewer
	Observer Observer
	Secrets  func(f *function.Function) function.Secrets
	HTTP     function.HTTP // nil: functions reach nobody
	Log      *slog.Logger
}

// Dispatcher is safe for concurrent use. Run must be called once, before events are accepted.
type Dispatcher struct {
	cfg  Config
	dep  Deps
	now  func() time.Time
	stop chan struct{}
	fate chan error // the first fatal error

	broken atomic.Bool // there was one: no lane moves on any more

	table atomic.Pointer[table]
	loss  losses

	mu       sync.Mutex
	wake     sync.Cond
	units    map[string]*unit
	lanes    map[laneKey]*lane
	ready    laneQueue
	timers   timerQueue
	alarm    chan struct{}      // timers changed
	live     int                // live QoS 0 tasks
	windows  map[string]*window // by source
	busy     int                // workers running a task
	idle     int                // workers waiting that nobody has woken
	workers  int
	crew     []*worker // all of them
	callers  int       // goroutines of callers that run their tasks themselves
	stands   []*worker // of such that are done
	closing  bool
	drained  chan struct{}
	spillq   chan struct{}
	spilling []*lane // lanes of the batch being journaled
	pressure bool    // a window was full; runSpill looks again by itself
	spilled  atomic.Int64
	away     away
}

// New returns a dispatcher that runs nothing yet.
func New(cfg Config, dep Deps) *Dispatcher {
	d := &Dispatcher{
		cfg: cfg.WithDefaults(), dep: dep, now: time.Now,
		stop: make(chan struct{}), fate: make(chan error, 1),
		units: map[string]*unit{}, lanes: map[laneKey]*lane{}, windows: map[string]*window{},
		alarm: make(chan struct{}, 1), drained: make(chan struct{}), spillq: make(chan struct{}, 1),
		away: away{on: dep.Peers != nil, wake: make(chan struct{}, 1), sent: map[string]int{}},
	}
	d.wake.L = &d.mu
	d.table.Store(&table{})
	return d
}

// Run works until ctx ends, then lets what is running finish and gives back everything else unsettled-with-error: whoever
// sent it still holds it. It returns nil, or the fatal error after which nothing more was acknowledged.
func (d *Dispatcher) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(d.runTimers)
	wg.Go(d.runSpill)
	if d.away.on {
		wg.Go(d.runAway)
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-d.fate:
	}
	d.mu.Lock()
	d.closing = true
	d.wake.Broadcast()
	if d.workers+d.away.running+d.callers == 0 {
		close(d.drained)
	}
	d.mu.Unlock()
	<-d.drained
	close(d.stop)
	wg.Wait()
	d.giveBack()
	return err
}

// fail stops the node for good: the disk no longer keeps what it is given, so nothing may be acknowledged any more.
func (d *Dispatcher) fail(err error) {
	d.broken.Store(true)
	select {
	case d.fate <- err:
	default:
	}
}

// Idle says whether nothing is queued, running or waiting for a timer; for drains and tests.
func (d *Dispatcher) Idle() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, l := range d.lanes {
		if l.state != laneIdle {
			return false
		}
	}
	return d.ready.len() == 0 && d.busy == 0 && d.away.running+len(d.away.out) == 0
}
