package wasm

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// watchdog makes the epoch move when the time of a running guest is up, and sleeps otherwise: with nothing running there
// is no goroutine, and while guests end in time it looks once per shortest limit. Precision is a millisecond.
type watchdog struct {
	move   func()
	now    func() time.Duration
	places []*place

	next atomic.Int64 // when it looks again; math.MaxInt64 when there is no goroutine
	wake chan struct{}

	mu      sync.Mutex
	running bool
	done    sync.WaitGroup
}

const watchGrain = time.Millisecond

func newWatchdog(move func(), now func() time.Duration, places []*place) *watchdog {
	w := &watchdog{move: move, now: now, places: places, wake: make(chan struct{}, 1)}
	w.next.Store(math.MaxInt64)
	return w
}

// arm is called for a guest about to run, after its place says when it must be checked.
func (w *watchdog) arm(at time.Duration) {
	if int64(at) >= w.next.Load() {
		return // it looks at all places before then
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if int64(at) >= w.next.Load() {
		return
	}
	w.next.Store(int64(at))
	if !w.running {
		w.running = true
		w.done.Go(w.run)
		return
	}
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *watchdog) run() {
	timer := time.NewTimer(math.MaxInt64)
	defer timer.Stop()
	for {
		at := w.plan()
		if at == math.MaxInt64 {
			return
		}
		now := w.now()
		if at <= now {
			w.move()
			at = now + watchGrain // until every guest that is due has noticed
		}
		timer.Reset(at - now)
		select {
		case <-timer.C:
		case <-w.wake:
		}
	}
}

// plan decides when to look next. A guest sets its time first and reads next after; plan sets next first and reads the
// times again after, so one of them sees the other.
func (w *watchdog) plan() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		at := w.earliest()
		w.next.Store(int64(at))
		if w.earliest() < at {
			continue
		}
		w.running = at != math.MaxInt64
		return at
	}
}

func (w *watchdog) earliest() time.Duration {
	at := time.Duration(math.MaxInt64)
	for _, p := range w.places {
		at = min(at, p.inst.CheckAt())
	}
	return at
}

// stopAll ends every guest and waits until no place is busy, for the calls on their way to one, and for the watchdog's goroutine.
func (w *watchdog) stopAll(busy func() bool, calls *sync.WaitGroup) {
	for _, p := range w.places {
		p.inst.Cancel()
	}
	tick := time.NewTicker(watchGrain)
	defer tick.Stop()
	for w.move(); busy(); w.move() {
		<-tick.C
	}
	calls.Wait() // they see that the engine is closed before they run anything
	w.arm(0)
	w.done.Wait()
}
