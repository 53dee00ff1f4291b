package journal

import (
	"bytes"
	"errors"
	"log/slog"
	"maps"
	"sort"
	"strings"
	"testing"
	"time"

	"mayfly/event"
	"mayfly/store"
)

// memStore is a store in memory: batches are seen at once, and survive a crash only once they are synced.
type memStore struct {
	synced  map[string][]byte
	pending []memBatch
	bad     map[string]bool // keys whose record is damaged
	version uint64
	manual  bool // sync only when told to
}

type memBatch struct {
	ops  []store.Op
	done func(error)
}

func newMemStore() *memStore { return &memStore{synced: map[string][]byte{}, bad: map[string]bool{}} }

func (m *memStore) Submit(ops []store.Op, done func(error)) error {
	m.version++
	m.pending = append(m.pending, memBatch{ops, done})
	if !m.manual {
		m.sync()
	}
	return nil
}

func (m *memStore) sync() {
	for _, b := range m.pending {
		apply(m.synced, b.ops)
	}
	told := m.pending
	m.pending = nil
	for _, b := range told {
		if b.done != nil {
			b.done(nil)
		}
	}
}

func (m *memStore) crash() { m.pending = nil }

func apply(to map[string][]byte, ops []store.Op) {
	for _, op := range ops {
		if op.Delete {
			delete(to, string(op.Key))
		} else {
			to[string(op.Key)] = bytes.Clone(op.Value)
		}
	}
}

func (m *memStore) view() map[string][]byte {
	if len(m.pending) == 0 {
		return m.synced
	}
	all := maps.Clone(m.synced)
	for _, b := range m.pending {
		apply(all, b.ops)
	}
	return all
}

func (m *memStore) Get(key []byte) ([]byte, uint64, error) {
	if m.bad[string(key)] {
		return nil, 0, store.ErrCorrupt
	}
	v, ok := m.view()[string(key)]
	if !ok {
		return nil, 0, nil
	}
	return v, max(m.version, 1), nil
}

func (m *memStore) Scan(prefix, after []byte, yield func(key, value []byte, version uint64) bool) error {
	view := m.view()
	var keys []string
	for k := range view {
		if strings.HasPrefix(k, string(prefix)) && k > string(after) {
			keys = append(keys, k)
		}
	}
	sort.Strings(keys)
	for _, k := range keys {
		value, version := view[k], max(m.version, 1)
		if m.bad[k] {
			value, version = nil, 0
		}
		if !yield([]byte(k), value, version) {
			return nil
		}
	}
	return nil
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func openJournal(t testing.TB, cfg Config, s Store) *Journal {
	t.Helper()
	j, err := Open(cfg, s, quiet())
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func entry(function, id string) *Entry {
	return &Entry{
		Function: function, Trigger: "mqtt[0]", Lane: 7, Attempt: 1, Received: time.Now(),
		Event: &event.Event{ID: id, Topic: "plant/7/temp", Type: event.TypeMQTT, Data: []byte("data of " + id)},
	}
}

// add appends entries and waits for the sync.
func add(t testing.TB, j *Journal, entries ...*Entry) {
	t.Helper()
	synced := make(chan error, 1)
	if err := j.Append(entries, func(err error) { synced <- err }); err != nil {
		t.Fatal(err)
	}
	if err := <-synced; err != nil {
		t.Fatal(err)
	}
}

// commit submits ops and waits for the sync.
func commit(t testing.TB, s Store, ops []store.Op, err error) {
	t.Helper()
	synced := make(chan error, 1)
	err = errors.Join(err, s.Submit(ops, func(err error) { synced <- err }))
	if err != nil {
		t.Fatal(err)
	}
	if err := <-synced; err != nil {
		t.Fatal(err)
	}
}

func bury(t testing.TB, j *Journal, e *Entry, kind string) {
	t.Helper()
	ops, err := j.BuryOps(e, kind)
	commit(t, j.store, ops, err)
	j.Buried(e)
}
