package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The copies of the SDKs that mayfly new writes are the SDKs of this repository.
func TestNewFunctionsGetTheSDKsOfToday(t *testing.T) {
	var want bytes.Buffer
	fmt.Fprintln(&want, "Made of the folder sdk by: go test ./cmd/mayfly -run TestNewFunctionsGetTheSDKsOfToday -update")
	for _, dir := range []string{"c", "rust", "go", "assemblyscript"} {
		root := os.DirFS("../../sdk")
		err := fs.WalkDir(root, dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			text, err := fs.ReadFile(root, path)
			if err != nil {
				return err
			}
			if !bytes.HasSuffix(text, []byte("\n")) || bytes.Contains(text, []byte("\n-- ")) {
				t.Errorf("%s cannot be in a text archive", path)
			}
			fmt.Fprintf(&want, "-- %s --\n%s", path, text)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if *update {
		if err := os.WriteFile("scaffold/sdk.txtar", want.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if sdkFiles != want.String() {
		t.Error("scaffold/sdk.txtar is not made of the folder sdk as it is; run this test with -update, twice")
	}
}

func TestEveryLanguageHasAWholeProject(t *testing.T) {
	for _, language := range languages() {
		dir := filepath.Join(t.TempDir(), "deep", "my-fn")
		w, err := scaffold(dir, language)
		if err != nil {
			t.Fatalf("%s: %v", language, err)
		}
		p, err := openProject(dir)
		if err != nil {
			t.Fatalf("%s: %v", language, err)
		}
		if p.manifest.Name != "my-fn" || len(p.manifest.Tests) != 2 || p.manifest.Build.Command == "" {
			t.Errorf("%s: %+v", language, p.manifest)
		}
		script := strings.Fields(p.manifest.Build.Command)[0]
		if info, err := os.Stat(filepath.Join(dir, script)); err != nil || info.Mode()&0o111 == 0 {
			t.Errorf("%s: %s cannot be run: %v", language, script, err)
		}
		for _, name := range w.Files {
			text, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil || strings.Contains(string(text), "NAME__") || strings.Contains(string(text), "../..") {
				t.Errorf("%s: %s: %v\n%s", language, name, err, text)
			}
		}
		if _, err := scaffold(dir, language); err == nil {
			t.Errorf("%s was written over", dir)
		}
		left, err := os.ReadDir(filepath.Dir(dir))
		if err != nil || len(left) != 1 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	}
}

func TestNewRefusesNames(t *testing.T) {
	for _, name := range []string{"Upper", "1st", "a b", "-x", "..", strings.Repeat("a", 64), "a_b", `a"b`} {
		dir := filepath.Join(t.TempDir(), "sub") + "/" + name
		if _, err := scaffold(dir, "c"); err == nil {
			t.Errorf("%q was accepted", name)
		}
	}
	if _, err := scaffold(filepath.Join(t.TempDir(), "ok"), "rsut"); err == nil || !strings.Contains(err.(*usageError).hint, "rust") {
		t.Errorf("an unknown language: %v", err)
	}
}

func TestUnpack(t *testing.T) {
	got := unpack("a comment\n-- a/b --\none\n-- not a head\n-- c --\n\n-- d --\nlast")
	want := []file{{"a/b", "one\n-- not a head\n"}, {"c", "\n"}, {"d", "last"}}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%q, want %q", got, want)
	}
}
