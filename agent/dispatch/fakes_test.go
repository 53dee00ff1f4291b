package dispatch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"sync"

	"mayfly/agent/journal"
	"mayfly/agent/outbox"
	"mayfly/agent/placement"
	"mayfly/event"
	"mayfly/function"
	"mayfly/store"
	"mayfly/triggers"
)

// memStore is a store in memory: ordered, atomic, visible at once, synced a moment later on a goroutine of its own.
type memStore struct {
	mu      sync.Mutex
	data    map[string][]byte
	version map[string]uint64
	dones   chan func(error)
	broken  error // of the sync
	batches int
	busy    int           // submissions that find no room
	hold    chan struct{} // when set, nothing is synced until it is closed
}

func newMemStore() *memStore {
	s := &memStore{data: map[string][]byte{}, version: map[string]uint64{}, dones: make(chan func(error), 1000)}
	go func() {
		for done := range s.dones {
			s.mu.Lock()
			hold, broken := s.hold, s.broken
			s.mu.Unlock()
			if hold != nil {
				<-hold
			}
			done(broken)
		}
	}()
	return s
}

func (s *memStore) Submit(ops []store.Op, done func(error)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy > 0 {
		s.busy--
		return &function.Error{Op: "store: submit", Class: function.ClassOverload, Kind: "busy", Err: store.ErrBusy}
	}
	for _, op := range ops {
		have := s.version[string(op.Key)]
		if s.data[string(op.Key)] == nil {
			have = 0
		}
		if op.Checked && have != op.Expect {
			return store.ErrConflict
		}
	}
	for _, op := range ops {
		s.version[string(op.Key)]++
		if op.Delete {
			delete(s.data, string(op.Key))
		} else {
			s.data[string(op.Key)] = append([]byte{}, op.Value...)
		}
	}
	s.batches++
	s.dones <- done
	return nil
}

func (s *memStore) refuse(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy = n
}

func (s *memStore) Get(key []byte) ([]byte, uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v, ok := s.data[string(key)]; ok {
		return v, s.version[string(key)], nil
	}
	return nil, 0, nil
}

func (s *memStore) Scan(prefix, after []byte, yield func(key, value []byte, version uint64) bool) error {
	s.mu.Lock()
	var keys []string
	for k := range s.data {
		if bytes.HasPrefix([]byte(k), prefix) && k > string(after) {
			keys = append(keys, k)
		}
	}
	s.mu.Unlock()
	sort.Strings(keys)
	for _, k := range keys {
		v, version, _ := s.Get([]byte(k))
		if !yield([]byte(k), v, version) {
			break
		}
	}
	return nil
}

// memJournal keeps entries in a map, and dead letters in a list.
type memJournal struct {
	mu      sync.Mutex
	next    uint64
	entries map[uint64]*journal.Entry
	buried  []*journal.Entry
	full    error
	broken  error // of Load
}

func (j *memJournal) AppendOps(entries []*journal.Entry) ([]store.Op, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.full != nil {
		return nil, j.full
	}
	var ops []store.Op
	for _, e := range entries {
		j.next++
		e.Seq = j.next
		c := *e
		j.entries[e.Seq] = &c
		ops = append(ops, store.Op{Key: store.Journal.SeqKey(e.Function, e.Seq), Value: []byte("entry")})
	}
	return ops, nil
}

func (j *memJournal) Appended([]*journal.Entry) {}

func (j *memJournal) RescheduleOps(e *journal.Entry) []store.Op {
	j.mu.Lock()
	defer j.mu.Unlock()
	c := *e
	j.entries[e.Seq] = &c
	return []store.Op{{Key: store.Journal.SeqKey(e.Function, e.Seq), Value: []byte("again")}}
}

func (j *memJournal) RemoveOps(f string, seq uint64) []store.Op {
	return []store.Op{{Key: store.Journal.SeqKey(f, seq), Delete: true}}
}

func (j *memJournal) Removed(_ string, seq uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.entries, seq)
}

func (j *memJournal) Load(_ string, seq uint64) (*journal.Entry, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.broken != nil {
		return nil, j.broken
	}
	if e := j.entries[seq]; e != nil {
		return e, nil
	}
	return nil, fmt.Errorf("entry %d is gone", seq)
}

func (j *memJournal) BuryOps(e *journal.Entry, kind string) ([]store.Op, error) {
	return []store.Op{{Key: store.DeadLetter.Key(e.Function, []byte(e.Event.ID)), Value: []byte(kind)}}, nil
}

func (j *memJournal) Buried(e *journal.Entry) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.buried = append(j.buried, e)
}

func (j *memJournal) len() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.entries)
}

// memOutbox confirms at once, unless held.
type memOutbox struct {
	mu    sync.Mutex
	sent  []event.Message
	held  []func(error)
	hold  bool
	ready map[outbox.Ticket][]event.Message
}

func (o *memOutbox) Send(msgs []event.Message, done func(error)) error {
	o.mu.Lock()
	o.sent = append(o.sent, msgs...)
	hold := o.hold
	if hold {
		o.held = append(o.held, done)
	}
	o.mu.Unlock()
	if !hold {
		done(nil)
	}
	return nil
}

func (o *memOutbox) Ops(f string, msgs []event.Message) ([]store.Op, outbox.Ticket, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ready[outbox.Ticket{}] = append(o.ready[outbox.Ticket{}], msgs...)
	return []store.Op{{Key: store.Outbox.SeqKey(f, 1), Value: []byte("messages")}}, outbox.Ticket{}, nil
}

func (o *memOutbox) Release(t outbox.Ticket) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sent = append(o.sent, o.ready[t]...)
	delete(o.ready, t)
}

func (o *memOutbox) Connected(string) bool { return true }

func (o *memOutbox) topics() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var all []string
	for i := range o.sent {
		all = append(all, o.sent[i].Topic)
	}
	return all
}

type alone struct{}

func (alone) View(*function.Function) *placement.View {
	return &placement.View{Self: placement.Node{ID: "here", Slots: 8, Speed: 1, Arch: "arm64"}}
}

type quiet struct{}

func (quiet) Observed(*Record) {}

func (quiet) Placed(*placement.Decision) {}

func (quiet) Logged(*function.Function, *event.Event, []function.LogLine, int) {}

// guest is a sandbox made of a Go function.
type guest func(call *function.Call, res *function.Result) error

func (g guest) Invoke(_ context.Context, call *function.Call, res *function.Result) error {
	return g(call, res)
}

// receipts remembers how each event was settled.
type receipts struct {
	mu  sync.Mutex
	all map[string]triggers.Settlement
}

type receipt struct {
	r  *receipts
	id string
}

func (x receipt) Settle(s triggers.Settlement) {
	x.r.mu.Lock()
	defer x.r.mu.Unlock()
	if _, twice := x.r.all[x.id]; twice {
		panic("settled twice: " + x.id)
	}
	x.r.all[x.id] = s
}

func (r *receipts) of(id string) (triggers.Settlement, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.all[id]
	return s, ok
}

func (r *receipts) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.all)
}

func classed(class function.Class) error {
	return &function.Error{Op: "invoke", Subject: "test", Class: class, Kind: "test", Err: errors.New("on purpose")}
}

func byPrefix(order []string, prefix string) []string {
	return slices.DeleteFunc(slices.Clone(order), func(s string) bool { return !strings.HasPrefix(s, prefix) })
}
