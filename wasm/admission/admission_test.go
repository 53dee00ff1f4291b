package admission

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"mayfly/function"
	"mayfly/wasm/abi"
)

// refused checks that a module is refused with a complete error.
func refused(t *testing.T, m []byte, l Limits, kind, text string) {
	t.Helper()
	_, err := Check(m, l)
	var e *function.Error
	if !errors.As(err, &e) {
		t.Fatalf("Check = %v, want a refusal of kind %s", err, kind)
	}
	if e.Class != function.ClassReject || e.Kind != kind || e.Hint == "" || !strings.Contains(e.Error(), text) {
		t.Errorf("refused as %s, class %v: %v (hint %q); want %s: %s", e.Kind, e.Class, e, e.Hint, kind, text)
	}
}

func TestRealGuestInC(t *testing.T) {
	const source = `
	__attribute__((import_module("mayfly_v1"), import_name("event_data"))) int event_data(char *buf, int cap);
	__attribute__((import_module("mayfly_v1"), import_name("publish"))) int publish(const char *t, int tl, const char *d, int dl, int flags);
	__attribute__((export_name("mayfly_handle"))) int handle(void) { char b[64]; int n = event_data(b, 64); return publish("a", 1, b, n, 1); }`
	info, err := Check(clang(t, source, "-nostdlib", "-Wl,--no-entry", "-O2"), DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	if info.ABI != function.ABIMayfly || len(info.Imports) != 2 || info.Imports[0].Name != "event_data" || info.Functions < 1 || !info.HasNames ||
		info.MemoryMin == 0 || info.MemoryMax != 1<<16 || info.LargestBody == 0 {
		t.Errorf("info %+v", info)
	}
}

func TestRealCommandInC(t *testing.T) {
	const source = `
	#include <stdio.h>
	#include <stdlib.h>
	#include <time.h>
	int main(int argc, char **argv) { char line[100]; while (fgets(line, 100, stdin)) printf("%s %s %ld %g\n", argv[0], line, (long)time(0), atof(line));
		fprintf(stderr, "%s", getenv("HOME")); return 0; }`
	for _, flags := range [][]string{{"-O0", "-g"}, {"-O2"}, {"-Os", "-msimd128", "-Wl,--strip-all"}} {
		info, err := Check(clang(t, source, flags...), DefaultLimits())
		if err != nil {
			t.Fatal(flags, err)
		}
		if info.ABI != function.ABICommand || len(info.Imports) < 5 {
			t.Errorf("%v: info %+v", flags, info)
		}
	}
}

func TestInfo(t *testing.T) {
	info, err := Check(wat(t, `(module
		(import "mayfly_v1" "log" (func $log (param i32 i32 i32)))
		(import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))
		(memory (export "memory") 2 5) (table 7 funcref) (table 3 externref) (global (mut i32) (i32.const 0))
		(func $start (local i32 i64 f32) (block (loop (nop))))
		(func (export "mayfly_handle") (result i32) i32.const 0)
		(export "again" (func $log))
		(start $start) (data (i32.const 0) "x") (elem (i32.const 0) $log))`, "--debug-names"), DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	if info.MemoryMin != 2 || info.MemoryMax != 5 || info.TableMin != 10 || !info.HasStart || !info.HasNames || info.Functions != 2 ||
		info.MostLocals != 3 || len(info.Exports) != 3 || len(info.Exports[2].Params) != 3 {
		t.Errorf("info %+v", info)
	}
}

func TestNotWasm(t *testing.T) {
	for what, text := range map[string]string{
		"":                                   "empty",
		"\x1f\x8b\x08":                       "gzip",
		"\x28\xb5\x2f\xfd":                   "zstd",
		"\x7fELF\x02":                        "ELF",
		"PK\x03\x04":                         "zip",
		"MZ\x90":                             "Windows",
		"BC\xc0\xde":                         "bitcode",
		"!<arch>\n":                          "static library",
		"#!/bin/sh":                          "script",
		"version https://git-lfs.github.com": "Git LFS",
		"\ufeff \n(module)":                  "text format",
		";; hi\n(module)":                    "text format",
		"<!DOCTYPE html>":                    "HTML",
		"<html>":                             "HTML",
		`{"a":1}`:                            "JSON",
		"\x01\x02":                           "starts with 01 02",
		"\x00as":                             "starts with 00 61 73",
	} {
		refused(t, []byte(what), DefaultLimits(), "not-wasm", text)
	}
	refused(t, []byte("\x00asm"), DefaultLimits(), "malformed", "ends")
	refused(t, []byte("\x00asm\x0d\x00\x01\x00"), DefaultLimits(), "component", "WASI 0.2")
	refused(t, []byte("\x00asm\x02\x00\x00\x00"), DefaultLimits(), "malformed", "version 2")
	refused(t, module(), DefaultLimits(), "exports", "mayfly_handle")
}

func TestTooLarge(t *testing.T) {
	good := wat(t, handler(""))
	refused(t, good, Limits{Module: len(good) - 1}, "too-large", "bytes")
	if _, err := Check(good, Limits{Module: len(good)}); err != nil {
		t.Error(err)
	}
	funcs := handler(strings.Repeat("(func)", 20))
	refused(t, wat(t, funcs), Limits{Functions: 20}, "too-large", "21 functions")
	if _, err := Check(wat(t, funcs), Limits{Functions: 21}); err != nil {
		t.Error(err)
	}
	nops := bytes.Repeat([]byte{1}, 128<<10)
	refused(t, body([]byte{0}, nops), DefaultLimits(), "too-large", "code of function 0")
	if info, err := Check(body([]byte{0}, nops[:128<<10-1]), DefaultLimits()); err != nil || info.LargestBody != 128<<10 {
		t.Error(info, err)
	}
	refused(t, wat(t, handler("(table 9999 funcref) (table 2 externref)")), DefaultLimits(), "too-large", "10001 elements")
	refused(t, body(append(append([]byte{2, 1, 0x7f}, leb(1000)...), 0x7e), []byte{0x0b}), DefaultLimits(), "too-large", "1001 parameters and locals")
	refused(t, body([]byte{2, 0xff, 0xff, 0xff, 0xff, 15, 0x7f, 0xff, 0xff, 0xff, 0xff, 15, 0x7f}, []byte{0x0b}), DefaultLimits(), "too-large", "8589934590")
	blocks := append(bytes.Repeat([]byte{0x03, 0x40, 0x0b}, 1001), 0x0b)
	refused(t, body(append(append([]byte{1}, leb(1000)...), 0x7f), blocks), DefaultLimits(), "too-large", "1001 blocks and 1000 locals")
	if _, err := Check(body(append(append([]byte{1}, leb(999)...), 0x7f), blocks), DefaultLimits()); err != nil {
		t.Error(err)
	}
}

func TestMemory(t *testing.T) {
	m := wat(t, `(module (memory (export "memory") 17) (func (export "_start")))`)
	refused(t, m, Limits{Memory: 1 << 20}, "memory", "1088 KiB")
	if _, err := Check(m, Limits{Memory: 17 << 16}); err != nil {
		t.Error(err)
	}
	refused(t, module(section(secMemory, []byte{1, 0, 0x81, 0x80, 4})), DefaultLimits(), "malformed", "65537")
	refused(t, module(section(secMemory, []byte{1, 1, 2, 1})), DefaultLimits(), "malformed", "2 to 1 pages")
	refused(t, wat(t, handler("(memory 1)"), "--enable-multi-memory"), DefaultLimits(), "feature", "more than one memory")
	refused(t, wat(t, handler(`(import "env" "memory" (memory 1))`), "--enable-multi-memory"), DefaultLimits(), "feature", "more than one memory")
}

func TestFeatures(t *testing.T) {
	for _, c := range []struct{ name, text, flag, want string }{
		{"memory64", `(module (memory i64 1))`, "--enable-memory64", "memory64"},
		{"shared memory", `(module (memory 1 1 shared))`, "--enable-threads", "shared"},
		{"atomics", handler(`(func (drop (i32.atomic.load (i32.const 0))))`), "--enable-threads", "threads"},
		{"exceptions", `(module (tag (param i32)))`, "--enable-exceptions", "exception"},
		{"try", handler(`(func (try (do nop) (catch_all nop)))`), "--enable-exceptions", "exception"},
		{"tail calls", handler(`(func $f (return_call $f))`), "--enable-tail-call", "tail call"},
	} {
		t.Run(c.name, func(t *testing.T) { refused(t, wat(t, c.text, c.flag), DefaultLimits(), "feature", c.want) })
	}
	code := func(b ...byte) []byte { return body([]byte{0}, b) }
	for name, c := range map[string]struct {
		module []byte
		kind   string
		want   string
	}{
		"struct type":         {module(section(secType, []byte{1, 0x5f, 0})), "feature", "garbage collection"},
		"recursive types":     {module(section(secType, []byte{1, 0x4e, 0})), "feature", "garbage collection"},
		"typed reference":     {module(section(secType, []byte{1, 0x60, 1, 0x64, 0})), "feature", "garbage collection"},
		"table with a value":  {module(section(secTable, []byte{1, 0x40, 0, 0x70, 0, 1, 0x41, 0, 0x0b})), "feature", "initial value"},
		"64-bit table":        {module(section(secTable, []byte{1, 0x70, 4, 1})), "feature", "64-bit table"},
		"page size":           {module(section(secMemory, []byte{1, 8, 1, 0})), "feature", "limits 0x8"},
		"tag import":          {module(section(secImport, []byte("\x01\x01a\x01b\x04\x00\x00"))), "feature", "kind 4"},
		"gc instruction":      {code(0xfb, 1, 0), "feature", "garbage collection"},
		"relaxed simd":        {code(0xfd, 0x80, 2), "feature", "relaxed SIMD"},
		"unknown instruction": {code(0x27), "malformed", "unknown instruction 0x27"},
		"unknown 0xfc":        {code(0xfc, 18), "malformed", "0xfc 0x12"},
		"object file":         {module(section(secCustom, []byte("\x07linking"))), "malformed", "not linked"},
		"dynamic library":     {module(section(secCustom, []byte("\x08dylink.0"))), "feature", "dynamic"},
	} {
		t.Run(name, func(t *testing.T) { refused(t, c.module, DefaultLimits(), c.kind, c.want) })
	}
}

func TestImports(t *testing.T) {
	m := wat(t, handler(`
		(import "mayfly_v1" "publsh" (func (param i32 i32 i32 i32 i32) (result i32)))
		(import "mayfly_v1" "publish" (func (param i32 i32 i32 i32) (result i32)))
		(import "wasi_snapshot_preview1" "now_ms" (func (result i64)))
		(import "env" "sqrt_table" (func))
		(import "mayfly_v1" "log" (global i32))
		(import "mayfly_v1" "now_ms" (func (result i64)))`))
	refused(t, m, DefaultLimits(), "imports", "mayfly_v1.publsh, did you mean mayfly_v1.publish?")
	for _, text := range []string{
		"mayfly_v1.publish has type (i32, i32, i32, i32, i32) -> (i32), not (i32, i32, i32, i32) -> (i32)",
		"wasi_snapshot_preview1.now_ms, did you mean mayfly_v1.now_ms?", "env.sqrt_table (offset", "mayfly_v1.log is not a function",
	} {
		refused(t, m, DefaultLimits(), "imports", text)
	}
	_, err := Check(m, DefaultLimits())
	if strings.Contains(err.Error(), "mayfly_v1.now_ms (") {
		t.Errorf("a good import is listed: %v", err)
	}
	many := strings.Builder{}
	for i := range maxListed + 5 {
		fmt.Fprintf(&many, "(import \"env\" \"f\x1b%d\" (func))", i)
	}
	_, err = Check(wat(t, handler(strings.ReplaceAll(many.String(), "\x1b", `\1b`))), DefaultLimits())
	if err == nil || !strings.Contains(err.Error(), "and 5 more") || strings.Contains(err.Error(), "\x1b") {
		t.Errorf("many imports: %v", err)
	}
}

func TestEveryImportIsAdmitted(t *testing.T) {
	var text strings.Builder
	for _, i := range abi.Imports() {
		fmt.Fprintf(&text, "(import %q %q (func (param", i.Module, i.Name)
		for _, p := range i.Params {
			text.WriteString(" " + p.String())
		}
		text.WriteString(")")
		for _, r := range i.Results {
			text.WriteString("(result " + r.String() + ")")
		}
		text.WriteString("))")
	}
	info, err := Check(wat(t, handler(text.String())), DefaultLimits())
	if err != nil || len(info.Imports) != len(abi.Imports()) {
		t.Fatal(len(info.Imports), err)
	}
}

func TestHintsByOrigin(t *testing.T) {
	for module, hint := range map[string]string{
		"gojs": "GOOS=wasip1", "wbg": "wasm-bindgen", "extism:host/env": "Extism", "wasi_unstable": "preview 1",
		"wasi:cli/run@0.2.0": "preview 1", "env": "undefined", "other": "update the SDK",
	} {
		_, err := Check(wat(t, handler(`(import "`+module+`" "x" (func))`)), DefaultLimits())
		var e *function.Error
		if !errors.As(err, &e) || !strings.Contains(e.Hint, hint) {
			t.Errorf("%s: %v, hint %q", module, err, e.Hint)
		}
	}
}

func TestExplicitInterface(t *testing.T) {
	both := wat(t, `(module (memory (export "memory") 1) (func (export "_start")) (func (export "mayfly_handle") (result i32) i32.const 0))`)
	command := wat(t, `(module (memory (export "memory") 1) (func (export "_start")))`)
	for _, c := range []struct {
		module []byte
		ask    function.ABI
		want   function.ABI
	}{
		{both, function.ABIAuto, function.ABIMayfly},
		{both, function.ABICommand, function.ABICommand},
		{both, function.ABIMayfly, function.ABIMayfly},
		{command, "", function.ABICommand},
		{command, function.ABICommand, function.ABICommand},
	} {
		if info, err := Check(c.module, Limits{ABI: c.ask}); err != nil || info.ABI != c.want {
			t.Errorf("asked for %q: %q, %v", c.ask, info.ABI, err)
		}
	}
	refused(t, command, Limits{ABI: function.ABIMayfly}, "exports", `abi = "mayfly_v1"`)
	refused(t, wat(t, handler("")), Limits{ABI: function.ABICommand}, "exports", `abi = "command"`)
	refused(t, wat(t, `(module (func (export "_start")))`), DefaultLimits(), "exports", "memory")
}

// TestMalformed cuts and damages a good module at every place: never a panic, never admitted when it is cut inside what is read.
func TestMalformed(t *testing.T) {
	good := wat(t, handler(`(import "mayfly_v1" "now_ms" (func (result i64))) (func (local i32 i64) (block (br_table 0 0 0 (i32.const 1))) (drop (v128.const i64x2 1 2)))`))
	for n := headerSize; n < len(good); n++ {
		if _, err := Check(good[:n], DefaultLimits()); err == nil {
			t.Errorf("the first %d of %d bytes are admitted", n, len(good))
		}
	}
	for i := range good {
		for _, with := range []byte{0, 0x7f, 0x80, 0xff} {
			bad := bytes.Clone(good)
			bad[i] = with
			_, _ = Check(bad, DefaultLimits())
		}
	}
	for name, m := range map[string][]byte{
		"sections out of order":  module(section(secMemory, []byte{0}), section(secType, []byte{0})),
		"section twice":          module(section(secType, []byte{0}), section(secType, []byte{0})),
		"unknown section":        module(section(14)),
		"bytes left":             module(section(secType, []byte{0, 0})),
		"long number":            module([]byte{1, 0x80, 0x80, 0x80, 0x80, 0x80, 0}),
		"number over 32 bits":    module([]byte{1, 0x80, 0x80, 0x80, 0x80, 0x10}),
		"huge count":             module(section(secType, []byte{0x8f, 0x4e})),
		"export of nothing":      module(section(secExport, []byte("\x01\x01a\x00\x07"))),
		"function of no type":    module(section(secFunction, []byte{1, 0})),
		"functions without code": module(section(secType, []byte{1, 0x60, 0, 0}), section(secFunction, []byte{1, 0})),
		"code without functions": module(section(secCode, []byte{1, 2, 0, 0x0b})),
		"name not UTF-8":         module(section(secCustom, []byte{1, 0xff})),
		"section beyond the end": module([]byte{1, 0xff, 0xff, 0xff, 0xff, 0x0f}),
	} {
		_, err := Check(m, DefaultLimits())
		var e *function.Error
		if !errors.As(err, &e) || e.Kind != "malformed" && e.Kind != "too-large" || !strings.Contains(err.Error(), "offset") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestHostileModulesAreCheap takes the largest modules that each ask for the most work.
func TestHostileModulesAreCheap(t *testing.T) {
	const size = 8<<20 - 100
	types := bytes.Repeat([]byte{0x60, 0, 0}, maxEntries)
	imports := bytes.Repeat([]byte("\x03env\x06sqrt_x\x00\x00"), maxEntries)
	exports := bytes.Repeat([]byte("\x01a\x00\x8f\x4e"), maxEntries)
	loops := bytes.Repeat([]byte{0x03, 0x40}, 60<<10)
	one := append(append(leb(len(loops)+1), 0), loops...)
	for name, m := range map[string][]byte{
		"custom":  module(append(append([]byte{0}, leb(size)...), make([]byte, size)...)),
		"imports": module(section(secType, leb(maxEntries), types), section(secImport, leb(maxEntries), imports), section(secExport, leb(maxEntries), exports)),
		"loops": module(section(secType, []byte{1, 0x60, 0, 0}), section(secFunction, leb(60), make([]byte, 60)),
			section(secCode, leb(60), bytes.Repeat(one, 60))),
	} {
		start := time.Now()
		_, err := Check(m, DefaultLimits())
		// Far more than a busy machine with the race detector needs; what is not linear takes minutes.
		if d := time.Since(start); d > 20*time.Second {
			t.Errorf("%s: %d bytes took %v", name, len(m), d)
		}
		if name != "custom" && err == nil {
			t.Errorf("%s is admitted", name)
		}
	}
}

func FuzzCheck(f *testing.F) {
	f.Add(wat(f, handler(`(import "mayfly_v1" "now_ms" (func (result i64))) (func (local i32 i64) (block (br_table 0 0 0 (i32.const 1))) (drop (v128.const i64x2 1 2)))`)))
	f.Add(wat(f, `(module (memory (export "memory") 1 2) (table 1 funcref) (func (export "_start") (loop (br 0))) (elem (i32.const 0) 0))`))
	f.Add(body([]byte{1, 1, 0x7f}, []byte{0xfc, 10, 0, 0, 0x1c, 1, 0x7f, 0x0e, 1, 0, 0, 0x0b}))
	f.Add([]byte("\x00asm\x0d\x00\x01\x00"))
	f.Add([]byte("\x1f\x8b"))
	f.Fuzz(func(t *testing.T, b []byte) {
		info, err := Check(b, DefaultLimits())
		var e *function.Error
		if err != nil && (!errors.As(err, &e) || e.Class != function.ClassReject || e.Hint == "" || e.Kind == "") {
			t.Fatalf("%#v", err)
		}
		if err == nil && (info.ABI == "" || info.LargestBody > len(b) || info.Functions > len(b)) {
			t.Fatalf("info %+v", info)
		}
	})
}

func BenchmarkCheck(b *testing.B) {
	nops := bytes.Repeat([]byte{0x20, 0, 0x20, 0, 0x6a, 0x1a}, 20<<10)
	one := append(append(leb(len(nops)+3), 1, 1, 0x7f), nops...)
	m := module(section(secType, []byte{1, 0x60, 0, 0}), section(secFunction, leb(60), make([]byte, 60)), section(secMemory, []byte{1, 0, 1}),
		section(secExport, []byte("\x02\x06memory\x02\x00\x06_start\x00\x00")), section(secCode, leb(60), bytes.Repeat(one, 60)))
	b.SetBytes(int64(len(m)))
	for b.Loop() {
		if _, err := Check(m, DefaultLimits()); err != nil {
			b.Fatal(err)
		}
	}
}
