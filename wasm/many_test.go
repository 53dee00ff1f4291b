package wasm

import (
	"context"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"mayfly/function"
	"mayfly/wasm/admission"
)

// rss is the resident memory of this process in KiB.
func rss(t *testing.T) int {
	t.Helper()
	debug.FreeOSMemory()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	var kib int
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		t.Fatal(err)
	}
	return kib
}

// A hundred deployed functions cost next to nothing until their first event, little after it, and a start with their
// native code in the cache is quick.
func TestAHundredFunctions(t *testing.T) {
	n := 100
	if sanitized { // starting the compiler alone takes a second then
		n = 5
	}
	dir := t.TempDir()
	config := func(c *Config) { c.CacheDir, c.Slots = dir, 64 }
	first := newRig(t, config)
	var fs []*function.Function
	for i := range n {
		module := wat(t, handler(fmt.Sprintf(`(drop (i32.const %d)) %s`, i, echo)))
		if _, err := first.Compile(context.Background(), module, admission.Limits{}); err != nil {
			t.Fatal(err)
		}
		fs = append(fs, first.functionOf(module))
	}
	first.Close()

	before := rss(t)
	start := time.Now()
	second := newRig(t, func(c *Config) { config(c); c.Modules = nil })
	for _, f := range fs {
		if err := second.Load(context.Background(), f); err != nil {
			t.Fatal(err)
		}
	}
	loaded := time.Since(start)
	idle := rss(t)
	start = time.Now()
	for _, f := range fs {
		second.must(f, "x")
	}
	replied := time.Since(start)
	used := rss(t)
	t.Logf("start and load %v, first replies of all %v; resident +%d KiB idle, +%d KiB after one event each", loaded, replied, idle-before, used-before)
	if loaded+replied > 5*time.Second { // measured: 0.05 s; the bound leaves room for a busy machine
		t.Errorf("start to first replies took %v", loaded+replied)
	}
	if sanitized {
		return
	}
	if grown := idle - before; grown > 20*n/4 {
		t.Errorf("%d deployed functions cost %d KiB before their first event", n, grown)
	}
	if grown := used - before; grown > 200*n {
		t.Errorf("%d used functions cost %d KiB", n, grown)
	}
}

// Memory does not grow with the number of events, be they handled or failed.
func TestMemoryStaysFlat(t *testing.T) {
	r := newRig(t, nil)
	good, bad := r.function(handler(echo)), r.function(handler(`unreachable`))
	round := func(n int) {
		for range n {
			r.must(good, "x")
		}
		for range n / 20 {
			if _, err := r.invoke(bad, "x"); err == nil {
				t.Fatal("no trap")
			}
		}
	}
	events := 60_000
	if sanitized {
		events = 2_000
	}
	round(events / 10)
	before := rss(t)
	round(events)
	grown := rss(t) - before
	t.Logf("%d events later: %+d KiB", events, grown)
	if grown > 2<<10 && !sanitized {
		t.Errorf("%d events cost %d KiB", events, grown)
	}
}
