package wasmtime

// The library comes with this module: its archive of libwasmtime is what binding.c is linked with. To move to another
// version change the three lines below and go.mod, run the tests, and read what header_test.go has to say.
import wasmtime "github.com/bytecodealliance/wasmtime-go/v39"

const (
	// Version is the version of libwasmtime: part of the fingerprint of native code.
	Version = "39.0.1"

	// modulePath is where the library and its headers come from.
	modulePath = "github.com/bytecodealliance/wasmtime-go/v39"
)

// Wat2Wasm turns the text form of a module into bytes, for tests and measurements.
func Wat2Wasm(text string) ([]byte, error) { return wasmtime.Wat2Wasm(text) }

// Plain runs the same events through the module's own Go calls, with the same limits: the yardstick for this package.
// Not safe for concurrent use.
type Plain struct {
	engine *wasmtime.Engine
	linker *wasmtime.Linker
	module *wasmtime.Module
	host   Host
}

// NewPlain compiles a module and defines the imports.
func NewPlain(bytes []byte, imports []Import) (*Plain, error) {
	config := wasmtime.NewConfig()
	config.SetEpochInterruption(true)
	config.SetWasmMemory64(false)
	config.SetWasmThreads(false)
	p := &Plain{engine: wasmtime.NewEngineWithConfig(config)}
	p.linker = wasmtime.NewLinker(p.engine)
	for id, im := range imports {
		if err := p.linker.FuncNew(im.Module, im.Name, plainType(im), p.callback(id, im)); err != nil {
			return nil, err
		}
	}
	var err error
	p.module, err = wasmtime.NewModule(p.engine, bytes)
	return p, err
}

func plainType(im Import) *wasmtime.FuncType {
	types := func(kinds []byte) []*wasmtime.ValType {
		out := make([]*wasmtime.ValType, len(kinds))
		for i, k := range kinds {
			out[i] = wasmtime.NewValType(wasmtime.KindI32)
			if k == 0x7e {
				out[i] = wasmtime.NewValType(wasmtime.KindI64)
			}
		}
		return out
	}
	return wasmtime.NewFuncType(types(im.Params), types(im.Results))
}

func (p *Plain) callback(id int, im Import) func(*wasmtime.Caller, []wasmtime.Val) ([]wasmtime.Val, *wasmtime.Trap) {
	return func(caller *wasmtime.Caller, vals []wasmtime.Val) ([]wasmtime.Val, *wasmtime.Trap) {
		args := make([]uint64, len(vals))
		for i, v := range vals {
			if v.Kind() == wasmtime.KindI64 {
				args[i] = uint64(v.I64())
			} else {
				args[i] = uint64(uint32(v.I32()))
			}
		}
		result, err := p.host.HostCall(id, args, caller.GetExport("memory").Memory().UnsafeData(caller))
		switch {
		case err != nil:
			return nil, wasmtime.NewTrap(err.Error())
		case len(im.Results) == 0:
			return nil, nil
		case im.Results[0] == 0x7e:
			return []wasmtime.Val{wasmtime.ValI64(int64(result))}, nil
		}
		return []wasmtime.Val{wasmtime.ValI32(int32(result))}, nil
	}
}

// Open makes an instance within limits. call runs mayfly_handle in it, once or more; end takes the instance down.
func (p *Plain) Open(h Host, l Limits) (call func() (int32, error), end func(), err error) {
	p.host = h
	store := wasmtime.NewStore(p.engine)
	store.Limiter(l.Memory, l.Table, 1, 1, 1)
	store.SetEpochDeadline(1000)
	instance, err := p.linker.Instantiate(store, p.module)
	if err != nil {
		store.Close()
		return nil, nil, err
	}
	handle := instance.GetFunc(store, "mayfly_handle")
	call = func() (int32, error) {
		v, err := handle.Call(store)
		if err != nil {
			return 0, err
		}
		return v.(int32), nil
	}
	return call, store.Close, nil
}

// Close frees what was compiled.
func (p *Plain) Close() {
	p.module.Close()
	p.linker.Close()
	p.engine.Close()
}
