package wasmtime

/*
#include <stdlib.h>
#include "binding.h"
*/
import "C"

import (
	"fmt"
	"math"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"
	"unsafe"
)

// Line is how many bytes apart must be what different processors write to at the same time.
const Line = C.MF_LINE

// Host answers the calls of one guest, one at a time. memory is the guest's whole linear memory and valid only until
// HostCall returns. An error ends the guest; it comes back as Failure.Host.
type Host interface {
	HostCall(id int, args []uint64, memory []byte) (uint64, error)
}

// Limits of one call.
type Limits struct {
	Deadline time.Duration // in the clock of Now
	CPU      time.Duration // of the thread
	Memory   int64         // bytes of linear memory
	Table    int64         // elements of a table
}

// Cost is what a call used, its instance's making and taking down included.
type Cost struct {
	Wall, CPU time.Duration
	Memory    int64 // bytes of linear memory at the end
}

// Instance is a place to run guests in, one event after the other, not concurrently. Between events it holds no guest,
// unless it was opened with Open.
type Instance struct {
	c      *C.mf_instance
	pin    runtime.Pinner // of this, because c points to it
	host   Host
	err    error // of the host call that ended the guest
	module *Module
}

// NewInstance allocates the place. h answers the guests' calls.
func NewInstance(h Host) *Instance {
	in := &Instance{host: h, c: C.mf_instance_new()}
	if in.c == nil {
		panic("wasmtime: out of memory")
	}
	in.pin.Pin(in)
	in.c.session = unsafe.Pointer(in)
	in.c.check_at = math.MaxInt64
	return in
}

// Free ends what is open and frees the place.
func (in *Instance) Free() {
	in.Close()
	C.free(unsafe.Pointer(in.c))
	in.c = nil
	in.pin.Unpin()
}

// CheckAt is when MoveEpoch must be called for the running guest's limits to be enforced, in the clock of Now;
// math.MaxInt64 while nothing runs. Safe for concurrent use.
func (in *Instance) CheckAt() time.Duration {
	return time.Duration(atomic.LoadInt64((*int64)(unsafe.Pointer(&in.c.check_at))))
}

// Cancel stops the running guest, and every later one, at the next MoveEpoch. Safe for concurrent use.
func (in *Instance) Cancel() { atomic.StoreInt32((*int32)(unsafe.Pointer(&in.c.cancel)), 1) }

// Prepare sets the limits of the next call. From then until the call ended CheckAt says when its time is up.
func (in *Instance) Prepare(l Limits, now time.Duration) {
	in.err = nil
	in.c.deadline = C.int64_t(l.Deadline)
	in.c.cpu_limit = C.int64_t(l.CPU)
	in.c.memory_limit = C.int64_t(l.Memory)
	in.c.table_limit = C.int64_t(l.Table)
	atomic.StoreInt64((*int64)(unsafe.Pointer(&in.c.check_at)), int64(min(l.Deadline, now+l.CPU)))
}

// Once makes an instance of m, runs its entry once and takes it down. It returns what the entry returned (0 when it
// returns nothing) and a *Failure when it did not come that far.
func (in *Instance) Once(m *Module) (int32, error) {
	if C.mf_once(in.c, m.c) != C.MF_OK {
		return 0, in.failure()
	}
	return in.result(C.MF_ENTRY)
}

// Open makes an instance of m that stays until Close.
func (in *Instance) Open(m *Module) error {
	if C.mf_open(in.c, m.c) != C.MF_OK {
		err := in.failure()
		in.Close()
		return err
	}
	if _, err := in.result(C.MF_INIT); err != nil {
		in.Close()
		return err
	}
	in.module = m
	return nil
}

// Call runs the entry of the open instance. After a *Failure the instance must be closed.
func (in *Instance) Call() (int32, error) {
	if C.mf_call(in.c, in.module.c) != C.MF_OK {
		return 0, in.failure()
	}
	return in.result(C.MF_ENTRY)
}

// Close takes the open instance down. It is harmless when none is open.
func (in *Instance) Close() {
	C.mf_close(in.c)
	in.module = nil
}

// Away says that the last Once or Open made its instance in another shard than its processor's, for want of the module there.
func (in *Instance) Away() bool { return bool(in.c.away) }

// Cost is what the call that just ended used.
func (in *Instance) Cost() Cost {
	return Cost{Wall: time.Duration(in.c.wall), CPU: time.Duration(in.c.cpu), Memory: int64(in.c.memory_bytes)}
}

// result is the entry's answer, or the failure of a mayfly_init that did not return 0.
func (in *Instance) result(want C.int32_t) (int32, error) {
	if want == C.MF_ENTRY && in.c.phase != C.MF_ENTRY || want == C.MF_INIT && in.c.value != 0 {
		return 0, &Failure{Phase: PhaseInit, Code: NoTrap, Message: fmt.Sprintf("mayfly_init returned %d", in.c.value)}
	}
	return int32(in.c.value), nil
}

// mayflyHostCall is called by a guest, through the trampoline in binding.c, on the thread that runs it.
//
//export mayflyHostCall
func mayflyHostCall(call *C.mf_host_call) (status C.int32_t) {
	in := (*Instance)(call.session)
	defer func() { // a panic must not unwind through the guest's frames
		if p := recover(); p != nil {
			in.err = fmt.Errorf("panic in host function %d: %v\n%s", call.id, p, debug.Stack())
			status = 1
		}
	}()
	args := unsafe.Slice((*uint64)(call.args), call.nargs)
	value, err := in.host.HostCall(int(call.id), args, unsafe.Slice((*byte)(call.memory), call.memory_len))
	if err != nil {
		in.err = err
		return 1
	}
	call.result = C.uint64_t(value)
	return 0
}
