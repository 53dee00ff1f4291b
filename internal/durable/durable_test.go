package durable_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"mayfly/internal/durable"
)

// What is written is there whole, its owner's alone, with nothing beside it; what cannot be written leaves what was there.
func TestWrite(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "f")
	for _, text := range []string{"first", ""} {
		if err := durable.Write(file, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(file); err != nil || string(got) != text {
			t.Errorf("%q, %v; want %q", got, err, text)
		}
	}
	if info, err := os.Stat(file); err != nil || info.Mode() != fs.FileMode(0o600) {
		t.Errorf("%v, %v", info, err)
	}
	taken := filepath.Join(dir, "taken") // a directory that is not empty cannot be replaced
	if err := os.MkdirAll(filepath.Join(taken, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if durable.Write(taken, []byte("x")) == nil || durable.Write(filepath.Join(dir, "none", "f"), nil) == nil {
		t.Error("what cannot be written was written")
	}
	if all, err := os.ReadDir(dir); err != nil || len(all) != 2 {
		t.Errorf("%v, %v: something is left over", all, err)
	}
}
