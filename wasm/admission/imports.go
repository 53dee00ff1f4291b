package admission

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"mayfly/internal/nearest"
	"mayfly/wasm/abi"
)

// maxListed is how many unknown imports an error names.
const maxListed = 20

// checkImports compares every import with what this agent offers, and reports all that do not fit at once.
func (p *parser) checkImports() error {
	offered := make(map[string]abi.Import)
	for _, i := range abi.Imports() {
		offered[i.Module+"."+i.Name] = i
	}
	var faults []string
	hint := ""
	more := 0
	for _, i := range p.imports {
		want, known := offered[i.module+"."+i.name]
		if known && i.fits(want) {
			p.info.Imports = append(p.info.Imports, want)
			continue
		}
		if hint == "" {
			hint = importHint(i)
		}
		if len(faults) == maxListed {
			more++
			continue
		}
		fault := quoteName(i.module, i.name)
		switch {
		case i.kind != byte(abi.ExternFunc):
			fault += " is not a function"
		case known:
			fault += " has type " + typeText(want.Params, want.Results) + ", not " + typeText(i.params, i.results)
		default:
			fault += suggestion(i.module, i.name, offered)
		}
		faults = append(faults, fmt.Sprintf("%s (offset %#x)", fault, i.at))
	}
	if len(faults) == 0 {
		return nil
	}
	text := "imports that do not exist here: " + strings.Join(faults, "; ")
	if more > 0 {
		text += fmt.Sprintf("; and %d more", more)
	}
	return refuse("imports", errors.New(text), hint)
}

func (i importEntry) fits(want abi.Import) bool {
	return i.kind == byte(abi.ExternFunc) && slices.Equal(want.Params, i.params) && slices.Equal(want.Results, i.results)
}

// importHint says what to do about an import by where such imports come from.
func importHint(i importEntry) string {
	switch {
	case i.module == "gojs" || i.module == "go":
		return "build with GOOS=wasip1, not GOOS=js"
	case i.module == "wbg" || strings.HasPrefix(i.module, "__wbindgen"):
		return "build without wasm-bindgen: target wasm32-wasip1 or wasm32-unknown-unknown with the SDK"
	case strings.HasPrefix(i.module, "extism:"):
		return "Extism plug-ins are not supported; use the SDK of the language"
	case i.module == "wasi_unstable":
		return "build with a WASI SDK of 2020 or later (preview 1)"
	case strings.HasPrefix(i.module, "wasi:"):
		return "build for WASI preview 1: target wasm32-wasip1"
	case i.kind == byte(abi.ExternMemory):
		return "define the memory in the module and export it (leave out --import-memory)"
	case i.kind == byte(abi.ExternTable):
		return "define the table in the module (leave out --import-table)"
	case i.module == abi.ModuleEnv && i.name == "seed":
		return "AssemblyScript's Math.random needs it: use the SDK's random instead"
	case i.module == abi.ModuleEnv:
		return "the linker left a symbol undefined: define it, link its library, or leave out --allow-undefined to see who needs it"
	}
	return "update the SDK, or the agent: `mayfly version` shows what it offers"
}

// suggestion names the nearest import that exists, when it is near.
func suggestion(module, name string, offered map[string]abi.Import) string {
	best, least := "", len(name)/3+1
	for full, i := range offered {
		d := nearest.Distance(name, i.Name)
		if i.Module != module {
			d++
		}
		if d < least || d == least && best != "" && full < best {
			best, least = full, d
		}
	}
	if best == "" {
		return ""
	}
	return ", did you mean " + best + "?"
}

// quote shows a name from a module: printable and not long.
func quote(s string) string {
	if len(s) > 64 {
		s = strings.ToValidUTF8(s[:61], "") + "..."
	}
	return strconv.Quote(s)
}

func quoteName(module, name string) string {
	text := module + "." + name
	if q := strconv.Quote(text); len(text) <= 64 && q == `"`+text+`"` {
		return text
	}
	return quote(module) + "." + quote(name)
}

func typeText(params, results []abi.ValType) string {
	list := func(types []abi.ValType) string {
		var names []string
		for i, t := range types {
			if i == 16 {
				names = append(names, "...")
				break
			}
			names = append(names, t.String())
		}
		return "(" + strings.Join(names, ", ") + ")"
	}
	return list(params) + " -> " + list(results)
}
