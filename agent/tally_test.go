package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"mayfly/agent/ownership"
	"mayfly/event"
	"mayfly/function"
	"mayfly/triggers"
)

// gossip is who sees whom, as a test wants it.
type gossip struct {
	mu      sync.Mutex
	views   map[string][]ownership.Node
	revoked map[string]bool
	changed chan struct{}
}

func (g *gossip) set(views map[string][]ownership.Node) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.views = views
	close(g.changed)
	g.changed = make(chan struct{})
}

// seenBy is the gossip as one node sees it.
type seenBy struct {
	*gossip
	self string
}

func (s seenBy) Nodes(*function.Function, string) []ownership.Node {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.views[s.self])
}

func (s seenBy) Watch() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

func (s seenBy) Revoked(node string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.revoked[node]
}

// tally is what was run, by whom and in which order.
type tally struct {
	mu    sync.Mutex
	runs  map[int][]string
	first map[string]int // by topic, the latest number that ran for the first time
	early int
	last  string // who ran the latest
	began map[string]time.Time

	arrived map[string]int // by connection and topic, the latest number
	turned  int            // that the broker sent behind a later one of its topic, on one connection
}

// came takes note of what the broker sent.
func (y *tally) came(connection, topic string, n int) {
	y.mu.Lock()
	defer y.mu.Unlock()
	if n < y.arrived[connection+topic] {
		y.turned++
	}
	y.arrived[connection+topic] = max(n, y.arrived[connection+topic])
}

func (y *tally) ran(node, topic string, n int) {
	y.mu.Lock()
	defer y.mu.Unlock()
	if len(y.runs[n]) == 0 {
		if n < y.first[topic] {
			y.early++
		}
		y.first[topic] = max(n, y.first[topic])
	}
	y.runs[n] = append(y.runs[n], node)
	if y.last != node {
		y.last = node
		y.began[node] = time.Now()
	}
}

// runner is a node's dispatcher: one event after the other, half a millisecond each.
type runner struct {
	node  string
	tally *tally

	mu    sync.Mutex
	queue []job
	wake  chan struct{}
	fence atomic.Uint64
}

type job struct {
	ev *event.Event
	r  triggers.Receipt
}

func (r *runner) Accept(_ context.Context, ev *event.Event, receipt triggers.Receipt) error {
	r.fence.Store(max(r.fence.Load(), ev.Delivery.Fence))
	var n int
	_, _ = fmt.Sscan(string(ev.Data), &n)
	r.tally.came(fmt.Sprintf("%s %d %d ", r.node, ev.Delivery.Fence, ev.Delivery.Epoch), ev.Topic, n)
	r.mu.Lock()
	r.queue = append(r.queue, job{ev, receipt})
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
	return nil
}

func (r *runner) Fence(string, string) uint64 { return r.fence.Load() }

func (r *runner) Withdraw(string, bool) int {
	r.mu.Lock()
	left := r.queue
	r.queue = nil
	r.mu.Unlock()
	for _, j := range left {
		j.r.Settle(triggers.Settlement{Err: errors.New("withdrawn")})
	}
	return len(left)
}

// run lets events run as fast as two thousand a second, whatever else the machine does.
func (r *runner) run(ctx context.Context) {
	const work = 500 * time.Microsecond
	for free := time.Now(); ; {
		r.mu.Lock()
		var j job
		if len(r.queue) > 0 {
			j, r.queue = r.queue[0], r.queue[1:]
		}
		r.mu.Unlock()
		if j.ev == nil {
			select {
			case <-r.wake:
				free = time.Now()
				continue
			case <-ctx.Done():
				return
			}
		}
		if free = free.Add(work); time.Until(free) > 0 {
			<-time.After(time.Until(free))
		}
		var n int
		_, _ = fmt.Sscan(string(j.ev.Data), &n)
		r.tally.ran(r.node, j.ev.Topic, n)
		j.r.Settle(triggers.Settlement{})
	}
}
