package wasm

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"mayfly/function"
	"mayfly/wasm/abi"
	"mayfly/wasm/internal/wasmtime"
)

// stopping is the error of work that came after Close.
func stopping(op, name string) error {
	return &function.Error{Op: op, Subject: name, Class: function.ClassOverload, Kind: "stopping", Err: errors.New("the agent is stopping")}
}

// about names the function in an error that several functions may share.
func about(err error, name string) error {
	if e, ok := errors.AsType[*function.Error](err); ok && e.Subject == "" {
		named := *e
		named.Subject = name
		return &named
	}
	return err
}

// nodeFault recognises what the library says when not the module is at fault but the machine; nil otherwise.
func nodeFault(op string, err error) error {
	switch {
	case err == nil:
		return nil
	case strings.Contains(err.Error(), "make memory executable"):
		return &function.Error{
			Op: op, Class: function.ClassNotHere, Kind: "no-exec", Err: err,
			Hint: "native code needs memory that becomes executable: take MemoryDenyWriteExecute= out of the unit",
		}
	case strings.Contains(err.Error(), "Cannot allocate memory"):
		return &function.Error{Op: op, Class: function.ClassOverload, Kind: "no-memory", Err: err}
	}
	return nil
}

// trace is an error with the Wasm stack it happened on.
type trace struct {
	err    error
	frames []wasmtime.Frame
	depth  int
}

const shownFrames = 12

// Error returns the cause and one line per frame, innermost first. Names come from the module and are quoted when they
// could harm a terminal.
func (t *trace) Error() string {
	var b strings.Builder
	b.WriteString(t.err.Error())
	for i, f := range t.frames {
		if i == shownFrames {
			break
		}
		name := f.Name
		if name == "" {
			name = "function " + strconv.Itoa(int(f.Index))
		} else if strings.ContainsFunc(name, func(r rune) bool { return !strconv.IsPrint(r) }) {
			name = strconv.Quote(name)
		}
		if len(name) > 200 {
			name = name[:200] + "..."
		}
		fmt.Fprintf(&b, "\n  at %s", name)
		if f.Offset < 1<<32 { // the function where a stack overflowed has none
			fmt.Fprintf(&b, " (module offset %#x)", f.Offset)
		}
	}
	if t.depth > shownFrames {
		fmt.Fprintf(&b, "\n  and %d more", t.depth-shownFrames)
	}
	return b.String()
}

func (t *trace) Unwrap() error { return t.err }

// classify turns the end of a guest into an error of ours.
func classify(err error, f *function.Function, res *function.Result) error {
	fail, ok := errors.AsType[*wasmtime.Failure](err)
	if !ok {
		return &function.Error{Op: "invoke", Subject: f.Name(), Class: function.ClassRetry, Kind: "engine", Err: err}
	}
	if fail.Host != nil {
		return hostEnded(fail, f)
	}
	l := &f.Manifest.Limits
	e := &function.Error{Op: "invoke", Subject: f.Name(), Class: function.ClassRetry, Kind: "trap"}
	cause := errors.New(fail.Message)
	switch {
	case fail.Stopped == wasmtime.StopWall:
		e.Kind, cause = "timeout", fmt.Errorf("stopped after %v", res.Usage.Wall.Round(1e6))
		e.Hint = "limits.timeout is " + l.Timeout.String() + ": raise it if the function needs that long"
	case fail.Stopped == wasmtime.StopCPU:
		e.Kind, cause = "cpu", fmt.Errorf("stopped after %v of CPU time", res.Usage.CPU.Round(1e6))
		e.Hint = "limits.cpu is " + l.CPU.String() + ": raise it if the function needs that long"
	case fail.Stopped == wasmtime.StopCancel:
		e.Kind, e.Class, cause = "stopping", function.ClassOverload, errors.New("stopped because the agent is stopping")
	case fail.Code == wasmtime.TrapStackOverflow:
		e.Kind = "stack"
		e.Hint = fmt.Sprintf("limits.stack is %d bytes: raise it if the recursion is meant", l.Stack)
	case fail.Code != wasmtime.NoTrap:
		if res.Usage.Memory > l.Memory-l.Memory/8 {
			e.Hint = fmt.Sprintf("it used %d of its %d bytes of memory: raise limits.memory if it ran out", res.Usage.Memory, l.Memory)
		}
	case fail.Phase == wasmtime.PhaseInit:
		e.Kind = "init"
	default:
		notMade(e, fail, l)
	}
	e.Err = &trace{cause, fail.Frames, fail.Depth}
	return e
}

// hostEnded is a guest that a host call ended: by its own wish, for misusing the interface, or because of what the host
// met.
func hostEnded(fail *wasmtime.Failure, f *function.Function) error {
	if _, ok := errors.AsType[*abi.Exit](fail.Host); ok {
		return fail.Host
	}
	if _, ok := errors.AsType[*function.Error](fail.Host); ok {
		return fail.Host
	}
	err := &trace{fail.Host, fail.Frames, fail.Depth}
	if _, ok := errors.AsType[*abi.Trap](fail.Host); ok {
		return err
	}
	return &function.Error{Op: "invoke", Subject: f.Name(), Class: function.ClassRetry, Kind: "host", Err: err}
}

// notMade is an instance that could not be made: the module wants more than its limits, or the pool is short.
func notMade(e *function.Error, fail *wasmtime.Failure, l *function.Limits) {
	switch {
	case strings.Contains(fail.Message, "memory limits"):
		e.Kind, e.Class = "memory", function.ClassReject
		e.Hint = fmt.Sprintf("limits.memory is %d bytes; the module starts with more", l.Memory)
	case strings.Contains(fail.Message, "table limits"):
		e.Kind, e.Class = "table", function.ClassReject
		e.Hint = fmt.Sprintf("limits.table is %d elements; the module starts with more", l.Table)
	case strings.Contains(fail.Message, "maximum concurrent"), strings.Contains(fail.Message, "mmap"),
		strings.Contains(fail.Message, "Cannot allocate memory"):
		e.Kind, e.Class = "no-slot", function.ClassOverload
	default:
		e.Kind = "instantiate"
	}
}
