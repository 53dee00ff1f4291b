package crashpoint

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const program = `package main

import (
	"fmt"

	"mayfly/internal/crashpoint"
)

func main() {
	for i := range 5 {
		crashpoint.Here(crashpoint.Commit)
		fmt.Print(i, " ")
	}
}
`

// TestDiesWhereItIsTold: built with the tag a program dies at the third pass; built without it nothing can make it.
func TestDiesWhereItIsTold(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "main.go")
	if err := os.WriteFile(file, []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	// The program is overlaid into the module, because internal packages cannot be imported from outside.
	overlay := filepath.Join(dir, "overlay.json")
	place := filepath.Join(root, "internal/crashpoint/trial/main.go")
	if err := os.WriteFile(overlay, []byte(`{"Replace":{"`+place+`":"`+file+`"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		tags, armed, want string
		dies              bool
	}{
		{"crashpoints", "commit@3", "0 1 ", true},
		{"crashpoints", "commit", "", true},
		{"crashpoints", "bury@1", "0 1 2 3 4 ", false},
		{"crashpoints", "", "0 1 2 3 4 ", false},
		{"", "commit@3", "0 1 2 3 4 ", false},
	} {
		binary := filepath.Join(dir, "trial"+c.tags)
		build := exec.CommandContext(t.Context(), "go", "build", "-overlay", overlay, "-tags", c.tags, "-o", binary, "./internal/crashpoint/trial")
		build.Dir = root
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		run := exec.CommandContext(t.Context(), binary)
		run.Env = append(os.Environ(), "CRASHPOINT="+c.armed)
		out, err := run.Output()
		if string(out) != c.want || (err != nil && strings.Contains(err.Error(), "killed")) != c.dies || err != nil != c.dies {
			t.Errorf("tags %q, armed %q: %q, %v", c.tags, c.armed, out, err)
		}
	}
}
