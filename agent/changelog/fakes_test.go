package changelog

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"

	"mayfly/event"
	"mayfly/function"
	"mayfly/store"
	"mayfly/triggers"
)

// memory is a store: visible at once, synced a moment later, in order. What is not synced when it dies is gone.
type memory struct {
	mu      sync.Mutex
	now     map[string][]byte
	version map[string]uint64
	disk    map[string][]byte
	queue   chan func()
	dead    bool
	batches int
	fails   int // the batch with this number is the last that is synced
}

func newMemory() *memory {
	return &memory{now: map[string][]byte{}, disk: map[string][]byte{}, version: map[string]uint64{}}
}

// boot starts it with what the disk holds.
func (s *memory) boot() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now, s.dead, s.queue = maps.Clone(s.disk), false, make(chan func(), 10_000)
	go func(queue chan func()) {
		for do := range queue {
			do()
		}
	}(s.queue)
}

func (s *memory) die() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.dead {
		s.dead = true
		close(s.queue)
	}
}

var errDead = &function.Error{Op: "test", Class: function.ClassFatal, Kind: "dead", Err: errors.New("it is dead")}

func (s *memory) Submit(ops []store.Op, done func(error)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead {
		return errDead
	}
	apply := func(to map[string][]byte) {
		for _, op := range ops {
			if op.Delete {
				delete(to, string(op.Key))
			} else {
				to[string(op.Key)] = bytes.Clone(op.Value)
			}
		}
	}
	for _, op := range ops {
		s.version[string(op.Key)]++
	}
	apply(s.now)
	s.queue <- func() {
		s.mu.Lock()
		s.batches++
		if s.fails != 0 && s.batches > s.fails {
			s.mu.Unlock()
			return // it died before
		}
		apply(s.disk)
		s.mu.Unlock()
		done(nil)
	}
	return nil
}

func (s *memory) Get(key []byte) ([]byte, uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v, ok := s.now[string(key)]; ok {
		return v, max(1, s.version[string(key)]), nil
	}
	return nil, 0, nil
}

func (s *memory) Scan(prefix, after []byte, yield func(key, value []byte, version uint64) bool) error {
	s.mu.Lock()
	all := maps.Clone(s.now)
	s.mu.Unlock()
	for _, k := range slices.Sorted(maps.Keys(all)) {
		if bytes.HasPrefix([]byte(k), prefix) && k > string(after) && !yield([]byte(k), all[k], 1) {
			break
		}
	}
	return nil
}

// bus is a broker: what is retained, and who listens.
type bus struct {
	mu       sync.Mutex
	retained map[string][]byte
	subs     map[*ear]bool
	most     int // messages of one subscription that it does not keep back; 0 = all
}

func newBus() *bus { return &bus{retained: map[string][]byte{}, subs: map[*ear]bool{}} }

func (b *bus) publish(m event.Message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if m.Retain {
		if len(m.Data) == 0 {
			delete(b.retained, m.Topic)
		} else {
			b.retained[m.Topic] = m.Data
		}
	}
	for s := range b.subs {
		s.tell(m.Topic, m.Data)
	}
}

func (b *bus) held() map[string][]byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.retained)
}

// deafen cuts off everybody who listens.
func (b *bus) deafen() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.subs)
}

// ear is a subscription.
type ear struct {
	bus *bus

	mu      sync.Mutex
	filters []string
	wake    chan struct{}
	queue   []event.Event
}

func (b *bus) subscribe() (Subscription, error) {
	return &ear{bus: b, wake: make(chan struct{}, 1)}, nil
}

func (e *ear) tell(topic string, data []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, f := range e.filters {
		if event.MatchFilter(f, topic) {
			e.queue = append(e.queue, event.Event{Topic: topic, Data: data})
			break
		}
	}
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

func (e *ear) Filters(filters []string) error {
	e.bus.mu.Lock()
	defer e.bus.mu.Unlock()
	e.mu.Lock()
	had := e.filters
	e.filters = nil
	e.mu.Unlock()
	for _, f := range filters {
		if slices.Contains(had, f) {
			continue
		}
		e.mu.Lock()
		e.filters = []string{f}
		e.mu.Unlock()
		sent := 0
		for topic, data := range e.bus.retained {
			if !event.MatchFilter(f, topic) {
				continue
			}
			if sent++; e.bus.most == 0 || sent <= e.bus.most {
				e.tell(topic, data)
			}
		}
	}
	e.mu.Lock()
	e.filters = slices.Clone(filters)
	e.mu.Unlock()
	return nil
}

func (e *ear) Run(ctx context.Context, to triggers.Sink) error {
	e.bus.mu.Lock()
	e.bus.subs[e] = true
	e.bus.mu.Unlock()
	defer func() {
		e.bus.mu.Lock()
		delete(e.bus.subs, e)
		e.bus.mu.Unlock()
	}()
	for {
		e.mu.Lock()
		all := e.queue
		e.queue = nil
		e.mu.Unlock()
		for i := range all {
			_ = to.Accept(ctx, &all[i], nil)
		}
		select {
		case <-e.wake:
		case <-ctx.Done():
			return nil
		}
	}
}

// post is an outbox: one message after the other, in order; after left of them it is dead.
type post struct {
	bus   *bus
	mu    sync.Mutex
	queue chan func() bool
	left  int // -1 = for ever
	limit int // of one message
}

func newPost(b *bus) *post {
	p := &post{bus: b, queue: make(chan func() bool, 100_000), left: -1}
	go func(queue chan func() bool) {
		for do := range queue {
			if !do() {
				return
			}
		}
	}(p.queue)
	return p
}

func (p *post) take() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.left == 0 {
		return false
	}
	if p.left > 0 {
		p.left--
	}
	return true
}

// dies lets n more messages out.
func (p *post) dies(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left = n
}

// end is for when nobody sends any more.
func (p *post) end() { close(p.queue) }

func (p *post) Send(msgs []event.Message, done func(error)) error {
	msgs = slices.Clone(msgs)
	p.queue <- func() bool {
		for _, m := range msgs {
			if !p.take() {
				return true // nobody is told
			}
			p.bus.publish(m)
		}
		if p.heard() {
			done(nil)
		}
		return true
	}
	return nil
}

// heard says whether the confirmation is still heard.
func (p *post) heard() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.left != 0
}

func (p *post) Check(msgs []event.Message) error {
	for _, m := range msgs {
		if p.limit > 0 && len(m.Data) > p.limit {
			return &function.Error{Op: "publish", Class: function.ClassReject, Kind: "too-large", Err: errors.New("too large")}
		}
	}
	return nil
}

// node is one node's log.
type node struct {
	t     testing.TB
	name  string
	store *memory
	post  *post
	log   *Log
}

func newNode(t testing.TB, name string, b *bus, s *memory) *node {
	n := &node{t: t, name: name, store: s, post: newPost(b)}
	s.boot()
	n.log = New(Config{
		Cluster: "c", Node: name, Function: "f", Store: s, Outbox: n.post, Subscribe: b.subscribe, Changed: func() {}, Room: func() {},
		Log: slog.New(slog.DiscardHandler),
	})
	return n
}

// die is a power cut.
func (n *node) die() {
	n.post.dies(0)
	n.store.die()
	n.log.Close()
	n.post.end()
}

func (n *node) get(key string) string {
	v, _, _ := n.store.Get(store.State.Key("f", []byte(key)))
	return string(v)
}

// put commits values; the channel tells when the broker has it.
func (n *node) put(generation uint64, values map[string]string, more ...store.Op) (chan error, error) {
	told := make(chan error, 1)
	c := Change{Generation: generation, Synced: func(error) {}, Done: func(err error) { told <- err }, Marks: more}
	for _, k := range slices.Sorted(maps.Keys(values)) {
		w := function.StateWrite{Key: []byte(k), Value: []byte(values[k]), Delete: values[k] == ""}
		c.Writes = append(c.Writes, w)
		c.Ops = append(c.Ops, store.Op{Key: store.State.Key("f", w.Key), Value: w.Value, Delete: w.Delete})
	}
	c.Ops = append(c.Ops, more...)
	return told, n.log.Commit(c)
}
