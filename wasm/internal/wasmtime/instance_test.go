package wasmtime

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"
)

// host is a Host made of one function.
type host func(id int, args []uint64, memory []byte) (uint64, error)

func (h host) HostCall(id int, args []uint64, memory []byte) (uint64, error) {
	return h(id, args, memory)
}

func testSettings() Settings {
	return Settings{
		Reservation: 64 << 20, Guard: 1 << 20, Stack: 512 << 10, Slots: 4, Warm: 4,
		MemoryResident: 1 << 20, TableResident: 64 << 10, TableElements: 10000,
	}
}

var testImports = []Import{
	{"m", "data", []byte{0x7f, 0x7f}, []byte{0x7f}},
	{"m", "publish", []byte{0x7f, 0x7f, 0x7f, 0x7f, 0x7f}, []byte{0x7f}},
	{"m", "wide", []byte{0x7e, 0x7f}, []byte{0x7e}},
	{"m", "none", nil, nil},
}

// fixture is an engine that ends with the test.
type fixture struct {
	testing.TB
	*Engine
}

func newFixture(t testing.TB) fixture {
	t.Helper()
	e, err := NewEngine(testSettings(), testImports)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return fixture{t, e}
}

// load compiles, loads and links a module given as text.
func (f fixture) load(wat string) *Module {
	f.Helper()
	m, err := f.tryLoad(wat)
	if err != nil {
		f.Fatal(err)
	}
	return m
}

func (f fixture) tryLoad(wat string) (*Module, error) {
	f.Helper()
	bytes, err := Wat2Wasm(wat)
	if err != nil {
		f.Fatal(err)
	}
	native, err := f.Compile(bytes)
	if err != nil {
		return nil, err
	}
	m, err := f.Load(native)
	if err != nil {
		return nil, err
	}
	f.Cleanup(m.Close)
	return m, f.Link(m, "mayfly_handle", true)
}

func (f fixture) instance(h host) *Instance {
	in := NewInstance(h)
	f.Cleanup(in.Free)
	return in
}

// watch moves the epoch whenever the instance's time is up, as an engine's watchdog does, until stop is called.
func (f fixture) watch(in *Instance) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				if in.CheckAt() <= Now() {
					f.MoveEpoch()
				}
			}
		}
	}()
	return func() { close(done); <-ended }
}

func generous() Limits {
	return Limits{Deadline: Now() + time.Minute, CPU: time.Minute, Memory: 16 << 20, Table: 10000}
}

// echoGuest reads the event and publishes it: what a small C function does.
const echoGuest = `(module
  (import "m" "data" (func $data (param i32 i32) (result i32)))
  (import "m" "publish" (func $publish (param i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (table 4 funcref)
  (elem (i32.const 1) $handle)
  (global $sp (mut i32) (i32.const 66560))
  (data (i32.const 1024) "out/topic")
  (func $handle (export "mayfly_handle") (result i32)
    (drop (call $publish (i32.const 1024) (i32.const 9) (i32.const 2048)
       (call $data (i32.const 2048) (i32.const 4096)) (i32.const 1)))
    (i32.const 0)))`

func TestOnceRunsTheEvent(t *testing.T) {
	f := newFixture(t)
	m := f.load(echoGuest)
	var got string
	in := f.instance(func(id int, args []uint64, memory []byte) (uint64, error) {
		switch id {
		case 0:
			return uint64(copy(memory[args[0]:args[0]+args[1]], "hello")), nil
		case 1:
			got = string(memory[args[0]:args[0]+args[1]]) + "=" + string(memory[args[2]:args[2]+args[3]])
		}
		return 0, nil
	})
	in.Prepare(generous(), Now())
	if v, err := in.Once(m); v != 0 || err != nil {
		t.Fatalf("Once = %d, %v", v, err)
	}
	if got != "out/topic=hello" {
		t.Errorf("published %q", got)
	}
	if c := in.Cost(); c.Memory != 2<<16 || c.CPU <= 0 || c.Wall < c.CPU/2 {
		t.Errorf("cost %+v", c)
	}
	if in.CheckAt() != math.MaxInt64 {
		t.Errorf("check at %v after the call", in.CheckAt())
	}
}

func TestValuesCrossUnharmed(t *testing.T) {
	f := newFixture(t)
	m := f.load(`(module
  (import "m" "wide" (func $wide (param i64 i32) (result i64)))
  (func (export "mayfly_handle") (result i32)
    (i64.eq (call $wide (i64.const -2) (i32.const -3)) (i64.const 0x123456789abcdef0))))`)
	in := f.instance(func(id int, args []uint64, memory []byte) (uint64, error) {
		if id != 2 || args[0] != math.MaxUint64-1 || args[1] != 0xfffffffd || memory != nil {
			t.Errorf("id %d, args %x, %d bytes of memory", id, args, len(memory))
		}
		return 0x123456789abcdef0, nil
	})
	in.Prepare(generous(), Now())
	if v, err := in.Once(m); v != 1 || err != nil {
		t.Errorf("Once = %d, %v; want 1: the guest must see the same 64 bits", v, err)
	}
}

func TestHostErrorEndsTheGuest(t *testing.T) {
	f := newFixture(t)
	m := f.load(`(module (import "m" "none" (func $none))
  (func (export "mayfly_handle") (result i32) (call $none) (i32.const 0)))`)
	broken := errors.New("broken")
	for name, h := range map[string]host{
		"error": func(int, []uint64, []byte) (uint64, error) { return 0, broken },
		"panic": func(int, []uint64, []byte) (uint64, error) { panic("broken") },
	} {
		in := f.instance(h)
		in.Prepare(generous(), Now())
		_, err := in.Once(m)
		fail, ok := err.(*Failure)
		if !ok || fail.Host == nil || !strings.Contains(fail.Host.Error(), "broken") || len(fail.Frames) != 1 || fail.Phase != PhaseEntry {
			t.Errorf("%s: %#v", name, err)
		}
	}
}

// A start function may call the host before anybody knows the instance: it must get its memory all the same.
func TestStartFunctionSeesItsMemory(t *testing.T) {
	f := newFixture(t)
	m := f.load(`(module (import "m" "data" (func $data (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func $start (drop (call $data (i32.const 8) (i32.const 1))))
  (start $start)
  (func (export "mayfly_handle") (result i32) (i32.load8_u (i32.const 8))))`)
	in := f.instance(func(_ int, args []uint64, memory []byte) (uint64, error) {
		memory[args[0]] = 7
		return 0, nil
	})
	in.Prepare(generous(), Now())
	if v, err := in.Once(m); v != 7 || err != nil {
		t.Errorf("Once = %d, %v", v, err)
	}
}

// The host sees all of a memory that grew, from none at all to the most there can be, in a call after it too.
func TestHostSeesGrownMemory(t *testing.T) {
	for _, slots := range []uint32{4, 0} {
		s := testSettings()
		s.Slots = slots
		e, err := NewEngine(s, testImports)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(e.Close)
		f := fixture{t, e}
		for _, first := range []int{0, 1} {
			m := f.load(fmt.Sprintf(`(module (import "m" "data" (func $data (param i32 i32) (result i32)))
  (memory (export "memory") %d)
  (func (export "mayfly_handle") (result i32) (local $last i32)
    (if (i32.eq (memory.grow (i32.const 100)) (i32.const -1)) (then (return (i32.const -1))))
    (local.set $last (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 1)))
    (drop (call $data (local.get $last) (i32.const 1)))
    (i32.load8_u (local.get $last))))`, first))
			in := f.instance(func(_ int, args []uint64, memory []byte) (uint64, error) {
				if int(args[0]) != len(memory)-1 {
					t.Errorf("%d slots, %d pages: the guest's last byte is %d, the host sees %d bytes", slots, first, args[0], len(memory))
				}
				memory[args[0]] = 7
				return 0, nil
			})
			limits := generous()
			limits.Memory = 64 << 20
			in.Prepare(limits, Now())
			if err := in.Open(m); err != nil {
				t.Fatal(err)
			}
			for call := range 10 {
				in.Prepare(limits, Now())
				if v, err := in.Call(); v != 7 || err != nil {
					t.Errorf("%d slots, %d pages, call %d: %d, %v", slots, first, call, v, err)
				}
			}
			in.Close()
		}
	}
}

func TestOpenKeepsTheInstance(t *testing.T) {
	f := newFixture(t)
	m := f.load(`(module (global $n (mut i32) (i32.const 0))
  (func (export "_initialize") (global.set $n (i32.const 10)))
  (func (export "mayfly_init") (result i32) (global.set $n (i32.add (global.get $n) (i32.const 100))) (i32.const 0))
  (func (export "mayfly_handle") (result i32)
    (global.set $n (i32.add (global.get $n) (i32.const 1))) (global.get $n)))`)
	in := f.instance(nil)
	in.Prepare(generous(), Now())
	if err := in.Open(m); err != nil {
		t.Fatal(err)
	}
	for want := int32(111); want < 114; want++ {
		in.Prepare(generous(), Now())
		if v, err := in.Call(); v != want || err != nil {
			t.Fatalf("Call = %d, %v; want %d", v, err, want)
		}
	}
	in.Close()
	in.Prepare(generous(), Now())
	if v, err := in.Once(m); v != 111 || err != nil {
		t.Errorf("a fresh instance gives %d, %v", v, err)
	}
}

func TestInitMayRefuse(t *testing.T) {
	f := newFixture(t)
	m := f.load(`(module (func (export "mayfly_init") (result i32) (i32.const 5))
  (func (export "mayfly_handle") (result i32) (i32.const 0)))`)
	in := f.instance(nil)
	in.Prepare(generous(), Now())
	if _, err := in.Once(m); err == nil || !strings.Contains(err.Error(), "mayfly_init returned 5") {
		t.Errorf("Once: %v", err)
	}
	in.Prepare(generous(), Now())
	if err := in.Open(m); err == nil || !strings.Contains(err.Error(), "mayfly_init returned 5") {
		t.Errorf("Open: %v", err)
	}
}

func TestTrapsAreToldApart(t *testing.T) {
	f := newFixture(t)
	for name, c := range map[string]struct {
		body string
		code TrapCode
		text string
	}{
		"unreachable": {`unreachable`, TrapUnreachable, "unreachable"},
		"memory":      {`(i32.load (i32.const 0x7fffffff))`, TrapMemory, "out of bounds memory access"},
		"recursion":   {`(call $deep (i32.const 1))`, TrapStackOverflow, "call stack exhausted"},
		"division":    {`(i32.div_s (i32.const 1) (i32.load (i32.const 0)))`, 7, "divide by zero"},
	} {
		m := f.load(`(module (memory (export "memory") 1)
  (func $deep (param i32) (result i32) (i32.add (i32.const 1) (call $deep (local.get 0))))
  (func $broken_function (export "mayfly_handle") (result i32) ` + c.body + `))`)
		in := f.instance(nil)
		in.Prepare(generous(), Now())
		_, err := in.Once(m)
		fail, ok := err.(*Failure)
		if !ok || fail.Code != c.code || !strings.Contains(fail.Message, c.text) {
			t.Errorf("%s: %#v", name, err)
			continue
		}
		if n := len(fail.Frames); name != "recursion" && (n != 1 || fail.Depth != 1 || fail.Frames[0].Name != "broken_function") ||
			name == "recursion" && (n != maxFrames || fail.Depth < 1000 || fail.Frames[0].Name != "deep") {
			t.Errorf("%s: frames %+v", name, fail.Frames)
		}
	}
}

func TestClockStopsGuests(t *testing.T) {
	f := newFixture(t)
	loop := `(loop $l (br $l))`
	for name, c := range map[string]struct {
		wat    string
		limits func() Limits
		want   Stop
		phase  Phase
	}{
		"wall": {`(func (export "mayfly_handle") (result i32) ` + loop + ` (i32.const 0))`, func() Limits {
			l := generous()
			l.Deadline = Now() + 20*time.Millisecond
			return l
		}, StopWall, PhaseEntry},
		"cpu": {`(func (export "mayfly_handle") (result i32) ` + loop + ` (i32.const 0))`, func() Limits {
			l := generous()
			l.CPU = 20 * time.Millisecond
			return l
		}, StopCPU, PhaseEntry},
		"start": {`(func $s ` + loop + `) (start $s) (func (export "mayfly_handle") (result i32) (i32.const 0))`, func() Limits {
			l := generous()
			l.Deadline = Now() + 20*time.Millisecond
			return l
		}, StopWall, PhaseInstantiate},
		"initialize": {
			`(func (export "_initialize") ` + loop + `) (func (export "mayfly_handle") (result i32) (i32.const 0))`,
			func() Limits {
				l := generous()
				l.CPU = 20 * time.Millisecond
				return l
			}, StopCPU, PhaseInitialize,
		},
	} {
		m := f.load(`(module ` + c.wat + `)`)
		in := f.instance(nil)
		stop := f.watch(in)
		in.Prepare(c.limits(), Now())
		_, err := in.Once(m)
		stop()
		if fail, ok := err.(*Failure); !ok || fail.Stopped != c.want || fail.Phase != c.phase || len(fail.Frames) == 0 {
			t.Errorf("%s: %#v", name, err)
		}
		if cost := in.Cost(); cost.Wall > 5*time.Second {
			t.Errorf("%s: took %v", name, cost.Wall)
		}
	}
}

func TestMemoryAndTableLimits(t *testing.T) {
	f := newFixture(t)
	limits := generous()
	limits.Memory, limits.Table = 1<<20, 8
	m := f.load(`(module (memory (export "memory") 1) (table 1 funcref)
  (func (export "mayfly_handle") (result i32)
    (if (i32.ne (memory.grow (i32.const 15)) (i32.const 1)) (then (return (i32.const 1))))
    (if (i32.ne (memory.grow (i32.const 1)) (i32.const -1)) (then (return (i32.const 2))))
    (if (i32.ne (table.grow (ref.null func) (i32.const 7)) (i32.const 1)) (then (return (i32.const 3))))
    (if (i32.ne (table.grow (ref.null func) (i32.const 1)) (i32.const -1)) (then (return (i32.const 4))))
    (i32.const 0)))`)
	in := f.instance(nil)
	in.Prepare(limits, Now())
	if v, err := in.Once(m); v != 0 || err != nil {
		t.Errorf("Once = %d, %v", v, err)
	}
	if c := in.Cost(); c.Memory != 1<<20 {
		t.Errorf("memory %d", c.Memory)
	}
	for name, wat := range map[string]string{
		"memory": `(module (memory (export "memory") 17) (func (export "mayfly_handle") (result i32) (i32.const 0)))`,
		"table":  `(module (table 9 funcref) (func (export "mayfly_handle") (result i32) (i32.const 0)))`,
	} {
		in.Prepare(limits, Now())
		_, err := in.Once(f.load(wat))
		if err == nil || !strings.Contains(err.Error(), "limit") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLinkSaysWhatIsMissing(t *testing.T) {
	f := newFixture(t)
	for wat, want := range map[string]string{
		`(module (import "x" "y" (func)) (func (export "mayfly_handle") (result i32) (i32.const 0)))`:                "x::y",
		`(module (import "m" "none" (func (param i32))) (func (export "mayfly_handle") (result i32) (i32.const 0)))`: "none",
		`(module (func (export "other") (result i32) (i32.const 0)))`:                                                `no exported function "mayfly_handle"`,
		`(module (func (export "mayfly_handle") (param i32) (result i32) (i32.const 0)))`:                            "another type",
		`(module (func (export "mayfly_handle") (result i64) (i64.const 0)))`:                                        "another type",
		`(module (func (export "mayfly_init")) (func (export "mayfly_handle") (result i32) (i32.const 0)))`:          "another type",
	} {
		if _, err := f.tryLoad(wat); !errors.Is(err, ErrLink) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", wat, err)
		}
	}
}

func TestCancelStopsARunningGuest(t *testing.T) {
	f := newFixture(t)
	m := f.load(`(module (import "m" "none" (func $none))
  (func (export "mayfly_handle") (result i32) (call $none) (loop $l (br $l)) (i32.const 0)))`)
	running := make(chan struct{})
	in := f.instance(func(int, []uint64, []byte) (uint64, error) { close(running); return 0, nil })
	in.Prepare(generous(), Now())
	ended := make(chan error)
	go func() { _, err := in.Once(m); ended <- err }()
	<-running
	in.Cancel()
	f.MoveEpoch()
	if fail, ok := (<-ended).(*Failure); !ok || fail.Stopped != StopCancel {
		t.Errorf("%#v", fail)
	}
}
