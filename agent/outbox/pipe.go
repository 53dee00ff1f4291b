package outbox

import (
	"context"
	"sync"
	"time"

	"mayfly/function"
	"mayfly/internal/crashpoint"
)

// retryErase is how long after a refusal the disk is asked again to forget confirmed messages.
const retryErase = 200 * time.Millisecond

// pipe is everything on its way to one broker.
//
// Durable messages are in memory, or only on disk when memory was full as they were released (or when they are of a former
// run). While backlog is set, the released ones beyond cursor are on disk only, and volatile messages wait in tail for
// their place between them; page reads them in.
type pipe struct {
	box   *Outbox
	name  string
	pub   Publisher
	work  chan struct{} // there is something to erase or to read in
	quiet chan struct{} // something was finished

	mu       sync.Mutex
	q        queue
	volatile int64 // bytes of volatile messages, tail included
	durable  int64 // bytes of durable messages in q
	stopped  bool

	last    uint64              // highest sequence number given out
	pending map[uint64]struct{} // given out and not released
	held    map[uint64]*entry   // released, in memory or not erased yet

	backlog bool
	cursor  uint64
	reading bool
	during  []*entry // released while reading
	tail    []*entry // their seq: the last number given out before them

	done    []*entry // confirmed, to be erased
	erasing bool
	erased  []uint64 // while reading: to be taken out of held afterwards

	stats Stats
}

// Stats is the state of one pipe.
type Stats struct {
	Broker    string
	Connected bool
	Queued    int    // messages in memory, underway ones included
	Volatile  int64  // bytes of them that are on no disk
	Durable   int64  // bytes of them that are on disk too
	Backlog   bool   // more are on disk only
	Confirmed uint64 // since the start
	Again     uint64 // publishes of unknown outcome, published again
	Rejected  uint64 // messages the broker will never take
	Corrupt   uint64 // records on disk that could not be read
}

func newPipe(o *Outbox, name string, pub Publisher) *pipe {
	return &pipe{
		box: o, name: name, pub: pub, work: make(chan struct{}, 1), quiet: make(chan struct{}, 1),
		pending: map[uint64]struct{}{}, held: map[uint64]*entry{},
	}
}

// found notes a message of a former run.
func (p *pipe) found(seq uint64) {
	p.last = max(p.last, seq)
	p.backlog = true
}

// reserve gives out the next sequence number.
func (p *pipe) reserve() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last++
	p.pending[p.last] = struct{}{}
	if len(p.pending) > maxPending {
		p.forgetPending()
	}
	return p.last
}

// Tickets are forgotten when their batch was not committed; that many numbers later none is still being committed.
const (
	maxPending = 8192
	longGone   = 65536
)

func (p *pipe) forgetPending() {
	for seq := range p.pending {
		if seq+longGone < p.last {
			delete(p.pending, seq)
		}
	}
}

func (p *pipe) hasRoom(size int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.volatile == 0 || p.volatile+size <= p.box.config.MemoryBytes
}

// send queues a volatile message.
func (p *pipe) send(e *entry) {
	p.mu.Lock()
	if p.stopped {
		p.mu.Unlock()
		e.sending.one(ErrStopped)
		return
	}
	p.volatile += e.size
	if p.backlog {
		e.seq = p.last
		p.tail = append(p.tail, e)
		p.mu.Unlock()
		return
	}
	p.q.add(e)
	p.pumpAndUnlock(nil)
}

// release queues a durable message, or leaves it on disk.
func (p *pipe) release(e *entry) {
	p.mu.Lock()
	delete(p.pending, e.seq)
	switch {
	case p.stopped, p.backlog && !p.reading && e.seq > p.cursor:
	case p.reading:
		p.during = append(p.during, e)
	case !p.backlog && p.durable > 0 && p.durable+e.size > p.box.config.MemoryBytes:
		p.backlog, p.cursor = true, e.seq-1
	default:
		p.hold(e)
		p.pumpAndUnlock(nil)
		return
	}
	p.mu.Unlock()
	signal(p.work)
}

// hold queues a durable message that is in memory.
func (p *pipe) hold(e *entry) {
	p.held[e.seq] = e
	p.durable += e.size
	p.q.add(e)
}

// Confirmed implements Confirmation.
func (e *entry) Confirmed(err error) {
	p := e.pipe
	p.mu.Lock()
	switch {
	case e.state != underway:
		p.mu.Unlock()
	case err != nil:
		p.q.again(e)
		p.stats.Again++
		p.mu.Unlock()
	default:
		crashpoint.Here(crashpoint.Confirmed)
		p.stats.Confirmed++
		p.finish(e)
		p.pumpAndUnlock(e)
	}
}

// finish takes e out of the queue. What has to be told is told by the caller, without the lock.
func (p *pipe) finish(e *entry) {
	p.q.over(e)
	if e.sending != nil {
		p.volatile -= e.size
	} else {
		p.durable -= e.size
		p.done = append(p.done, e)
		signal(p.work)
	}
	signal(p.quiet)
}

// refusal is a message the broker will never take.
type refusal struct {
	e   *entry
	err error
}

// pumpAndUnlock publishes what can be published, gives up the lock, and tells those who wait: over was just finished.
func (p *pipe) pumpAndUnlock(over *entry) {
	var refused []refusal
	for e := p.q.peek(); e != nil && !p.stopped; e = p.q.peek() {
		err := p.pub.Publish(&e.msg, e)
		if err == nil {
			crashpoint.Here(crashpoint.Sent)
			e.state = underway
			continue
		}
		if function.ClassOf(err) != function.ClassReject {
			break
		}
		p.stats.Rejected++
		p.finish(e)
		refused = append(refused, refusal{e, err})
	}
	p.mu.Unlock()
	if over != nil && over.sending != nil {
		over.sending.one(nil)
	}
	for _, r := range refused {
		p.reject(r)
	}
}

func (p *pipe) reject(r refusal) {
	if r.e.sending != nil {
		r.e.sending.one(r.err)
		return
	}
	p.box.log.Error("a message that was to be published is not acceptable", "broker", p.name, "function", r.e.function,
		"topic", r.e.msg.Topic, "err", r.err)
	if p.box.config.Rejected != nil {
		p.box.config.Rejected(r.e.function, r.e.msg, r.err)
	}
}

// run moves the pipe whenever something changed. It returns an error only when the disk failed.
func (p *pipe) run(ctx context.Context) error {
	for {
		p.mu.Lock()
		p.pumpAndUnlock(nil)
		err := p.page()
		if err == nil {
			err = p.erase()
		}
		if function.ClassOf(err) == function.ClassFatal {
			return err
		}
		var retry <-chan time.Time
		if err != nil {
			retry = time.After(retryErase)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-p.pub.Changes():
		case <-p.work:
		case <-retry:
		}
	}
}

// stop ends the pipe: nothing more is published, volatile messages are given back, what was confirmed is erased.
func (p *pipe) stop() {
	p.mu.Lock()
	p.stopped = true
	var left []*sending
	for _, e := range append(p.q.entries[p.q.head:len(p.q.entries):len(p.q.entries)], p.tail...) {
		if e.sending != nil && e.state != confirmed {
			left = append(left, e.sending)
		}
	}
	p.mu.Unlock()
	for _, s := range left {
		s.one(ErrStopped)
	}
	if err := p.erase(); err != nil {
		p.box.log.Warn("confirmed messages stay on disk and will be published again", "broker", p.name, "err", err)
	}
}

func (p *pipe) snapshot() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.stats
	s.Broker, s.Connected, s.Queued, s.Volatile, s.Durable, s.Backlog = p.name, p.pub.Ready(), p.q.len()+len(p.tail), p.volatile, p.durable, p.backlog
	return s
}

// idle says whether nothing is left to do that can be done: durable messages may wait on disk for a broker that is away.
func (p *pipe) idle() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	connected := p.pub.Ready()
	return p.volatile == 0 && len(p.done) == 0 && !p.erasing && (!connected || p.q.len() == 0 && !p.backlog)
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
