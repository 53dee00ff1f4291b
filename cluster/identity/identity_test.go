package identity

import (
	"os"
	"path/filepath"
	"testing"
)

func TestLoadMakesOnceAndKeeps(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Load(dir)
	if err != nil || again.ID != first.ID || len(first.ID) != 16 {
		t.Errorf("ids %q and %q, %v", first.ID, again.ID, err)
	}
	if info, err := os.Stat(filepath.Join(dir, keyFile)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key file: %v, %v", info.Mode(), err)
	}
	other, err := Load(t.TempDir())
	if err != nil || other.ID == first.ID {
		t.Errorf("two nodes are both %q, %v", other.ID, err)
	}
}

func TestDamagedKeyIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := Load(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, keyFile), []byte("-----BEGIN"), 0o600); err != nil {
		t.Fatal(err)
	}
	if n, err := Load(dir); err == nil {
		t.Errorf("became %q", n.ID)
	}
}
