package wasm

import (
	"context"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mayfly/event"
	"mayfly/function"
	"mayfly/wasm/internal/wasmtime"
)

// TestMain is also the compiler, and the child of tests that need a process of their own.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "compile-module" {
		os.Exit(CompileMain(os.Args[2:], os.Stdin, os.Stdout, os.Stderr))
	}
	if len(os.Args) > 1 && os.Args[1] == "little-address-space" {
		os.Exit(littleAddressSpace(os.Stdout))
	}
	goleak.VerifyTestMain(m)
}

// shelf is Modules in memory.
type shelf struct {
	mu      sync.Mutex
	modules map[function.Digest][]byte
	asked   int
}

func (s *shelf) Module(_ context.Context, d function.Digest) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	if b := s.modules[d]; b != nil {
		return b, nil
	}
	return nil, os.ErrNotExist
}

// rig is an engine with a shelf of modules.
type rig struct {
	testing.TB
	*Engine
	shelf *shelf
}

func newRig(t testing.TB, change func(*Config)) *rig {
	t.Helper()
	return newRigWith(t, change, reserve)
}

func newRigWith(t testing.TB, change func(*Config), reserve func(uint64) error) *rig {
	t.Helper()
	r := &rig{TB: t, shelf: &shelf{modules: map[function.Digest][]byte{}}}
	cfg := Config{CacheDir: t.TempDir() + "/native", Modules: r.shelf, Slots: 4, CompileWall: 5 * time.Minute} // it steps back behind all else that runs
	if change != nil {
		change(&cfg)
	}
	if sanitized {
		cfg.CompileMemory = 1 << 62
	}
	engine, err := newEngine(cfg, slog.New(slog.DiscardHandler), reserve)
	if err != nil {
		t.Fatal(err)
	}
	r.Engine = engine
	t.Cleanup(r.Close)
	return r
}

func wat(t testing.TB, text string) []byte {
	t.Helper()
	b, err := wasmtime.Wat2Wasm(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func testLimits() function.Limits {
	return function.Limits{
		Memory: 16 << 20, Timeout: 10 * time.Second, CPU: 10 * time.Second, Concurrency: 4, Payload: 256 << 10, Output: 1 << 20,
		Publishes: 64, Log: 16 << 10, Stack: 256 << 10, Table: 10_000,
	}
}

// function puts a module given as text on the shelf and returns a function of it.
func (r *rig) function(text string, change ...func(*function.Manifest)) *function.Function {
	r.Helper()
	return r.functionOf(wat(r, text), change...)
}

func (r *rig) functionOf(module []byte, change ...func(*function.Manifest)) *function.Function {
	f := &function.Function{Module: function.DigestOf(module)}
	f.Manifest = function.Manifest{
		Name: "f" + f.Module.Short(), Limits: testLimits(), Module: function.Module{ABI: function.ABIAuto},
		Permissions: function.Permissions{Publish: []string{"#"}},
	}
	for _, c := range change {
		c(&f.Manifest)
	}
	r.shelf.mu.Lock()
	defer r.shelf.mu.Unlock()
	r.shelf.modules[f.Module] = module
	return f
}

func callOf(f *function.Function, data string) *function.Call {
	return &function.Call{
		Function: f, Attempt: 1, Trigger: "mqtt[0]", Node: "n1",
		Event: &event.Event{ID: "1", Source: "mqtt://test/in", Type: event.TypeMQTT, Topic: "in", Time: time.Now(), Data: []byte(data)},
	}
}

// invoke runs one event.
func (r *rig) invoke(f *function.Function, data string) (*function.Result, error) {
	var res function.Result
	err := r.Invoke(context.Background(), callOf(f, data), &res)
	return &res, err
}

// must runs one event that has to succeed.
func (r *rig) must(f *function.Function, data string) *function.Result {
	r.Helper()
	res, err := r.invoke(f, data)
	if err != nil {
		r.Fatalf("invoke: %v", err)
	}
	return res
}

// untilBusy waits until a guest runs.
func (r *rig) untilBusy() {
	r.Helper()
	for end := time.Now().Add(20 * time.Second); r.Stats().Busy == 0; runtime.Gosched() {
		if time.Now().After(end) {
			r.Fatal("nothing runs")
		}
	}
}

// fails runs one event and wants an error of that kind and class.
func (r *rig) fails(f *function.Function, kind string, class function.Class) (*function.Result, error) {
	r.Helper()
	res, err := r.invoke(f, "x")
	if function.KindOf(err) != kind || function.ClassOf(err) != class {
		r.Errorf("error is %q of kind %q, class %v; want kind %q, class %v", err, function.KindOf(err), function.ClassOf(err), kind, class)
	}
	return res, err
}

// handler wraps a body in a mayfly_v1 module with one page of memory. The body leaves an i32.
func handler(body string) string {
	return `(module
  (import "mayfly_v1" "event_data" (func $event_data (param i32 i32) (result i32)))
  (import "mayfly_v1" "publish" (func $publish (param i32 i32 i32 i32 i32) (result i32)))
  (import "mayfly_v1" "log" (func $log (param i32 i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "out")
  (func $handle (export "mayfly_handle") (result i32) ` + body + `))`
}

// echo publishes its event.
const echo = `(drop (call $publish (i32.const 16) (i32.const 3) (i32.const 1024)
   (call $event_data (i32.const 1024) (i32.const 60000)) (i32.const 1))) (i32.const 0)`

func TestInvokeRunsAFunction(t *testing.T) {
	r := newRig(t, nil)
	f := r.function(handler(echo))
	for i, data := range []string{"hello", "again"} {
		res := r.must(f, data)
		if res.Outcome != function.Done || len(res.Publishes) != 1 || res.Publishes[0].Topic != "out" || string(res.Publishes[0].Data) != data {
			t.Fatalf("result %+v", res)
		}
		u := res.Usage
		if u.Wall <= 0 || u.CPU <= 0 || u.Memory != 64<<10 || u.Cold != (i == 0) || u.BytesIn != 5 {
			t.Errorf("usage %+v", u)
		}
	}
	if s := r.Stats(); s.Compiles != 1 || s.Invokes != 2 || s.Loaded != 1 || s.Busy != 0 {
		t.Errorf("stats %+v", s)
	}
}

func TestCommandRuns(t *testing.T) {
	r := newRig(t, nil)
	const program = `(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\10\00\00\00\05\00\00\00")
  (data (i32.const 16) "hello")
  (func (export "_start")
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
    (call $exit (i32.const EXIT))))`
	for code, want := range map[string]function.Outcome{"0": function.Done, "75": function.Retry, "65": function.Reject} {
		res := r.must(r.function(strings.ReplaceAll(program, "EXIT", code)), "")
		if res.Outcome != want {
			t.Errorf("exit %s: %v", code, res.Outcome)
		}
		if want == function.Done && (res.Response == nil || string(res.Response.Data) != "hello") {
			t.Errorf("response %+v", res.Response)
		}
	}
	r.fails(r.function(strings.ReplaceAll(program, "EXIT", "3")), "exit", function.ClassRetry)
}

func TestReuseKeepsAnInstanceUntilItFails(t *testing.T) {
	r := newRig(t, nil)
	const counter = `(module
  (import "mayfly_v1" "respond" (func $respond (param i32 i32) (result i32)))
  (import "mayfly_v1" "event_data" (func $event_data (param i32 i32) (result i32)))
  (global $n (mut i32) (i32.const 0)) (memory (export "memory") 1)
  (func (export "mayfly_handle") (result i32)
    (if (i32.eq (call $event_data (i32.const 0) (i32.const 0)) (i32.const 4)) (then unreachable))
    (global.set $n (i32.add (global.get $n) (i32.const 1)))
    (i32.store8 (i32.const 0) (i32.add (i32.const 48) (global.get $n)))
    (drop (call $respond (i32.const 0) (i32.const 1)))
    (i32.const 0)))`
	reuse := func(m *function.Manifest) { m.Module.Reuse = true }
	kept, fresh := r.function(counter, reuse), r.function(counter, func(m *function.Manifest) { m.Name = "fresh" })
	other := r.function(counter, reuse, func(m *function.Manifest) { m.Name = "other" })
	answer := func(f *function.Function) string { return string(r.must(f, "").Response.Data) }
	for _, want := range []string{"1", "2", "3"} {
		if got := answer(kept); got != want {
			t.Errorf("kept instance answers %s, want %s", got, want)
		}
		if got := answer(fresh); got != "1" {
			t.Errorf("fresh instance answers %s", got)
		}
	}
	if got := answer(other); got != "1" {
		t.Errorf("two functions share an instance: %s", got)
	}
	if s := r.Stats(); s.Kept != 2 || s.Loaded != 1 {
		t.Errorf("stats %+v", s)
	}
	if _, err := r.invoke(kept, "trap"); function.KindOf(err) != "trap" {
		t.Errorf("trap: %v", err)
	}
	if got := answer(kept); got != "1" {
		t.Errorf("after a trap the instance answers %s", got)
	}
	redeployed := *kept
	if got := answer(&redeployed); got != "1" {
		t.Errorf("a new deployment sees the old one's instance: %s", got)
	}
	r.Unload(kept.Name())
	if s := r.Stats(); s.Kept != 1 {
		t.Errorf("after Unload: %+v", s)
	}
}

// Kept instances never starve other functions of slots.
func TestKeptInstancesGiveWay(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Slots = 2 })
	for i := range 6 {
		name := string(rune('a' + i))
		f := r.function(handler(`(i32.const 0)`), func(m *function.Manifest) { m.Module.Reuse, m.Name = i%2 == 0, name })
		r.must(f, "")
	}
	if s := r.Stats(); s.Kept > 1 || s.Busy != 0 {
		t.Errorf("stats %+v", s)
	}
}

func TestConcurrentCallsShareTheSlots(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Slots = 3 })
	fs := []*function.Function{
		r.function(handler(echo)),
		r.function(handler(echo), func(m *function.Manifest) { m.Name, m.Module.Reuse = "kept", true }),
		r.function(handler(`unreachable`)),
	}
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 200 {
				n := (g + i) % 3
				res, err := r.invoke(fs[n], strings.Repeat("x", i))
				if n == 2 && function.KindOf(err) != "trap" || n != 2 && (err != nil || len(res.Publishes) != 1 || len(res.Publishes[0].Data) != i) {
					t.Errorf("call %d of %s: %v", i, fs[n].Name(), err)
					return
				}
			}
		})
	}
	wg.Wait()
	if s := r.Stats(); s.Busy != 0 || s.Invokes != 1600 {
		t.Errorf("stats %+v", s)
	}
}

func TestNoSlotIsOverload(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Slots = 1 })
	short := func(m *function.Manifest) { m.Limits.Timeout = 50 * time.Millisecond }
	loop := r.function(handler(`(loop $l (br $l)) (i32.const 0)`), func(m *function.Manifest) { m.Limits.Timeout = 400 * time.Millisecond })
	quick := r.function(handler(`(i32.const 0)`), short)
	for _, f := range []*function.Function{loop, quick} {
		if err := r.Load(context.Background(), f); err != nil {
			t.Fatal(err)
		}
	}
	ended := make(chan error, 1)
	go func() { _, err := r.invoke(loop, ""); ended <- err }()
	r.untilBusy()
	r.fails(quick, "no-slot", function.ClassOverload)
	if err := <-ended; function.KindOf(err) != "timeout" {
		t.Errorf("loop: %v", err)
	}
	r.must(quick, "") // and the slot is free again
}

func TestDeadlineInThePast(t *testing.T) {
	r := newRig(t, nil)
	c := callOf(r.function(handler(`(i32.const 0)`)), "")
	c.Deadline = time.Now().Add(-time.Second)
	err := r.Invoke(context.Background(), c, &function.Result{})
	if function.ClassOf(err) != function.ClassOverload || function.KindOf(err) != "deadline" {
		t.Error(err)
	}
}

// Close ends running guests instead of waiting for their limits.
func TestCloseEndsRunningGuests(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Slots = 1 })
	f := r.function(handler(`(loop $l (br $l)) (i32.const 0)`), func(m *function.Manifest) {
		m.Limits.Timeout, m.Limits.CPU = time.Hour, time.Hour
	})
	if err := r.Load(context.Background(), f); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 2)
	for range 2 { // one runs, one waits for the slot
		go func() { _, err := r.invoke(f, ""); ended <- err }()
	}
	r.untilBusy()
	start := time.Now()
	r.Close()
	for range 2 {
		if err := <-ended; function.ClassOf(err) != function.ClassOverload {
			t.Error(err)
		}
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("Close took %v", d)
	}
	if _, err := r.invoke(f, ""); function.KindOf(err) != "stopping" {
		t.Error(err)
	}
}

// Close does not wait for the compiler.
func TestCloseEndsTheCompiler(t *testing.T) {
	r := newRig(t, func(c *Config) { c.CompileCommand = []string{"/bin/sh", "-c", "while :; do :; done"} })
	f := r.function(handler(`(i32.const 0)`))
	ended := make(chan error, 1)
	go func() { ended <- r.Load(context.Background(), f) }()
	for end := time.Now().Add(20 * time.Second); r.Stats().Compiles == 0; runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatal("nothing is compiled")
		}
	}
	start := time.Now()
	r.Close()
	if err := <-ended; function.ClassOf(err) != function.ClassOverload || time.Since(start) > 10*time.Second {
		t.Errorf("%v after %v", err, time.Since(start))
	}
}
