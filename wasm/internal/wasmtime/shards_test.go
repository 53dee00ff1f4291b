package wasmtime

import (
	"errors"
	"runtime"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// onEach runs f on every processor the process may run on, one after the other.
func onEach(t *testing.T, f func(cpu int)) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	affinity := func(call uintptr, mask *[16]uint64) {
		if _, _, errno := syscall.RawSyscall(call, 0, unsafe.Sizeof(*mask), uintptr(unsafe.Pointer(mask))); errno != 0 {
			t.Fatal(errno)
		}
	}
	var allowed [16]uint64
	affinity(syscall.SYS_SCHED_GETAFFINITY, &allowed)
	for cpu := range 64 * len(allowed) {
		if allowed[cpu/64]>>(cpu%64)&1 == 1 {
			var one [16]uint64
			one[cpu/64] = 1 << (cpu % 64)
			affinity(syscall.SYS_SCHED_SETAFFINITY, &one)
			f(cpu)
		}
	}
	affinity(syscall.SYS_SCHED_SETAFFINITY, &allowed)
}

// A call runs in the shard of its processor when that has the module, in the first otherwise; it runs the same everywhere, within
// its limits.
func TestShards(t *testing.T) {
	s := testSettings()
	s.Shards = 3
	e, err := NewEngine(s, testImports)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	f := fixture{t, e}
	m, endless := f.load(echoGuest), f.load(`(module (func (export "mayfly_handle") (result i32) (loop $l (br $l)) (i32.const 0)))`)
	in := f.instance(benchHost)
	run := func(m *Module, d time.Duration) error {
		in.Prepare(Limits{Deadline: Now() + d, CPU: time.Minute, Memory: 16 << 20, Table: 10000}, Now())
		_, err := in.Once(m)
		return err
	}
	onEach(t, func(cpu int) {
		if err := run(m, time.Minute); err != nil || in.Away() != (cpu%3 != 0) {
			t.Errorf("processor %d, before: away %t, %v", cpu, in.Away(), err)
		}
	})
	one := m.Size()
	for _, m := range []*Module{m, endless} {
		if err := e.Spread(m); err != nil {
			t.Fatal(err)
		}
	}
	if m.Copies() != 3 || m.Size() != 3*one {
		t.Errorf("%d copies, %d bytes, %d in one", m.Copies(), m.Size(), one)
	}
	stop := f.watch(in)
	defer stop()
	onEach(t, func(cpu int) {
		if err := run(m, time.Minute); err != nil || in.Away() {
			t.Errorf("processor %d, after: away %t, %v", cpu, in.Away(), err)
		}
		var failure *Failure
		if err := run(endless, 20*time.Millisecond); !errors.As(err, &failure) || failure.Stopped != StopWall {
			t.Errorf("processor %d: an endless guest ended with %v", cpu, err)
		}
	})
}

func TestTooManyShards(t *testing.T) {
	s := testSettings()
	s.Shards = MaxShards + 1
	if _, err := NewEngine(s, nil); err == nil {
		t.Error("made an engine of more shards than there can be")
	}
}
