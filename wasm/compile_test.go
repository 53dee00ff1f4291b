package wasm

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"mayfly/function"
	"mayfly/wasm/admission"
)

// bomb is a module of few bytes and much work for the compiler: locals that live across nested loops.
func bomb(t *testing.T, locals, loops int) []byte {
	var b strings.Builder
	b.WriteString(`(module (memory (export "memory") 1) (func (export "mayfly_handle") (result i32)`)
	for i := range locals {
		fmt.Fprintf(&b, " (local $v%d i32)", i)
	}
	for i := range loops {
		fmt.Fprintf(&b, " (loop $l%d (local.set $v%d (i32.add (local.get $v%d) (i32.const 1))) (br_if $l%d (local.get $v%d))", i, i%locals, (i+1)%locals, i, i%locals)
	}
	b.WriteString(strings.Repeat(")", loops) + ` (i32.const 0)))`)
	return wat(t, b.String())
}

// What admission lets through may still be a bomb: the compiler's process dies of it, the agent does not.
func TestCompileBombs(t *testing.T) {
	module := bomb(t, 900, 1000)
	if _, err := admission.Check(module, admission.Limits{}); err != nil {
		t.Logf("admission refuses this one by itself: %v", err)
	}
	for kind, change := range map[string]func(*Config){
		"compile-cpu":    func(c *Config) { c.CompileCPU, c.CompileMemory = time.Second, 4<<30 },
		"compile-memory": func(c *Config) { c.CompileMemory = 40 << 20 },
		"compile-time":   func(c *Config) { c.CompileWall, c.CompileMemory = 300*time.Millisecond, 4<<30 },
	} {
		if sanitized && kind == "compile-memory" {
			continue
		}
		r := newRig(t, change)
		_, _, err := r.compile(context.Background(), module)
		if function.KindOf(err) != kind || function.ClassOf(err) != function.ClassReject {
			t.Errorf("%s: %v (kind %s)", kind, err, function.KindOf(err))
		}
		if r.cache.has(function.DigestOf(module)) {
			t.Errorf("%s: something was kept", kind)
		}
	}
}

func TestAdmissionStopsBombsAtOnce(t *testing.T) {
	r := newRig(t, nil)
	start := time.Now()
	_, err := r.Compile(context.Background(), bomb(t, 900, 3000), admission.Limits{})
	if function.ClassOf(err) != function.ClassReject || r.Stats().Compiles != 0 {
		t.Errorf("%v after %d compilations", err, r.Stats().Compiles)
	}
	t.Logf("refused in %v: %v", time.Since(start), err)
}

// The compiler runs in limits of its own and without what the agent knows.
func TestCompilerIsConfined(t *testing.T) {
	r := newRig(t, nil)
	dir := t.TempDir()
	script := filepath.Join(dir, "compiler")
	text := "#!/bin/sh\nexec >&2\nenv | sort | tr '\\n' ' '\npwd\nexit 4\n"
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("A_SECRET", "hidden")
	r.cfg.CompileCommand = []string{script}
	_, _, err := r.compile(context.Background(), []byte("x"))
	if err == nil || strings.Contains(err.Error(), "hidden") || !strings.Contains(err.Error(), "GOMAXPROCS=1") {
		t.Errorf("%v", err)
	}
	if sanitized { // it cannot even start within such limits
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	job := childJob{Reservation: 64 << 20, Guard: 1 << 20, Stack: 512 << 10, CPU: 7, Memory: 150 << 20}
	out := limitsOf(t, self, job)
	for _, want := range []string{"Max cpu time              7", "Max data size             157286400", "Max stack size            1048576", "Max core file size        0"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
}

// A compiler that is missing, dies or answers nonsense is this node's trouble, not the module's.
func TestBrokenCompilerIsNotTheModulesFault(t *testing.T) {
	r := newRig(t, nil)
	for name, command := range map[string][]string{
		"missing":  {"/nonexistent/compiler"},
		"silent":   {"/bin/true"},
		"nonsense": {"/bin/echo", "hello, this is longer than eight bytes"},
		"killed":   {"/bin/sh", "-c", "kill -9 $$"},
		"usage":    {r.cfg.CompileCommand[0], "compile-module", "what?"},
	} {
		r.cfg.CompileCommand = command
		_, _, err := r.compile(context.Background(), wat(t, `(module)`))
		if function.ClassOf(err) != function.ClassRetry || function.KindOf(err) != "compiler" {
			t.Errorf("%s: %v (class %v, kind %s)", name, err, function.ClassOf(err), function.KindOf(err))
		}
	}
	r.cfg.CompileCommand = []string{"/bin/sh", "-c", "head -c 200000000 /dev/zero"}
	if _, _, err := r.compile(context.Background(), wat(t, `(module)`)); function.KindOf(err) != "compile-memory" {
		t.Errorf("endless answer: %v", err)
	}
}

// Where memory may not become executable every module fails: the node is to blame, and what is in the cache stays.
func TestNodeFaultsAreNotTheModules(t *testing.T) {
	r := newRig(t, nil)
	for kind, c := range map[string]struct {
		said  string
		class function.Class
	}{
		"no-exec":   {"unable to make memory executable: 0: failed to make memory executable", function.ClassNotHere},
		"no-memory": {"mmap failed to allocate 0x5000 bytes: Cannot allocate memory (os error 12)", function.ClassOverload},
		"invalid":   {"type mismatch: expected i32", function.ClassReject},
	} {
		r.cfg.CompileCommand = []string{"/bin/sh", "-c", "echo '" + c.said + "' >&2; exit 4"}
		_, _, err := r.compile(context.Background(), wat(t, `(module)`))
		if function.KindOf(err) != kind || function.ClassOf(err) != c.class {
			t.Errorf("%v (kind %s)", err, function.KindOf(err))
		}
	}
}

// Who asks for a module to be compiled and goes away before it is has not found out anything about the module.
func TestGoingAwayIsNotTheModulesFault(t *testing.T) {
	r := newRig(t, func(c *Config) { c.CompileCommand = []string{"/bin/sh", "-c", "while :; do :; done"} })
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := r.Compile(ctx, wat(t, handler(echo)), admission.Limits{}); function.ClassOf(err) != function.ClassOverload {
		t.Error(err)
	}
}

// Many events of one function that is not compiled yet start one compiler.
func TestOneCompilationForMany(t *testing.T) {
	r := newRig(t, nil)
	f := r.function(handler(echo))
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if _, err := r.invoke(f, "x"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if s := r.Stats(); s.Compiles != 1 || s.Loaded != 1 {
		t.Errorf("%+v", s)
	}
}

// While the compiler works calls wait no longer than their deadline, and the work is not lost.
func TestImpatientCallsDoNotStopTheCompiler(t *testing.T) {
	r := newRig(t, nil)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	wait := filepath.Join(t.TempDir(), "go")
	r.cfg.CompileCommand = []string{"/bin/sh", "-c", `until [ -e ` + wait + ` ]; do :; done; exec ` + self + ` compile-module "$0"`}
	f := r.function(handler(echo), timeout(30*time.Millisecond))
	r.fails(f, "loading", function.ClassOverload)
	r.fails(f, "loading", function.ClassOverload)
	if err := os.WriteFile(wait, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.Load(context.Background(), f); err != nil {
		t.Fatal(err)
	}
	r.must(f, "x")
	if s := r.Stats(); s.Compiles != 1 {
		t.Errorf("%+v", s)
	}
}

// A little budget for loaded code makes functions take turns; every one goes on working.
func TestLoadedCodeIsBounded(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Loaded = 1 })
	var fs []*function.Function
	for i := range 5 {
		fs = append(fs, r.function(handler(fmt.Sprintf(`(drop (i32.const %d)) %s`, i, echo))))
	}
	for round := range 3 {
		for i, f := range fs {
			if res := r.must(f, "x"); !res.Usage.Cold {
				t.Errorf("round %d, function %d: was still loaded", round, i)
			}
			if s := r.Stats(); s.Loaded > 2 {
				t.Fatalf("%+v", s)
			}
		}
	}
	if s := r.Stats(); s.Compiles != 5 || s.CacheHits != 10 {
		t.Errorf("%+v", s)
	}
}

func TestFrames(t *testing.T) {
	var b bytes.Buffer
	if err := frame(&b, []byte("native")); err != nil {
		t.Fatal(err)
	}
	if got, err := unframe(b.Bytes()); err != nil || string(got) != "native" {
		t.Errorf("%q, %v", got, err)
	}
	for n := range b.Len() {
		if _, err := unframe(b.Bytes()[:n]); err == nil {
			t.Errorf("%d of %d bytes accepted", n, b.Len())
		}
	}
}

// limitsOf starts the compiler and reads the limits of its process while it waits for the module.
func limitsOf(t *testing.T, self string, job childJob) string {
	t.Helper()
	arg, err := json.Marshal(job)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "compile-module", string(arg))
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { in.Close(); cmd.Wait() }()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); runtime.Gosched() {
		cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(cmdline, []byte(`"Limited":true`)) {
			limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", cmd.Process.Pid))
			if err != nil {
				t.Fatal(err)
			}
			return string(limits)
		}
	}
	t.Fatal("the compiler did not start anew under limits")
	return ""
}
