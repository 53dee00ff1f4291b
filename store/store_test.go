package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"mayfly/function"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// running is an open store whose Run is going on.
type running struct {
	*Store
	stop  context.CancelFunc
	ended chan error
}

// open opens and runs a store with a floor of 0, so that the machine's own disk does not matter.
func open(t testing.TB, cfg Config) (*running, Report) {
	t.Helper()
	if cfg.Floor == 0 {
		cfg.Floor, cfg.Ballast = 1, -1
	}
	s, report, err := Open(cfg, quiet())
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	r := &running{Store: s, stop: stop, ended: make(chan error, 1)}
	go func() { r.ended <- s.Run(ctx) }()
	return r, report
}

func (r *running) shutdown(t testing.TB) {
	t.Helper()
	r.stop()
	if err := <-r.ended; err != nil {
		t.Fatalf("Run: %v", err)
	}
	if err := r.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
}

// put submits and waits for the sync.
func (r *running) put(t testing.TB, ops ...Op) {
	t.Helper()
	if err := r.try(ops...); err != nil {
		t.Fatalf("Submit: %v", err)
	}
}

func (r *running) try(ops ...Op) error {
	done := make(chan error, 1)
	if err := r.Submit(ops, func(err error) { done <- err }); err != nil {
		return err
	}
	return <-done
}

func set(key, value string) Op { return Op{Key: []byte(key), Value: []byte(value)} }

func want(t testing.TB, s *Store, key, value string) uint64 {
	t.Helper()
	v, version, err := s.Get([]byte(key))
	if err != nil || string(v) != value || (value == "") != (version == 0) {
		t.Fatalf("Get(%q) = %q, %d, %v; want %q", key, v, version, err, value)
	}
	return version
}

func TestSubmittedIsVisibleAtOnceAndSurvives(t *testing.T) {
	cfg := Config{Dir: t.TempDir()}
	r, report := open(t, cfg)
	if !report.Fresh || !report.Clean() {
		t.Fatalf("report of a new store: %+v", report)
	}
	done := make(chan error, 1)
	if err := r.Submit([]Op{set("s/a", "1"), set("s/b", "2")}, func(err error) { done <- err }); err != nil {
		t.Fatal(err)
	}
	first := want(t, r.Store, "s/a", "1")
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if again := want(t, r.Store, "s/a", "1"); again != first {
		t.Fatalf("the version changed from %d to %d when it was synced", first, again)
	}
	r.put(t, Op{Key: []byte("s/a"), Delete: true})
	want(t, r.Store, "s/a", "")
	r.put(t, set("s/a", "3"))
	last := want(t, r.Store, "s/a", "3")
	if last <= first {
		t.Fatalf("version %d after %d", last, first)
	}
	r.shutdown(t)

	r, report = open(t, cfg)
	if report.Fresh || !report.Clean() || report.Records != 2 {
		t.Fatalf("report: %+v", report)
	}
	if v := want(t, r.Store, "s/a", "3"); v != last {
		t.Fatalf("version %d before, %d after reopening", last, v)
	}
	want(t, r.Store, "s/b", "2")
	r.put(t, set("s/a", "4"))
	if v := want(t, r.Store, "s/a", "4"); v <= last {
		t.Fatalf("version %d after %d", v, last)
	}
	r.shutdown(t)
}

func TestCheckedRefusesTheWholeBatch(t *testing.T) {
	r, _ := open(t, Config{Dir: t.TempDir()})
	defer r.shutdown(t)
	r.put(t, set("s/a", "1"))
	v := want(t, r.Store, "s/a", "1")
	err := r.try(set("s/b", "x"), Op{Key: []byte("s/a"), Value: []byte("2"), Checked: true, Expect: v + 1})
	if !errors.Is(err, ErrConflict) || function.ClassOf(err) != function.ClassConflict {
		t.Fatalf("err = %v", err)
	}
	want(t, r.Store, "s/b", "")
	r.put(t, Op{Key: []byte("s/a"), Value: []byte("2"), Checked: true, Expect: v})
	if err := r.try(Op{Key: []byte("s/a"), Delete: true, Checked: true}); !errors.Is(err, ErrConflict) {
		t.Fatalf("expecting absence of what is there: %v", err)
	}
	r.put(t, Op{Key: []byte("s/c"), Value: []byte("new"), Checked: true, Expect: 0})
	want(t, r.Store, "s/c", "new")
	if n := r.Stats().Conflicts; n != 2 {
		t.Fatalf("%d conflicts counted", n)
	}
}

func TestLimits(t *testing.T) {
	r, _ := open(t, Config{Dir: t.TempDir(), MemTable: 2 << 20})
	defer r.shutdown(t)
	big := bytes.Repeat([]byte("v"), MaxValue)
	r.put(t, Op{Key: []byte("s/big"), Value: big})
	if v, _, err := r.Get([]byte("s/big")); err != nil || !bytes.Equal(v, big) {
		t.Fatalf("%d bytes came back as %d, %v", len(big), len(v), err)
	}
	for name, ops := range map[string][]Op{
		"value": {{Key: []byte("s/x"), Value: make([]byte, MaxValue+1)}},
		"empty": {{Value: []byte("v")}},
		"key":   {{Key: make([]byte, MaxKey+1)}},
		"batch": {{Key: []byte("s/x"), Value: big}, {Key: []byte("s/y"), Value: big}},
	} {
		if err := r.try(ops...); !errors.Is(err, ErrTooLarge) || function.ClassOf(err) != function.ClassReject {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := r.try(Op{Key: liveKey()}); function.ClassOf(err) != function.ClassReject {
		t.Errorf("reserved key: %v", err)
	}
}

func TestBusyIsRefusedNotQueued(t *testing.T) {
	s, _, err := Open(Config{Dir: t.TempDir(), QueueSize: 1000, Floor: 1, Ballast: -1}, quiet())
	if err != nil {
		t.Fatal(err)
	}
	var results []error
	refused := 0
	for i := range 20 { // nobody runs it: everything stays queued
		err := s.Submit([]Op{set(fmt.Sprint("s/", i), "some value")}, func(err error) { results = append(results, err) })
		if err != nil {
			if !errors.Is(err, ErrBusy) || function.ClassOf(err) != function.ClassOverload {
				t.Fatal(err)
			}
			refused++
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if refused == 0 || len(results) != 20-refused {
		t.Fatalf("%d refused, %d told", refused, len(results))
	}
	for _, err := range results {
		if !errors.Is(err, ErrClosed) {
			t.Fatalf("left behind: %v", err)
		}
	}
}

func TestClosingRefusesAndSyncsTheRest(t *testing.T) {
	cfg := Config{Dir: t.TempDir()}
	r, _ := open(t, cfg)
	var told int
	for i := range 100 {
		if err := r.Submit([]Op{set(fmt.Sprintf("s/%03d", i), "v")}, func(err error) {
			if err == nil {
				told++
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	r.stop()
	if err := <-r.ended; err != nil {
		t.Fatal(err)
	}
	if told != 100 {
		t.Fatalf("%d of 100 synced", told)
	}
	if err := r.Submit([]Op{set("s/late", "v")}, nil); !errors.Is(err, ErrClosed) {
		t.Fatalf("after the end: %v", err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	r, report := open(t, cfg)
	defer r.shutdown(t)
	if report.Records != 100 || !report.Clean() {
		t.Fatalf("%+v", report)
	}
}

func TestDiskErrorStopsEverything(t *testing.T) {
	broken := errors.New("I/O error")
	syncs := 0
	cfg := Config{Dir: t.TempDir()}
	cfg.seam.sync = func(f *os.File) error {
		if syncs++; syncs > 3 {
			return broken
		}
		return fdatasync(f)
	}
	r, _ := open(t, cfg)
	for i := range 3 {
		r.put(t, set(fmt.Sprint("s/", i), "good"))
	}
	if err := r.try(set("s/bad", "v")); !errors.Is(err, ErrFailed) || !errors.Is(err, broken) || function.ClassOf(err) != function.ClassFatal {
		t.Fatalf("the unsynced batch: %v", err)
	}
	if err := r.try(set("s/more", "v")); !errors.Is(err, ErrFailed) {
		t.Fatalf("submitting afterwards: %v", err)
	}
	if _, _, err := r.Get([]byte("s/bad")); !errors.Is(err, ErrFailed) {
		t.Fatalf("reading afterwards: %v", err)
	}
	if err := r.Scan(nil, nil, func(_, _ []byte, _ uint64) bool { return true }); !errors.Is(err, ErrFailed) {
		t.Fatalf("scanning afterwards: %v", err)
	}
	if err := <-r.ended; !errors.Is(err, ErrFailed) {
		t.Fatalf("Run: %v", err)
	}
	if r.Stats().Failed == nil {
		t.Fatal("not in the stats")
	}
	_ = r.Close() // the disk is broken

	cfg.seam.sync = nil
	r, report := open(t, cfg)
	defer r.shutdown(t)
	if report.Lost != 0 || report.LostWrites != 0 {
		t.Fatalf("acknowledged records are missing: %+v", report)
	}
	for i := range 3 {
		want(t, r.Store, fmt.Sprint("s/", i), "good")
	}
}

func TestScanMergesWhatIsQueued(t *testing.T) {
	s, _, err := Open(Config{Dir: t.TempDir(), Floor: 1, Ballast: -1}, quiet())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx, stop := context.WithCancel(context.Background())
	synced := make(chan error, 1)
	submit := func(done func(error), ops ...Op) {
		if err := s.Submit(ops, done); err != nil {
			t.Fatal(err)
		}
	}
	submit(func(err error) { synced <- err }, set("s/b", "1"), set("s/d", "1"), set("s/f", "1"), set("t/x", "1"))
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	if err := <-synced; err != nil {
		t.Fatal(err)
	}
	hold := make(chan struct{})
	submit(func(error) { <-hold }, set("s/held", "")) // its done keeps the batcher from the following
	defer func() { close(hold); stop(); <-ended }()
	submit(nil, set("s/a", "2"), set("s/d", "2"), Op{Key: []byte("s/f"), Delete: true}, set("s/g", "2"))
	var got []string
	collect := func(prefix, after string) string {
		got = nil
		if err := s.Scan([]byte(prefix), []byte(after), func(k, v []byte, version uint64) bool {
			got = append(got, fmt.Sprintf("%s=%s", k, v))
			return len(got) < 4
		}); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(got)
	}
	if all := collect("s/", ""); all != "[s/a=2 s/b=1 s/d=2 s/g=2]" {
		t.Fatal(all)
	}
	if all := collect("s/", "s/b"); all != "[s/d=2 s/g=2 s/held=]" {
		t.Fatal(all)
	}
	var keys []string
	if err := s.Keys([]byte("s/"), nil, func(k []byte, version uint64) bool {
		if _, v, err := s.Get(k); err != nil || v != version {
			t.Errorf("Keys: %q has version %d, Get says %d, %v", k, version, v, err)
		}
		keys = append(keys, string(k))
		return true
	}); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(keys) != "[s/a s/b s/d s/g s/held]" {
		t.Fatal(keys)
	}
}

func TestExpiry(t *testing.T) {
	cfg := Config{Dir: t.TempDir()}
	wall := time.Now()
	cfg.seam.now = func() time.Time { return wall }
	r, _ := open(t, cfg)
	r.put(t, Op{Key: []byte("s/short"), Value: []byte("v"), TTL: time.Hour}, Op{Key: []byte("s/long"), Value: []byte("v"), TTL: 1000 * time.Hour})
	want(t, r.Store, "s/short", "v")
	r.shutdown(t)

	wall = time.Unix(0, 0) // a board without a clock: nothing ages
	r, _ = open(t, cfg)
	want(t, r.Store, "s/short", "v")
	r.shutdown(t)

	wall = time.Now().Add(2 * time.Hour)
	r, report := open(t, cfg)
	want(t, r.Store, "s/short", "")
	want(t, r.Store, "s/long", "v")
	if report.Records != 2 {
		t.Fatalf("the sweep has not run yet: %+v", report)
	}
	w := sweeper{store: r.Store}
	sweeps := make(chan struct{})
	r.put(t, set("s/x", "")) // the sweep belongs to the batcher's goroutine: run it from there
	if err := r.Submit([]Op{set("s/y", "")}, func(error) { w.start(); w.step(); close(sweeps) }); err != nil {
		t.Fatal(err)
	}
	<-sweeps
	r.put(t, set("s/z", ""))
	if n := r.Stats().Records; n != 4 { // long, x, y, z
		t.Fatalf("%d records after the sweep", n)
	}
	r.shutdown(t)
}

func TestLockedAndForeignFormatsAreRefused(t *testing.T) {
	cfg := Config{Dir: t.TempDir()}
	r, _ := open(t, cfg)
	if _, _, err := Open(cfg, quiet()); !errors.Is(err, ErrLocked) {
		t.Fatalf("second open: %v", err)
	}
	r.put(t, set("s/a", "1"))
	r.shutdown(t)
	if err := os.WriteFile(cfg.Dir+"/FORMAT", []byte("mayfly store 2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Open(cfg, quiet()); !errors.Is(err, ErrFormat) {
		t.Fatalf("downgrade: %v", err)
	}
	if err := os.WriteFile(cfg.Dir+"/FORMAT", nil, 0o600); err != nil { // cut by a crash at the very first start
		t.Fatal(err)
	}
	r, report := open(t, cfg)
	defer r.shutdown(t)
	if report.Clean() || report.Lost != 0 {
		t.Fatalf("%+v", report)
	}
	want(t, r.Store, "s/a", "1")
}

// An empty batch is a barrier: it is done when everything submitted before it is synced.
func TestEmptyBatchWaitsForTheOnesBefore(t *testing.T) {
	s, _ := open(t, Config{Dir: t.TempDir()})
	defer s.shutdown(t)
	order := make(chan int, 2)
	if err := s.Submit([]Op{{Key: State.Key("f", []byte("k")), Value: []byte("v")}}, func(error) { order <- 1 }); err != nil {
		t.Fatal(err)
	}
	if err := s.Submit(nil, func(err error) {
		if err != nil {
			t.Error(err)
		}
		order <- 2
	}); err != nil {
		t.Fatal(err)
	}
	if a, b := <-order, <-order; a != 1 || b != 2 {
		t.Errorf("done in the order %d, %d", a, b)
	}
	alone := make(chan error, 1)
	if err := s.Submit(nil, func(err error) { alone <- err }); err != nil {
		t.Fatal(err)
	}
	if err := <-alone; err != nil {
		t.Error(err)
	}
}
