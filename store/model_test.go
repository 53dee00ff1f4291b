package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// model is what the store should hold: plain maps.
type model struct {
	value   map[string]string
	version map[string]uint64 // current, 0 = absent
	highest map[string]uint64 // ever seen
}

func (m *model) apply(ops []Op) {
	for _, op := range ops {
		if op.Delete {
			delete(m.value, string(op.Key))
		} else {
			m.value[string(op.Key)] = string(op.Value)
		}
	}
}

func (m *model) conflicts(ops []Op) bool {
	for _, op := range ops {
		if op.Checked && op.Expect != m.version[string(op.Key)] {
			return true
		}
	}
	return false
}

// machine drives store and model side by side.
type machine struct {
	dir    string
	s      *Store
	stop   context.CancelFunc
	ended  chan error
	model  model
	synced chan error
	open   int // submissions whose done is awaited
}

func (m *machine) start(t *rapid.T) {
	s, report, err := Open(Config{Dir: m.dir, MemTable: 2 << 20, Floor: 1, Ballast: -1}, quiet())
	if err != nil {
		t.Fatal(err)
	}
	if !report.Clean() || report.Records != uint64(len(m.model.value)) {
		t.Fatalf("report %+v; the model has %d records", report, len(m.model.value))
	}
	ctx, stop := context.WithCancel(context.Background())
	m.s, m.stop, m.ended = s, stop, make(chan error, 1)
	go func() { m.ended <- s.Run(ctx) }()
}

func (m *machine) end(t *rapid.T) {
	m.stop()
	if err := errors.Join(<-m.ended, m.s.Close()); err != nil {
		t.Fatal(err)
	}
	m.settle(t)
}

func (m *machine) settle(t *rapid.T) {
	for ; m.open > 0; m.open-- {
		if err := <-m.synced; err != nil {
			t.Fatalf("done: %v", err)
		}
	}
}

var keys = rapid.SampledFrom([]string{"s/a\x00", "s/a\x001", "s/a\x002", "s/a\x00\xff", "s/b\x00x", "j/a\x00y", "j/a\x00z"})

func (m *machine) Submit(t *rapid.T) {
	var ops []Op
	for range rapid.IntRange(1, 4).Draw(t, "ops") {
		op := Op{Key: []byte(keys.Draw(t, "key"))}
		switch rapid.IntRange(0, 4).Draw(t, "kind") {
		case 0:
			op.Delete = true
		case 1:
			op.TTL = time.Hour
			fallthrough
		default:
			op.Value = []byte(rapid.StringN(0, 20, 40).Draw(t, "value"))
		}
		if rapid.IntRange(0, 3).Draw(t, "checked") == 0 {
			op.Checked = true
			op.Expect = m.model.version[string(op.Key)]
			if rapid.IntRange(0, 2).Draw(t, "stale") == 0 {
				op.Expect++
			}
		}
		ops = append(ops, op)
	}
	err := m.s.Submit(ops, func(err error) { m.synced <- err })
	if m.model.conflicts(ops) {
		if !errors.Is(err, ErrConflict) {
			t.Fatalf("want a conflict, got %v", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	m.open++
	m.model.apply(ops)
	if m.open > 50 {
		m.settle(t)
	}
}

func (m *machine) Wait(t *rapid.T) { m.settle(t) }

func (m *machine) Reopen(t *rapid.T) {
	if rapid.IntRange(0, 5).Draw(t, "really") != 0 {
		return // it takes much longer than the rest
	}
	m.end(t)
	m.start(t)
}

func (m *machine) Scan(t *rapid.T) {
	prefix := rapid.SampledFrom([]string{"", "s/", "s/a\x00", "j/", "k/"}).Draw(t, "prefix")
	after := rapid.OneOf(rapid.Just(""), keys).Draw(t, "after")
	var want, got []string
	for k := range m.model.value {
		if strings.HasPrefix(k, prefix) && k > after {
			want = append(want, k)
		}
	}
	sort.Strings(want)
	for i, k := range want {
		want[i] = k + "=" + m.model.value[k]
	}
	if err := m.s.Scan([]byte(prefix), []byte(after), func(k, v []byte, version uint64) bool {
		got = append(got, string(k)+"="+string(v))
		if version != m.model.version[string(k)] {
			t.Fatalf("Scan: version %d of %q, Get says %d", version, k, m.model.version[string(k)])
		}
		return true
	}); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("Scan(%q, %q)\n got %q\nwant %q", prefix, after, got, want)
	}
}

// Check is run after every step: values agree, and versions only grow and only with changes.
func (m *machine) Check(t *rapid.T) {
	for _, k := range []string{"s/a\x00", "s/a\x001", "s/a\x002", "s/a\x00\xff", "s/b\x00x", "j/a\x00y", "j/a\x00z"} {
		v, version, err := m.s.Get([]byte(k))
		want, there := m.model.value[k]
		if err != nil || string(v) != want || there != (version != 0) {
			t.Fatalf("Get(%q) = %q, %d, %v; want %q, %v", k, v, version, err, want, there)
		}
		if version != 0 && version < m.model.highest[k] {
			t.Fatalf("the version of %q went back from %d to %d", k, m.model.highest[k], version)
		}
		m.model.version[k] = version
		m.model.highest[k] = max(m.model.highest[k], version)
	}
}

// TestModel compares any sequence of submissions, deletions, checks, scans and restarts with a map.
func TestModel(t *testing.T) {
	root, runs := t.TempDir(), 0
	rapid.Check(t, func(t *rapid.T) {
		runs++
		dir := filepath.Join(root, strconv.Itoa(runs))
		defer os.RemoveAll(dir)
		m := &machine{
			dir: dir, synced: make(chan error, 100),
			model: model{map[string]string{}, map[string]uint64{}, map[string]uint64{}},
		}
		m.start(t)
		defer func() { m.stop(); <-m.ended; m.s.Close() }()
		t.Repeat(rapid.StateMachineActions(m))
	})
}
