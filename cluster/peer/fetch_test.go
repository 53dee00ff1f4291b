package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"mayfly/function"
	"mayfly/wasm/artifact"
)

func shelf(t testing.TB, dir string) *artifact.Store {
	t.Helper()
	s, err := artifact.Open(dir, artifact.Options{Floor: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// bytesOf is a module that is no pattern, so that parts of it cannot be mistaken for others.
func bytesOf(seed uint64, n int) []byte {
	r := rand.NewChaCha8([32]byte{byte(seed)})
	b := make([]byte, n)
	_, _ = r.Read(b)
	return b
}

type blob struct {
	*bytes.Reader
	read *atomic.Int64
}

func (b blob) Close() error { return nil }

func (b blob) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	b.read.Add(int64(n))
	return n, err
}

// holding is a blob door that has these modules, and counts the bytes it gave.
func holding(read *atomic.Int64, modules ...[]byte) func(function.Digest) (io.ReadSeekCloser, int64, error) {
	return func(d function.Digest) (io.ReadSeekCloser, int64, error) {
		for _, m := range modules {
			if function.DigestOf(m) == d {
				return blob{bytes.NewReader(m), read}, int64(len(m)), nil
			}
		}
		return nil, 0, &function.Error{Op: "read", Subject: d.Short(), Class: function.ClassNotHere, Kind: "absent", Err: errors.New("not here")}
	}
}

func fetcher(t testing.TB, s Shelf, src Source, nodes ...string) *Fetcher {
	t.Helper()
	f := NewFetcher(s, src, FetchConfig{Nodes: func() []string { return nodes }}, quietLog())
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func TestFetch(t *testing.T) {
	s := newSite(t)
	m := bytesOf(1, 300_000)
	d := function.DigestOf(m)
	var empty, full atomic.Int64
	for _, n := range []string{"b", "c", "e"} {
		s.serve(t, n, Doors{Blob: holding(&empty)}, Limits{})
	}
	s.serve(t, "d", Doors{Blob: holding(&full, m)}, Limits{})
	dir := shelf(t, t.TempDir())
	f := fetcher(t, dir, s.peers(t, "a"), "b", "c", "d", "e")
	var group sync.WaitGroup
	for range 8 { // they share one fetch
		group.Go(func() {
			if got, err := f.Module(context.Background(), d); err != nil || !bytes.Equal(got, m) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		})
	}
	group.Wait()
	if full.Load() != int64(len(m)) || !dir.Has(d) {
		t.Errorf("%d bytes were sent", full.Load())
	}
	// Nobody has it: not here, and not asked for again at once.
	other := function.DigestOf([]byte("other"))
	_, err := f.Module(context.Background(), other)
	wantClass(t, err, function.ClassNotHere, "absent")
	_, again := f.Module(context.Background(), other)
	if again == nil || again.Error() != err.Error() {
		t.Errorf("%v, then %v", err, again)
	}
}

// The node that sends a module is killed in the middle, and so is the one that fetches it: what came stays, and only the rest is
// sent again.
func TestKilledMidBodyResumes(t *testing.T) {
	s := newSite(t)
	m := bytesOf(2, 1<<20)
	d := function.DigestOf(m)
	var sent atomic.Int64
	_, kill := s.serve(t, "b", Doors{Blob: holding(&sent, m)}, Limits{Rate: 512 << 10, Grace: time.Millisecond})
	dir := t.TempDir()
	first := shelf(t, dir)
	f := fetcher(t, first, s.peers(t, "a"), "b")
	gone, cancel := context.WithCancel(context.Background())
	waited := make(chan error, 1)
	go func() {
		_, err := f.Module(gone, d)
		waited <- err
	}()
	eventually(t, "a part is here", func() bool { return first.Part(d) > 100_000 || sent.Load() > 300_000 })
	cancel()
	wantClass(t, <-waited, function.ClassNotHere, "fetching")
	kill()
	if err := f.Close(); err != nil { // the fetching agent dies too
		t.Fatal(err)
	}
	part := first.Part(d)
	if part == 0 || part >= int64(len(m)) {
		t.Fatalf("%d bytes are here", part)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	sent.Store(0)
	s.serve(t, "b", Doors{Blob: holding(&sent, m)}, Limits{})
	f = fetcher(t, shelf(t, dir), s.peers(t, "a"), "b")
	got, err := f.Module(context.Background(), d)
	if err != nil || !bytes.Equal(got, m) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	if sent.Load() != int64(len(m))-part {
		t.Errorf("%d bytes sent again, %d were missing", sent.Load(), int64(len(m))-part)
	}
}

// script is a Source whose nodes behave badly.
type script struct {
	mu    sync.Mutex
	asked map[string]int
	node  map[string]func(ctx context.Context, from int64, nth int) (io.ReadCloser, int64, error)
}

func (s *script) Blob(ctx context.Context, node string, _ function.Digest, from int64) (io.ReadCloser, int64, error) {
	s.mu.Lock()
	s.asked[node]++
	nth := s.asked[node]
	s.mu.Unlock()
	return s.node[node](ctx, from, nth)
}

type behaviour = func(ctx context.Context, from int64, nth int) (io.ReadCloser, int64, error)

func reader(r io.Reader) io.ReadCloser { return io.NopCloser(r) }

func rest2(m []byte, from int64) []byte { return m[min(from, int64(len(m))):] }

func honest(m []byte) behaviour {
	return func(_ context.Context, from int64, _ int) (io.ReadCloser, int64, error) {
		if from >= int64(len(m)) {
			return nil, 0, &function.Error{Op: "fetch", Subject: "x", Class: function.ClassNotHere, Kind: kindPastEnd}
		}
		return reader(bytes.NewReader(m[from:])), int64(len(m)), nil
	}
}

// cutAfter sends n bytes at a time and then breaks.
func cutAfter(m []byte, n int) behaviour {
	return func(_ context.Context, from int64, _ int) (io.ReadCloser, int64, error) {
		part := rest2(m, from)
		return reader(io.MultiReader(bytes.NewReader(part[:min(n, len(part))]), broken{})), int64(len(m)), nil
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("connection reset") }

// silent sends n bytes and then nothing until it is given up.
func silent(m []byte, n int) behaviour {
	return func(ctx context.Context, from int64, _ int) (io.ReadCloser, int64, error) {
		part := rest2(m, from)
		return reader(io.MultiReader(bytes.NewReader(part[:min(n, len(part))]), hanging(ctx.Done()))), int64(len(m)), nil
	}
}

type hanging <-chan struct{}

func (h hanging) Read([]byte) (int, error) {
	<-h
	return 0, context.Canceled
}

// dripping sends a byte a second.
func dripping(m []byte) behaviour {
	return func(ctx context.Context, from int64, _ int) (io.ReadCloser, int64, error) {
		return reader(&drip{ctx.Done(), rest2(m, from)}), int64(len(m)), nil
	}
}

type drip struct {
	gone <-chan struct{}
	left []byte
}

func (d *drip) Read(b []byte) (int, error) {
	select {
	case <-time.After(time.Second):
	case <-d.gone:
		return 0, context.Canceled
	}
	n := copy(b[:1], d.left)
	d.left = d.left[n:]
	return n, nil
}

func short(m []byte, n int) behaviour {
	return func(_ context.Context, from int64, _ int) (io.ReadCloser, int64, error) {
		part := rest2(m, from)
		return reader(bytes.NewReader(part[:min(n, len(part))])), int64(len(m)), nil
	}
}

func refusing(kind string) behaviour {
	return func(context.Context, int64, int) (io.ReadCloser, int64, error) {
		return nil, 0, &function.Error{Op: "fetch", Subject: "x", Class: function.ClassNotHere, Kind: kind}
	}
}

// Whatever the others do, as long as one node sends the module it arrives; nothing else ever does. Who sent wrong bytes alone is
// named, who did not is not. [N4]
func TestBadSources(t *testing.T) {
	m, lie := bytesOf(3, 200_000), bytesOf(4, 200_000)
	long, brief := bytesOf(5, 300_000), bytesOf(6, 90_000)
	d := function.DigestOf(m)
	order := ranked([]string{"x", "y", "z"}, d) // the bad one is asked first, then another, the honest one last
	for name, c := range map[string]struct {
		first, second behaviour
		liars         int
	}{
		"a liar":                        {honest(lie), refusing(kindAbsent), 1},
		"two liars":                     {honest(lie), honest(long), 2},
		"a liar whose lie is longer":    {honest(long), refusing(kindAbsent), 1},
		"a liar whose lie is shorter":   {honest(brief), refusing(kindAbsent), 1},
		"a liar who breaks off":         {cutAfter(lie, 50_000), refusing(kindAbsent), 0},
		"a liar who breaks off too far": {cutAfter(long, 250_000), refusing(kindAbsent), 0},
		"truncated":                     {short(m, 1000), refusing(kindAbsent), 0},
		"truncated, and a liar":         {short(m, 1000), honest(lie), 0},
		"oversized":                     {oversized, refusing(kindAbsent), 0},
		"silent from the start":         {silent(m, 0), refusing(kindAbsent), 0},
		"silent after a while":          {silent(m, 1000), silent(m, 1000), 0},
		"a byte a second":               {dripping(m), refusing(kindAbsent), 0},
		"says it is all here":           {refusing(kindPastEnd), refusing(KindProtocol), 0},
		"breaks at every byte":          {cutAfter(m, 1), cutAfter(m, 0), 0},
		"wrong bytes, then right ones":  {sometimes(lie, m), refusing(KindUnreachable), 1},
	} {
		t.Run(name, func(t *testing.T) {
			dir := shelf(t, t.TempDir())
			synctest.Test(t, func(t *testing.T) {
				src := &script{asked: map[string]int{}, node: map[string]behaviour{order[0]: c.first, order[1]: c.second, order[2]: honest(m)}}
				f := NewFetcher(dir, src, FetchConfig{Nodes: func() []string { return order }}, quietLog())
				got, err := f.Module(context.Background(), d)
				if err != nil || !bytes.Equal(got, m) {
					t.Errorf("%d bytes, %v", len(got), err)
				}
				if liars := f.Liars(); len(liars) > c.liars || slices.Contains(liars, order[2]) || c.liars > 0 && len(liars) == 0 {
					t.Errorf("called liars: %v of %v", liars, order)
				}
				if err := f.Close(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func oversized(_ context.Context, from int64, _ int) (io.ReadCloser, int64, error) {
	return reader(endless{}), 1 << 40, nil
}

type endless struct{}

func (endless) Read(b []byte) (int, error) { return len(b), nil }

func sometimes(lie, m []byte) behaviour {
	return func(ctx context.Context, from int64, nth int) (io.ReadCloser, int64, error) {
		if nth == 1 {
			return honest(lie)(ctx, from, nth)
		}
		return honest(m)(ctx, from, nth)
	}
}

// When nobody can send it, the fetch ends, soon, with what the last one said, and a liar is not asked again.
func TestNobodyHonest(t *testing.T) {
	m := bytesOf(3, 200_000)
	d := function.DigestOf(m)
	for name, c := range map[string]struct {
		nodes []string
		does  behaviour
		says  string
		asked int
	}{
		"nobody alive": {nil, nil, "no other node is alive", 0},
		"a liar":       {[]string{"x"}, honest(bytesOf(9, 1000)), "x: ", 1},
		"absent":       {[]string{"x"}, refusing(kindAbsent), "x: ", 1},
		"always cut":   {[]string{"x"}, cutAfter(m, 0), "connection reset", 3},
	} {
		t.Run(name, func(t *testing.T) {
			dir := shelf(t, t.TempDir())
			synctest.Test(t, func(t *testing.T) {
				src := &script{asked: map[string]int{}, node: map[string]behaviour{"x": c.does}}
				f := NewFetcher(dir, src, FetchConfig{Nodes: func() []string { return c.nodes }}, quietLog())
				began := time.Now()
				_, err := f.Module(context.Background(), d)
				wantClass(t, err, function.ClassNotHere, "absent")
				if err == nil || !strings.Contains(err.Error(), c.says) || src.asked["x"] > c.asked || time.Since(began) > time.Minute {
					t.Errorf("%v after %v, asked %v", err, time.Since(began), src.asked)
				}
				if err := f.Close(); err != nil {
					t.Error(err)
				}
				if _, err := f.Module(context.Background(), d); err == nil {
					t.Error("fetched after Close")
				}
			})
		})
	}
}

// A full disk here is nobody else's fault.
func TestFetchOntoAFullDisk(t *testing.T) {
	m := bytesOf(3, 1000)
	src := &script{asked: map[string]int{}, node: map[string]behaviour{"x": honest(m), "y": honest(m)}}
	s, err := artifact.Open(t.TempDir(), artifact.Options{Floor: 1 << 60})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	f := fetcher(t, s, src, "x", "y")
	_, err = f.Module(context.Background(), function.DigestOf(m))
	wantClass(t, err, function.ClassNotHere, "disk-full")
	if src.asked["x"]+src.asked["y"] != 1 || !f.may("x") || !f.may("y") {
		t.Errorf("asked %v", src.asked)
	}
}

func TestRankedSpreads(t *testing.T) {
	var nodes []string
	for i := range 20 {
		nodes = append(nodes, fmt.Sprint("node-", i))
	}
	first := map[string]int{}
	for i := range 2000 {
		d := function.DigestOf(fmt.Append(nil, i))
		r := ranked(nodes, d)
		first[r[0]]++
		// One node more changes nothing but what it takes for itself.
		more := ranked(append(slices.Clone(nodes), "new"), d)
		if got := slices.DeleteFunc(more, func(n string) bool { return n == "new" }); !slices.Equal(got, r) {
			t.Fatal("a new node changes the order of the others")
		}
		if k := Keepers(nodes, d, 3); len(k) != 3 || !slices.Equal(k, r[:3]) {
			t.Fatal(k)
		}
	}
	for n, c := range first {
		if c < 50 || c > 150 {
			t.Errorf("%s is first for %d of 2000", n, c)
		}
	}
}
