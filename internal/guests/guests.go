// Package guests builds Wasm modules for tests from sources in this repository, with the build scripts of the SDKs.
//
// A module is built once and kept in the user's cache directory under a name made of everything it depends on: sources,
// SDK, script and compiler. A tool that is missing fails the test and names the package to install; nothing is skipped.
package guests

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// C builds a handler for mayfly_v1 from one C file without a C library. A path is absolute or relative to the
// repository's root, here and below.
func C(t testing.TB, file string) []byte {
	t.Helper()
	return recipe{sdk: "c", tools: []string{"clang", "wasm-ld"}}.build(t, file)
}

// CCommand builds an ordinary program with main() from one C file, with wasi-libc.
func CCommand(t testing.TB, file string) []byte {
	t.Helper()
	return recipe{sdk: "c", args: []string{"-command"}, tools: []string{"clang", "wasm-ld"}}.build(t, file)
}

// Go builds the Go program in a directory, as a handler when it exports mayfly_handle and otherwise as an ordinary one.
func Go(t testing.TB, dir string) []byte {
	t.Helper()
	return recipe{sdk: "go", tools: []string{"go"}}.build(t, dir)
}

// Rust builds a handler from one Rust file without crates.
func Rust(t testing.TB, file string) []byte {
	t.Helper()
	return recipe{sdk: "rust", tools: []string{"rustc", "/usr/bin/rustc"}}.build(t, file)
}

// AssemblyScript builds a handler from one AssemblyScript file.
func AssemblyScript(t testing.TB, file string) []byte {
	t.Helper()
	return recipe{sdk: "assemblyscript", tools: []string{"node"}}.build(t, file)
}

// WAT assembles the text form of a module, with every proposal that wat2wasm knows switched on: what the agent must refuse can
// be written down too.
func WAT(t testing.TB, text string) []byte {
	t.Helper()
	tool, err := exec.LookPath("wat2wasm")
	if err != nil {
		t.Fatal("wat2wasm is missing; on Debian: apt-get install wabt")
	}
	key := sha256.New()
	fmt.Fprintln(key, "wat", stamp(tool), text)
	return cached(t, key.Sum(nil), func(out string) error {
		cmd := exec.CommandContext(t.Context(), tool, "--enable-all", "-", "-o", out)
		cmd.Stdin = strings.NewReader(text)
		return run(cmd)
	})
}

// Root returns the root directory of the repository, above the test's working directory.
func Root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(text), "module mayfly\n") {
			return dir
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("this test must run inside the repository")
		}
		dir = filepath.Dir(dir)
	}
}

// recipe is how a language is built: the script of its SDK, and what the result depends on besides sources.
type recipe struct {
	sdk   string
	args  []string
	tools []string
}

func (r recipe) build(t testing.TB, source string) []byte {
	t.Helper()
	sdk := filepath.Join(Root(t), "sdk", r.sdk)
	if !filepath.IsAbs(source) {
		source = filepath.Join(Root(t), source)
	}
	info, err := os.Stat(source)
	if err != nil {
		t.Fatal(err)
	}
	dir := source
	if !info.IsDir() {
		dir = filepath.Dir(source)
	}
	key := sha256.New()
	fmt.Fprintln(key, r.args, filepath.Base(source))
	for _, tool := range r.tools {
		fmt.Fprintln(key, stamp(tool))
	}
	for _, d := range []string{sdk, dir} {
		if err := hashTree(key, d); err != nil {
			t.Fatal(err)
		}
	}
	return cached(t, key.Sum(nil), func(out string) error {
		return run(exec.CommandContext(t.Context(), filepath.Join(sdk, "build.sh"), append(r.args, source, out)...))
	})
}

// stamp tells one version of a tool from another without running it. A tool that is missing has a stamp too: the script
// says what to install.
func stamp(tool string) string {
	path, err := exec.LookPath(tool)
	if err != nil {
		return "none"
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	info, err := os.Stat(path)
	if err != nil {
		return "none"
	}
	return fmt.Sprint(path, info.Size(), info.ModTime().UnixNano())
}

// hashTree adds the names and contents of all sources below dir.
func hashTree(w hash.Hash, dir string) error {
	return filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || filepath.Ext(path) == ".wasm" {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		text, err := os.ReadFile(path)
		fmt.Fprintln(w, name, len(text))
		w.Write(text)
		return err
	})
}

// cached returns the module of that key, and builds it when there is none. Several test programs may build the same one at
// once: each writes a file of its own, and the last rename wins.
func cached(t testing.TB, key []byte, build func(out string) error) []byte {
	t.Helper()
	base, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	base = filepath.Join(base, "mayfly", "guests")
	path := filepath.Join(base, hex.EncodeToString(key[:16])+".wasm")
	if module, err := os.ReadFile(path); err == nil {
		return module
	}
	if err := os.MkdirAll(base, 0o755); err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp(base, "build-") //nolint:usetesting // on the cache's file system, so that it can be renamed
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "out.wasm")
	if err := build(out); err != nil {
		t.Fatal(err)
	}
	module, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(out, path); err != nil {
		t.Fatal(err)
	}
	return module
}

// run runs cmd and makes what it printed the error.
func run(cmd *exec.Cmd) error {
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, out)
	}
	return nil
}
