// Package enginebench measures what one event costs: through package wasm, and through the plain Go calls of the library
// underneath as a yardstick in the same run, with the same guest, host functions and limits.
package enginebench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"mayfly/event"
	"mayfly/function"
	"mayfly/wasm"
	"mayfly/wasm/abi"
	"mayfly/wasm/internal/wasmtime"
)

// Latency is what many calls took, one by one.
type Latency struct {
	P50, P99  time.Duration
	PerSecond float64 // over all threads
}

// latency sorts times.
func latency(times []time.Duration, total time.Duration) Latency {
	slices.Sort(times)
	return Latency{
		P50: times[len(times)/2], P99: times[len(times)*99/100], PerSecond: float64(len(times)) / total.Seconds(),
	}
}

// Calls runs n events of f on each of some threads, one event after the other on each, after a tenth as many to warm up.
// f must handle data without an error. With f.Manifest.Module.Reuse it measures a warm call, otherwise a fresh instance.
func Calls(e *wasm.Engine, f *function.Function, data []byte, n, threads int) (Latency, error) {
	if err := e.Load(context.Background(), f); err != nil { // compiling takes longer than a call may
		return Latency{}, err
	}
	if err := calls(e, f, data, make([]time.Duration, max(n/10, 1))); err != nil {
		return Latency{}, err
	}
	times := make([]time.Duration, n*threads)
	errs := make([]error, threads)
	var wg sync.WaitGroup
	start := time.Now()
	for i := range threads {
		wg.Go(func() { errs[i] = calls(e, f, data, times[i*n:(i+1)*n]) })
	}
	wg.Wait()
	return latency(times, time.Since(start)), errors.Join(errs...)
}

func calls(e *wasm.Engine, f *function.Function, data []byte, times []time.Duration) error {
	var c caller
	ev := newEvent(data)
	for i := range times {
		start := time.Now()
		if err := c.run(e, f, ev); err != nil {
			return err
		}
		times[i] = time.Since(start)
	}
	return nil
}

// During returns how many events of f one thread gets done between two moments, one after the other. It is what Calls is, for who
// compares the work of several threads or processes in the same moments.
func During(e *wasm.Engine, f *function.Function, data []byte, begin, end time.Time) (events int, err error) {
	if err := e.Load(context.Background(), f); err != nil {
		return 0, err
	}
	var c caller
	ev := newEvent(data)
	for time.Now().Before(begin) { // awake, so that it begins when the others do
	}
	for time.Now().Before(end) {
		if err := c.run(e, f, ev); err != nil {
			return 0, err
		}
		events++
	}
	return events, nil
}

// caller has what is used again for every event, as the agent has it.
type caller struct {
	call function.Call
	res  function.Result
}

func (c *caller) run(e *wasm.Engine, f *function.Function, ev *event.Event) error {
	c.call = function.Call{Function: f, Event: ev, Trigger: "bench", Attempt: 1, Node: "bench"}
	if err := e.Invoke(context.Background(), &c.call, &c.res); err != nil {
		return err
	}
	if c.res.Outcome != function.Done {
		return fmt.Errorf("the function says %v", c.res.Outcome)
	}
	return nil
}

func newEvent(data []byte) *event.Event {
	return &event.Event{ID: "1", Source: "bench", Type: event.TypeMQTT, Topic: "bench/in", Time: time.Now(), Data: data}
}

// session is the host side of the yardstick: the same as the engine's.
type session struct{ abi.Session }

// HostCall hands a guest's call on.
func (s *session) HostCall(id int, args []uint64, memory []byte) (uint64, error) {
	return s.Host(id, args, memory)
}

// Plain runs n events of f, whose module is given, through the library's own Go calls: a fresh instance for each, or all
// in one with f.Manifest.Module.Reuse.
func Plain(f *function.Function, module, data []byte, n int) (Latency, error) {
	p, err := wasmtime.NewPlain(module, imports())
	if err != nil {
		return Latency{}, err
	}
	defer p.Close()
	y := yardstick{plain: p, f: f, ev: newEvent(data)}
	if err := y.run(make([]time.Duration, max(n/10, 1))); err != nil {
		return Latency{}, err
	}
	times := make([]time.Duration, n)
	start := time.Now()
	if err := y.run(times); err != nil {
		return Latency{}, err
	}
	return latency(times, time.Since(start)), nil
}

type yardstick struct {
	plain *wasmtime.Plain
	f     *function.Function
	ev    *event.Event
	host  session
	res   function.Result
}

func (y *yardstick) run(times []time.Duration) error {
	l := &y.f.Manifest.Limits
	limits := wasmtime.Limits{Memory: l.Memory, Table: l.Table}
	open := func() (func() (int32, error), func(), error) { return y.plain.Open(&y.host, limits) }
	var call func() (int32, error)
	if y.f.Manifest.Module.Reuse {
		kept, end, err := open()
		if err != nil {
			return err
		}
		defer end()
		call = kept
	}
	for i := range times {
		start := time.Now()
		if err := y.event(call, open); err != nil {
			return err
		}
		times[i] = time.Since(start)
	}
	return nil
}

// event runs one event in call, or in an instance of its own when call is nil.
func (y *yardstick) event(call func() (int32, error), open func() (func() (int32, error), func(), error)) error {
	y.res.Reset()
	y.host.Begin(&function.Call{Function: y.f, Event: y.ev, Trigger: "bench", Attempt: 1, Node: "bench"}, function.ABIMayfly, &y.res)
	if call == nil {
		fresh, end, err := open()
		if err != nil {
			return err
		}
		defer end()
		call = fresh
	}
	value, err := call()
	return y.host.End(value, err)
}

func imports() []wasmtime.Import {
	var out []wasmtime.Import
	for _, im := range abi.Imports() {
		x := wasmtime.Import{Module: im.Module, Name: im.Name}
		for _, t := range im.Params {
			x.Params = append(x.Params, byte(t))
		}
		for _, t := range im.Results {
			x.Results = append(x.Results, byte(t))
		}
		out = append(out, x)
	}
	return out
}
