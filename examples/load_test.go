package examples_test

import (
	"os"
	"path/filepath"
	"testing"

	"mayfly/function"
	"mayfly/internal/guests"
)

// example is one folder: its manifest and its module, built from source.
type example struct {
	manifest function.Manifest
	module   []byte
}

// load reads all examples by name.
func load(t *testing.T) map[string]example {
	t.Helper()
	all := map[string]example{
		"overheat":       {module: guests.C(t, "examples/overheat/overheat.c")},
		"echo":           {module: guests.C(t, "examples/echo/echo.c")},
		"counter":        {module: guests.C(t, "examples/counter/counter.c")},
		"linecount":      {module: guests.CCommand(t, "examples/linecount/linecount.c")},
		"moving-average": {module: guests.Rust(t, "examples/moving-average/moving_average.rs")},
		"deadband":       {module: guests.AssemblyScript(t, "examples/deadband/deadband.ts")},
		"enrich":         {module: guests.Go(t, "examples/enrich")},
	}
	dirs, err := filepath.Glob("*/function.toml")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range dirs {
		name := filepath.Base(filepath.Dir(file))
		e, ok := all[name]
		if !ok {
			t.Fatalf("example %s is not in this test's list", name)
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if e.manifest, err = function.ParseManifest(file, text); err != nil {
			t.Fatal(err)
		}
		if e.manifest.Name != name {
			t.Errorf("%s is named %q", file, e.manifest.Name)
		}
		all[name] = e
	}
	return all
}
