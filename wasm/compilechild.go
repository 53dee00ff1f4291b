package wasm

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"syscall"

	"mayfly/wasm/internal/wasmtime"
)

// Exit codes of the compiler.
const (
	exitUsage   = 3 // could not start: not the module's fault
	exitInvalid = 4 // the module is not valid; stderr says why
)

// childJob is what the parent tells the compiler, as its one argument.
type childJob struct {
	Reservation, Guard, Stack uint64
	Unwind                    bool
	CPU, Memory               uint64 // rlimits: seconds, bytes
	Limited                   bool   // set when the limits are in force
}

// childStack is the stack of every thread of the compiler: it counts as data, and the default of 8 MiB would eat up the
// limit.
const childStack = 1 << 20

// maxModule is the most Wasm the compiler reads. Admission is stricter.
const maxModule = 64 << 20

// CompileMain is the compiler process: `mayflyd compile-module <job>` with the module on stdin answers with native code
// on stdout. args are the arguments behind the verb. It puts itself under limits and starts this program anew, so that
// they hold for everything from the first instruction. It returns the exit code.
func CompileMain(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	var job childJob
	if len(args) != 1 || json.Unmarshal([]byte(args[0]), &job) != nil {
		fmt.Fprintln(stderr, "compile-module is run by the agent itself")
		return exitUsage
	}
	if !job.Limited {
		fmt.Fprintln(stderr, limitAndRestart(job))
		return exitUsage
	}
	module, err := io.ReadAll(io.LimitReader(stdin, maxModule+1))
	if err != nil || len(module) > maxModule {
		fmt.Fprintln(stderr, "cannot read the module: larger than", maxModule, "bytes or", err)
		return exitUsage
	}
	engine, err := wasmtime.NewEngine(wasmtime.Settings{
		Reservation: job.Reservation, Guard: job.Guard, Stack: job.Stack, Unwind: job.Unwind,
	}, nil)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return exitUsage
	}
	native, err := engine.Compile(module)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return exitInvalid
	}
	if err := frame(stdout, native); err != nil {
		fmt.Fprintln(stderr, err)
		return exitUsage
	}
	return 0
}

// limitAndRestart returns only when it failed.
func limitAndRestart(job childJob) error {
	for _, l := range []struct {
		name     string
		resource int
		value    uint64
	}{
		{"CPU", syscall.RLIMIT_CPU, job.CPU},
		{"DATA", syscall.RLIMIT_DATA, job.Memory},
		{"STACK", syscall.RLIMIT_STACK, childStack},
		{"CORE", syscall.RLIMIT_CORE, 0},
		{"FSIZE", syscall.RLIMIT_FSIZE, 0},
	} {
		var now syscall.Rlimit
		err := syscall.Getrlimit(l.resource, &now)
		value := min(l.value, now.Max) // what is stricter already stays so
		if err == nil {
			err = syscall.Setrlimit(l.resource, &syscall.Rlimit{Cur: value, Max: value})
		}
		if err != nil {
			return fmt.Errorf("set RLIMIT_%s to %d: %w", l.name, value, err)
		}
	}
	if err := syscall.Setpriority(syscall.PRIO_PROCESS, 0, 10); err != nil { // events come first
		return fmt.Errorf("lower the priority: %w", err)
	}
	job.Limited = true
	arg, err := json.Marshal(job)
	if err != nil {
		return err
	}
	argv := append(os.Args[:len(os.Args)-1:len(os.Args)-1], string(arg))
	return fmt.Errorf("start again: %w", syscall.Exec("/proc/self/exe", argv, os.Environ()))
}
