package catalog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"mayfly/function"
	"mayfly/store"
)

// memory is a small store: what is submitted is queued, and synced at once or when told.
type memory struct {
	mu     sync.Mutex
	synced map[string][]byte
	queue  []queued
	hold   bool  // sync only when told
	refuse error // of Submit
	writes int

	largest  int // bytes of the largest batch
	cutAfter int // the power goes with the n-th batch from now; 0 = it stays
}

var errCut = errors.New("the power is gone")

type queued struct {
	ops  []store.Op
	done func(error)
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func timeNow() time.Time { return time.Now() }

func newMemory() *memory { return &memory{synced: map[string][]byte{}} }

func (m *memory) Submit(ops []store.Op, done func(error)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.refuse != nil {
		return m.refuse
	}
	if m.cutAfter == 1 {
		return errCut
	} else if m.cutAfter > 1 {
		m.cutAfter--
	}
	m.queue = append(m.queue, queued{ops, done})
	if !m.hold {
		go m.sync(nil)
	}
	return nil
}

// sync makes everything queued durable, or fails all of it.
func (m *memory) sync(err error) {
	m.mu.Lock()
	queue := m.queue
	m.queue = nil
	for _, q := range queue {
		size := 0
		for _, op := range q.ops {
			size += len(op.Key) + len(op.Value)
			if err != nil {
				continue
			}
			m.writes++
			if m.synced[string(op.Key)] = op.Value; op.Delete {
				delete(m.synced, string(op.Key))
			}
		}
		m.largest = max(m.largest, size)
	}
	m.mu.Unlock()
	for _, q := range queue {
		q.done(err)
	}
}

func (m *memory) Scan(prefix, _ []byte, yield func(key, value []byte, version uint64) bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for k, v := range m.synced {
		if strings.HasPrefix(k, string(prefix)) && !yield([]byte(k), v, 1) {
			break
		}
	}
	return nil
}

func (m *memory) waiting() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.queue)
}

func open(t testing.TB, s Store) *Catalog {
	t.Helper()
	c, err := Open(s, Options{Node: "n1", Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func makeFunction(t testing.TB, name, more string) function.Function {
	t.Helper()
	m, err := function.ParseManifest("f.toml", []byte("manifest = 1\nname = \""+name+"\"\n[module]\npath = \"a.wasm\"\n"+more))
	if err != nil {
		t.Fatal(err)
	}
	return function.Function{Manifest: m, Module: function.DigestOf([]byte(name))}
}

const everything = `
[[trigger.mqtt]]
topic = "plant/{line}/{rest...}"
when = "json.t > 70"
[[trigger.http]]
route = "POST /x/{line}"
auth = "public"
[permissions]
publish = ["a/+"]
[config]
limit = 7
[[test]]
name = "one"
topic = "plant/1/x"
expect.publish = []
`

func TestPutGetListDelete(t *testing.T) {
	c := open(t, newMemory())
	ctx := t.Context()
	b, err := c.Put(ctx, makeFunction(t, "b", everything))
	if err != nil {
		t.Fatal(err)
	}
	a, err := c.Put(ctx, makeFunction(t, "a", ""))
	if err != nil || a.Version == 0 || a.Deployed.IsZero() {
		t.Fatal(a, err)
	}
	if got, ok := c.Get("b"); !ok || got != b {
		t.Error(got, ok)
	}
	if got := c.List(); !reflect.DeepEqual(got, []*function.Function{a, b}) {
		t.Error(got)
	}
	if err := c.Delete(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	if err := c.Delete(ctx, "a"); function.KindOf(err) != "not-found" {
		t.Error(err)
	}
	if _, err := c.SetPaused(ctx, "a", true); function.KindOf(err) != "not-found" {
		t.Error(err)
	}
	again, err := c.Put(ctx, makeFunction(t, "a", ""))
	if err != nil || again.Version <= a.Version+1 {
		t.Errorf("version %d after %d and a tombstone, %v", again.Version, a.Version, err)
	}
	paused, err := c.SetPaused(ctx, "b", true)
	if err != nil || !paused.Paused || paused.Version <= b.Version || !paused.Deployed.Equal(b.Deployed) || b.Paused {
		t.Error(paused, err)
	}
}

// What is deployed is the same after a restart, to the last bit, on a real disk.
func TestSurvivesRestart(t *testing.T) {
	dir := t.TempDir()
	before := withStore(t, dir, func(c *Catalog) []*function.Function {
		for _, f := range []function.Function{makeFunction(t, "gone", ""), makeFunction(t, "b", everything), makeFunction(t, "a", "")} {
			if _, err := c.Put(t.Context(), f); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := c.SetPaused(t.Context(), "a", true); err != nil {
			t.Fatal(err)
		}
		if err := c.Delete(t.Context(), "gone"); err != nil {
			t.Fatal(err)
		}
		return c.List()
	})
	after := withStore(t, dir, func(c *Catalog) []*function.Function {
		if f, err := c.Put(t.Context(), makeFunction(t, "b", everything)); err != nil || f != c.List()[1] {
			t.Errorf("the same deployment changed something: %v", err)
		}
		return c.List()
	})
	if len(before) != 2 || !reflect.DeepEqual(before, after) {
		t.Errorf("before %+v\nafter  %+v", before, after)
	}
}

func withStore(t *testing.T, dir string, use func(*Catalog) []*function.Function) []*function.Function {
	t.Helper()
	s, _, err := store.Open(store.Config{Dir: dir, Floor: 1, Ballast: -1}, slog.New(slog.DiscardHandler))
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
	return use(open(t, s))
}

// A change is visible, and answered, only once it is synced; what was not synced is not there after a crash.
func TestNothingBeforeTheSync(t *testing.T) {
	m := newMemory()
	m.hold = true
	c := open(t, m)
	answer := make(chan error, 1)
	before := c.Snapshot()
	go func() {
		_, err := c.Put(context.Background(), makeFunction(t, "a", ""))
		answer <- err
	}()
	waitFor(t, func() bool { return m.waiting() == 1 })
	if len(c.List()) != 0 || len(open(t, m).List()) != 0 {
		t.Error("visible before it is synced")
	}
	select {
	case err := <-answer:
		t.Fatal("answered before it is synced:", err)
	case <-before.Next():
		t.Fatal("announced before it is synced")
	default:
	}
	m.sync(nil)
	if err := <-answer; err != nil {
		t.Fatal(err)
	}
	<-before.Next()
	if len(c.List()) != 1 || len(open(t, m).List()) != 1 {
		t.Error("not there after it is synced")
	}
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatal("it does not come")
		}
		<-time.After(time.Millisecond)
	}
}

func TestTheDiskFails(t *testing.T) {
	m := newMemory()
	c := open(t, m)
	m.refuse = &function.Error{Op: "store: submit", Class: function.ClassOverload, Kind: "full", Err: store.ErrFull}
	if _, err := c.Put(t.Context(), makeFunction(t, "a", "")); !errors.Is(err, store.ErrFull) || function.ClassOf(err) != function.ClassOverload {
		t.Error(err)
	}
	m.refuse, m.hold = nil, true
	answer := make(chan error, 1)
	go func() {
		_, err := c.Put(context.Background(), makeFunction(t, "a", ""))
		answer <- err
	}()
	waitFor(t, func() bool { return m.waiting() == 1 })
	m.sync(store.ErrFailed)
	if err := <-answer; !errors.Is(err, store.ErrFailed) {
		t.Error(err)
	}
	m.hold = false
	if len(c.List()) != 0 {
		t.Error("a change that failed is visible")
	}
	if _, err := c.Put(t.Context(), makeFunction(t, "a", "")); err != nil {
		t.Error("the turn was lost:", err)
	}
}

// Who stops waiting does not lose the change, nor the turn of those behind.
func TestGivingUpOnASlowDisk(t *testing.T) {
	m := newMemory()
	m.hold = true
	c := open(t, m)
	ctx, cancel := context.WithCancel(context.Background())
	answer := make(chan error, 1)
	go func() {
		_, err := c.Put(ctx, makeFunction(t, "a", ""))
		answer <- err
	}()
	waitFor(t, func() bool { return m.waiting() == 1 })
	cancel()
	if err := <-answer; !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "may still come true") {
		t.Error(err)
	}
	if _, err := c.Put(ctx, makeFunction(t, "b", "")); !errors.Is(err, context.Canceled) || m.waiting() != 1 {
		t.Error("a second change started on top of an open one:", err)
	}
	m.sync(nil)
	waitFor(t, func() bool { return len(c.List()) == 1 })
}

func TestUnchangedIsNotWritten(t *testing.T) {
	m := newMemory()
	c := open(t, m)
	first, err := c.Put(t.Context(), makeFunction(t, "a", everything))
	if err != nil {
		t.Fatal(err)
	}
	second, err := c.Put(t.Context(), makeFunction(t, "a", everything))
	if err != nil || second != first || m.writes != 1 {
		t.Errorf("%d writes, %v", m.writes, err)
	}
}

func TestRouteConflict(t *testing.T) {
	c := open(t, newMemory())
	route := func(s string) string { return "[[trigger.http]]\nroute = \"" + s + "\"\nauth = \"public\"\n" }
	if _, err := c.Put(t.Context(), makeFunction(t, "a", route("POST /x/{line}"))); err != nil {
		t.Fatal(err)
	}
	_, err := c.Put(t.Context(), makeFunction(t, "b", route("POST /x/{row}")))
	if function.KindOf(err) != "route-conflict" || function.ClassOf(err) != function.ClassReject {
		t.Fatal(err)
	}
	want := `deploy b: its route "POST /x/{row}" and the route "POST /x/{line}" of function "a" take the same requests`
	if err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	for _, f := range []function.Function{
		makeFunction(t, "b", route("GET /x/{row}")), makeFunction(t, "c", route("POST /x/7")), makeFunction(t, "a", route("POST /x/{other}")),
	} {
		if _, err := c.Put(t.Context(), f); err != nil {
			t.Error(err)
		}
	}
}

func TestDamagedRecords(t *testing.T) {
	m := newMemory()
	c := open(t, m)
	for _, name := range []string{"a", "b", "c", "d"} {
		if _, err := c.Put(t.Context(), makeFunction(t, name, "")); err != nil {
			t.Fatal(err)
		}
	}
	key := func(name string) string { return string(store.Catalog.Key(string(KindFunction), []byte(name))) }
	m.synced[key("a")] = nil
	m.synced[key("b")] = []byte("nonsense")
	m.synced[key("c")] = m.synced[key("d")]
	var log bytes.Buffer
	c, err := Open(m, Options{Node: "n1", Now: time.Now, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	damaged := slices.Sorted(slices.Values(c.Snapshot().Damaged()))
	if len(c.List()) != 1 || !slices.Equal(damaged, []string{"a", "b", "c"}) || strings.Count(log.String(), "level=ERROR") != 3 {
		t.Errorf("%v, %v, %s", c.List(), damaged, log.String())
	}
	if _, err := c.Put(t.Context(), makeFunction(t, "a", "")); err != nil || len(c.Snapshot().Damaged()) != 2 {
		t.Error(err, c.Snapshot().Damaged())
	}
	if err := c.Delete(t.Context(), "b"); err != nil || len(c.Snapshot().Damaged()) != 1 {
		t.Error(err, c.Snapshot().Damaged())
	}
}

func TestTooLarge(t *testing.T) {
	c := open(t, newMemory())
	_, err := c.Put(t.Context(), makeFunction(t, "a", "[config]\nx = \""+strings.Repeat("y", MaxBody)+"\"\n"))
	if function.KindOf(err) != "manifest" || len(c.List()) != 0 {
		t.Error(err)
	}
}

func TestFollowing(t *testing.T) {
	c := open(t, newMemory())
	const changes = 50
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for j := range changes {
				if _, err := c.Put(ctx, makeFunction(t, fmt.Sprintf("f%d-%d", i, j), "")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for s := c.Snapshot(); len(s.List()) < 4*changes; s = c.Snapshot() {
		if !slices.IsSortedFunc(s.List(), byName) {
			t.Fatal("not sorted")
		}
		select {
		case <-s.Next():
		case <-ctx.Done():
			t.Fatalf("the follower saw %d of %d", len(s.List()), 4*changes)
		}
	}
	wg.Wait()
}

func TestNextVersion(t *testing.T) {
	for _, c := range []struct {
		prev uint64
		now  int64
		want uint64
	}{
		{0, 1000, 1000 << 16}, {1000 << 16, 1000, 1000<<16 + 1}, {2000 << 16, 1000, 2000<<16 + 1}, {5, 0, 6}, {5, -9, 6}, {5, 1 << 60, 6},
	} {
		if got := NextVersion(c.prev, time.UnixMilli(c.now)); got != c.want {
			t.Errorf("NextVersion(%d, %d) = %d, want %d", c.prev, c.now, got, c.want)
		}
	}
}

var recordGen = rapid.Custom(func(t *rapid.T) Record {
	pick := func(label string, words ...string) string { return rapid.SampledFrom(words).Draw(t, label) }
	r := Record{Kind: KindFunction, Key: "a", Ver: rapid.Uint64Range(1, 3).Draw(t, "ver"), Writer: pick("writer", "n1", "n2")}
	if r.Deleted = rapid.Bool().Draw(t, "deleted"); !r.Deleted {
		r.Body = []byte(pick("body", "x", "y", "z"))
	}
	if s := pick("sig", "", "s", "t"); s != "" {
		r.Sig = []byte(s)
	}
	return r
})

func TestMerge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := recordGen.Draw(t, "a"), recordGen.Draw(t, "b"), recordGen.Draw(t, "c")
		same := func(what string, x, y Record) {
			if !reflect.DeepEqual(x, y) {
				t.Fatalf("%s: %+v and %+v", what, x, y)
			}
		}
		back, err := Decode(a.Encode())
		if err != nil {
			t.Fatal(err)
		}
		same("encoded", back, a)
		same("idempotent", Merge(a, a), a)
		same("commutative", Merge(a, b), Merge(b, a))
		same("associative", Merge(Merge(a, b), c), Merge(a, Merge(b, c)))
		same("absorbing", Merge(a, Merge(a, b)), Merge(a, b))
		if m := Merge(a, b); m.Ver != max(a.Ver, b.Ver) {
			t.Fatalf("version %d of %d and %d", m.Ver, a.Ver, b.Ver)
		}
	})
}

// However the copies of a record travel, every node ends with the same one.
func TestMergeConverges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		records := rapid.SliceOfN(recordGen, 1, 8).Draw(t, "records")
		fold := func(rs []Record) Record {
			out := rs[0]
			for _, r := range rs[1:] {
				out = Merge(out, r)
			}
			return out
		}
		want := fold(records)
		if got := fold(rapid.Permutation(records).Draw(t, "order")); !reflect.DeepEqual(got, want) {
			t.Fatalf("%+v and %+v", got, want)
		}
	})
}

func FuzzDecode(f *testing.F) {
	f.Add(Record{Kind: KindFunction, Key: "a", Ver: 1, Writer: "n", Body: []byte("x"), Sig: []byte("s")}.Encode())
	f.Add([]byte{1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Decode(b)
		if err == nil && !bytes.Equal(r.Encode(), b) {
			t.Errorf("%x decodes to %+v, which encodes to %x", b, r, r.Encode())
		}
	})
}

func BenchmarkGet(b *testing.B) {
	c := open(b, newMemory())
	for i := range 100 {
		if _, err := c.Put(b.Context(), makeFunction(b, fmt.Sprintf("f%d", i), "")); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := c.Get("f50"); !ok {
			b.Fatal("not found")
		}
	}
}
