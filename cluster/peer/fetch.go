package peer

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"mayfly/function"
)

// Shelf keeps modules on disk, whole and in part. *artifact.Store is one.
type Shelf interface {
	// Read returns a whole module; an error of kind "absent" or "corrupt" says that it has to be fetched.
	Read(d function.Digest) ([]byte, error)
	// Part returns how many of its first bytes are here.
	Part(d function.Digest) int64
	// Extend appends to the part, which has at bytes. What came before an error stays; one of src has the kind "source".
	Extend(d function.Digest, at int64, src io.Reader) error
	// Publish makes the part the module, or says that it is not (kind "digest") and forgets it.
	Publish(d function.Digest, keep func(function.Digest) bool) error
	// Discard forgets the part.
	Discard(d function.Digest) error
}

// Source hands out modules of other nodes. *Peers is one.
type Source interface {
	// Blob returns the module from byte from on, and the size of the whole.
	Blob(ctx context.Context, node string, d function.Digest, from int64) (body io.ReadCloser, size int64, err error)
}

// FetchConfig says how modules are fetched. A zero bound means the default.
type FetchConfig struct {
	Nodes func() []string              // the other nodes that are alive; safe for concurrent use
	Keep  func(d function.Digest) bool // modules that must not go to make room; see artifact.Store.Put
	Most  int64                        // bytes of a module, default 8 MiB
	Stall time.Duration                // silence after which a node is given up, default 10 s
	Total time.Duration                // for one module, default 15 min
}

const (
	maxFetches = 2 // modules at once
	tries      = 3 // rounds over all nodes without a byte of progress
	avoidMin   = 500 * time.Millisecond
	avoidMax   = 5 * time.Minute
	avoidLiar  = time.Hour
	pauseMin   = time.Second // before a module that nobody has is looked for again
	pauseMax   = 30 * time.Second
)

// Fetcher brings modules that are not here from the nodes that have them. It is safe for concurrent use; Close ends it.
type Fetcher struct {
	shelf  Shelf
	source Source
	cfg    FetchConfig
	log    *slog.Logger

	group sync.WaitGroup
	slots chan struct{}

	mu      sync.Mutex
	running map[function.Digest]*fetch
	failed  map[function.Digest]failure
	avoid   map[string]avoided
	closed  bool
}

// fetch is one module being fetched, for everybody who waits for it.
type fetch struct {
	cancel context.CancelFunc
	done   chan struct{}
	err    error
}

// failure is a module that could not be fetched.
type failure struct {
	err   error
	times int
	until time.Time
}

// avoided is a node that is not asked for a while.
type avoided struct {
	times int
	until time.Time
	liar  bool
}

// NewFetcher returns a fetcher that fetches nothing yet.
func NewFetcher(shelf Shelf, source Source, cfg FetchConfig, log *slog.Logger) *Fetcher {
	orElse(&cfg.Most, 8<<20)
	orElse(&cfg.Stall, 10*time.Second)
	orElse(&cfg.Total, 15*time.Minute)
	return &Fetcher{
		shelf: shelf, source: source, cfg: cfg, log: log, slots: make(chan struct{}, maxFetches),
		running: map[function.Digest]*fetch{}, failed: map[function.Digest]failure{}, avoid: map[string]avoided{},
	}
}

// Close ends what is being fetched; what came of it stays on disk for the next time.
func (f *Fetcher) Close() error {
	f.mu.Lock()
	f.closed = true
	for _, r := range f.running {
		r.cancel()
	}
	f.mu.Unlock()
	f.group.Wait()
	return nil
}

// Module returns a module's bytes, which have the digest d, from the shelf or from another node. When ctx ends before they are
// here the fetch goes on, for the event that needs them next; the error then has the kind "fetching". Every error is of
// ClassNotHere. After a failure it is not tried again for a moment: the error is then that of before.
func (f *Fetcher) Module(ctx context.Context, d function.Digest) ([]byte, error) {
	module, err := f.shelf.Read(d)
	if err == nil {
		return module, nil
	}
	if kind := function.KindOf(err); kind != "absent" && kind != "corrupt" {
		return nil, err
	}
	running, err := f.start(d)
	if err != nil {
		return nil, err
	}
	select {
	case <-running.done:
	case <-ctx.Done():
		return nil, f.fault(d, "fetching", fmt.Errorf("the module is being fetched: %w", ctx.Err()))
	}
	if running.err != nil {
		return nil, running.err
	}
	return f.shelf.Read(d)
}

func (f *Fetcher) fault(d function.Digest, kind string, err error) error {
	return &function.Error{
		Op: "fetch module", Subject: d.Short(), Class: function.ClassNotHere, Kind: kind, Err: err,
		Hint: "deploy the function again, or let a node that has its module join",
	}
}

// start returns the fetch of d, beginning it if need be.
func (f *Fetcher) start(d function.Digest) (*fetch, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, f.fault(d, "closed", errClosed)
	}
	if r := f.running[d]; r != nil {
		return r, nil
	}
	if past, ok := f.failed[d]; ok && time.Now().Before(past.until) {
		return nil, past.err
	}
	ctx, cancel := context.WithTimeout(context.Background(), f.cfg.Total) // not the first one's: others may join it
	r := &fetch{cancel: cancel, done: make(chan struct{})}
	f.running[d] = r
	f.group.Go(func() {
		defer cancel()
		err := f.fetch(ctx, d)
		f.mu.Lock()
		defer f.mu.Unlock()
		r.err = err
		delete(f.running, d)
		f.remember(d, err)
		close(r.done)
	})
	return r, nil
}

// remember notes a failure, and forgets old ones. The lock is held.
func (f *Fetcher) remember(d function.Digest, err error) {
	now := time.Now()
	for old, past := range f.failed {
		if now.Sub(past.until) > pauseMax {
			delete(f.failed, old)
		}
	}
	if err == nil {
		delete(f.failed, d)
		return
	}
	past := f.failed[d]
	pause := min(pauseMax, pauseMin<<min(past.times, 10))
	f.failed[d] = failure{err, past.times + 1, now.Add(pause)}
}

// ranked returns the nodes in the order in which they are asked for d: by rendezvous, so that everybody asks the same few first and
// they are those who are given it to keep.
func ranked(nodes []string, d function.Digest) []string {
	type scored struct {
		node  string
		score uint64
	}
	all := make([]scored, len(nodes))
	for i, n := range nodes {
		sum := sha256.Sum256(append([]byte(n+"\x00"), d[:]...))
		all[i] = scored{n, binary.BigEndian.Uint64(sum[:])}
	}
	slices.SortFunc(all, func(a, b scored) int {
		return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(a.node, b.node))
	})
	out := make([]string, len(all))
	for i, s := range all {
		out[i] = s.node
	}
	return out
}

// Keepers returns the nodes among which d is looked for first, at most n: whoever brings a module into the cluster does well to let
// them fetch it.
func Keepers(nodes []string, d function.Digest, n int) []string {
	r := ranked(nodes, d)
	return r[:min(n, len(r))]
}

// fetch brings d onto the shelf.
func (f *Fetcher) fetch(ctx context.Context, d function.Digest) error {
	select {
	case f.slots <- struct{}{}:
		defer func() { <-f.slots }()
	case <-ctx.Done():
		return f.fault(d, "timeout", ctx.Err())
	}
	h := &hunt{f: f, d: d, authors: map[string]bool{}, without: map[string]bool{}}
	if f.shelf.Part(d) > 0 {
		h.authors[beforeUs] = true
	}
	began := time.Now()
	for fruitless := 0; fruitless < tries; fruitless++ {
		done, progress, err := h.round(ctx)
		switch {
		case done:
			f.log.Info("fetched a module", "module", d.Short(), "took", time.Since(began).Round(time.Millisecond))
			return nil
		case err != nil:
			return err
		case progress:
			fruitless = -1
		}
		if err := rest(ctx, avoidMin); err != nil {
			break
		}
	}
	return f.fault(d, "absent", h.why())
}

func rest(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// may says whether node may be asked now.
func (f *Fetcher) may(node string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	a, ok := f.avoid[node]
	return !ok || !time.Now().Before(a.until)
}

// shun leaves a node alone for a while, longer each time, unless it was of some use.
func (f *Fetcher) shun(node string, useful, liar bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	for old, a := range f.avoid {
		if now.Sub(a.until) > avoidLiar {
			delete(f.avoid, old)
		}
	}
	a := f.avoid[node]
	if useful {
		a.times = 0
	}
	pause := min(avoidMax, avoidMin<<min(a.times, 12))
	if liar {
		pause = avoidLiar
	}
	f.avoid[node] = avoided{a.times + 1, now.Add(pause), liar}
}

func (f *Fetcher) trust(node string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.avoid, node)
}

// Liars returns the nodes that are avoided because what they sent was not what they said, sorted.
func (f *Fetcher) Liars() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []string
	for node, a := range f.avoid {
		if a.liar && time.Now().Before(a.until) {
			all = append(all, node)
		}
	}
	slices.Sort(all)
	return all
}

var errNobody = errors.New("no other node is alive")
