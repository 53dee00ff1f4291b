// Package admission looks at a Wasm module before anything compiles it and refuses what this agent would not run, could
// not run, or would take too long to compile. It reads the binary format (WebAssembly 2.0, chapter 5) itself, in one pass,
// in time and memory proportional to the module, and trusts nothing in it. It does not validate: what it lets through may
// still be malformed, which the compiler reports.
//
// The numeric limits are walls against faults and bombs in the compiler, not against large programs: real guests stay far
// below them.
package admission

import (
	"errors"
	"fmt"

	"mayfly/function"
	"mayfly/wasm/abi"
)

// Limits say how large a module may be. A zero field means the value of DefaultLimits.
type Limits struct {
	Module       int          // bytes
	Functions    int          // functions the module defines
	Body         int          // bytes of one function's code
	Locals       int          // parameters and locals of one function
	LocalsBlocks int          // locals times blocks, loops and ifs of one function
	Table        int          // elements all tables start with
	Memory       int64        // bytes the memory may start with: the manifest's limit
	ABI          function.ABI // what the manifest says; "" and auto mean whatever the module's exports say
}

// maxEntries bounds the entries of sections that need memory here: types, imports, exports, tables.
const maxEntries = 10_000

// pageSize is the size of a page of linear memory.
const pageSize = 64 << 10

// DefaultLimits returns the limits for a manifest with the default memory limit.
func DefaultLimits() Limits {
	return Limits{
		Module: 8 << 20, Functions: 10_000, Body: 128 << 10, Locals: 1_000, LocalsBlocks: 1_000_000, Table: 10_000,
		Memory: 16 << 20, ABI: function.ABIAuto,
	}
}

func (l Limits) orDefaults() Limits {
	d := DefaultLimits()
	for _, f := range []struct{ value, normal *int }{
		{&l.Module, &d.Module},
		{&l.Functions, &d.Functions},
		{&l.Body, &d.Body},
		{&l.Locals, &d.Locals},
		{&l.LocalsBlocks, &d.LocalsBlocks},
		{&l.Table, &d.Table},
	} {
		if *f.value == 0 {
			*f.value = *f.normal
		}
	}
	if l.Memory == 0 {
		l.Memory = d.Memory
	}
	return l
}

// Info is what a module says of itself.
type Info struct {
	ABI         function.ABI // command or mayfly_v1
	Imports     []abi.Import // in the module's order
	Exports     []abi.Export
	MemoryMin   uint64 // pages of 64 KiB
	MemoryMax   uint64 // pages; 65,536 when the module sets no maximum
	Functions   int    // that the module defines
	LargestBody int    // bytes
	MostLocals  int    // parameters and locals
	TableMin    int    // elements all tables start with
	HasStart    bool   // it has a start function, which runs at instantiation
	HasNames    bool   // it has a name section: traps can tell function names
}

// Check reads module and returns what it is. The error is a *function.Error of ClassReject whose text has the offset in the
// file and whose hint says what to do. Kinds: not-wasm, component, too-large, malformed, feature, imports, exports, memory.
func Check(module []byte, l Limits) (Info, error) {
	l = l.orDefaults()
	if len(module) > l.Module {
		return Info{}, refuse("too-large", fmt.Errorf("%d bytes; at most %d are admitted", len(module), l.Module),
			"strip debug information (wasm-opt -Oz --strip-debug, cargo --release, clang -s)")
	}
	if err := checkHeader(module); err != nil {
		return Info{}, err
	}
	p := parser{reader: reader{b: module, pos: headerSize}, limits: l}
	p.info.MemoryMax = 1 << 16
	p.sections()
	if p.err != nil {
		return Info{}, p.err
	}
	if err := p.checkImports(); err != nil {
		return Info{}, err
	}
	if err := p.checkExports(); err != nil {
		return Info{}, err
	}
	return p.info, nil
}

// refuse makes the error of Check.
func refuse(kind string, err error, hint string) error {
	return &function.Error{Op: "admit", Subject: "module", Class: function.ClassReject, Kind: kind, Err: err, Hint: hint}
}

// checkExports finds out which interface the module speaks.
func (p *parser) checkExports() error {
	const hint = "export mayfly_handle (see the SDK's macro), or build a WASI command with _start"
	detected, err := abi.Detect(p.info.Exports)
	if err != nil {
		return refuse("exports", err, hint)
	}
	p.info.ABI = detected
	if want := p.limits.ABI; want != "" && want != function.ABIAuto && want != detected {
		for _, e := range p.info.Exports {
			if want == function.ABICommand && e.Name == abi.ExportStart {
				p.info.ABI = want
				return nil
			}
		}
		return refuse("exports", fmt.Errorf("the manifest says abi = %q and the module is a %q", want, detected),
			`set abi = "auto" in the manifest, or build the module for that interface`)
	}
	if p.info.MemoryMin*pageSize > uint64(p.limits.Memory) {
		return refuse("memory", fmt.Errorf("the memory starts with %d KiB; the manifest permits %d KiB", p.info.MemoryMin*64, p.limits.Memory>>10),
			fmt.Sprintf(`set limits.memory = "%dKiB" or more in the manifest, or link with a smaller stack and heap`, p.info.MemoryMin*64))
	}
	return nil
}

var errTruncated = errors.New("the file ends in the middle")
