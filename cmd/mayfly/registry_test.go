package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"mayfly/function"
	"mayfly/internal/dockerregistry"
)

func scriptRegistry(ts *testscript.TestScript, _ bool, args []string) {
	locked := len(args) > 0 && args[0] == "locked"
	dir := ts.MkAbs("registry")
	ts.Check(os.MkdirAll(dir, 0o700))
	r, err := dockerregistry.Start(dir, dockerregistry.Options{Locked: locked})
	ts.Check(err)
	ts.Defer(r.Stop)
	ts.Setenv("REGISTRY", r.Host)
	if locked {
		ts.Check(r.Login(dir))
		ts.Setenv("DOCKER_CONFIG", dir)
	}
}

// Who pulls a function gets two files below the folder, whatever its manifest says and whatever links wait there ([R1]).
func TestNothingIsWrittenElsewhere(t *testing.T) {
	work := t.TempDir()
	outside := filepath.Join(work, "outside")
	if err := os.WriteFile(outside, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		path  string
		force bool
		link  string // from this name in the folder to the file outside
	}{
		"up": {"../outside", true, ""}, "absolute": {outside, true, ""}, "up and down": {"a/../../outside", true, ""},
		"link": {"x.wasm", true, "x.wasm"}, "linked manifest": {"x.wasm", true, manifestName}, "there already": {"x.wasm", false, "x.wasm"},
	} {
		dir := filepath.Join(work, name)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if c.link != "" {
			if err := os.Symlink("../outside", filepath.Join(dir, c.link)); err != nil {
				t.Fatal(err)
			}
		}
		p := project{file: "oci://x/y:1", text: []byte("manifest = 1"), manifest: function.Manifest{Module: function.Module{Path: c.path}}}
		if err := unpackInto(dir, p, []byte("module"), c.force); err == nil {
			t.Errorf("%s was written", name)
		}
		if text, err := os.ReadFile(outside); err != nil || string(text) != "mine" {
			t.Fatalf("%s changed the file outside: %q %v", name, text, err)
		}
	}
	p := project{text: []byte("manifest = 1"), manifest: function.Manifest{Module: function.Module{Path: "target/x.wasm"}}}
	if err := unpackInto(filepath.Join(work, "new"), p, []byte("module"), false); err != nil {
		t.Error(err)
	}
	if text, err := os.ReadFile(filepath.Join(work, "new", "target", "x.wasm")); err != nil || string(text) != "module" {
		t.Errorf("%q %v", text, err)
	}
}
