package wasm

import (
	"context"
	"slices"
	"sync"
	"time"

	"mayfly/wasm/abi"
	"mayfly/wasm/internal/wasmtime"
)

// place is a slot and the session of the event in it. It belongs to one call at a time, or rests in the pool.
type place struct {
	inst    *wasmtime.Instance
	session abi.Session
	owner   *resident // whose instance is kept open in it; nil = none
}

// HostCall hands a guest's call to its session.
func (p *place) HostCall(id int, args []uint64, memory []byte) (uint64, error) {
	return p.session.Host(id, args, memory)
}

// pool hands out places: the last used first, because its memory is warm. Who comes when all are taken waits in line.
type pool struct {
	mu     sync.Mutex
	all    []*place // never changes after fill
	free   []*place
	kept   []*place // with an instance of their owner, longest unused first
	line   []chan *place
	closed bool
}

func (p *pool) fill(n int) {
	for range n {
		pl := &place{}
		pl.inst = wasmtime.NewInstance(pl)
		p.all = append(p.all, pl)
	}
	p.free = append(p.free, p.all...)
}

// take returns a place: one that keeps an instance of r if r wants that, else a free one, else one whose kept instance
// somebody else loses. With none left it waits until ctx ends or the deadline (in time.Now's clock) has passed, and then
// returns nil.
func (p *pool) take(ctx context.Context, r *resident, deadline time.Time) *place {
	p.mu.Lock()
	pl := p.takeNow(r)
	if pl != nil || p.closed {
		p.mu.Unlock()
		return evicted(pl, r)
	}
	turn := make(chan *place, 1)
	p.line = append(p.line, turn)
	p.mu.Unlock()
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	select {
	case pl = <-turn:
		return evicted(pl, r)
	case <-timer.C:
	case <-ctx.Done():
	}
	p.leave(turn)
	return nil
}

func (p *pool) takeNow(r *resident) *place {
	if r.reuse {
		for i, kept := range slices.Backward(p.kept) {
			if kept.owner == r {
				return p.unkeep(i)
			}
		}
	}
	if n := len(p.free); n > 0 {
		pl := p.free[n-1]
		p.free = p.free[:n-1]
		return pl
	}
	if len(p.kept) > 0 {
		return p.unkeep(0)
	}
	return nil
}

func (p *pool) unkeep(i int) *place {
	pl := p.kept[i]
	p.kept = append(p.kept[:i], p.kept[i+1:]...)
	return pl
}

// evicted takes down what a place keeps for somebody other than r.
func evicted(pl *place, r *resident) *place {
	if pl != nil && pl.owner != nil && pl.owner != r {
		pl.drop()
	}
	return pl
}

// drop takes the kept instance down.
func (pl *place) drop() {
	pl.inst.Close()
	pl.owner = nil
}

// leave gives up a turn; a place that came at the same moment goes back.
func (p *pool) leave(turn chan *place) {
	p.mu.Lock()
	for i, c := range p.line {
		if c == turn {
			p.line = append(p.line[:i], p.line[i+1:]...)
			p.mu.Unlock()
			return
		}
	}
	p.mu.Unlock()
	if pl := <-turn; pl != nil {
		p.give(pl)
	}
}

// give takes a place back. At most half of all places rest with an instance in them; a further one loses it.
func (p *pool) give(pl *place) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.line) > 0 {
		p.line[0] <- pl
		p.line = p.line[1:]
		return
	}
	if pl.owner != nil && (p.closed || len(p.kept) >= (len(p.all)+1)/2) {
		pl.drop()
	}
	if pl.owner != nil {
		p.kept = append(p.kept, pl)
	} else {
		p.free = append(p.free, pl)
	}
}

// forget takes down all resting instances of r.
func (p *pool) forget(r *resident) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := 0; i < len(p.kept); {
		if p.kept[i].owner != r {
			i++
			continue
		}
		pl := p.unkeep(i)
		pl.drop()
		p.free = append(p.free, pl)
	}
}

// close sends everybody in line away and keeps nothing any more.
func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, turn := range p.line {
		turn <- nil
	}
	p.line = nil
}

// freeAll frees all places; none may be taken.
func (p *pool) freeAll() {
	for _, pl := range p.all {
		pl.inst.Free()
	}
	p.all, p.free, p.kept = nil, nil, nil
}

func (p *pool) counts() (kept, busy int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.kept), len(p.all) - len(p.kept) - len(p.free)
}
