// Package examples_test checks that every example is complete and that the committed module is the one its source gives.
package examples_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"mayfly/internal/guests"
)

func TestTheCommittedModuleComesFromItsSource(t *testing.T) {
	committed, err := os.ReadFile("overheat/overheat.wasm")
	if err != nil {
		t.Fatal(err)
	}
	if built := guests.C(t, "examples/overheat/overheat.c"); !bytes.Equal(committed, built) {
		t.Errorf("overheat.wasm (%d bytes) is not what overheat.c gives (%d bytes): run make -B in examples/overheat, with the clang of Debian 12",
			len(committed), len(built))
	}
	if len(committed) > 8<<10 {
		t.Errorf("overheat.wasm has %d bytes; the first function people see stays below 8 KiB", len(committed))
	}
}

func TestEveryExampleIsComplete(t *testing.T) {
	for name, e := range load(t) {
		for _, file := range []string{"README.md", "Makefile", "function.toml"} {
			if _, err := os.Stat(filepath.Join(name, file)); err != nil {
				t.Error(err)
			}
		}
		if len(e.manifest.Tests) == 0 {
			t.Errorf("example %s has no [[test]]", name)
		}
	}
}
