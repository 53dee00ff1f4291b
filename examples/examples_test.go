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
	manifests, err := filepath.Glob("*/function.toml")
	if err != nil {
		t.Fatal(err)
	}
	if len(manifests) < 7 {
		t.Fatalf("found %d examples, want at least 7", len(manifests))
	}
	for _, m := range manifests {
		dir := filepath.Dir(m)
		for _, name := range []string{"README.md", "Makefile"} {
			if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
				t.Error(err)
			}
		}
		text, err := os.ReadFile(m)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(text, []byte("\n[[test]]\n")) {
			t.Errorf("%s has no [[test]]", m)
		}
	}
}
