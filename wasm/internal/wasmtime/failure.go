package wasmtime

/*
#include "binding.h"
*/
import "C"

import (
	"strings"
	"unsafe"
)

// Phase says how far a call came.
type Phase uint8

// Phases of a call, in their order.
const (
	PhaseInstantiate Phase = iota // making the instance, its start function included
	PhaseInitialize               // _initialize
	PhaseInit                     // mayfly_init
	PhaseEntry                    // mayfly_handle or _start
)

func (p Phase) String() string {
	return [...]string{"instantiate", "_initialize", "mayfly_init", "call"}[p]
}

// Stop says that the clock ended a guest, and which.
type Stop uint8

// Reasons for stopping a guest.
const (
	NotStopped Stop = iota
	StopWall        // Limits.Deadline
	StopCPU         // Limits.CPU
	StopCancel      // Cancel
)

// TrapCode is the library's number of a trap.
type TrapCode int

// Codes that mean something to callers; the message says what the others are.
const (
	NoTrap            TrapCode = -1
	TrapStackOverflow TrapCode = 0
	TrapMemory        TrapCode = 1
	TrapUnreachable   TrapCode = 9
)

// Frame is one Wasm function on the stack of a guest that was ended, innermost first.
type Frame struct {
	Index  uint32 // of the function
	Name   string // from the module's name section, "" when it has none
	Offset uint64 // bytes from the start of the module file
}

const maxFrames = 32

// Failure is why a call did not end by itself.
type Failure struct {
	Phase   Phase
	Stopped Stop
	Code    TrapCode
	Message string  // the library's own words, one line
	Frames  []Frame // at most 32, those nearest to where it happened
	Depth   int     // how many frames there were
	Host    error   // of the host call that ended the guest
}

func (f *Failure) Error() string { return f.Phase.String() + ": " + f.Message }

// Unwrap returns the host call's error.
func (f *Failure) Unwrap() error { return f.Host }

// failure takes over what the C side left behind and frees it.
func (in *Instance) failure() *Failure {
	f := &Failure{Phase: Phase(in.c.phase), Stopped: Stop(in.c.stopped), Code: NoTrap, Host: in.err}
	in.err = nil
	var msg C.wasm_byte_vec_t
	var frames C.wasm_frame_vec_t
	if t := in.c.trap; t != nil {
		var code C.wasmtime_trap_code_t
		if C.wasmtime_trap_code(t, &code) {
			f.Code = TrapCode(code)
		}
		C.wasm_trap_message(t, &msg)
		C.wasm_trap_trace(t, &frames)
		defer C.wasm_trap_delete(t) // the frames point into it
	} else if e := in.c.error; e != nil {
		C.wasmtime_error_message(e, &msg)
		C.wasmtime_error_wasm_trace(e, &frames)
		defer C.wasmtime_error_delete(e)
	}
	in.c.trap, in.c.error = nil, nil
	f.Message = cause(takeBytes(&msg))
	f.Depth = int(frames.size)
	f.Frames = framesOf(&frames)
	return f
}

// cause keeps what went wrong of a message that also holds backtraces: the last line of "Caused by:", else the first line.
func cause(msg string) string {
	if _, causes, found := strings.Cut(msg, "Caused by:\n"); found {
		causes, _, _ = strings.Cut(causes, "\n\n") // what follows is a native backtrace
		lines := strings.Split(strings.Trim(causes, "\n\x00"), "\n")
		last := strings.TrimSpace(lines[len(lines)-1])
		if number, rest, numbered := strings.Cut(last, ": "); numbered && len(number) < 3 {
			last = rest
		}
		return last
	}
	line, _, _ := strings.Cut(msg, "\n")
	return strings.TrimRight(line, "\x00")
}

func framesOf(v *C.wasm_frame_vec_t) []Frame {
	defer C.wasm_frame_vec_delete(v)
	n := min(v.size, maxFrames)
	out := make([]Frame, 0, n)
	for _, f := range unsafe.Slice(v.data, n) {
		out = append(out, Frame{
			Index:  uint32(C.wasm_frame_func_index(f)),
			Name:   borrow(C.wasmtime_frame_func_name(f)),
			Offset: uint64(C.wasm_frame_module_offset(f)),
		})
	}
	return out
}
