package wasm

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"mayfly/function"
	"mayfly/wasm/admission"
)

func timeout(d time.Duration) func(*function.Manifest) {
	return func(m *function.Manifest) { m.Limits.Timeout = d }
}

// patience is how late a guest may be stopped on a machine that does many other things.
const patience = 8 * time.Second

// Guests that never end, each in another phase of a call: every one is stopped close to its limit, and the slot goes on
// working.
func TestEndlessGuestsAreStopped(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Slots = 1 })
	const end = `(func (export "mayfly_handle") (result i32) (i32.const 0)))`
	const limit = 60 * time.Millisecond
	for name, text := range map[string]string{
		"call":          handler(`(loop $l (br $l)) (i32.const 0)`),
		"start":         `(module (memory (export "memory") 1) (func $s (loop $l (br $l))) (start $s) ` + end,
		"initialize":    `(module (memory (export "memory") 1) (func (export "_initialize") (loop $l (br $l))) ` + end,
		"init":          `(module (memory (export "memory") 1) (func (export "mayfly_init") (result i32) (loop $l (br $l)) (i32.const 0)) ` + end,
		"command":       `(module (memory (export "memory") 1) (func (export "_start") (loop $l (br $l))))`,
		"host calls":    handler(`(loop $l (drop (call $event_data (i32.const 0) (i32.const 0))) (br $l)) (i32.const 0)`),
		"memory.fill":   handler(`(loop $l (memory.fill (i32.const 0) (i32.const 1) (i32.const 65536)) (br $l)) (i32.const 0)`),
		"deep and wide": handler(`(local $i i32) (loop $l (loop $m (br_if $m (local.tee $i (i32.add (local.get $i) (i32.const 1))))) (br $l)) (i32.const 0)`),
	} {
		f := r.function(text, timeout(limit))
		if err := r.Load(context.Background(), f); err != nil {
			t.Fatal(name, err)
		}
		for _, reuse := range []bool{false, true} {
			g := *f
			g.Manifest.Module.Reuse = reuse
			start := time.Now() // a busy machine may let part of the time pass before the guest begins
			res, err := r.fails(&g, "timeout", function.ClassRetry)
			if err != nil && !strings.Contains(err.Error(), "\n  at ") {
				t.Errorf("%s: no stack in %q", name, err)
			}
			if w, all := res.Usage.Wall, time.Since(start); all < limit/2 || w > patience {
				t.Errorf("%s: stopped after %v of running, %v in all, limit %v", name, w, all, limit)
			}
		}
	}
	r.must(r.function(handler(`(i32.const 0)`)), "")
}

// The CPU limit stops what the wall limit would allow, also when the guest was waiting in between.
func TestCPULimit(t *testing.T) {
	r := newRig(t, nil)
	f := r.function(handler(`(loop $l (br $l)) (i32.const 0)`), func(m *function.Manifest) { m.Limits.CPU = 40 * time.Millisecond })
	res, _ := r.fails(f, "cpu", function.ClassRetry)
	if u := res.Usage; u.CPU < 35*time.Millisecond || u.CPU > time.Second || u.Wall > patience {
		t.Errorf("usage %+v", u)
	}
}

// A guest that waits uses wall time and no CPU time, and wakes before its deadline is over.
func TestWaitingIsNotComputing(t *testing.T) {
	r := newRig(t, nil)
	f := r.function(sleeper(30*time.Millisecond), func(m *function.Manifest) { m.Limits.CPU = 20 * time.Millisecond })
	res := r.must(f, "")
	if u := res.Usage; res.Outcome != function.Done || u.Wall < 29*time.Millisecond || u.CPU > 15*time.Millisecond {
		t.Errorf("%v, usage %+v", res.Outcome, u)
	}
	f = r.function(sleeper(time.Hour), timeout(50*time.Millisecond))
	if err := r.Load(context.Background(), f); err != nil {
		t.Fatal(err)
	}
	res, _ = r.fails(f, "timeout", function.ClassRetry)
	if w := res.Usage.Wall; w > patience {
		t.Errorf("slept %v through a limit of 50 ms", w)
	}
}

// sleeper sleeps d with poll_oneoff and then computes for ever if less than d has passed.
func sleeper(d time.Duration) string {
	return fmt.Sprintf(`(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "mayfly_handle") (result i32)
    (i32.store (i32.const 16) (i32.const 1)) ;; monotonic clock
    (i64.store (i32.const 24) (i64.const %d))
    (drop (call $poll (i32.const 0) (i32.const 256) (i32.const 1) (i32.const 512)))
    (i32.const 0)))`, d.Nanoseconds())
}

func TestMemoryLimit(t *testing.T) {
	r := newRig(t, nil)
	memory := func(n int64) func(*function.Manifest) { return func(m *function.Manifest) { m.Limits.Memory = n } }
	// It takes all it is given, sees the next page refused, and goes on.
	f := r.function(handler(`
    (if (i32.ne (memory.grow (i32.const 31)) (i32.const 1)) (then (return (i32.const 1))))
    (i32.store (i32.const 0x1ffffc) (i32.const 1))
    (i32.sub (memory.grow (i32.const 1)) (i32.const -1))`), memory(2<<20))
	if res := r.must(f, ""); res.Outcome != function.Done || res.Usage.Memory != 2<<20 {
		t.Errorf("%v, usage %+v", res.Outcome, res.Usage)
	}
	// One that cannot live with less traps, and the error says that it was near its limit.
	f = r.function(handler(`(loop $l (br_if $l (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) unreachable`), memory(1<<20))
	_, err := r.fails(f, "trap", function.ClassRetry)
	if e, ok := err.(*function.Error); !ok || !strings.Contains(e.Hint, "limits.memory") {
		t.Errorf("hint of %#v", err)
	}
	// One that starts with more is refused for good.
	f = r.function(strings.Replace(handler(`(i32.const 0)`), `"memory") 1`, `"memory") 33`, 1), memory(2<<20))
	r.fails(f, "memory", function.ClassReject)
	// So is one that wants more than a slot has, when it is loaded.
	f = r.function(handler(`(i32.const 0)`), memory(65<<20))
	err = r.Load(context.Background(), f)
	if e, ok := err.(*function.Error); !ok || e.Class != function.ClassReject || e.Kind != "memory" || !strings.Contains(e.Hint, "[limits] memory in the agent's configuration") {
		t.Errorf("%#v", err)
	}
	// Less than nothing would mean without limit.
	if err := r.Load(context.Background(), r.function(handler(`(i32.const 0)`), memory(-1))); function.KindOf(err) != "limits" {
		t.Error(err)
	}
	// The end of the slot is the end, whatever the manifest says.
	f = r.function(handler(`(if (i32.eq (memory.grow (i32.const 1023)) (i32.const -1)) (then (return (i32.const 1))))
    (i32.store (i32.const 0x3fffffc) (i32.const 1)) (i32.load (i32.const 0x4000000))`), memory(64<<20))
	r.fails(f, "trap", function.ClassRetry)
}

func TestTableLimit(t *testing.T) {
	r := newRig(t, nil)
	table := func(n int64) func(*function.Manifest) { return func(m *function.Manifest) { m.Limits.Table = n } }
	const grow = `(module (memory (export "memory") 1) (table 1 funcref)
  (func (export "mayfly_handle") (result i32)
    (if (i32.ne (table.grow (ref.null func) (i32.const 9)) (i32.const 1)) (then (return (i32.const 1))))
    (i32.sub (table.grow (ref.null func) (i32.const 1)) (i32.const -1))))`
	if res := r.must(r.function(grow, table(10)), ""); res.Outcome != function.Done {
		t.Error(res.Outcome)
	}
	r.fails(r.function(strings.Replace(grow, "table 1", "table 11", 1), table(10)), "table", function.ClassReject)
	if err := r.Load(context.Background(), r.function(grow, table(TableElements+1))); function.KindOf(err) != "table" {
		t.Error(err)
	}
}

func TestStackLimit(t *testing.T) {
	r := newRig(t, nil)
	f := r.function(`(module (memory (export "memory") 1)
  (func $deeper (param i64 i64 i64 i64) (result i64)
    (i64.add (local.get 3) (call $deeper (local.get 1) (local.get 2) (local.get 3) (i64.add (local.get 0) (i64.const 1)))))
  (func $outer (export "mayfly_handle") (result i32)
    (i32.wrap_i64 (call $deeper (i64.const 1) (i64.const 2) (i64.const 3) (i64.const 4)))))`)
	for range 20 {
		_, err := r.fails(f, "stack", function.ClassRetry)
		if !strings.Contains(err.Error(), "  at deeper (module offset") || !strings.Contains(err.Error(), "more") {
			t.Fatalf("error %q", err)
		}
	}
	f = r.function(handler(`(i32.const 0)`), func(m *function.Manifest) { m.Limits.Stack = 2 << 20 })
	if err := r.Load(context.Background(), f); function.KindOf(err) != "stack" {
		t.Error(err)
	}
}

// Recursion through the host does not exist: a guest's stack is one limit, however it is used. What a guest can do is
// trap at the deepest point inside a host call.
func TestHostCallAtTheEndOfTheStack(t *testing.T) {
	r := newRig(t, nil)
	f := r.function(`(module
  (import "mayfly_v1" "log" (func $log (param i32 i32 i32)))
  (memory (export "memory") 1)
  (func $deeper (param i32) (result i32)
    (call $log (i32.const 1) (i32.const 0) (i32.const 1))
    (i32.add (i32.const 1) (call $deeper (local.get 0))))
  (func (export "mayfly_handle") (result i32) (call $deeper (i32.const 1))))`)
	res, _ := r.fails(f, "stack", function.ClassRetry)
	if len(res.Log) == 0 || res.Dropped == 0 {
		t.Errorf("%d lines logged, %d dropped", len(res.Log), res.Dropped)
	}
}

// Pointers and lengths that lie: each ends the guest with a trap that names the import, and none touches the host.
func TestWildPointersInHostCalls(t *testing.T) {
	r := newRig(t, nil)
	for _, args := range []string{
		"(i32.const -1) (i32.const 16)", "(i32.const 65535) (i32.const 2)", "(i32.const 0) (i32.const -1)",
		"(i32.const 0x80000000) (i32.const 0x80000000)", "(i32.const 65536) (i32.const 1)", "(i32.const 1) (i32.const 0x7fffffff)",
	} {
		f := r.function(handler(`(call $log (i32.const 1) ` + args + `) (i32.const 0)`))
		_, err := r.fails(f, "trap", function.ClassRetry)
		if err == nil || !strings.Contains(err.Error(), "mayfly_v1.log") || !strings.Contains(err.Error(), "\n  at handle (") {
			t.Errorf("%s: %v", args, err)
		}
	}
}

func TestTrapsSayWhere(t *testing.T) {
	r := newRig(t, nil)
	f := r.function(`(module (memory (export "memory") 1)
  (func $check_reading (param i32) (if (local.get 0) (then unreachable)))
  (func $"\1b[31mevil" (call $check_reading (i32.const 1)))
  (func $handle (export "mayfly_handle") (result i32) (call $"\1b[31mevil") (i32.const 0)))`)
	_, err := r.fails(f, "trap", function.ClassRetry)
	text := err.Error()
	for _, want := range []string{"unreachable", "at check_reading (module offset 0x", `at "\x1b[31mevil"`, "at handle"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in:\n%s", want, text)
		}
	}
	if strings.Contains(text, "\x1b") {
		t.Errorf("escape sequence in %q", text)
	}
}

// A storm of failures of every kind, on all slots at once, leaves an engine that works and holds no slot.
func TestTrapStorm(t *testing.T) {
	r := newRig(t, nil)
	var fs []*function.Function
	for _, body := range []string{
		`unreachable`, `(i32.load (i32.const -1))`, `(i32.div_s (i32.const 1) (i32.load (i32.const 0)))`,
		`(call $log (i32.const 1) (i32.const -1) (i32.const -1)) (i32.const 0)`, `(i32.const 99)`,
		`(drop (call $publish (i32.const 16) (i32.const 3) (i32.const 0) (i32.const 65536) (i32.const 0))) unreachable`,
	} {
		fs = append(fs, r.function(handler(body)))
	}
	good := r.function(handler(echo))
	done := make(chan bool)
	for g := range 4 {
		go func() {
			defer func() { done <- true }()
			for i := range 300 {
				if res, err := r.invoke(fs[(g+i)%len(fs)], "x"); err == nil || len(res.Publishes) != 0 {
					t.Errorf("call %d: %v with %d publishes", i, err, len(res.Publishes))
					return
				}
			}
		}()
	}
	for range 4 {
		<-done
	}
	for range 8 {
		r.must(good, "x")
	}
	if s := r.Stats(); s.Busy != 0 {
		t.Errorf("stats %+v", s)
	}
}

func TestModulesThatCannotRun(t *testing.T) {
	r := newRig(t, nil)
	for kind, module := range map[string][]byte{
		"not-wasm":  []byte("#!/bin/sh\necho hello\n"),
		"component": append([]byte("\x00asm\x0d\x00\x01\x00"), make([]byte, 32)...),
		"malformed": append(wat(t, handler(`(i32.const 0)`)), 1, 2, 3),
		"imports":   wat(t, `(module (import "env" "system" (func)) (memory (export "memory") 1) (func (export "_start")))`),
		"exports":   wat(t, `(module (memory (export "memory") 1))`),
		"invalid":   invalid(t),
	} {
		_, err := r.Compile(context.Background(), module, admission.Limits{})
		if function.KindOf(err) != kind || function.ClassOf(err) != function.ClassReject {
			t.Errorf("Compile of %s: %v (kind %s)", kind, err, function.KindOf(err))
		}
		if _, err := r.invoke(r.functionOf(module), ""); function.ClassOf(err) != function.ClassReject {
			t.Errorf("Invoke of %s: %v", kind, err)
		}
	}
	if _, err := r.invoke(&function.Function{Manifest: function.Manifest{Name: "lost", Limits: testLimits()}}, ""); function.ClassOf(err) != function.ClassNotHere {
		t.Errorf("a module nobody has: %v", err)
	}
}

// invalid is a module that admission lets through and validation does not: an i64 where an i32 belongs.
func invalid(t *testing.T) []byte {
	b := wat(t, `(module (memory (export "memory") 1) (func (export "mayfly_handle") (result i32) (i32.const 5)))`)
	i := strings.LastIndex(string(b), "\x41\x05\x0b") // i32.const 5, end
	if i < 0 {
		t.Fatal("no body found")
	}
	b[i] = 0x42 // i64.const
	return b
}

// An event of the permitted size runs; one byte more and nothing is started.
func TestPayloadLimit(t *testing.T) {
	r := newRig(t, nil)
	f := r.function(handler(`(i32.const 0)`), func(m *function.Manifest) { m.Limits.Payload = 10 })
	r.must(f, "0123456789")
	res, err := r.invoke(f, "0123456789x")
	if function.KindOf(err) != "payload-limit" || function.ClassOf(err) != function.ClassReject || res.Usage.Wall != 0 {
		t.Errorf("%v, usage %+v", err, res.Usage)
	}
}
