package wasmtime

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// headers is the directory of the library's own headers, which come with the Go module.
func headers(t testing.TB) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-f", "{{.Dir}}", modulePath).Output()
	if err != nil {
		t.Fatalf("where is %s? %v", modulePath, err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), "build", "include")
}

// compile gives C source to the compiler cgo uses.
func compile(t testing.TB, source string, args ...string) (string, error) {
	t.Helper()
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	cc, err := exec.Command("go", "env", "CC").Output()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(strings.TrimSpace(string(cc)), append([]string{"-std=gnu11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-I", here, "-x", "c", "-"}, args...)...)
	cmd.Stdin = strings.NewReader(source)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

const both = "#include <wasm.h>\n#include <wasmtime.h>\n#define MAYFLY_CHECK_AGAINST_LIBRARY\n#include \"libwasmtime.h\"\n"

// Declaring a function twice with different types is an error in C: so is every prototype of ours that the library's
// headers contradict.
func TestOurPrototypesAreTheLibrarys(t *testing.T) {
	if out, err := compile(t, both, "-I", headers(t)); err != nil {
		t.Errorf("libwasmtime.h and the library's headers disagree:\n%s", out)
	}
	if out, err := compile(t, "#include \"binding.h\"\n"); err != nil {
		t.Errorf("binding.h does not stand alone:\n%s", out)
	}
}

// The check above must be able to fail.
func TestADriftedPrototypeIsNoticed(t *testing.T) {
	for _, drifted := range []string{
		"void wasmtime_store_delete(wasmtime_store_t *, int);",
		"MAYFLY_SAME(sizeof(wasmtime_extern_t) == 24);",
	} {
		if out, err := compile(t, both+drifted+"\n", "-I", headers(t)); err == nil {
			t.Errorf("%s was accepted:\n%s", drifted, out)
		}
	}
}

// Every function of the library that binding.c or the Go files call has its prototype in libwasmtime.h: an implicit
// declaration would hide a wrong type, and -Werror refuses it.
func TestBindingCompilesWithoutWarnings(t *testing.T) {
	if out, err := compile(t, "#include \"binding.c\"\n"); err != nil {
		t.Errorf("%s", out)
	}
}
