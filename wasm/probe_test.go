package wasm

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"mayfly/function"
)

func TestProbeHalvesUntilItFits(t *testing.T) {
	cfg, err := Config{CacheDir: "x", CompileCommand: []string{"x"}}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		room   uint64
		slots  int
		pooled bool
	}{{1 << 47, 64, true}, {3 << 30, 32, true}, {1 << 30, 8, true}, {400 << 20, 1, true}, {330 << 20, 1, false}} {
		info := probe(cfg, func(n uint64) error {
			if n > c.room {
				return syscall.ENOMEM
			}
			return nil
		})
		if info.Slots != c.slots || info.Pooled != c.pooled || (info.Reason == "") != (c.slots == 64) {
			t.Errorf("room for %d MiB: %+v", c.room>>20, info)
		}
	}
}

// Without room for any pool instances are allocated on demand, within the same limits.
func TestOnDemand(t *testing.T) {
	r := newRigWith(t, nil, func(uint64) error { return syscall.ENOMEM })
	if i := r.Info(); i.Pooled || i.Slots != 1 || !strings.Contains(i.Reason, "even one slot") {
		t.Errorf("%+v", i)
	}
	for range 3 {
		r.must(r.function(handler(echo)), "x")
	}
	res := r.must(r.function(handler(`(i32.sub (memory.grow (i32.const 2)) (i32.const -1))`), func(m *function.Manifest) {
		m.Limits.Memory = 2 * wasmPage
	}), "")
	if res.Outcome != function.Done {
		t.Errorf("memory grew beyond its limit: %v", res.Outcome)
	}
}

// littleAddressSpace is run in a process of its own: it limits its address space and must still run a function.
func littleAddressSpace(out io.Writer) int {
	var limit uint64
	fmt.Sscan(os.Args[2], &limit)
	if err := syscall.Setrlimit(syscall.RLIMIT_AS, &syscall.Rlimit{Cur: limit, Max: limit}); err != nil {
		fmt.Fprintln(out, err)
		return 1
	}
	t := &loose{out: out}
	r := newRig(t, func(c *Config) { c.Slots = 64 })
	res, err := r.invoke(r.function(handler(echo)), "hello")
	fmt.Fprintf(out, "slots=%d pooled=%t reason=%q published=%d error=%v\n", r.Info().Slots, r.Info().Pooled, r.Info().Reason, len(res.Publishes), err)
	t.end()
	return t.code
}

// loose is a testing.TB outside a test.
type loose struct {
	testing.TB
	out      io.Writer
	cleanups []func()
	code     int
}

func (l *loose) Helper()           {}
func (l *loose) Cleanup(f func())  { l.cleanups = append(l.cleanups, f) }
func (l *loose) Fatal(args ...any) { fmt.Fprintln(l.out, args...); os.Exit(2) }
func (l *loose) TempDir() string {
	dir, err := os.MkdirTemp("", "wasm")
	if err != nil {
		l.Fatal(err)
	}
	l.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func (l *loose) end() {
	for _, cleanup := range slices.Backward(l.cleanups) {
		cleanup()
	}
}

// A process whose address space is limited starts with fewer slots, says so, and works.
func TestLittleAddressSpace(t *testing.T) {
	if sanitized { // it takes terabytes of address space itself
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, limit := range []uint64{4 << 30, 2 << 30} {
		out, err := exec.Command(self, "little-address-space", fmt.Sprint(limit)).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "published=1 error=<nil>") || !strings.Contains(string(out), "not to be had") ||
			strings.Contains(string(out), "slots=64") {
			t.Errorf("with %d MiB: %v\n%.2000s", limit>>20, err, out)
		}
		t.Logf("%d MiB: %.300s", limit>>20, out)
	}
}
