package store

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
)

// procValue reads a number from one of the kernel's "name: value" files.
func procValue(t testing.TB, file, name string) int64 {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			var v int64
			if _, err := fmt.Sscan(rest, &v); err != nil {
				t.Fatal(err)
			}
			return v
		}
	}
	t.Fatalf("%s has no %s", file, name)
	return 0
}

// load writes n events of 256 B, `writers` at a time, each as a stateful event commits: its state, and a done mark.
func load(b testing.TB, r *running, writers, n int) {
	value := bytes.Repeat([]byte("v"), 256)
	var group sync.WaitGroup
	for w := range writers {
		group.Go(func() {
			for i := w; i < n; i += writers {
				done := make(chan error, 1)
				ops := []Op{
					{Key: State.Key("bench", fmt.Appendf(nil, "machine-%d", i%500)), Value: value},
					{Key: Done.SeqKey("bench", uint64(i)), Value: nil, TTL: 1 << 40},
				}
				if err := r.Submit(ops, func(err error) { done <- err }); err != nil {
					b.Error(err)
					return
				}
				if err := <-done; err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
}

// BenchmarkCommit prints what one stateful 256 B event costs: time, bytes written to the disk as the kernel counts them (tables
// and compactions included; the file system's journal not), and the growth of resident memory.
func BenchmarkCommit(b *testing.B) {
	for _, memTable := range []int64{4 << 20, 8 << 20} {
		for _, writers := range []int{1, 32} {
			b.Run(fmt.Sprintf("memtable=%dMiB/writers=%d", memTable>>20, writers), func(b *testing.B) {
				debug.FreeOSMemory()
				before := procValue(b, "/proc/self/status", "VmRSS")
				r, _ := open(b, Config{Dir: b.TempDir(), MemTable: memTable})
				opened := procValue(b, "/proc/self/status", "VmRSS")
				anon := procValue(b, "/proc/self/status", "RssAnon")
				written := procValue(b, "/proc/self/io", "write_bytes")
				b.ResetTimer()
				load(b, r, writers, b.N)
				b.StopTimer()
				s := r.Stats()
				b.ReportMetric(float64(procValue(b, "/proc/self/io", "write_bytes")-written)/float64(b.N), "B-written/op")
				b.ReportMetric(float64(s.Batches)/float64(s.Groups), "batches/sync")
				b.ReportMetric(float64(opened-before), "KiB-open")
				b.ReportMetric(float64(procValue(b, "/proc/self/status", "RssAnon")-anon), "KiB-anon-load")
				r.shutdown(b)
				runtime.GC()
			})
		}
	}
}

// TestFlashWear holds the yardstick: at most 1,000 bytes written for a stateful 256 B event at 32 in flight.
func TestFlashWear(t *testing.T) {
	r, _ := open(t, Config{Dir: t.TempDir()})
	defer r.shutdown(t)
	const n = 20000
	before := procValue(t, "/proc/self/io", "write_bytes")
	load(t, r, 32, n)
	per := (procValue(t, "/proc/self/io", "write_bytes") - before) / n
	s := r.Stats()
	t.Logf("%d B written per event, %.1f events per sync", per, float64(s.Batches)/float64(s.Groups))
	if per > 1000 {
		t.Errorf("%d bytes written per event, want at most 1,000", per)
	}
}
