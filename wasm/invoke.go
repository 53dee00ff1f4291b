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
	if err := e.enter(call, deadline, start); err != nil {
		return err
	}
	defer e.running.Done()
	call.Deadline = deadline
	r := e.hold(call.Function)
	if r == nil {
		var err error
		if r, err = e.bringIn(ctx, call); err != nil {
			return err
		}
		res.Usage.Cold = true
	}
	defer e.release(r)
	p := e.pool.take(ctx, r, deadline)
	if p == nil {
		return e.noSlot(ctx, call)
	}
	e.invokes.Add(1)
	defer e.pool.give(p)
	return e.run(p, r, call, res)
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

// enter counts the call as running, unless its event is too large or it is too late for it.
func (e *Engine) enter(call *function.Call, deadline, now time.Time) error {
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
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return stopping("invoke", call.Function.Name())
	}
	e.running.Add(1)
	return nil
}

// bringIn makes the function resident within the call's deadline.
func (e *Engine) bringIn(ctx context.Context, call *function.Call) (*resident, error) {
	ctx, cancel := context.WithDeadline(ctx, call.Deadline)
	defer cancel()
	return e.admit(ctx, call.Function)
}

func (e *Engine) noSlot(ctx context.Context, call *function.Call) error {
	err := ctx.Err()
	if err == nil {
		err = fmt.Errorf("all %d slots stayed taken until its deadline", e.info.Slots)
	}
	return &function.Error{Op: "invoke", Subject: call.Function.Name(), Class: function.ClassOverload, Kind: "no-slot", Err: err}
}

// run runs the event in place p.
func (e *Engine) run(p *place, r *resident, call *function.Call, res *function.Result) error {
	p.session.Begin(call, r.module.kind, res)
	l := &call.Function.Manifest.Limits
	now := e.now()
	limits := wasmtime.Limits{
		Deadline: now + time.Until(call.Deadline), CPU: l.CPU, Memory: l.Memory, Table: l.Table,
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
	}
	if err != nil {
		err = classify(err, call.Function, res)
	}
	return p.session.End(value, err)
}

// again runs the event in the instance that p keeps of r, or in a new one that it will keep. A failure ends the instance.
func (e *Engine) again(p *place, r *resident, limits wasmtime.Limits, res *function.Result) (int32, error) {
	if p.owner != r {
		err := p.inst.Open(r.module.code)
		addCost(res, p.inst.Cost())
		if err != nil {
			return 0, err
		}
		p.owner = r
		limits.CPU = max(limits.CPU-res.Usage.CPU, 0)
		p.inst.Prepare(limits, e.now())
		e.watch.arm(p.inst.CheckAt())
	}
	value, err := p.inst.Call()
	addCost(res, p.inst.Cost())
	if err != nil {
		p.drop()
	}
	return value, err
}

func addCost(res *function.Result, c wasmtime.Cost) {
	res.Usage.Wall += c.Wall
	res.Usage.CPU += c.CPU
	res.Usage.Memory = c.Memory
}
