package journal

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"mayfly/function"
	"mayfly/store"
)

func TestEntriesSurviveAndKeepTheirOrder(t *testing.T) {
	s := newMemStore()
	j := openJournal(t, Config{}, s)
	add(t, j, entry("b", "1"), entry("a", "2"))
	add(t, j, entry("b", "3"))
	second := openJournal(t, Config{}, s)
	all, err := second.Pending()
	if err != nil || len(all) != 3 {
		t.Fatal(all, err)
	}
	for i, want := range []string{"b", "a", "b"} {
		e, err := second.Load(all[i].Function, all[i].Seq)
		if err != nil || all[i].Function != want || e.Event.ID != fmt.Sprint(i+1) || string(e.Event.Data) != "data of "+e.Event.ID {
			t.Fatalf("%d: %+v, %+v, %v", i, all[i], e, err)
		}
	}
	add(t, second, entry("a", "4"))
	if again, _ := second.Pending(); again[3].Seq <= all[2].Seq {
		t.Fatalf("sequence %d after %d", again[3].Seq, all[2].Seq)
	}
}

func TestRescheduleWritesOnlyTheRetry(t *testing.T) {
	s := newMemStore()
	j := openJournal(t, Config{}, s)
	e := entry("f", "1")
	e.Event.Data = make([]byte, 100_000)
	add(t, j, e)
	e.Attempt, e.LastError, e.NotBefore = 3, "timeout", j.now().Add(time.Minute)
	ops := j.RescheduleOps(e)
	if len(ops) != 1 || len(ops[0].Value) > 100 {
		t.Fatalf("%d operations, %d bytes", len(ops), len(ops[0].Value))
	}
	commit(t, s, ops, nil)
	j = openJournal(t, Config{}, s)
	all, _ := j.Pending()
	got, err := j.Load("f", e.Seq)
	if err != nil || got.Attempt != 3 || got.LastError != "timeout" || len(got.Event.Data) != 100_000 || all[0].Attempt != 3 {
		t.Fatalf("%+v, %+v, %v", got, all, err)
	}
	commit(t, s, j.RemoveOps("f", e.Seq), nil)
	j.Removed("f", e.Seq)
	if len(s.synced) != 0 {
		t.Fatalf("left behind: %v", s.synced)
	}
	if _, err := j.Load("f", e.Seq); !errors.Is(err, ErrGone) || function.ClassOf(err) != function.ClassReject {
		t.Fatal(err)
	}
}

// TestClockJumps: whatever the wall clock says at the next start, no retry waits longer than it was to wait, and one that is due
// is due.
func TestClockJumps(t *testing.T) {
	s := newMemStore()
	j := openJournal(t, Config{}, s)
	wrote := time.Unix(1_800_000_000, 0)
	j.now = func() time.Time { return wrote }
	e := entry("f", "1")
	add(t, j, e)
	e.NotBefore = wrote.Add(10 * time.Minute)
	commit(t, s, j.RescheduleOps(e), nil)
	for name, c := range map[string]struct {
		now  time.Time
		wait time.Duration
	}{
		"no time passed":        {wrote, 10 * time.Minute},
		"half of it passed":     {wrote.Add(5 * time.Minute), 5 * time.Minute},
		"a year back":           {wrote.AddDate(-1, 0, 0), 10 * time.Minute},
		"a board without clock": {time.Unix(0, 0), 10 * time.Minute},
		"a year forward":        {wrote.AddDate(1, 0, 0), 0},
	} {
		j := openJournal(t, Config{}, s)
		j.now = func() time.Time { return c.now }
		all, err := j.Pending()
		if err != nil {
			t.Fatal(err)
		}
		if wait := max(all[0].NotBefore.Sub(c.now), 0); wait != c.wait {
			t.Errorf("%s: waits %v, want %v", name, wait, c.wait)
		}
	}
}

func TestQuotas(t *testing.T) {
	s := newMemStore()
	j := openJournal(t, Config{Quota: 1000, Entries: 12}, s)
	n := 0
	var err error
	for ; err == nil; n++ {
		err = j.Append([]*Entry{entry("greedy", fmt.Sprint(n))}, nil)
	}
	if n < 4 || !errors.Is(err, ErrFull) || function.ClassOf(err) != function.ClassOverload {
		t.Fatalf("after %d: %v", n, err)
	}
	add(t, j, entry("modest", "1")) // another function's quota is untouched
	for err = nil; err == nil; n++ {
		err = j.Append([]*Entry{entry(fmt.Sprint("f", n), "1")}, nil)
	}
	if !errors.Is(err, ErrFull) {
		t.Fatal(err)
	}
	if w, _ := j.Stats(); w.Count != 12 {
		t.Fatalf("%+v", w)
	}
	commit(t, s, j.RemoveOps("modest", 6), nil)
	all, _ := j.Pending()
	for _, w := range all {
		if w.Function == "greedy" {
			commit(t, s, j.RemoveOps("greedy", w.Seq), nil)
			j.Removed("greedy", w.Seq)
			j.Removed("greedy", w.Seq) // twice is once
		}
	}
	add(t, j, entry("greedy", "again"))
	if w, _ := j.Usage("greedy"); w.Count != 1 || w.Bytes <= 0 || w.Oldest.IsZero() {
		t.Fatalf("%+v", w)
	}
	if j.Counts().Refused != 2 {
		t.Fatalf("%+v", j.Counts())
	}
}

func TestUnreadableRecordsBecomeDeadLetters(t *testing.T) {
	s := newMemStore()
	j := openJournal(t, Config{}, s)
	add(t, j, entry("f", "good"), entry("f", "damaged"), entry("f", "foreign"))
	s.bad[string(entryKey("f", 2, partEvent))] = true
	s.synced[string(entryKey("f", 3, partEvent))] = []byte{99, 1, 2, 3}
	s.synced["j/f\x00short"] = []byte("what is this")
	s.synced[string(entryKey("f", 77, partRetry))] = encodeRetry(entry("f", ""), time.Now())
	j = openJournal(t, Config{}, s)
	all, err := j.Pending()
	if err != nil || len(all) != 1 || j.Counts().Corrupt != 4 {
		t.Fatalf("%+v, %v, %+v", all, err, j.Counts())
	}
	letters, _, err := j.Letters(Query{})
	if err != nil || len(letters) != 4 {
		t.Fatalf("%+v, %v", letters, err)
	}
	for _, l := range letters {
		if l.Kind != "corrupt" || l.LastError == "" {
			t.Errorf("%+v", l)
		}
	}
	clear(s.bad)
	if j = openJournal(t, Config{}, s); j.Counts().Corrupt != 0 {
		t.Fatal("the same damage is found again")
	}
}

// TestModel drives a journal and a plain list side by side, with crashes that lose what is not synced.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &journalModel{s: newMemStore(), waiting: map[uint64]string{}, dead: map[string]string{}}
		m.s.manual = true
		m.reopen(t)
		t.Repeat(rapid.StateMachineActions(m))
	})
}

type journalModel struct {
	s       *memStore
	j       *Journal
	waiting map[uint64]string // synced: event id by sequence
	dead    map[string]string // synced: event id by letter id
	n       int
}

func (m *journalModel) reopen(t *rapid.T) {
	j, err := Open(Config{}, m.s, quiet())
	if err != nil {
		t.Fatal(err)
	}
	m.j = j
}

func (m *journalModel) pick(t *rapid.T) (Waiting, bool) {
	all, err := m.j.Pending()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 {
		return Waiting{}, false
	}
	return rapid.SampledFrom(all).Draw(t, "entry"), true
}

func (m *journalModel) Append(t *rapid.T) {
	var entries []*Entry
	for range rapid.IntRange(1, 3).Draw(t, "count") {
		m.n++
		entries = append(entries, entry(rapid.SampledFrom([]string{"a", "b-1"}).Draw(t, "function"), fmt.Sprint(m.n)))
	}
	if err := m.j.Append(entries, func(error) {
		for _, e := range entries {
			m.waiting[e.Seq] = e.Event.ID
		}
	}); err != nil {
		t.Fatal(err)
	}
}

func (m *journalModel) Remove(t *rapid.T) {
	if w, ok := m.pick(t); ok {
		_ = m.s.Submit(m.j.RemoveOps(w.Function, w.Seq), func(error) {
			delete(m.waiting, w.Seq)
			m.j.Removed(w.Function, w.Seq)
		})
	}
}

func (m *journalModel) Bury(t *rapid.T) {
	w, ok := m.pick(t)
	if !ok {
		return
	}
	e, err := m.j.Load(w.Function, w.Seq)
	if err != nil {
		t.Fatal(err)
	}
	ops, err := m.j.BuryOps(e, "trap")
	if err != nil {
		t.Fatal(err)
	}
	id := letterID(e.Function, e.grave.seq)
	_ = m.s.Submit(append(ops, m.j.RemoveOps(w.Function, w.Seq)...), func(error) {
		delete(m.waiting, w.Seq)
		m.j.Removed(w.Function, w.Seq)
		m.dead[id] = e.Event.ID
		m.j.Buried(e)
	})
}

func (m *journalModel) Replay(t *rapid.T) {
	m.Sync(t)
	m.s.manual = false
	defer func() { m.s.manual = true }()
	q := Query{Function: rapid.SampledFrom([]string{"", "a", "b-1"}).Draw(t, "function")}
	letters, _, err := m.j.Letters(q)
	if err != nil {
		t.Fatal(err)
	}
	moved, err := m.j.Replay(q, nil)
	if err != nil || len(moved) != len(letters) {
		t.Fatalf("%d of %d moved, %v", len(moved), len(letters), err)
	}
	for i, l := range letters {
		m.waiting[moved[i].Seq] = m.dead[l.ID]
		delete(m.dead, l.ID)
	}
}

func (m *journalModel) Sync(*rapid.T) { m.s.sync() }

func (m *journalModel) Crash(t *rapid.T) {
	m.s.crash()
	m.reopen(t)
}

// Check compares what is synced; what is not may be there or not.
func (m *journalModel) Check(t *rapid.T) {
	if len(m.s.pending) > 0 {
		return
	}
	all, err := m.j.Pending()
	if err != nil || len(all) != len(m.waiting) {
		t.Fatalf("%d waiting, want %d, %v", len(all), len(m.waiting), err)
	}
	last := uint64(0)
	for _, w := range all {
		e, err := m.j.Load(w.Function, w.Seq)
		if err != nil || e.Event.ID != m.waiting[w.Seq] || w.Seq <= last {
			t.Fatalf("%+v: %+v, %v; want %q after %d", w, e, err, m.waiting[w.Seq], last)
		}
		last = w.Seq
	}
	letters, _, err := m.j.Letters(Query{})
	if err != nil || len(letters) != len(m.dead) {
		t.Fatalf("%d letters, want %d, %v", len(letters), len(m.dead), err)
	}
	for _, l := range letters {
		if m.dead[l.ID] != l.Event.ID {
			t.Fatalf("letter %+v, want event %q", l, m.dead[l.ID])
		}
	}
	waiting, dead := m.j.Stats()
	if waiting.Count != int64(len(all)) || dead.Count != int64(len(letters)) || (len(all) == 0) != (waiting.Bytes == 0) {
		t.Fatalf("stats %+v %+v; %d waiting, %d dead", waiting, dead, len(all), len(letters))
	}
}

// TestOverTheRealStore is one walk through everything with the store that devices have.
func TestOverTheRealStore(t *testing.T) {
	cfg := store.Config{Dir: filepath.Join(t.TempDir(), "store"), Floor: 1, Ballast: -1}
	var seqs []uint64
	for round := range 3 {
		s, _, err := store.Open(cfg, quiet())
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx) }()
		j := openJournal(t, Config{}, s)
		all, err := j.Pending()
		if err != nil || len(all) != len(seqs) {
			t.Fatalf("round %d: %d waiting, want %d, %v", round, len(all), len(seqs), err)
		}
		for i, w := range all {
			if w.Seq != seqs[i] {
				t.Fatalf("round %d: %d is at place %d, want %d", round, w.Seq, i, seqs[i])
			}
		}
		e := []*Entry{entry("f", "1"), entry("g", "2"), entry("f", "3")}
		add(t, j, e...)
		bury(t, j, e[2], "timeout")
		commit(t, s, j.RemoveOps("f", e[2].Seq), nil)
		j.Removed("f", e[2].Seq)
		seqs = append(seqs, e[0].Seq, e[1].Seq)
		if round == 2 {
			moved, err := j.Replay(Query{Function: "f"}, nil)
			if err != nil || len(moved) != 3 || !slices.IsSortedFunc(moved, func(a, b Waiting) int { return compare(a.Seq, b.Seq) }) {
				t.Fatal(moved, err)
			}
		}
		stop()
		if err := errors.Join(<-ended, s.Close()); err != nil {
			t.Fatal(err)
		}
	}
}
