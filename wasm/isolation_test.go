package wasm

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"mayfly/function"
)

// gate is a State that holds every Get until n guests are there: then all n slots are in use at once.
type gate struct {
	n       int
	mu      sync.Mutex
	here    int
	open    chan struct{}
	t       *testing.T
	patient time.Duration
}

func newGate(t *testing.T, n int) *gate {
	return &gate{n: n, open: make(chan struct{}), t: t, patient: 20 * time.Second}
}

func (g *gate) Get([]byte) ([]byte, uint64, error) {
	g.mu.Lock()
	g.here++
	if g.here == g.n {
		close(g.open)
	}
	g.mu.Unlock()
	select {
	case <-g.open:
	case <-time.After(g.patient):
		g.t.Error("not all slots were in use at once")
	}
	return nil, 0, nil
}

func (g *gate) List(_, _ []byte, _ func([]byte) bool) error { return nil }
func (g *gate) Usage() (int64, error)                       { return 0, nil }

// Parts of guests: each meets the others at the gate, then looks, then soils.
const (
	meet = `(drop (call $kv_get (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 0)))`
	// look returns 2 if any byte from 1024 on is not zero, 3 if a table element is not null, 4 if a global has changed.
	look = `
  (local.set $end (i32.mul (memory.size) (i32.const 65536)))
  (local.set $i (i32.const 1024))
  (loop $l
    (if (i64.ne (i64.load (local.get $i)) (i64.const 0)) (then (return (i32.const 2))))
    (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 8))) (local.get $end))))
  (local.set $i (i32.const 0))
  (loop $t
    (if (i32.eqz (ref.is_null (table.get (local.get $i)))) (then (return (i32.const 3))))
    (br_if $t (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (table.size))))
  (if (i64.ne (global.get $g) (i64.const 7)) (then (return (i32.const 4))))`
	soil = `
  (memory.fill (i32.const 1024) (i32.const 0xAA) (i32.sub (local.get $end) (i32.const 1024)))
  (table.fill (i32.const 0) (ref.func $handle) (table.size))
  (global.set $g (i64.const -1))`
)

// dweller is a guest with that many pages and table elements at first and after growing.
func dweller(pages, more, elements, moreElements int, data string) string {
	return fmt.Sprintf(`(module
  (import "mayfly_v1" "kv_get" (func $kv_get (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") %d) (table %d funcref) (global $g (mut i64) (i64.const 7))
  %s (elem declare func $handle)
  (func $handle (export "mayfly_handle") (result i32) (local $i i32) (local $end i32)
    %s %s
    (if (i32.eq (memory.grow (i32.const %d)) (i32.const -1)) (then (return (i32.const 5))))
    (if (i32.eq (table.grow (ref.null func) (i32.const %d)) (i32.const -1)) (then (return (i32.const 6))))
    %s %s (i32.const 0)))`, pages, elements, data, meet, look, more, moreElements, look, soil)
}

// A fresh instance never sees a byte of an earlier one: not in its memory, not in its table, not in its globals. Every
// slot is used by guests of very different shapes in every order: smaller and larger than what a slot keeps resident,
// with and without initial data (a module without any must not see the data of the one before: CVE-2022-39393), grown
// and not. What lies behind a small guest's memory, where a large one wrote, must not be readable (GHSA-6wgr-89rj-399p:
// with guard size 0 and a reservation below 4 GiB the pool did not take away access; our guard is 1 MiB).
func TestFreshInstanceSeesNothingOfAnother(t *testing.T) {
	t.Run("one shard", func(t *testing.T) { strangers(t, 1) })
	t.Run("two shards", func(t *testing.T) { strangers(t, 2) })
}

func strangers(t *testing.T, shards int) {
	const slots = 4
	r := newRig(t, func(c *Config) { c.Slots, c.Shards = slots, shards })
	stateful := func(m *function.Manifest) {
		m.State = function.StatePolicy{Scope: function.ScopeNode, Quota: 1 << 20}
		m.Limits.Memory, m.Limits.Timeout, m.Limits.CPU = 32<<20, 30*time.Second, 30*time.Second
	}
	shapes := []*function.Function{
		r.function(dweller(1, 0, 1, 0, ""), stateful),
		r.function(dweller(1, 0, 8, 8, `(data (i32.const 16) "some initial data of this guest")`), stateful),
		r.function(dweller(2, 6, 64, 1000, ""), stateful),
		r.function(dweller(16, 1, 9000, 999, `(data (i32.const 8) "and of another")`), stateful),
		r.function(dweller(40, 120, 1, 9998, ""), stateful),
		r.function(dweller(300, 0, 2, 0, `(data (i32.const 0) "x")`), stateful),
	}
	peek := r.function(handler(`(i32.load (i32.const 65536))`))
	for _, f := range append(shapes, peek) {
		r.spread(f)
	}
	for round := range 3 {
		for i := range shapes {
			occupyAll(t, r, shapes[(i*(round+1)+round)%len(shapes)], slots)
			for range slots {
				r.fails(peek, "trap", function.ClassRetry)
			}
		}
	}
}

// spread has f's module loaded into all shards.
func (r *rig) spread(f *function.Function) {
	r.Helper()
	m, err := r.ensure(context.Background(), f)
	if err != nil {
		r.Fatal(err)
	}
	defer r.unuse(m)
	for range spreadAfter {
		r.away(m)
	}
	for end := time.Now().Add(20 * time.Second); m.code.Copies() < r.Info().Shards; runtime.Gosched() {
		if time.Now().After(end) {
			r.Fatal("the module is not spread")
		}
	}
}

// occupyAll runs f in all slots at once.
func occupyAll(t *testing.T, r *rig, f *function.Function, slots int) {
	g := newGate(t, slots)
	var wg sync.WaitGroup
	for range slots {
		wg.Go(func() {
			call := callOf(f, "")
			call.State = g
			var res function.Result
			if err := r.Invoke(context.Background(), call, &res); err != nil || res.Outcome != function.Done {
				t.Errorf("%s: %v, %v (retry: code 1; reject: code 2 = memory)", f.Name(), res.Outcome, err)
			}
		})
	}
	wg.Wait()
}

// The test above must be able to fail: a guest that is run twice in one instance does see what it left.
func TestDwellersNotice(t *testing.T) {
	r := newRig(t, nil)
	f := r.function(dweller(1, 0, 1, 0, ""), func(m *function.Manifest) {
		m.State.Scope, m.Module.Reuse = function.ScopeNode, true
	})
	for _, want := range []function.Outcome{function.Done, function.Reject} { // 2: memory
		call := callOf(f, "")
		call.State = newGate(t, 1)
		var res function.Result
		if err := r.Invoke(context.Background(), call, &res); err != nil || res.Outcome != want {
			t.Errorf("%v, %v; want %v", res.Outcome, err, want)
		}
	}
}
