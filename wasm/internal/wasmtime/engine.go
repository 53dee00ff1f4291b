// Package wasmtime is a thin binding of libwasmtime for one purpose: run one event in an instance of its own, in one
// crossing between Go and C, within limits. It decides nothing: which limits, how many instances, what to do about a
// failure is its caller's business. It holds the only import of the Go module the library comes with (library.go).
package wasmtime

/*
#cgo noescape mf_once
#cgo noescape mf_call
#cgo noescape mf_now
#cgo nocallback mf_now
#cgo noescape wasmtime_engine_increment_epoch
#cgo nocallback wasmtime_engine_increment_epoch
#include <stdlib.h>
#include "binding.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"time"
	"unsafe"
)

// Settings of an engine. The first group decides what native code looks like: code compiled under other values is refused.
type Settings struct {
	Reservation uint64 // bytes of address space per linear memory, the most a memory can grow to
	Guard       uint64 // bytes of unmapped address space behind each
	Stack       uint64 // bytes of native stack a guest may use
	Unwind      bool   // native unwind tables, for outside profilers and debuggers only

	Shards         int    // engines of the library, 1..MaxShards, 0 = 1; processors take turns in having the first, second, ...
	Slots          uint32 // instances at once in a pool allocated beforehand, for each shard; 0 = allocate each on demand
	Warm           uint32 // idle slots whose memory stays resident, in each shard
	MemoryResident uint64 // bytes of a slot's memory that stay resident
	TableResident  uint64 // bytes of a slot's table that stay resident
	TableElements  uint64 // most elements of a table
}

// Fingerprint names everything that decides what native code looks like, except the processor's features, which the
// library itself compares when it loads code.
func (s Settings) Fingerprint() string {
	return fmt.Sprintf("wasmtime %s %s reservation=%d guard=%d unwind=%t", Version, runtime.GOARCH, s.Reservation, s.Guard, s.Unwind)
}

// Import is a host function. The types are in the binary encoding of Wasm (0x7f i32 .. 0x7c f64).
type Import struct {
	Module, Name    string
	Params, Results []byte // at most 16 and 1
}

// MaxShards is the most engines of the library that one Engine can consist of.
const MaxShards = C.MF_SHARDS

// Engine is the library's engine together with the host functions every guest may import. There is one per process.
//
// It consists of shards, each an engine of the library with a pool of its own: making an instance takes several locks of its
// engine and leaves the slot's memory in the cache of the processor it ran on, so that two processors that share an engine get
// 1.3 times the work of one done, and two that do not as much as two processes (measured, fresh instances of a small guest). Which shard makes an
// instance is decided where it is made; nothing of one shard is ever given to another.
type Engine struct {
	shards  []shard
	freeing sync.Mutex // of a module: one at a time, there is one slot more for that
}

type shard struct {
	ptr    *C.wasm_engine_t
	linker *C.wasmtime_linker_t
}

// NewEngine makes an engine. The process is aborted when the settings cannot be met: find out before whether the address
// space suffices (Settings.AddressSpace).
func NewEngine(s Settings, imports []Import) (*Engine, error) {
	c := C.mf_settings{
		reservation: C.uint64_t(s.Reservation), guard: C.uint64_t(s.Guard), stack: C.uint64_t(s.Stack), unwind: C.bool(s.Unwind),
		slots: C.uint32_t(s.Slots), warm: C.uint32_t(s.Warm), memory_resident: C.uint64_t(s.MemoryResident),
		table_resident: C.uint64_t(s.TableResident), table_elements: C.uint64_t(s.TableElements),
	}
	if s.Shards < 0 || s.Shards > MaxShards {
		return nil, fmt.Errorf("%d shards, want 1..%d", s.Shards, MaxShards)
	}
	e := &Engine{}
	for range max(1, s.Shards) {
		x := shard{ptr: C.mf_engine_new(&c)}
		x.linker = C.wasmtime_linker_new(x.ptr)
		e.shards = append(e.shards, x)
		for id, im := range imports {
			if err := x.define(id, im); err != nil {
				e.Close()
				return nil, fmt.Errorf("define %s.%s: %w", im.Module, im.Name, err)
			}
		}
	}
	return e, nil
}

func (x *shard) define(id int, im Import) error {
	params, err := kinds(im.Params)
	if err != nil {
		return err
	}
	results, err := kinds(im.Results)
	if err != nil {
		return err
	}
	return takeError(C.mf_define(x.linker, chars(im.Module), C.size_t(len(im.Module)), chars(im.Name), C.size_t(len(im.Name)),
		(*C.uint8_t)(unsafe.SliceData(params)), C.size_t(len(params)), (*C.uint8_t)(unsafe.SliceData(results)), C.size_t(len(results)),
		C.int32_t(id)))
}

// AddressSpace is how many bytes of address space the engine reserves at once.
func (s Settings) AddressSpace() uint64 {
	perTable := (s.TableElements*8 + 4095) &^ 4095
	return uint64(max(1, s.Shards)) * (uint64(s.Slots+1)*(s.Reservation+s.Guard+perTable+1<<20) + s.Guard)
}

// Close frees the engine. Modules and instances must be closed before.
func (e *Engine) Close() {
	for _, x := range e.shards {
		C.wasmtime_linker_delete(x.linker)
		C.wasm_engine_delete(x.ptr)
	}
	e.shards = nil
}

// MoveEpoch makes every running guest compare its limits with the clocks at its next loop or function entry. Safe for
// concurrent use.
func (e *Engine) MoveEpoch() {
	for _, x := range e.shards {
		C.wasmtime_engine_increment_epoch(x.ptr)
	}
}

// Now is the clock that deadlines of calls are in.
func Now() time.Duration { return time.Duration(C.mf_now()) }

// Compile turns the bytes of a module into native code. It can take minutes and gigabytes for hostile input and cannot be
// interrupted: run it in a process with limits.
func (e *Engine) Compile(module []byte) ([]byte, error) {
	if len(module) == 0 {
		return nil, errors.New("empty module")
	}
	var m *C.wasmtime_module_t
	err := takeError(C.wasmtime_module_new(e.shards[0].ptr, (*C.uint8_t)(unsafe.SliceData(module)), C.size_t(len(module)), &m))
	if err != nil {
		return nil, err
	}
	defer C.wasmtime_module_delete(m)
	var out C.wasm_byte_vec_t
	if err := takeError(C.wasmtime_module_serialize(m, &out)); err != nil {
		return nil, err
	}
	defer C.wasm_byte_vec_delete(&out)
	return C.GoBytes(unsafe.Pointer(out.data), C.int(out.size)), nil
}

// takeError turns an error of the library into one of ours and frees it.
func takeError(e *C.wasmtime_error_t) error {
	if e == nil {
		return nil
	}
	defer C.wasmtime_error_delete(e)
	var msg C.wasm_name_t
	C.wasmtime_error_message(e, &msg)
	text, _, _ := strings.Cut(takeBytes(&msg), "\n\nStack backtrace:") // of the library itself, with RUST_BACKTRACE
	first, causes, found := strings.Cut(text, "\n\nCaused by:\n")
	if found {
		for line := range strings.Lines(causes) {
			first += ": " + strings.TrimSpace(line)
		}
	}
	return errors.New(first)
}

func takeBytes(v *C.wasm_byte_vec_t) string {
	defer C.wasm_byte_vec_delete(v)
	return borrow(v)
}

// borrow copies bytes that C keeps owning.
func borrow(v *C.wasm_byte_vec_t) string {
	if v == nil || v.size == 0 {
		return ""
	}
	return C.GoStringN(v.data, C.int(v.size))
}

// chars lends a string's bytes to C for one call.
func chars(s string) *C.char { return (*C.char)(unsafe.Pointer(unsafe.StringData(s))) }

// kinds translates types from the binary encoding to the library's numbers.
func kinds(types []byte) ([]byte, error) {
	out := make([]byte, len(types))
	for i, t := range types {
		switch t {
		case 0x7f:
			out[i] = C.WASM_I32
		case 0x7e:
			out[i] = C.WASM_I64
		default:
			return nil, fmt.Errorf("host functions take and give i32 and i64 only, not type 0x%x", t)
		}
	}
	return out, nil
}
