package wasm

import (
	"context"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"mayfly/wasm/abi"
	"mayfly/wasm/internal/wasmtime"
)

// place is a slot and the session of the event in it. It belongs to the call that has made its state taken, or rests.
type place struct {
	inst    *wasmtime.Instance
	session abi.Session
	state   atomic.Int32
	owner   atomic.Pointer[resident] // whose instance is kept open in it, nil = none; written by who has taken it
	running atomic.Pointer[resident] // whom the call in it uses: keeps that one loaded
	rested  atomic.Int64             // when it was given back with an instance in it, by Engine.now
	invokes atomic.Int64

	_ [wasmtime.Line]byte // places are written to by different processors at once
}

// States of a place.
const (
	placeFree  int32 = iota
	placeKept        // free, with its owner's instance in it
	placeTaken       // by a call, or by who looks after it
	placeGone        // the engine was closed
)

// HostCall hands a guest's call to its session.
func (p *place) HostCall(id int, args []uint64, memory []byte) (uint64, error) {
	return p.session.Host(id, args, memory)
}

// pool hands out places: to a processor the one it gave back last, because that one's memory is in its cache and nobody else's.
// Who comes when all are taken waits in line.
//
// Taking and giving back write to the place only, so that processors do not wait for each other; whoever has to wait stands in
// line first and looks at the places then, whoever gives back frees the place first and looks at the line then: one of
// them sees the other.
type pool struct {
	all    []*place // never changes after fill
	now    func() time.Duration
	recent sync.Pool    // of *place, as a hint: the one may be anywhere by now
	open   atomic.Int32 // places with an owner
	closed atomic.Bool

	waiting atomic.Int32 // length of line
	mu      sync.Mutex
	line    []chan *place
}

func (p *pool) fill(n int) {
	for range n {
		pl := &place{}
		pl.inst = wasmtime.NewInstance(pl)
		p.all = append(p.all, pl)
	}
}

// take returns a place: one that keeps an instance of r if r wants that, else a free one, else one whose kept instance
// somebody else is about to lose (claim). With none left it waits until ctx ends or the deadline (in time.Now's clock) has passed,
// and then returns nil.
func (p *pool) take(ctx context.Context, r *resident, deadline time.Time) *place {
	if p.waiting.Load() == 0 { // nobody came earlier
		if pl := p.takeNow(r); pl != nil {
			return pl
		}
	}
	turn := make(chan *place, 1)
	p.mu.Lock()
	if p.closed.Load() {
		p.mu.Unlock()
		return nil
	}
	p.line = append(p.line, turn)
	p.waiting.Add(1)
	p.serve()
	p.mu.Unlock()
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	select {
	case pl := <-turn:
		return pl
	case <-timer.C:
	case <-ctx.Done():
	}
	p.leave(turn)
	return nil
}

// takeNow is take for who does not wait. A nil r wants any place.
func (p *pool) takeNow(r *resident) *place {
	reuse := r != nil && r.reuse
	if pl, _ := p.recent.Get().(*place); pl != nil {
		if !reuse && pl.state.CompareAndSwap(placeFree, placeTaken) || reuse && p.takeKept(pl, r) {
			return pl
		}
	}
	if reuse {
		for _, pl := range p.all {
			if p.takeKept(pl, r) {
				return pl
			}
		}
	}
	for {
		oldest, at := (*place)(nil), int64(math.MaxInt64)
		for _, pl := range p.all {
			switch pl.state.Load() {
			case placeFree:
				if pl.state.CompareAndSwap(placeFree, placeTaken) {
					return pl
				}
			case placeKept:
				if rested := pl.rested.Load(); rested < at {
					oldest, at = pl, rested
				}
			}
		}
		if oldest == nil || oldest.state.CompareAndSwap(placeKept, placeTaken) {
			return oldest
		}
	}
}

// takeKept takes pl if it keeps an instance of r.
func (p *pool) takeKept(pl *place, r *resident) bool {
	if pl.owner.Load() != r || !pl.state.CompareAndSwap(placeKept, placeTaken) {
		return false
	}
	if pl.owner.Load() == r {
		return true
	}
	p.rest(pl) // it changed hands in between
	return false
}

// keep notes that pl, which is taken, has an open instance of r from now on.
func (p *pool) keep(pl *place, r *resident) {
	pl.owner.Store(r)
	p.open.Add(1)
}

// drop takes down the instance that pl, which is taken, keeps, if any.
func (p *pool) drop(pl *place) {
	if pl.owner.Swap(nil) != nil {
		pl.inst.Close()
		p.open.Add(-1)
	}
}

// leave gives up a turn; a place that came at the same moment goes back.
func (p *pool) leave(turn chan *place) {
	p.mu.Lock()
	for i, c := range p.line {
		if c == turn {
			p.line = append(p.line[:i], p.line[i+1:]...)
			p.waiting.Add(-1)
			p.mu.Unlock()
			return
		}
	}
	p.mu.Unlock()
	if pl := <-turn; pl != nil {
		p.give(pl)
	}
}

// give takes a place back. At most half of all places keep an instance; a further one loses it, and so does one whose owner is
// gone.
func (p *pool) give(pl *place) {
	if owner := pl.owner.Load(); owner != nil {
		if p.closed.Load() || owner.gone.Load() || int(p.open.Load()) > (len(p.all)+1)/2 {
			p.drop(pl)
		} else {
			pl.rested.Store(int64(p.now()))
		}
	}
	p.rest(pl)
	p.recent.Put(pl)
}

// rest ends the taking of a place and lets those in line know.
func (p *pool) rest(pl *place) {
	state := placeFree
	if pl.owner.Load() != nil {
		state = placeKept
	}
	pl.state.Store(state)
	if p.waiting.Load() > 0 {
		p.mu.Lock()
		p.serve()
		p.mu.Unlock()
	}
}

// serve hands places that nobody has to those in line, first come first served. The lock is held.
func (p *pool) serve() {
	for len(p.line) > 0 {
		pl := p.takeNow(nil)
		if pl == nil {
			return
		}
		p.line[0] <- pl
		p.line = p.line[1:]
		p.waiting.Add(-1)
	}
}

// forget takes down all resting instances of r.
func (p *pool) forget(r *resident) {
	for _, pl := range p.all {
		if p.takeKept(pl, r) {
			p.drop(pl)
			p.rest(pl)
		}
	}
}

// uses says whether a call in some place uses r.
func (p *pool) uses(r *resident) bool {
	for _, pl := range p.all {
		if pl.running.Load() == r {
			return true
		}
	}
	return false
}

// close sends everybody in line away and keeps nothing any more.
func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed.Store(true)
	for _, turn := range p.line {
		turn <- nil
	}
	p.line = nil
	p.waiting.Store(0)
}

// freeAll frees all places as soon as each is given back.
func (p *pool) freeAll() {
	for _, pl := range p.all {
		for !pl.state.CompareAndSwap(placeFree, placeGone) {
			if pl.state.CompareAndSwap(placeKept, placeTaken) {
				p.drop(pl)
				pl.state.Store(placeFree)
			}
			runtime.Gosched() // somebody is about to see that it is too late
		}
		pl.inst.Free()
	}
}

// busy says whether some place is taken.
func (p *pool) busy() bool {
	_, busy, _ := p.counts()
	return busy > 0
}

// counts returns how many places keep an instance and how many are taken, and the calls that had one.
func (p *pool) counts() (kept, busy int, invokes int64) {
	for _, pl := range p.all {
		switch pl.state.Load() {
		case placeKept:
			kept++
		case placeTaken:
			busy++
		}
		invokes += pl.invokes.Load()
	}
	return kept, busy, invokes
}
