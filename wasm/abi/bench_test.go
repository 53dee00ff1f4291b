package abi

import (
	"testing"

	"mayfly/function"
)

// event runs what the smallest useful guest does: read the event, publish once, done.
func (g *guest) event(read, publish []uint64) {
	g.res.Reset()
	g.s.Begin(g.call, g.kind, &g.res)
	if n, err := g.s.Host(idEventData, read, g.mem); err != nil || n != 8 {
		g.t.Fatal(n, err)
	}
	if n, err := g.s.Host(idPublish, publish, g.mem); err != nil || n != 0 {
		g.t.Fatal(n, err)
	}
	if err := g.s.End(0, nil); err != nil {
		g.t.Fatal(err)
	}
}

func smallest(t testing.TB) (g *guest, read, publish []uint64) {
	g = newGuest(t, function.ABIMayfly)
	topic := g.put("plant/7/alarm")
	return g, []uint64{1024, 256}, []uint64{topic, 13, 1024, 8, 1}
}

func TestOneAllocationPerPublish(t *testing.T) {
	g, read, publish := smallest(t)
	if n := testing.AllocsPerRun(100, func() { g.event(read, publish) }); n != 1 {
		t.Errorf("%v allocations for reading an event and publishing once, want 1: the data", n)
	}
}

func BenchmarkReadAndPublish(b *testing.B) {
	g, read, publish := smallest(b)
	b.ReportAllocs()
	for b.Loop() {
		g.event(read, publish)
	}
}

func BenchmarkEventAttr(b *testing.B) {
	g := newGuest(b, function.ABIMayfly)
	args := []uint64{g.put("topic.line"), 10, 1024, 64}
	b.ReportAllocs()
	for b.Loop() {
		if n, err := g.s.Host(idEventAttr, args, g.mem); n != 1 || err != nil {
			b.Fatal(n, err)
		}
	}
}

func BenchmarkGetAndPut(b *testing.B) {
	state := newMapState()
	state.set("count", "12345678")
	g := newGuest(b, function.ABIMayfly, withState(state, 1<<20))
	key := g.put("count")
	b.ReportAllocs()
	for b.Loop() {
		g.begin()
		_, _ = g.s.Host(idKVGet, []uint64{key, 5, 1024, 64}, g.mem)
		_, _ = g.s.Host(idKVPut, []uint64{key, 5, 1024, 8, 0}, g.mem)
		_ = g.s.End(0, nil)
	}
}

// BenchmarkTwoFunctionsInTurn is what a session of a pool sees.
func BenchmarkTwoFunctionsInTurn(b *testing.B) {
	g, read, publish := smallest(b)
	first := g.call.Function
	second := *first
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		g.call.Function = first
		if i%2 == 1 {
			g.call.Function = &second
		}
		g.event(read, publish)
	}
}
