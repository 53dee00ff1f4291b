package testcluster

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"mayfly/function"
	"mayfly/wasm"
	"mayfly/wasm/admission"
)

// Guest is a function's code: Go instead of WebAssembly, because a bubble of virtual time cannot see what C waits for. It takes as long
// as it sleeps, and ctx ends when the call is given up.
type Guest func(ctx context.Context, call *function.Call, res *function.Result) error

// Guests are the modules there are. A module's bytes are its name here; they travel from node to node like those of any module.
type Guests map[string]Guest

const (
	slots      = 8
	slotMemory = 16 << 20 // what a manifest asks for that says nothing
)

// engine is agent.Engine for guests in Go.
type engine struct {
	modules wasm.Modules
	guests  Guests
	seats   chan struct{}
	invokes atomic.Int64

	mu     sync.Mutex
	loaded map[function.Digest]Guest
}

func newEngine(modules wasm.Modules, guests Guests) *engine {
	return &engine{modules: modules, guests: guests, seats: make(chan struct{}, slots), loaded: map[function.Digest]Guest{}}
}

// Compile implements agent.Loader.
func (e *engine) Compile(_ context.Context, module []byte, _ admission.Limits) (wasm.ModuleInfo, error) {
	digest := function.DigestOf(module)
	return wasm.ModuleInfo{Digest: digest, Size: len(module)}, e.keep(digest, module)
}

func (e *engine) keep(d function.Digest, module []byte) error {
	g := e.guests[string(module)]
	if g == nil {
		return &function.Error{Op: "compile", Subject: d.Short(), Class: function.ClassReject, Kind: "module", Err: errors.New("there is no such guest")}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.loaded[d] = g
	return nil
}

// Load implements agent.Loader: it fetches the module, from other nodes too.
func (e *engine) Load(ctx context.Context, f *function.Function) error {
	_, err := e.guest(ctx, f)
	return err
}

func (e *engine) guest(ctx context.Context, f *function.Function) (Guest, error) {
	e.mu.Lock()
	g := e.loaded[f.Module]
	e.mu.Unlock()
	if g != nil {
		return g, nil
	}
	module, err := e.modules.Module(ctx, f.Module)
	if err == nil {
		err = e.keep(f.Module, module)
	}
	if err != nil {
		return nil, err
	}
	return e.guest(ctx, f)
}

// Unload implements agent.Loader. A guest takes no room.
func (e *engine) Unload(string) {}

// Invoke implements agent.Engine.
func (e *engine) Invoke(ctx context.Context, call *function.Call, res *function.Result) error {
	g, err := e.guest(ctx, call.Function)
	if err != nil {
		return err
	}
	select {
	case e.seats <- struct{}{}:
	case <-ctx.Done():
		return &function.Error{Op: "invoke", Subject: call.Function.Name(), Class: function.ClassOverload, Kind: "slots", Err: ctx.Err()}
	}
	defer func() { <-e.seats }()
	e.invokes.Add(1)
	ctx, cancel := context.WithDeadline(ctx, call.Deadline)
	defer cancel()
	began := time.Now()
	err = g(ctx, call, res)
	res.Usage.Wall = time.Since(began)
	return err
}

// Info implements agent.Engine.
func (e *engine) Info() wasm.Info {
	return wasm.Info{Library: "guests in Go", Slots: slots, SlotMemory: slotMemory}
}

// Stats implements agent.Engine.
func (e *engine) Stats() wasm.Stats {
	e.mu.Lock()
	defer e.mu.Unlock()
	return wasm.Stats{Invokes: e.invokes.Load(), Loaded: len(e.loaded), Busy: len(e.seats)}
}

// Close implements agent.Engine. Calls have ended before.
func (e *engine) Close() {}
