package agent

import (
	"context"
	"sync"
	"time"

	"mayfly/event"
	"mayfly/triggers"
)

// executor is the sink of an old session. It never settles the mark, nor what is behind it: if we die before the session is purged, the mark
// comes again and keeps meaning the same.
type executor struct {
	estate  *estate
	to      func(string) triggers.Sink
	changed chan struct{}

	mu     sync.Mutex
	marked bool
	open   int             // handed on and not settled
	unsafe map[uint16]bool // given back, so they come again, by packet id
}

// Accept implements triggers.Sink.
func (x *executor) Accept(ctx context.Context, ev *event.Event, r triggers.Receipt) error {
	defer x.poke()
	x.mu.Lock()
	m := x.estate.Mark
	switch {
	case m.Topic != "" && ev.Topic == m.Topic:
		mine := string(ev.Data) == m.Nonce
		x.marked = x.marked || mine
		x.mu.Unlock()
		if !mine && r != nil {
			r.Settle(triggers.Settlement{}) // of an attempt that was interrupted
		}
		return nil
	case x.marked:
		x.mu.Unlock()
		return nil // the heirs have it
	}
	if r != nil {
		x.open++
		delete(x.unsafe, ev.Delivery.PacketID)
		r = &bequest{x, r, ev.Delivery.PacketID}
	}
	x.mu.Unlock()
	for _, h := range x.estate.Heirs {
		if event.MatchFilter(h.Filter, ev.Topic) {
			return x.to(h.Key).Accept(ctx, ev, r)
		}
	}
	if r != nil {
		r.Settle(triggers.Settlement{}) // of a trigger that is gone
	}
	return nil
}

func (x *executor) poke() {
	select {
	case x.changed <- struct{}{}:
	default:
	}
}

func (x *executor) finished() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.marked && x.open == 0 && len(x.unsafe) == 0
}

// patience is how long nothing may happen until it is over: without a mark there is no other way to know.
func (x *executor) patience() time.Duration {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case x.open > 0 || len(x.unsafe) > 0:
		return 10 * time.Minute
	case x.estate.Mark.Topic == "":
		return 2 * time.Second
	}
	return quietEnds
}

// bequest is the receipt of an event that was handed on.
type bequest struct {
	x  *executor
	of triggers.Receipt
	id uint16
}

// Settle implements triggers.Receipt.
func (b *bequest) Settle(s triggers.Settlement) {
	b.of.Settle(s)
	b.x.mu.Lock()
	b.x.open--
	if s.Err != nil {
		b.x.unsafe[b.id] = true
	}
	b.x.mu.Unlock()
	b.x.poke()
}
