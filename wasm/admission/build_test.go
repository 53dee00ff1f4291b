package admission

import (
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// wat translates the text format with wat2wasm.
func wat(t testing.TB, text string, flags ...string) []byte {
	t.Helper()
	dir := t.TempDir()
	in, out := filepath.Join(dir, "m.wat"), filepath.Join(dir, "m.wasm")
	if err := os.WriteFile(in, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return run(t, out, "wat2wasm", append(flags, "--no-check", "-o", out, in)...)
}

// clang compiles C for WASI.
func clang(t testing.TB, text string, flags ...string) []byte {
	t.Helper()
	dir := t.TempDir()
	in, out := filepath.Join(dir, "m.c"), filepath.Join(dir, "m.wasm")
	if err := os.WriteFile(in, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return run(t, out, "clang", append([]string{"--target=wasm32-wasi", "-o", out, in}, flags...)...)
}

func run(t testing.TB, out, name string, args ...string) []byte {
	t.Helper()
	if text, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, text)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// handler is the smallest mayfly_v1 module around more of the text format.
func handler(more string) string {
	return `(module ` + more + ` (memory (export "memory") 1) (func (export "mayfly_handle") (result i32) i32.const 0))`
}

// leb is an unsigned LEB128 number.
func leb(n int) []byte { return binary.AppendUvarint(nil, uint64(n)) }

// section is one section of a module built by hand.
func section(id byte, parts ...[]byte) []byte {
	var body []byte
	for _, p := range parts {
		body = append(body, p...)
	}
	return append(append([]byte{id}, leb(len(body))...), body...)
}

// module is a module built by hand out of sections.
func module(sections ...[]byte) []byte {
	b := []byte("\x00asm\x01\x00\x00\x00")
	for _, s := range sections {
		b = append(b, s...)
	}
	return b
}

// body is a module with one function () -> () of that code after that declaration of locals.
func body(locals, code []byte) []byte {
	code = append(append([]byte{}, locals...), code...)
	return module(section(secType, []byte{1, 0x60, 0, 0}), section(secFunction, []byte{1, 0}), section(secMemory, []byte{1, 0, 1}),
		section(secExport, []byte("\x02\x06memory\x02\x00\x06_start\x00\x00")),
		section(secCode, []byte{1}, leb(len(code)), code))
}
