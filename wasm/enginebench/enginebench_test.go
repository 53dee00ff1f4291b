package enginebench

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"testing"
	"time"

	"mayfly/function"
	"mayfly/wasm"
	"mayfly/wasm/internal/wasmtime"
)

// TestMain is also the compiler.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "compile-module" {
		os.Exit(wasm.CompileMain(os.Args[2:], os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// guest is what a small C function compiles to: two pages, a stack pointer, a table, some data; it reads its event and
// publishes it.
const guest = `(module
  (import "mayfly_v1" "event_data" (func $event_data (param i32 i32) (result i32)))
  (import "mayfly_v1" "publish" (func $publish (param i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2) (table 1 1 funcref)
  (global $sp (mut i32) (i32.const 66560))
  (data (i32.const 1024) "bench/out")
  (func $handle (export "mayfly_handle") (result i32) (local $buf i32)
    (local.set $buf (i32.sub (global.get $sp) (i32.const 4096)))
    (global.set $sp (local.get $buf))
    (drop (call $publish (i32.const 1024) (i32.const 9) (local.get $buf)
      (call $event_data (local.get $buf) (i32.const 4096)) (i32.const 1)))
    (global.set $sp (i32.add (local.get $buf) (i32.const 4096)))
    (i32.const 0)))`

func wat(t testing.TB, text string) []byte {
	t.Helper()
	module, err := wasmtime.Wat2Wasm(text)
	if err != nil {
		t.Fatal(err)
	}
	return module
}

// goGuest builds the Go guest, as its authors do.
func goGuest(t testing.TB) []byte {
	t.Helper()
	out := t.TempDir() + "/guest.wasm"
	cmd := exec.Command("go", "build", "-buildmode=c-shared", "-ldflags=-s -w", "-o", out, "./testdata/goguest")
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0", "GOFLAGS=")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	module, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return module
}

// setup returns an engine, two functions of the module, the second of which keeps its instance.
func setup(t testing.TB, module []byte) (e *wasm.Engine, fresh, warm *function.Function) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	e, err = wasm.New(wasm.Config{
		CacheDir: t.TempDir(), Modules: shelf(module), CompileCommand: []string{self, "compile-module"}, CompileMemory: 1 << 62,
		CompileWall: 5 * time.Minute,
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	fresh = &function.Function{Module: function.DigestOf(module), Manifest: function.Manifest{
		Name: "fresh", Permissions: function.Permissions{Publish: []string{"#"}},
		Limits: function.Limits{
			Memory: 32 << 20, Timeout: 10 * time.Second, CPU: 10 * time.Second, Concurrency: 4, Payload: 256 << 10, Output: 1 << 20,
			Publishes: 64, Log: 16 << 10, Stack: 256 << 10, Table: 10_000,
		},
	}}
	kept := *fresh
	kept.Manifest.Name, kept.Manifest.Module.Reuse = "warm", true
	return e, fresh, &kept
}

func TestMeasuresTheSameThing(t *testing.T) {
	module := wat(t, guest)
	e, fresh, warm := setup(t, module)
	for _, f := range []*function.Function{fresh, warm} {
		got, err := Calls(e, f, []byte("x"), 100, 2)
		if err != nil || got.P50 <= 0 || got.P99 < got.P50 || got.PerSecond <= 0 {
			t.Errorf("%s: %+v, %v", f.Name(), got, err)
		}
		got, err = Plain(f, module, []byte("x"), 100)
		if err != nil || got.P50 <= 0 || got.P99 < got.P50 {
			t.Errorf("%s, plain: %+v, %v", f.Name(), got, err)
		}
	}
	if s := e.Stats(); s.Invokes != 2*(2*100+10) {
		t.Errorf("%+v", s)
	}
}

// BenchmarkEvent prints what an event costs, side by side.
func BenchmarkEvent(b *testing.B) {
	module := wat(b, guest)
	e, fresh, warm := setup(b, module)
	data := make([]byte, 200)
	report := func(name string, f func(n int) (Latency, error)) { reportLatency(b, name, f) }
	report("fresh", func(n int) (Latency, error) { return Calls(e, fresh, data, n, 1) })
	report("fresh-2-threads", func(n int) (Latency, error) { return Calls(e, fresh, data, n, 2) })
	report("fresh-plain", func(n int) (Latency, error) { return Plain(fresh, module, data, n) })
	report("warm", func(n int) (Latency, error) { return Calls(e, warm, data, n, 1) })
	report("warm-plain", func(n int) (Latency, error) { return Plain(warm, module, data, n) })
}

// BenchmarkGoEvent is the same for a guest written in Go, whose runtime starts with every fresh instance.
func BenchmarkGoEvent(b *testing.B) {
	module := goGuest(b)
	e, fresh, warm := setup(b, module)
	data := make([]byte, 200)
	reportLatency(b, "fresh", func(n int) (Latency, error) { return Calls(e, fresh, data, n, 1) })
	reportLatency(b, "warm", func(n int) (Latency, error) { return Calls(e, warm, data, n, 1) })
}

func reportLatency(b *testing.B, name string, f func(n int) (Latency, error)) {
	b.Run(name, func(b *testing.B) {
		l, err := f(max(b.N, 100))
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(l.P50)/1e3, "p50-us")
		b.ReportMetric(float64(l.P99)/1e3, "p99-us")
		b.ReportMetric(l.PerSecond, "events/s")
	})
}

func TestGoGuest(t *testing.T) {
	e, fresh, warm := setup(t, goGuest(t))
	for _, f := range []*function.Function{fresh, warm} {
		if l, err := Calls(e, f, []byte("x"), 10, 2); err != nil {
			t.Errorf("%s: %+v, %v", f.Name(), l, err)
		}
	}
}

// shelf is a store of one module.
type shelf []byte

func (s shelf) Module(context.Context, function.Digest) ([]byte, error) { return s, nil }
