package e2e_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"mayfly/internal/guests"
)

const endsAtOnce = `(module (memory (export "memory") 1) (func (export "mayfly_handle") (result i32) i32.const 0))`

// refused is something that cannot be deployed, and what the person who tries is told: why, and what to do.
type refused struct {
	name     string
	manifest string
	module   []byte
	code     int
	why      string
	next     string
}

func badModules(t *testing.T) []refused {
	wat := func(text string) []byte { return guests.WAT(t, text) }
	const rest = `(memory (export "memory") 1) (func (export "mayfly_handle") (result i32) i32.const 0))`
	return []refused{
		{"text", "", []byte("#!/bin/sh\necho hello\n"), 1, "not a Wasm module: it is a script", "module.path"},
		{"empty", "", nil, 2, "the module is empty", "mayfly deploy --help"},
		{"cut", "", wat(endsAtOnce)[:20], 1, "the file ends in the middle", "build or copy the module again"},
		{"component", "", []byte("\x00asm\x0d\x00\x01\x00"), 1, "a component (WASI 0.2)", "wasm32-wasip1"},
		{"imports", "", wat(`(module (import "env" "system" (func (param i32) (result i32))) ` + rest), 1, "env.system", "--allow-undefined"},
		{"misspelt", "", wat(`(module (import "mayfly_v1" "publsh" (func)) ` + rest), 1, "did you mean mayfly_v1.publish?", "update the SDK"},
		{"library", "", wat(`(module (memory (export "memory") 1))`), 1, "exports neither mayfly_handle", "export mayfly_handle"},
		{"threads", "", wat(strings.Replace(endsAtOnce, `"memory") 1`, `"memory") 1 2 shared`, 1)), 1, "a shared memory", "without threads"},
		{
			"greedy", "[limits]\nmemory = \"1MiB\"\n", wat(strings.Replace(endsAtOnce, `"memory") 1`, `"memory") 64`, 1)), 1,
			"the memory starts with 4096 KiB; the manifest permits 1024 KiB", `limits.memory = "4096KiB"`,
		},
		{"bomb", "", bomb(t), 1, "the compiler gave up", "split large functions"},
	}
}

// bomb is small and passes admission; compiling it takes more memory or time than the compiler's process is given.
func bomb(t testing.TB) []byte {
	const locals, loops = 900, 1000
	var b strings.Builder
	b.WriteString(`(module (memory (export "memory") 1) (func (export "mayfly_handle") (result i32)`)
	for i := range locals {
		fmt.Fprintf(&b, " (local $v%d i32)", i)
	}
	for i := range loops {
		fmt.Fprintf(&b, " (loop $l%d (local.set $v%d (i32.add (local.get $v%d) (i32.const 1))) (br_if $l%d (local.get $v%d))", i, i%locals, (i+1)%locals, i, i%locals)
	}
	b.WriteString(strings.Repeat(")", loops) + ` (i32.const 0)))`)
	return guests.WAT(t, b.String())
}

func TestModulesThatAreRefused(t *testing.T) {
	t.Parallel()
	n := withBroker(t, "")
	n.echo()
	d := connect(t, n.broker, "device")
	d.subscribe(t, "out/#")
	for _, c := range badModules(t) {
		r := n.mayfly("deploy", n.project(c.name, c.manifest, c.module))
		r.want(t, c.code, "error: ", c.why, "next:  ", c.next)
		n.serves(d, c.name)
	}
	n.must("fn", "ls").want(t, 0, "echo")
	if all := n.status().Functions; len(all) != 1 {
		t.Errorf("deployed are %v", all)
	}
	if files, err := filepath.Glob(filepath.Join(n.dir, "data", "modules", "*", "*")); err != nil || len(files) > 2 {
		t.Errorf("refused modules were kept: %v %v", files, err)
	}
}

func TestManifestsThatAreRefused(t *testing.T) {
	t.Parallel()
	n := withBroker(t, "")
	n.echo()
	d := connect(t, n.broker, "device")
	d.subscribe(t, "out/#")
	module := guests.WAT(t, endsAtOnce)
	for _, c := range []refused{
		{"broken", "[limits\nmemory = 1\n", module, 2, "function.toml:6", "next:"},
		{"unknown", "[limits]\nmemry = \"1MiB\"\n", module, 2, "function.toml:7:1", `did you mean "memory"?`},
		{"several", "[limits]\nmemry = \"1MiB\"\ntimeout = \"soon\"\n[retri]\n", module, 2, "function.toml:8:", `"retry"`},
		{"filter", "[[trigger.mqtt]]\ntopic = \"a/#/b\"\n", module, 2, "function.toml:7:", "next:"},
		{"when", "[[trigger.mqtt]]\ntopic = \"a/b\"\nwhen = \"json.t >\"\n", module, 2, "function.toml:8:", "next:"},
		{"huge", "[limits]\nmemory = \"3GiB\"\n", module, 1, "limits.memory", "next:"},
	} {
		r := n.mayfly("deploy", n.project(c.name, c.manifest, c.module))
		r.want(t, c.code, "error: ", c.why, "next:  ", c.next)
		n.serves(d, c.name)
	}
	if all := n.status().Functions; len(all) != 1 {
		t.Errorf("deployed are %v", all)
	}
}

func TestTwoFunctionsWithOneRoute(t *testing.T) {
	t.Parallel()
	n := withBroker(t, "")
	module := guests.WAT(t, endsAtOnce)
	route := "[[trigger.http]]\nroute = \"POST /press/{line}\"\nauth = \"public\"\n"
	n.must("deploy", n.project("first", route, module))
	n.mayfly("deploy", n.project("second", strings.Replace(route, "line", "machine", 1), module)).want(t, 1,
		`its route "POST /press/{machine}" and the route "POST /press/{line}" of function "first" take the same requests`, "next:  change one of the routes")
	n.must("deploy", n.project("second", strings.Replace(route, "press", "saw", 1), module))
	n.must("deploy", n.project("first", route, module)) // its own route is no conflict
}
