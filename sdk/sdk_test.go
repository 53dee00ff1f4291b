// Package sdk_test checks the guest SDKs against the interface the agent offers.
package sdk_test

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"mayfly/internal/guests"
	"mayfly/wasm/abi"
)

// Every SDK must import every function of mayfly_v1, with exactly the types the agent gives it: an engine refuses a module
// that is off by one parameter.
func TestEverySDKDeclaresTheWholeInterface(t *testing.T) {
	offered := map[string]string{}
	for _, i := range abi.Imports() {
		offered[i.Module+"."+i.Name] = fmt.Sprint(i.Params, "->", i.Results)
	}
	for name, module := range map[string][]byte{
		"C":              guests.C(t, "sdk/testdata/all.c"),
		"Go":             guests.Go(t, "sdk/testdata/all"),
		"Rust":           guests.Rust(t, "sdk/testdata/all.rs"),
		"AssemblyScript": guests.AssemblyScript(t, "sdk/testdata/all.ts"),
	} {
		t.Run(name, func(t *testing.T) {
			wanted, err := imports(module)
			if err != nil {
				t.Fatal(err)
			}
			for i, signature := range wanted {
				if offered[i] != signature {
					t.Errorf("imports %s as %s, the agent has %q", i, signature, offered[i])
				}
			}
			for i := range offered {
				if _, ok := wanted[i]; !ok && strings.HasPrefix(i, abi.ModuleMayfly+".") {
					t.Errorf("has no word for %s", i)
				}
			}
		})
	}
}

// imports reads the functions a module imports, and their types, from its type and import sections (WebAssembly 2.0, sections
// 5.5.4 and 5.5.5).
func imports(module []byte) (map[string]string, error) {
	var signatures []string
	found := map[string]string{}
	r := reader{module[8:]}
	for len(r.rest) > 0 {
		id, body := r.byte(), reader{r.bytes()}
		switch id {
		case 1:
			for range body.uint() {
				if form := body.byte(); form != 0x60 {
					return nil, fmt.Errorf("type of form %#x", form)
				}
				signatures = append(signatures, fmt.Sprint(body.types(), "->", body.types()))
			}
		case 2:
			for range body.uint() {
				name := string(body.bytes()) + "." + string(body.bytes())
				if kind := body.byte(); kind != 0 {
					return nil, fmt.Errorf("import %s is not a function", name)
				}
				found[name] = signatures[body.uint()]
			}
		}
	}
	return found, nil
}

// reader takes a module apart. It panics at a broken one, which no compiler makes.
type reader struct{ rest []byte }

func (r *reader) byte() byte {
	b := r.rest[0]
	r.rest = r.rest[1:]
	return b
}

func (r *reader) uint() int {
	v, n := binary.Uvarint(r.rest)
	r.rest = r.rest[n:]
	return int(v)
}

func (r *reader) bytes() []byte {
	n := r.uint()
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) types() []abi.ValType {
	var types []abi.ValType
	for _, b := range slices.Clone(r.bytes()) {
		types = append(types, abi.ValType(b))
	}
	return types
}
