package wasm

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync/atomic"
	"time"

	"mayfly/function"
	"mayfly/wasm/abi"
	"mayfly/wasm/admission"
	"mayfly/wasm/internal/wasmtime"
)

// moduleKey names native code linked for one interface. want is what the manifest says, usually auto.
type moduleKey struct {
	digest function.Digest
	want   function.ABI
}

// module is native code in memory, shared by all functions with the same bytes.
type module struct {
	key   moduleKey
	code  *wasmtime.Module
	kind  function.ABI
	users int          // residents, and who is spreading it
	away  atomic.Int32 // calls that ran in another shard than their processor's
}

// resident is a function whose module is loaded. Calls in places that say they are running it keep it so (a place says it first and
// looks at gone then; who retires it sets gone first and looks at the places then), and so does who waits for a place.
type resident struct {
	spec   *function.Function
	module *module
	reuse  bool
	gone   atomic.Bool  // replaced or evicted: the last call frees it
	used   atomic.Int64 // a late use, since Engine.zero: to within usedGrain

	pins     int  // calls that wait for a place; guarded by Engine.mu
	disposed bool // likewise
}

// usedGrain is how exactly it is known who was used last: all processors would write to it with every call otherwise.
const usedGrain = 10 * time.Millisecond

func (r *resident) touch(now time.Duration) {
	if now-time.Duration(r.used.Load()) > usedGrain {
		r.used.Store(int64(now))
	}
}

// loading is a module on its way into memory, for everybody who waits for it.
type loading struct {
	done   chan struct{}
	module *module
	err    error
}

// Load makes sure that calls of f need not wait for the compiler: it checks the limits and compiles the module unless the
// cache has it. The native code itself is read when the first event comes.
func (e *Engine) Load(ctx context.Context, f *function.Function) error {
	if err := e.checkLimits(f); err != nil {
		return err
	}
	if e.cache.has(f.Module) {
		return nil
	}
	m, err := e.ensure(ctx, f)
	if err != nil {
		return err
	}
	e.unuse(m)
	e.shrink()
	return nil
}

// Unload forgets the function of that name, a version on trial too: what it keeps loaded is freed as soon as its calls end.
func (e *Engine) Unload(name string) {
	for _, name := range []string{name, name + onTrial} {
		if r := (*e.residents.Load())[name]; r != nil {
			e.retire(r)
		}
	}
}

// onTrial follows the name of a version on trial: it is resident beside the other one, or each call would replace the other's.
const onTrial = " on trial"

func residentName(f *function.Function) string {
	if f.Trial {
		return f.Manifest.Name + onTrial
	}
	return f.Manifest.Name
}

// checkLimits refuses a function that asks for more than a slot has.
func (e *Engine) checkLimits(f *function.Function) error {
	l := &f.Manifest.Limits
	refuse := func(kind, hint string, err error) error {
		return &function.Error{Op: "load", Subject: f.Name(), Class: function.ClassReject, Kind: kind, Err: err, Hint: hint}
	}
	switch {
	case l.Memory < 0 || l.Stack < 0 || l.Table < 0: // to the library it would mean without limit
		return refuse("limits", "limits must not be negative", fmt.Errorf("limits.memory %d, limits.stack %d, limits.table %d", l.Memory, l.Stack, l.Table))
	case l.Memory > e.cfg.SlotMemory:
		return refuse("memory", "lower limits.memory in the manifest, or raise [limits] memory in the agent's configuration",
			fmt.Errorf("limits.memory is %d bytes, a slot of this node has %d", l.Memory, e.cfg.SlotMemory))
	case l.Stack > e.cfg.Stack:
		return refuse("stack", "lower limits.stack, or give this node's guests a larger stack",
			fmt.Errorf("limits.stack is %d bytes, this node allows %d", l.Stack, e.cfg.Stack))
	case l.Table > TableElements:
		return refuse("table", fmt.Sprintf("lower limits.table to at most %d", TableElements),
			fmt.Errorf("limits.table is %d elements, the most is %d", l.Table, TableElements))
	}
	return nil
}

// resident returns the function's resident, or nil when it is not loaded.
func (e *Engine) resident(f *function.Function) *resident {
	r := (*e.residents.Load())[residentName(f)]
	if r == nil || r.spec != f {
		return nil
	}
	return r
}

// setResident changes the table: calls read it without a lock. r nil takes the name out. The lock is held.
func (e *Engine) setResident(name string, r *resident) {
	table := maps.Clone(*e.residents.Load())
	if r == nil {
		delete(table, name)
	} else {
		table[name] = r
	}
	e.residents.Store(&table)
}

// unpin ends the waiting of a call for a place.
func (e *Engine) unpin(r *resident) {
	e.mu.Lock()
	r.pins--
	e.mu.Unlock()
	if r.gone.Load() {
		e.dispose(r)
	}
}

// retire takes a resident out of the table; the last of its calls disposes of it.
func (e *Engine) retire(r *resident) {
	e.mu.Lock()
	if name := residentName(r.spec); (*e.residents.Load())[name] == r {
		e.setResident(name, nil)
	}
	e.mu.Unlock()
	r.gone.Store(true)
	e.dispose(r)
}

// dispose frees, once, what a retired resident held, unless a call still uses it.
func (e *Engine) dispose(r *resident) {
	e.mu.Lock()
	if r.disposed || r.pins > 0 || e.pool.uses(r) {
		e.mu.Unlock()
		return
	}
	r.disposed = true
	e.mu.Unlock()
	e.pool.forget(r)
	e.unuse(r.module)
}

// unuse gives up one use of a module. One that nobody uses stays loaded until room is needed.
func (e *Engine) unuse(m *module) {
	e.mu.Lock()
	m.users--
	e.mu.Unlock()
}

// admit makes f resident and returns it pinned.
func (e *Engine) admit(ctx context.Context, f *function.Function) (*resident, error) {
	if err := e.checkLimits(f); err != nil {
		return nil, err
	}
	m, err := e.ensure(ctx, f)
	if err != nil {
		return nil, err
	}
	r := &resident{spec: f, module: m, pins: 1, reuse: f.Manifest.Module.Reuse && m.kind == function.ABIMayfly}
	r.used.Store(int64(time.Since(e.zero)))
	e.mu.Lock()
	old := (*e.residents.Load())[residentName(f)]
	if old != nil && old.spec == f { // somebody was faster
		old.pins++
		m.users--
		e.mu.Unlock()
		return old, nil
	}
	e.setResident(residentName(f), r)
	e.mu.Unlock()
	if old != nil {
		e.retire(old)
	}
	e.shrink()
	return r, nil
}

// shrink frees modules nobody uses, then those of the least recently used residents without calls, until the loaded code
// fits.
func (e *Engine) shrink() {
	for {
		e.mu.Lock()
		var bytes int64
		var unused *module
		for _, m := range e.modules {
			bytes += m.code.Size()
			if m.users == 0 {
				unused = m
			}
		}
		if bytes <= e.cfg.Loaded {
			e.mu.Unlock()
			return
		}
		if unused != nil {
			delete(e.modules, unused.key)
		}
		oldest := e.oldestIdle()
		e.mu.Unlock()
		switch {
		case unused != nil:
			unused.code.Close()
		case oldest != nil:
			e.retire(oldest)
		default:
			return
		}
	}
}

// oldestIdle returns the resident without calls whose last one is the longest ago. The lock is held.
func (e *Engine) oldestIdle() *resident {
	var oldest *resident
	for _, r := range *e.residents.Load() {
		if r.pins == 0 && (oldest == nil || r.used.Load() < oldest.used.Load()) && !e.pool.uses(r) {
			oldest = r
		}
	}
	return oldest
}

// ensure returns the function's module, loaded and with one user counted. Everybody who asks for the same one waits for
// the same work, which goes on when they give up.
func (e *Engine) ensure(ctx context.Context, f *function.Function) (*module, error) {
	key := moduleKey{f.Module, f.Manifest.Module.ABI}
	for {
		e.mu.Lock()
		if e.closed.Load() {
			e.mu.Unlock()
			return nil, stopping("load", f.Name())
		}
		if m := e.modules[key]; m != nil {
			m.users++
			e.mu.Unlock()
			return m, nil
		}
		l := e.loading[key]
		if l == nil {
			l = &loading{done: make(chan struct{})}
			e.loading[key] = l
			e.loads.Go(func() { e.bring(key, l) })
		}
		e.mu.Unlock()
		select {
		case <-l.done:
			if l.err != nil {
				return nil, about(l.err, f.Name())
			}
		case <-ctx.Done():
			return nil, &function.Error{
				Op: "load", Subject: f.Name(), Class: function.ClassOverload, Kind: "loading",
				Err: fmt.Errorf("the module is still being compiled: %w", ctx.Err()), After: time.Second,
			}
		}
	}
}

// bring reads or compiles a module and loads it.
func (e *Engine) bring(key moduleKey, l *loading) {
	m, err := e.fetch(e.work, key)
	e.mu.Lock()
	delete(e.loading, key)
	l.module, l.err = m, err
	if err == nil {
		e.modules[key] = m
	}
	e.mu.Unlock()
	close(l.done)
}

// fetch returns the module from the cache; if that does not have it, or has what this processor or version cannot use,
// from the compiler.
func (e *Engine) fetch(ctx context.Context, key moduleKey) (*module, error) {
	if native, ok := e.cache.get(key.digest); ok {
		m, err := e.link(key, native)
		if err == nil || function.KindOf(err) != "native-code" {
			return m, err
		}
		e.log.Warn("native code is not for this machine, compiling again", "module", key.digest.Short(), "error", err)
		e.cache.drop(key.digest)
	}
	if e.cfg.Modules == nil {
		return nil, &function.Error{
			Op: "load", Class: function.ClassNotHere, Kind: "no-module",
			Err: errors.New("this node has no native code of the module and no copy of the module"),
		}
	}
	bytes, err := e.cfg.Modules.Module(ctx, key.digest)
	if err != nil {
		return nil, &function.Error{Op: "load", Class: function.ClassNotHere, Kind: "no-module", Err: err}
	}
	if function.DigestOf(bytes) != key.digest {
		return nil, &function.Error{
			Op: "load", Class: function.ClassNotHere, Kind: "corrupt-module",
			Err: errors.New("the stored module is not the one it should be"),
		}
	}
	limits := admission.Limits{Memory: e.cfg.SlotMemory, ABI: key.want}
	if _, err := admission.Check(bytes, limits); err != nil {
		return nil, err
	}
	native, _, err := e.compile(ctx, bytes)
	if err != nil {
		return nil, err
	}
	return e.link(key, native)
}

// link loads native code and resolves its imports. An error of kind native-code means that other native code may do.
func (e *Engine) link(key moduleKey, native []byte) (*module, error) {
	code, err := e.lib.Load(native)
	if fault := nodeFault("load", err); fault != nil {
		return nil, fault
	}
	if err != nil {
		return nil, &function.Error{Op: "load", Class: function.ClassRetry, Kind: "native-code", Err: err}
	}
	kind, err := abi.Detect(exportsOf(code))
	if err == nil {
		if key.want != "" && key.want != function.ABIAuto {
			kind = key.want
		}
		entry := abi.ExportHandle
		if kind == function.ABICommand {
			entry = abi.ExportStart
		}
		err = e.lib.Link(code, entry, kind == function.ABIMayfly)
	}
	if err != nil {
		code.Close()
		return nil, &function.Error{Op: "load", Class: function.ClassReject, Kind: "link", Err: err, Hint: linkHint}
	}
	return &module{key: key, code: code, kind: kind}, nil
}

const linkHint = "build it for mayfly_v1 or as a WASI preview 1 command"

func exportsOf(m *wasmtime.Module) []abi.Export {
	var out []abi.Export
	for _, x := range m.Exports() {
		out = append(out, abi.Export{Name: x.Name, Kind: abi.ExternKind(x.Kind), Params: abiTypes(x.Params), Results: abiTypes(x.Results)})
	}
	return out
}

func abiTypes(types []byte) []abi.ValType {
	var out []abi.ValType
	for _, t := range types {
		out = append(out, abi.ValType(t))
	}
	return out
}
