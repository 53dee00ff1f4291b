package meter

import (
	"bytes"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mayfly/store"
)

var errDisk = errors.New("the disk says no")

// disk is a store in memory: a batch is there or not. Safe for concurrent use.
type disk struct {
	mu      sync.Mutex
	records map[string][]byte
	order   []string // of the keys
	stale   bool     // it is
	batches int
	bytes   int
	accept  int // so many batches more; below 0 = any number
}

func newDisk() *disk { return &disk{records: map[string][]byte{}, accept: -1} }

// Submit implements Store.
func (d *disk) Submit(ops []store.Op, done func(error)) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.accept == 0 {
		return errDisk
	}
	d.accept--
	d.batches++
	d.stale = true
	for _, op := range ops {
		d.bytes += len(op.Key) + len(op.Value)
		if op.Delete {
			delete(d.records, string(op.Key))
		} else {
			d.records[string(op.Key)] = bytes.Clone(op.Value)
		}
	}
	done(nil)
	return nil
}

// Get implements Store.
func (d *disk) Get(key []byte) ([]byte, uint64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	value, ok := d.records[string(key)]
	if !ok {
		return nil, 0, nil
	}
	return value, 1, nil
}

// Scan implements Store.
func (d *disk) Scan(prefix, after []byte, yield func(key, value []byte, version uint64) bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, key := range d.sorted(prefix) {
		if key > string(after) && !yield([]byte(key), d.records[key], 1) {
			return nil
		}
	}
	return nil
}

// sorted returns the keys with a prefix in their order. Called with mu held.
func (d *disk) sorted(prefix []byte) []string {
	if len(d.order) != len(d.records) || d.stale {
		d.order, d.stale = slices.Sorted(maps.Keys(d.records)), false
	}
	from, _ := slices.BinarySearch(d.order, string(prefix))
	to := from
	for to < len(d.order) && strings.HasPrefix(d.order[to], string(prefix)) {
		to++
	}
	return d.order[from:to]
}

func (d *disk) keys(kind byte) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stale = true // tests change records themselves
	return slices.Clone(d.sorted(kindPrefix(kind)))
}

// allow lets the disk take so many batches more.
func (d *disk) allow(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.accept = n
}

// site is a meter with the counters and the clock it looks at. Safe for concurrent use.
type site struct {
	*Meter
	mu     sync.Mutex
	totals map[Subject]Usage
	now    time.Time
}

func (s *site) use(subject Subject, u Usage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sum := s.totals[subject]
	sum.Add(u)
	s.totals[subject] = sum
}

func (s *site) clock() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

func (s *site) set(t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = t
}

// open starts a process at a disk: its counters begin at zero.
func open(t interface{ Fatalf(string, ...any) }, d Store, now time.Time, keep int) *site {
	s := &site{totals: map[Subject]Usage{}, now: now}
	var err error
	s.Meter, err = Open(Config{
		Node: "n", Now: s.clock, Keep: keep, State: func(string) uint64 { return 7 },
		Totals: func() map[Subject]Usage {
			s.mu.Lock()
			defer s.mu.Unlock()
			return maps.Clone(s.totals)
		},
	}, d, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatalf("%v", err)
	}
	return s
}

func sample(t testing.TB, s *site) {
	t.Helper()
	if err := s.Sample(); err != nil {
		t.Fatal(err)
	}
}

func verified(t testing.TB, s *site) Verification {
	t.Helper()
	v, err := s.Verify()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func noon() time.Time { return time.Date(2026, 11, 22, 12, 0, 30, 0, time.UTC) }
