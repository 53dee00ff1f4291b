package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mayfly/internal/guests"
)

// project writes the folder of a function and returns its path: what a person would deploy.
func (n *node) project(name, manifest string, module []byte) string {
	n.t.Helper()
	dir := filepath.Join(n.dir, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		n.t.Fatal(err)
	}
	text := fmt.Sprintf("manifest = 1\nname = %q\nversion = \"1.0.0\"\n[module]\npath = \"module.wasm\"\n%s", name, manifest)
	for file, content := range map[string][]byte{"function.toml": []byte(text), "module.wasm": module} {
		if err := os.WriteFile(filepath.Join(dir, file), content, 0o600); err != nil {
			n.t.Fatal(err)
		}
	}
	return dir
}

// file writes a file below the node's directory and returns its path.
func (n *node) file(name, text string) string {
	n.t.Helper()
	path := filepath.Join(n.dir, name)
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil {
		err = os.WriteFile(path, []byte(text), 0o600)
	}
	if err != nil {
		n.t.Fatal(err)
	}
	return path
}

// deploy deploys a function and wants it to be ready.
func (n *node) deploy(name, manifest string, module []byte) {
	n.t.Helper()
	n.must("deploy", "--wait", n.project(name, manifest, module))
}

// example deploys a function of the examples, whose module may have to be built first.
func (n *node) example(name string, module []byte) {
	n.t.Helper()
	n.must("deploy", "--wait", n.copied(name, module))
}

// copied is an example's folder with its module in it.
func (n *node) copied(name string, module []byte) string {
	n.t.Helper()
	text, err := os.ReadFile(filepath.Join(guests.Root(n.t), "examples", name, "function.toml"))
	if err != nil {
		n.t.Fatal(err)
	}
	dir := filepath.Join(n.dir, "examples", name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		n.t.Fatal(err)
	}
	file := "module.wasm"
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "path"); ok {
			file = strings.Trim(rest, " =\"\n")
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "function.toml"), text, 0o600); err != nil {
		n.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, file), module, 0o600); err != nil {
		n.t.Fatal(err)
	}
	return dir
}

// echo deploys the well-behaved neighbour: what comes on bench/in/... goes out on out/bench/in/...
func (n *node) echo() {
	n.t.Helper()
	n.example("echo", guests.C(n.t, "examples/echo/echo.c"))
}

// serves shows that the neighbour answers, end to end.
func (n *node) serves(d *device, about string) {
	n.t.Helper()
	d.say(n.t, "bench/in/"+about, "still here?")
	d.hears(n.t, "out/bench/in/"+about, "still here?")
}

// handler is a module in text form whose handler is body; memory has pages of 64 KiB, growing is up to limits.memory.
func handler(t testing.TB, body string) []byte {
	t.Helper()
	return guests.WAT(t, `(module
		(import "mayfly_v1" "publish" (func $publish (param i32 i32 i32 i32 i32) (result i32)))
		(import "mayfly_v1" "event_data" (func $data (param i32 i32) (result i32)))
		(import "mayfly_v1" "kv_put" (func $put (param i32 i32 i32 i32 i64) (result i32)))
		(import "mayfly_v1" "respond" (func $respond (param i32 i32) (result i32)))
		(import "mayfly_v1" "log" (func $log (param i32 i32 i32)))
		(memory (export "memory") 2)
		(data (i32.const 16) "good/topic")
		(data (i32.const 32) "forbidden/topic")
		(func $deep (param i64) (result i64) (i64.add (call $deep (i64.add (local.get 0) (i64.const 1))) (i64.const 1)))
		(func (export "mayfly_handle") (result i32) (local $i i32)
		`+body+`))`)
}
