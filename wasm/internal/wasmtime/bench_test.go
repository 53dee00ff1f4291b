package wasmtime

import (
	"fmt"
	"sync"
	"testing"
)

func benchHost(id int, args []uint64, memory []byte) (uint64, error) {
	if id == 0 {
		return uint64(copy(memory[args[0]:args[0]+args[1]], "twenty-four bytes of event")), nil
	}
	return 0, nil
}

func BenchmarkOnce(b *testing.B) {
	f := newFixture(b)
	m := f.load(echoGuest)
	in := f.instance(benchHost)
	limits := generous()
	for b.Loop() {
		in.Prepare(limits, 0)
		if _, err := in.Once(m); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOnceParallel(b *testing.B) {
	f := newFixture(b)
	m := f.load(echoGuest)
	limits := generous()
	b.RunParallel(func(pb *testing.PB) {
		in := NewInstance(host(benchHost))
		defer in.Free()
		for pb.Next() {
			in.Prepare(limits, 0)
			if _, err := in.Once(m); err != nil {
				b.Error(err)
			}
		}
	})
}

func BenchmarkWarm(b *testing.B) {
	f := newFixture(b)
	m := f.load(echoGuest)
	in := f.instance(benchHost)
	limits := generous()
	in.Prepare(limits, 0)
	if err := in.Open(m); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		in.Prepare(limits, 0)
		if _, err := in.Call(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkTwoProcessors is one event on each of two threads at once; with one shard they wait for each other.
func BenchmarkTwoProcessors(b *testing.B) {
	for _, shards := range []int{1, 2} {
		b.Run(fmt.Sprintf("shards=%d", shards), func(b *testing.B) {
			s := testSettings()
			s.Shards = shards
			e, err := NewEngine(s, testImports)
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(e.Close)
			f := fixture{b, e}
			m := f.load(echoGuest)
			if err := e.Spread(m); err != nil {
				b.Fatal(err)
			}
			var threads sync.WaitGroup
			for range 2 {
				in := f.instance(benchHost)
				threads.Go(func() {
					for range b.N {
						in.Prepare(generous(), 0)
						if _, err := in.Once(m); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			threads.Wait()
		})
	}
}
