package wasm

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mayfly/function"
)

func newPool(t *testing.T, places int) *pool {
	t.Helper()
	start := time.Now()
	p := &pool{now: func() time.Duration { return time.Since(start) }}
	p.fill(places)
	t.Cleanup(p.freeAll)
	return p
}

// A place belongs to one call at a time, whatever the calls do: keep an instance, wait, give up waiting, retire their function.
// Everybody gets one in the end, and all come back.
func TestPlacesBelongToOneCall(t *testing.T) {
	const places = 3
	p := newPool(t, places)
	residents := make([]*resident, 4)
	for i := range residents {
		residents[i] = &resident{reuse: i%2 == 0}
	}
	var taken [places]atomic.Bool
	var served atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 2000 {
				r := residents[rand.IntN(len(residents))]
				ctx, cancel := context.WithCancel(context.Background())
				if rand.IntN(8) == 0 {
					cancel() // gives up as soon as it has to wait
				}
				if pl := p.take(ctx, r, time.Now().Add(time.Minute)); pl != nil {
					served.Add(1)
					p.work(t, pl, r, &taken[slices.Index(p.all, pl)])
				} else if ctx.Err() == nil {
					t.Error("no place, a minute before the deadline")
				}
				cancel()
				if rand.IntN(16) == 0 {
					p.forget(r)
				}
			}
		})
	}
	wg.Wait()
	if kept, busy, _ := p.counts(); busy != 0 || kept != int(p.open.Load()) || kept > (places+1)/2 || len(p.line) != 0 || p.waiting.Load() != 0 {
		t.Errorf("%d kept, %d open, %d busy, %d in line", kept, p.open.Load(), busy, len(p.line))
	}
	if served.Load() < 8*2000/2 {
		t.Errorf("%d calls got a place", served.Load())
	}
}

// work is what a call does with its place.
func (p *pool) work(t *testing.T, pl *place, r *resident, taken *atomic.Bool) {
	if taken.Swap(true) {
		t.Error("two calls have one place")
	}
	if owner := pl.owner.Load(); owner != nil && owner != r {
		p.drop(pl)
	}
	if r.reuse && pl.owner.Load() == nil {
		p.keep(pl, r)
	}
	if rand.IntN(10) == 0 {
		p.drop(pl) // a trap
	}
	taken.Store(false)
	p.give(pl)
}

// Who came first is served first, also before those who did not wait yet.
func TestLineIsServedInOrder(t *testing.T) {
	p := newPool(t, 1)
	r := &resident{}
	pl := p.take(context.Background(), r, time.Now().Add(time.Minute))
	order := make(chan int, 8)
	for i := range 8 {
		go func() {
			got := p.take(context.Background(), r, time.Now().Add(time.Minute))
			order <- i
			p.give(got)
		}()
		for int(p.waiting.Load()) != i+1 {
			runtime.Gosched()
		}
	}
	p.give(pl)
	for i := range 8 {
		if got := <-order; got != i {
			t.Fatalf("number %d was served as number %d", got, i)
		}
	}
}

// Calls, deployments, unloading and eviction at once: nothing that a call uses is freed, and everything is in the end.
func TestResidentsAreFreedAfterTheirLastCall(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Slots, c.Loaded = 3, 1 })
	var versions [6]*function.Function
	for i := range versions {
		versions[i] = r.function(handler(fmt.Sprintf(`(drop (i32.const %d)) %s`, i%3, echo)), func(m *function.Manifest) {
			m.Name, m.Module.Reuse = string(rune('a'+i%2)), i < 3
		})
		if err := r.Load(context.Background(), versions[i]); err != nil { // compiles
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			for range 150 {
				f := versions[rand.IntN(len(versions))]
				if res, err := r.invoke(f, "hello"); err != nil || len(res.Publishes) != 1 {
					t.Errorf("%v, %d publishes", err, len(res.Publishes))
					return
				}
				if rand.IntN(8) == 0 {
					r.Unload(f.Name())
				}
			}
		})
	}
	wg.Wait()
	r.Unload("a")
	r.Unload("b")
	r.shrink()
	if s := r.Stats(); s.Busy != 0 || s.Kept != 0 || s.LoadedBytes > 1 || s.Loaded != 0 {
		t.Errorf("after everything was unloaded: %+v", s)
	}
}

// What the callers share is small: a call of a busy module is made in the shard of its processor, and costs room there.
func TestBusyModuleIsSpread(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Shards = 3 })
	f := r.function(handler(echo))
	r.must(f, "x")
	before := r.Stats().LoadedBytes
	r.spread(f)
	if s := r.Stats(); s.Loaded != 1 || s.LoadedBytes != 3*before {
		t.Errorf("%d bytes loaded in 3 shards, %d in one", s.LoadedBytes, before)
	}
	for range 100 {
		if res := r.must(f, "y"); len(res.Publishes) != 1 {
			t.Error("it does not run any more")
		}
	}
	if m := r.resident(f).module; m.away.Load() != spreadAfter {
		t.Errorf("%d calls were away, though it is everywhere", m.away.Load())
	}
}
