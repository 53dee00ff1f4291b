package journal

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"mayfly/function"
	"mayfly/store"
)

func TestOldestDeadLettersMakeRoom(t *testing.T) {
	for name, cfg := range map[string]Config{"count": {DeadLetters: 5}, "bytes": {DeadQuota: 600}} {
		s := newMemStore()
		j := openJournal(t, cfg, s)
		bury(t, j, entry("other", "kept"), "trap")
		for i := range 20 {
			bury(t, j, entry("f", fmt.Sprint(i)), "trap")
		}
		letters, _, err := j.Letters(Query{Function: "f"})
		if err != nil || len(letters) == 0 || len(letters) > 6 || letters[len(letters)-1].Event.ID != "19" {
			t.Fatalf("%s: %+v, %v", name, letters, err)
		}
		if got := j.Counts().Dropped; got != uint64(20-len(letters)) {
			t.Errorf("%s: %d dropped, %d left", name, got, len(letters))
		}
		if others, _, _ := j.Letters(Query{Function: "other"}); len(others) != 1 {
			t.Errorf("%s: another function's letters made room", name)
		}
		_, before := j.Stats()
		_, after := openJournal(t, cfg, s).Stats()
		if before.Count != after.Count || before.Bytes != after.Bytes {
			t.Errorf("%s: counted %+v, found %+v", name, before, after)
		}
	}
}

func TestDropAndReplay(t *testing.T) {
	s := newMemStore()
	j := openJournal(t, Config{}, s)
	for i := range 500 {
		e := entry([]string{"f", "g"}[i%2], fmt.Sprint(i))
		e.Attempt, e.LastError = 5, "timeout"
		bury(t, j, e, "timeout")
	}
	one, err := j.Letter("f-1")
	if err != nil || one.Attempt != 5 || one.Kind != "timeout" || string(one.Event.Data) != "data of 0" || one.Bytes != 9 {
		t.Fatalf("%+v %v", one, err)
	}
	for _, id := range []string{"", "f", "f-", "-1", "f-999", "nobody-1"} {
		if _, err := j.Letter(id); !errors.Is(err, ErrGone) {
			t.Errorf("Letter(%q): %v", id, err)
		}
	}
	if n, err := j.Drop(Query{IDs: []string{"f-1", "f-3", "f-999"}}); n != 2 || err != nil {
		t.Fatal(n, err)
	}
	gone := &function.Error{Op: "replay", Class: function.ClassReject, Err: errors.New("the function is gone")}
	if moved, err := j.Replay(Query{Function: "g"}, func(string) error { return gone }); len(moved) != 0 || !errors.Is(err, gone) {
		t.Fatal(moved, err)
	}
	moved, err := j.Replay(Query{Function: "f"}, nil)
	if err != nil || len(moved) != 248 {
		t.Fatal(len(moved), err)
	}
	for i, w := range moved {
		e, err := j.Load("f", w.Seq)
		if err != nil || e.Attempt != 1 || e.LastError != "" || e.Event.ID != fmt.Sprint(2*i+4) {
			t.Fatalf("%d: %+v, %v", i, e, err)
		}
	}
	if n, err := j.Drop(Query{}); n != 250 || err != nil {
		t.Fatal(n, err)
	}
	if _, dead := j.Stats(); dead.Count != 0 || dead.Bytes != 0 {
		t.Fatalf("%+v", dead)
	}
}

func TestReplayStopsWhenTheJournalIsFull(t *testing.T) {
	s := newMemStore()
	j := openJournal(t, Config{Quota: 1500}, s)
	for i := range 30 {
		bury(t, j, entry("f", fmt.Sprint(i)), "trap")
	}
	moved, err := j.Replay(Query{}, nil)
	if !errors.Is(err, ErrFull) {
		t.Fatal(err)
	}
	_, dead := j.Stats()
	if len(moved) == 0 || len(moved)+int(dead.Count) != 30 {
		t.Fatalf("%d moved, %d left", len(moved), dead.Count)
	}
}

// TestManyDeadLettersAreListedByPages: 100,000 dead letters over the real store, listed page by page without all of them ever
// being in memory.
func TestManyDeadLettersAreListedByPages(t *testing.T) {
	const n = 40_000
	s, _, err := store.Open(store.Config{Dir: filepath.Join(t.TempDir(), "store"), Floor: 1, Ballast: -1}, quiet())
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	defer func() {
		stop()
		if err := errors.Join(<-ended, s.Close()); err != nil {
			t.Error(err)
		}
	}()
	j := openJournal(t, Config{DeadQuota: 1 << 30}, s)
	buryMany(t, j, n)
	j = openJournal(t, Config{DeadQuota: 1 << 30}, s)
	runtime.GC()
	var before, now runtime.MemStats
	runtime.ReadMemStats(&before)
	seen, pages, peak, last := 0, 0, uint64(0), uint64(0)
	for q := (Query{Limit: 500}); ; {
		page, next, err := j.Letters(q)
		if err != nil || len(page) > 500 {
			t.Fatal(len(page), err)
		}
		for _, l := range page {
			if l.Seq <= last || l.Event.Data != nil {
				t.Fatalf("%+v after %d", l, last)
			}
			last = l.Seq
		}
		seen += len(page)
		if pages++; pages%50 == 0 {
			runtime.GC()
			runtime.ReadMemStats(&now)
			peak = max(peak, now.HeapAlloc)
		}
		if q.After = next; next == 0 {
			break
		}
	}
	if seen != n || pages != n/500 {
		t.Fatalf("%d letters on %d pages", seen, pages)
	}
	if peak > before.HeapAlloc+4<<20 {
		t.Fatalf("the heap grew from %d to %d bytes", before.HeapAlloc, peak)
	}
}

// buryMany makes n dead letters of two functions in turn.
func buryMany(t *testing.T, j *Journal, n int) {
	t.Helper()
	for i := 0; i < n; {
		var ops []store.Op
		var batch []*Entry
		for range 1000 {
			e := entry([]string{"f", "g"}[i%2], fmt.Sprint(i))
			e.LastError = strings.Repeat("x", 50)
			more, err := j.BuryOps(e, "trap")
			if err != nil {
				t.Fatal(err)
			}
			ops, batch, i = append(ops, more...), append(batch, e), i+1
		}
		commit(t, j.store, ops, nil)
		for _, e := range batch {
			j.Buried(e)
		}
	}
}
