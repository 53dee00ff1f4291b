package wasmtime

/*
#include <stdlib.h>
#include "binding.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"
)

// Export is an export of a module. Kind is 0 function, 1 table, 2 memory, 3 global; Params and Results are those of a
// function; all in the binary encoding of Wasm.
type Export struct {
	Name            string
	Kind            byte
	Params, Results []byte
}

// Module is native code loaded into an engine, ready to be instantiated. Safe for concurrent use.
type Module struct {
	engine  *Engine
	c       *C.mf_module           // in C's memory, or every call would be checked for pointers into Go's
	loaded  []*C.wasmtime_module_t // by shard; only the first is there before Spread
	exports []Export
	size    int64 // of one
	copies  atomic.Int32
}

// Size is the bytes of native code and data that it keeps loaded, in all shards.
func (m *Module) Size() int64 { return m.size * int64(m.Copies()) }

// Copies is the number of shards that can make instances of it.
func (m *Module) Copies() int { return int(m.copies.Load()) }

// Spread loads the module into all shards. Calls go on meanwhile, but Spread and Close must not be called concurrently, and
// Spread once.
func (e *Engine) Spread(m *Module) error {
	var native C.wasm_byte_vec_t
	if err := takeError(C.wasmtime_module_serialize(m.loaded[0], &native)); err != nil {
		return err
	}
	defer C.wasm_byte_vec_delete(&native)
	for i, x := range e.shards[1:] {
		var twin *C.wasmtime_module_t
		err := takeError(C.wasmtime_module_deserialize(x.ptr, (*C.uint8_t)(unsafe.Pointer(native.data)), native.size, &twin))
		if err != nil {
			return err
		}
		m.loaded = append(m.loaded, twin)
		var pre *C.wasmtime_instance_pre_t
		if err := takeError(C.wasmtime_linker_instantiate_pre(x.linker, twin, &pre)); err != nil {
			return fmt.Errorf("%w: %w", ErrLink, err)
		}
		atomic.StorePointer((*unsafe.Pointer)(unsafe.Pointer(&m.c.part[i+1].pre)), unsafe.Pointer(pre))
		m.copies.Add(1)
	}
	return nil
}

// Load makes native code that Compile returned, in this or another process, ready to run. The code is trusted entirely:
// whoever can forge it runs anything as this process. It says so when the code was made by another version, for other
// settings or for another processor.
func (e *Engine) Load(native []byte) (*Module, error) {
	if len(native) == 0 {
		return nil, errors.New("empty native code")
	}
	m := &Module{engine: e, size: int64(len(native)), loaded: make([]*C.wasmtime_module_t, 1, MaxShards)}
	err := takeError(C.wasmtime_module_deserialize(e.shards[0].ptr, (*C.uint8_t)(unsafe.SliceData(native)), C.size_t(len(native)), &m.loaded[0]))
	if err != nil {
		return nil, err
	}
	if m.c = (*C.mf_module)(C.calloc(1, C.sizeof_mf_module)); m.c == nil {
		panic("wasmtime: out of memory")
	}
	m.copies.Store(1)
	m.exports = m.readExports()
	m.c.shards = C.int32_t(len(e.shards))
	for i, x := range e.shards {
		m.c.part[i].engine = x.ptr
	}
	return m, nil
}

// ErrLink is wrapped by the error about imports that cannot be met.
var ErrLink = errors.New("cannot link")

// Link resolves the module's imports and chooses what a call runs: entry is a function without parameters that returns
// an i32, or nothing when returns is false; initialize (returns nothing) and init (returns i32) run before it in a new
// instance. Empty or absent names are left out, except entry. It is called once, before the first instance.
func (e *Engine) Link(m *Module, entry string, returns bool) error {
	m.c.memory = m.find("memory", 2)
	m.c.initialize = m.find("_initialize", 0)
	m.c.init = m.find("mayfly_init", 0)
	m.c.entry = m.find(entry, 0)
	m.c.entry_returns = C.bool(returns)
	if !returns {
		m.c.init, m.c.initialize = -1, -1
	}
	if m.c.entry < 0 {
		return fmt.Errorf("%w: no exported function %q", ErrLink, entry)
	}
	for _, f := range []struct {
		at      C.int32_t
		results int
	}{{m.c.entry, results(returns)}, {m.c.initialize, 0}, {m.c.init, 1}} {
		if f.at >= 0 && !m.callable(int(f.at), f.results) {
			return fmt.Errorf("%w: export %q has another type than it must have", ErrLink, m.exports[f.at].Name)
		}
	}
	if err := takeError(C.wasmtime_linker_instantiate_pre(e.shards[0].linker, m.loaded[0], &m.c.part[0].pre)); err != nil {
		return fmt.Errorf("%w: %w", ErrLink, err)
	}
	return nil
}

func results(returns bool) int {
	if returns {
		return 1
	}
	return 0
}

// callable says whether export i takes nothing and gives n i32: what binding.c may call without a look at its type.
func (m *Module) callable(i, n int) bool {
	x := m.exports[i]
	return len(x.Params) == 0 && len(x.Results) == n && (n == 0 || x.Results[0] == 0x7f)
}

func (m *Module) find(name string, kind byte) C.int32_t {
	for i, x := range m.exports {
		if x.Name == name && x.Kind == kind {
			return C.int32_t(i)
		}
	}
	return -1
}

// Exports are the module's exports in their order.
func (m *Module) Exports() []Export { return m.exports }

// Close frees the module. No instance of it may be left.
func (m *Module) Close() {
	m.engine.freeing.Lock()
	defer m.engine.freeing.Unlock()
	for i := range m.c.part {
		if pre := m.c.part[i].pre; pre != nil {
			C.wasmtime_instance_pre_delete(pre)
		}
	}
	for _, x := range m.loaded {
		C.wasmtime_module_delete(x)
	}
	C.free(unsafe.Pointer(m.c))
	m.c, m.loaded = nil, nil
}

func (m *Module) readExports() []Export {
	var vec C.wasm_exporttype_vec_t
	C.wasmtime_module_exports(m.loaded[0], &vec)
	defer C.wasm_exporttype_vec_delete(&vec)
	out := make([]Export, 0, vec.size)
	for _, t := range unsafe.Slice(vec.data, vec.size) {
		x := exportOf(C.wasm_exporttype_type(t))
		x.Name = borrow(C.wasm_exporttype_name(t))
		out = append(out, x)
	}
	return out
}

func exportOf(t *C.wasm_externtype_t) Export {
	switch C.wasm_externtype_kind(t) {
	case C.WASM_EXTERN_FUNC:
		f := C.wasm_externtype_as_functype_const(t)
		return Export{Kind: 0, Params: typesOf(C.wasm_functype_params(f)), Results: typesOf(C.wasm_functype_results(f))}
	case C.WASM_EXTERN_TABLE:
		return Export{Kind: 1}
	case C.WASM_EXTERN_MEMORY:
		return Export{Kind: 2}
	case C.WASM_EXTERN_GLOBAL:
		return Export{Kind: 3}
	}
	return Export{Kind: 0xff}
}

// typesOf translates types from the library's numbers to the binary encoding; unknown ones become 0.
func typesOf(v *C.wasm_valtype_vec_t) []byte {
	out := make([]byte, 0, v.size)
	for _, t := range unsafe.Slice(v.data, v.size) {
		switch C.wasm_valtype_kind(t) {
		case C.WASM_I32:
			out = append(out, 0x7f)
		case C.WASM_I64:
			out = append(out, 0x7e)
		case C.WASM_F32:
			out = append(out, 0x7d)
		case C.WASM_F64:
			out = append(out, 0x7c)
		default:
			out = append(out, 0)
		}
	}
	return out
}
