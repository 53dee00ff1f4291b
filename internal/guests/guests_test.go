package guests

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestEveryLanguageBuilds(t *testing.T) {
	for name, module := range map[string][]byte{
		"C":              C(t, "examples/echo/echo.c"),
		"C command":      CCommand(t, "examples/linecount/linecount.c"),
		"Go":             Go(t, "examples/enrich"),
		"Rust":           Rust(t, "examples/moving-average/moving_average.rs"),
		"AssemblyScript": AssemblyScript(t, "examples/deadband/deadband.ts"),
		"WAT":            WAT(t, `(module (memory (export "memory") 1) (func (export "mayfly_handle") (result i32) (i32.const 0)))`),
	} {
		if !bytes.HasPrefix(module, []byte("\x00asm\x01\x00\x00\x00")) {
			t.Errorf("%s: not a core module: % x", name, module[:min(8, len(module))])
		}
	}
}

func TestAModuleIsRebuiltWhenItsSourceChanged(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f.c")
	build := func(verdict string) []byte {
		text := "#include \"mayfly.h\"\nMAYFLY_HANDLE { return " + verdict + "; }\n"
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return C(t, file)
	}
	first, second := build("MAYFLY_DONE"), build("MAYFLY_REJECT")
	if bytes.Equal(first, second) {
		t.Error("another source gave the same module")
	}
	if again := build("MAYFLY_DONE"); !bytes.Equal(first, again) {
		t.Error("the same source gave another module")
	}
}

// A missing tool must fail with the name of the package to install.
func TestAMissingToolIsNamed(t *testing.T) {
	root := Root(t)
	bin := t.TempDir() // a PATH with the shell's tools and no compiler
	for _, tool := range []string{"sh", "dirname", "ls", "realpath", "sha256sum", "cut"} {
		path, err := exec.LookPath(tool)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, filepath.Join(bin, tool)); err != nil {
			t.Fatal(err)
		}
	}
	for sdk, want := range map[string]string{
		"c": "apt-get install clang", "go": "Go is missing", "assemblyscript": "apt-get install nodejs",
		"rust": "apt-get install rustc libstd-rust-dev-wasm32",
	} {
		cmd := exec.Command(filepath.Join(root, "sdk", sdk, "build.sh"), "x", filepath.Join(t.TempDir(), "x.wasm"))
		cmd.Env = []string{"PATH=" + bin, "HOME=" + t.TempDir(), "RUSTC=/nonexistent"}
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v, printed %q, want %q in it", sdk, err, out, want)
		}
	}
}
