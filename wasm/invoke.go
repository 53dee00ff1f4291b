package wasm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"mayfly/function"
	"mayfly/wasm/internal/wasmtime"
)

// Invoke runs one call and fills in res, which it resets first. The guest gets until the earliest of call.Deadline,
// limits.timeout from now, and ctx's deadline; Invoke brings call.Deadline forward to that. Waiting for a slot counts.
// ctx is looked at before the guest starts, not while it runs: its limits end it.
//
// It returns nil when the guest itself said how its event ended (res.Outcome), otherwise a *function.Error whose Kind is
// timeout, cpu, trap, stack, memory, table, link, init, exit, status, abort, output-limit, payload-limit, no-slot, deadline, loading,
// no-module, no-exec, no-memory, stopping or another word of abi, admission or Compile. res holds the log lines and the usage in any case.
func (e *Engine) Invoke(ctx context.Context, call *function.Call, res *function.Result) error {
	res.Reset()
	start := time.Now()
	deadline := earliest(ctx, call, start)
	if err := e.check(call, deadline, start); err != nil {
		return err
	}
	call.Deadline = deadline
	p, r, err := e.seat(ctx, call, start)
	if err != nil {
		return err
	}
	if r == nil {
		if p, r, err = e.seatCold(ctx, call); err != nil {
			return err
		}
		res.Usage.Cold = true
	}
	defer e.leave(p, r)
	if owner := p.owner.Load(); owner != nil && owner != r {
		e.pool.drop(p)
	}
	p.invokes.Add(1)
	return e.run(p, r, call, res, start)
}

// seat returns a place for the call and what is to run in it, or nothing when the function is not loaded. It takes no lock and
// writes to the place only: processors do not wait for each other.
func (e *Engine) seat(ctx context.Context, call *function.Call, now time.Time) (*place, *resident, error) {
	r := e.resident(call.Function)
	if r == nil {
		return nil, nil, nil
	}
	p := e.pool.take(ctx, r, call.Deadline)
	if p == nil {
		return nil, nil, e.noSlot(ctx, call)
	}
	if !e.occupy(p, r) {
		return nil, nil, stopping("invoke", call.Function.Name())
	}
	if r.gone.Load() { // whoever retired it may not have seen us
		e.leave(p, r)
		return nil, nil, nil
	}
	r.touch(now.Sub(e.zero))
	return p, r, nil
}

// seatCold is seat for a function that has to be loaded first. It stays loaded while its call waits for a place.
func (e *Engine) seatCold(ctx context.Context, call *function.Call) (*place, *resident, error) {
	if !e.enter() {
		return nil, nil, stopping("invoke", call.Function.Name())
	}
	defer e.running.Done()
	r, err := e.bringIn(ctx, call)
	if err != nil {
		return nil, nil, err
	}
	defer e.unpin(r)
	p := e.pool.take(ctx, r, call.Deadline)
	if p == nil {
		return nil, nil, e.noSlot(ctx, call)
	}
	if !e.occupy(p, r) {
		return nil, nil, stopping("invoke", call.Function.Name())
	}
	return p, r, nil
}

// occupy says in p, which was taken, that its call uses r; false, and p is given back, when the engine is closed. Close says that it
// is and looks at the places then.
func (e *Engine) occupy(p *place, r *resident) bool {
	p.running.Store(r)
	if e.closed.Load() {
		e.leave(p, r)
		return false
	}
	return true
}

// leave ends a call in p.
func (e *Engine) leave(p *place, r *resident) {
	p.running.Store(nil)
	e.pool.give(p)
	if r.gone.Load() {
		e.dispose(r)
	}
}

func earliest(ctx context.Context, call *function.Call, now time.Time) time.Time {
	at := now.Add(call.Function.Manifest.Limits.Timeout)
	if !call.Deadline.IsZero() && call.Deadline.Before(at) {
		at = call.Deadline
	}
	if d, ok := ctx.Deadline(); ok && d.Before(at) {
		at = d
	}
	return at
}

// check refuses a call whose event is too large or that comes too late.
func (e *Engine) check(call *function.Call, deadline, now time.Time) error {
	if n, limit := int64(len(call.Event.Data)), call.Function.Manifest.Limits.Payload; limit > 0 && n > limit {
		return &function.Error{
			Op: "invoke", Subject: call.Function.Name(), Class: function.ClassReject, Kind: "payload-limit",
			Err:  fmt.Errorf("the event has %d bytes; the manifest takes %d", n, limit),
			Hint: "raise limits.payload in the manifest if such events are meant",
		}
	}
	if !now.Before(deadline) {
		return &function.Error{
			Op: "invoke", Subject: call.Function.Name(), Class: function.ClassOverload, Kind: "deadline",
			Err: errors.New("its deadline had passed before it could start"),
		}
	}
	return nil
}

// enter counts work that Close waits for; false when the engine is closed.
func (e *Engine) enter() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed.Load() {
		return false
	}
	e.running.Add(1)
	return true
}

// bringIn makes the function resident within the call's deadline.
func (e *Engine) bringIn(ctx context.Context, call *function.Call) (*resident, error) {
	ctx, cancel := context.WithDeadline(ctx, call.Deadline)
	defer cancel()
	return e.admit(ctx, call.Function)
}

func (e *Engine) noSlot(ctx context.Context, call *function.Call) error {
	if e.closed.Load() {
		return stopping("invoke", call.Function.Name())
	}
	err := ctx.Err()
	if err == nil {
		err = fmt.Errorf("all %d slots stayed taken until its deadline", e.info.Slots)
	}
	return &function.Error{Op: "invoke", Subject: call.Function.Name(), Class: function.ClassOverload, Kind: "no-slot", Err: err}
}

// run runs the event in place p. start is when its call came, not now: reading the clock costs a twentieth of a warm call. A call that
// had to wait is looked at by the watchdog that much too early, once, and goes on: what it has used is counted from when it ran.
func (e *Engine) run(p *place, r *resident, call *function.Call, res *function.Result, start time.Time) error {
	p.session.Begin(call, r.module.kind, res)
	l := &call.Function.Manifest.Limits
	now := e.zeroMono + start.Sub(e.zero)
	limits := wasmtime.Limits{
		Deadline: now + call.Deadline.Sub(start), CPU: l.CPU, Memory: l.Memory, Table: l.Table,
	}
	if limits.CPU <= 0 {
		limits.CPU = l.Timeout
	}
	p.inst.Prepare(limits, now)
	e.watch.arm(p.inst.CheckAt())
	var value int32
	var err error
	if r.reuse {
		value, err = e.again(p, r, limits, res)
	} else {
		value, err = p.inst.Once(r.module.code)
		addCost(res, p.inst.Cost())
		if p.inst.Away() {
			e.away(r.module)
		}
	}
	if err != nil {
		err = classify(err, call.Function, res)
	}
	return p.session.End(value, err)
}

// again runs the event in the instance that p keeps of r, or in a new one that it will keep. A failure ends the instance.
func (e *Engine) again(p *place, r *resident, limits wasmtime.Limits, res *function.Result) (int32, error) {
	if p.owner.Load() != r {
		err := p.inst.Open(r.module.code)
		addCost(res, p.inst.Cost())
		if err != nil {
			return 0, err
		}
		e.pool.keep(p, r)
		limits.CPU = max(limits.CPU-res.Usage.CPU, 0)
		p.inst.Prepare(limits, e.now())
		e.watch.arm(p.inst.CheckAt())
	}
	value, err := p.inst.Call()
	addCost(res, p.inst.Cost())
	if err != nil {
		e.pool.drop(p)
	}
	return value, err
}

func addCost(res *function.Result, c wasmtime.Cost) {
	res.Usage.Wall += c.Wall
	res.Usage.CPU += c.CPU
	res.Usage.Memory = c.Memory
}
