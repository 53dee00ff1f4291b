package wasm

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"mayfly/function"
	"mayfly/wasm/admission"
)

// ModuleInfo describes a module that was compiled.
type ModuleInfo struct {
	admission.Info
	Digest function.Digest
	Size   int  // bytes of Wasm
	Native int  // bytes of native code
	Cached bool // the native code was there already
	Took   time.Duration
}

// Compile checks a module, compiles it in a child process with limits unless its native code is in the cache, keeps the
// native code, makes sure that it links, and says what the module is. limits are those of admission; zero fields mean its
// defaults.
//
// The error is a *function.Error. Of class reject when the module is at fault: the kinds of admission.Check, invalid, link,
// compile-cpu, compile-memory, compile-time. Of class retry or overload when this node is: compiler, loading, stopping.
func (e *Engine) Compile(ctx context.Context, module []byte, limits admission.Limits) (ModuleInfo, error) {
	info := ModuleInfo{Digest: function.DigestOf(module), Size: len(module)}
	var err error
	if info.Info, err = admission.Check(module, limits); err != nil {
		return info, err
	}
	native, cached := e.cache.get(info.Digest)
	if !cached {
		if native, info.Took, err = e.compile(ctx, module); err != nil {
			return info, about(err, info.Digest.Short())
		}
	}
	info.Cached, info.Native = cached, len(native)
	if err := e.tryLink(moduleKey{info.Digest, limits.ABI}, native); err != nil {
		return info, about(err, info.Digest.Short())
	}
	return info, nil
}

// tryLink loads native code once to see that it links.
func (e *Engine) tryLink(key moduleKey, native []byte) error {
	if !e.enter() {
		return stopping("compile", "")
	}
	defer e.running.Done()
	m, err := e.link(key, native)
	if err == nil {
		m.code.Close()
	}
	return err
}

func rejected(kind, hint string, err error) error {
	return &function.Error{Op: "compile", Class: function.ClassReject, Kind: kind, Err: err, Hint: hint}
}

// maxNative is the most native code of one module; what the compiler makes is five times the Wasm, seldom more.
const maxNative = 128 << 20

// compile runs the compiler on checked bytes, keeps what it made and returns it.
func (e *Engine) compile(ctx context.Context, module []byte) ([]byte, time.Duration, error) {
	select { // one at a time: compiling takes a core and up to CompileMemory
	case e.compiling <- struct{}{}:
		defer func() { <-e.compiling }()
	case <-ctx.Done():
		return nil, 0, &function.Error{Op: "compile", Class: function.ClassOverload, Kind: "loading", Err: ctx.Err()}
	}
	e.compiles.Add(1)
	ctx, cancel := context.WithTimeoutCause(ctx, e.cfg.CompileWall, errTooLong)
	defer cancel()
	start := time.Now()
	native, err := e.child(ctx, module)
	if err != nil {
		return nil, 0, err
	}
	took := time.Since(start)
	digest := function.DigestOf(module)
	e.log.Info("compiled", "module", digest.Short(), "wasm_bytes", len(module), "native_bytes", len(native), "took", took)
	if err := e.cache.put(digest, native); err != nil {
		e.log.Warn("cannot keep native code; it will be compiled again after a restart", "module", digest.Short(), "error", err)
	}
	return native, took, nil
}

// child runs the compiler: the module goes in by stdin, native code comes out by stdout, what it had to say by stderr.
func (e *Engine) child(ctx context.Context, module []byte) ([]byte, error) {
	args := append(e.cfg.CompileCommand[1:len(e.cfg.CompileCommand):len(e.cfg.CompileCommand)], e.childArgs()...)
	cmd := exec.CommandContext(ctx, e.cfg.CompileCommand[0], args...)
	cmd.Env = []string{"GOMAXPROCS=1", "MALLOC_ARENA_MAX=1", "GOTRACEBACK=none"}
	cmd.Dir = "/"
	cmd.Stdin = bytes.NewReader(module)
	stdout, stderr := &capped{max: maxNative + 64<<10}, &capped{max: 64 << 10}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	if err == nil && !stdout.over {
		return unframe(stdout.buf.Bytes())
	}
	if stdout.over {
		return nil, rejected("compile-memory", "make the module smaller", fmt.Errorf("its native code is more than %d bytes", maxNative))
	}
	return nil, e.childFailed(ctx, err, stderr.buf.String())
}

func (e *Engine) childArgs() []string {
	s := e.cfg.settings(0, 1)
	args, err := json.Marshal(childJob{
		Reservation: s.Reservation, Guard: s.Guard, Stack: s.Stack, Unwind: s.Unwind,
		CPU: uint64(e.cfg.CompileCPU / time.Second), Memory: uint64(e.cfg.CompileMemory),
	})
	if err != nil {
		panic(err) // numbers only
	}
	return []string{string(args)}
}

// errTooLong is the cause of a context that ended because of CompileWall.
var errTooLong = errors.New("the compiler took too long")

// childFailed says why the compiler did not succeed.
func (e *Engine) childFailed(ctx context.Context, err error, said string) error {
	const hint = "modules that take this much to compile are refused; split large functions, or compile with less optimisation"
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errTooLong):
		return rejected("compile-time", hint, fmt.Errorf("compiling took longer than %v", e.cfg.CompileWall))
	case cause != nil: // whoever asked has gone, or the engine is being closed
		return &function.Error{Op: "compile", Class: function.ClassOverload, Kind: "stopping", Err: cause}
	}
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		return &function.Error{Op: "compile", Class: function.ClassRetry, Kind: "compiler", Err: fmt.Errorf("run the compiler: %w", err)}
	}
	status := exit.Sys().(syscall.WaitStatus)
	switch {
	case status.Signaled() && (status.Signal() == syscall.SIGXCPU || status.Signal() == syscall.SIGKILL && cpuOf(exit) >= e.cfg.CompileCPU-accountLag):
		return rejected("compile-cpu", hint, fmt.Errorf("compiling took more than %v of CPU time", e.cfg.CompileCPU))
	case exit.ExitCode() == exitInvalid:
		refusal := errors.New(firstLine(said, "the compiler refused it"))
		if fault := nodeFault("compile", refusal); fault != nil {
			return fault
		}
		return rejected("invalid", "", refusal)
	case exit.ExitCode() == exitUsage:
		return &function.Error{Op: "compile", Class: function.ClassRetry, Kind: "compiler", Err: errors.New(firstLine(said, "the compiler could not start"))}
	case status.Signaled() && status.Signal() == syscall.SIGKILL:
		return &function.Error{Op: "compile", Class: function.ClassRetry, Kind: "compiler", Err: errors.New("the compiler was killed from outside, perhaps for want of memory"), Hint: "free memory, or compile on a larger node"}
	}
	// It aborted: out of its memory, or a fault of the compiler that this module meets. Nothing of it runs here.
	return rejected("compile-memory", hint, fmt.Errorf("the compiler gave up within %d MiB (%w): %s", e.cfg.CompileMemory>>20, exit, firstLine(said, "it said nothing")))
}

// accountLag is how far the account of a process may be behind the clock that its CPU limit goes by.
const accountLag = 500 * time.Millisecond

func cpuOf(exit *exec.ExitError) time.Duration { return exit.UserTime() + exit.SystemTime() }

func firstLine(s, otherwise string) string {
	for line := range strings.Lines(s) {
		if line = strings.TrimSpace(line); line != "" {
			return line
		}
	}
	return otherwise
}

// capped keeps the first max bytes written to it and says whether there were more.
type capped struct {
	buf  bytes.Buffer
	max  int
	over bool
}

func (c *capped) Write(p []byte) (int, error) {
	if c.buf.Len()+len(p) > c.max {
		c.over = true
		return 0, errors.New("more output than allowed: " + strconv.Itoa(c.max))
	}
	return c.buf.Write(p)
}

// frame and unframe put a length before native code, so that a compiler that died while writing is noticed.
func frame(w io.Writer, native []byte) error {
	var n [8]byte
	binary.LittleEndian.PutUint64(n[:], uint64(len(native)))
	_, err := w.Write(n[:])
	if err == nil {
		_, err = w.Write(native)
	}
	return err
}

func unframe(b []byte) ([]byte, error) {
	if len(b) < 8 || binary.LittleEndian.Uint64(b) != uint64(len(b)-8) || len(b) == 8 {
		return nil, &function.Error{Op: "compile", Class: function.ClassRetry, Kind: "compiler", Err: errors.New("the compiler's answer is cut short")}
	}
	return b[8:], nil
}
