package abi

import (
	"errors"
	"fmt"
	"slices"

	"mayfly/function"
)

// ExternKind says what an export is, in the binary encoding.
type ExternKind byte

// Kinds of exports.
const (
	ExternFunc ExternKind = iota
	ExternTable
	ExternMemory
	ExternGlobal
)

// Export is one export of a module; the types are those of a function.
type Export struct {
	Name            string
	Kind            ExternKind
	Params, Results []ValType
}

// Names of exports the agent looks for.
const (
	ExportMemory     = "memory"
	ExportHandle     = "mayfly_handle" // () -> i32
	ExportInit       = "mayfly_init"   // () -> i32, optional
	ExportInitialize = "_initialize"   // () -> (), optional
	ExportStart      = "_start"        // () -> ()
)

// Detect returns the interface a module with these exports speaks: mayfly_v1 when it exports mayfly_handle, else command
// when it exports _start. It reports an export that is missing or has the wrong type. What a module imports does not
// matter: a command may call mayfly_v1 functions too.
func Detect(exports []Export) (function.ABI, error) {
	memory := false
	kind := function.ABIAuto
	for _, e := range exports {
		switch e.Name {
		case ExportMemory:
			if e.Kind != ExternMemory {
				return "", errors.New(`export "memory" is not a memory`)
			}
			memory = true
			continue
		case ExportHandle:
			kind = function.ABIMayfly
		case ExportStart:
			if kind == function.ABIAuto {
				kind = function.ABICommand
			}
		}
		if err := checkType(e); err != nil {
			return "", err
		}
	}
	switch {
	case kind == function.ABIAuto:
		return "", errors.New("exports neither mayfly_handle (mayfly_v1) nor _start (command)")
	case !memory:
		return "", errors.New(`does not export its memory as "memory"`)
	}
	return kind, nil
}

// checkType reports a known export of another type than ours.
func checkType(e Export) error {
	var want []ValType
	switch e.Name {
	case ExportHandle, ExportInit:
		want = types("i")
	case ExportStart, ExportInitialize:
	default:
		return nil
	}
	if e.Kind != ExternFunc || len(e.Params) > 0 || !slices.Equal(e.Results, want) {
		return fmt.Errorf("export %q must be a function without parameters that returns %s", e.Name, resultText(want))
	}
	return nil
}

func resultText(t []ValType) string {
	if len(t) == 0 {
		return "nothing"
	}
	return t[0].String()
}
