package identity

import (
	"bytes"
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

// TestNoFlippedBitIsAnotherNode [I6]: whichever bit of the key's file is wrong, the node is itself or refuses to be anybody.
func TestNoFlippedBitIsAnotherNode(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	n, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, keyFile)
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	for bit := range 8 * len(whole) {
		text := bytes.Clone(whole)
		text[bit/8] ^= 1 << (bit % 8)
		if key, ok := decodeSeed(pemType, text); !ok {
			refused++
		} else if of(key).ID != n.ID {
			t.Errorf("bit %d makes it %s", bit, of(key).ID)
		}
	}
	if refused < 4*len(whole) {
		t.Errorf("only %d of %d flips were noticed", refused, 8*len(whole))
	}
}

// TestANewNodeIsAWish [I6]: a key that is gone is an error where a node has lived; the word new in its place makes another node.
func TestANewNodeIsAWish(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := Missing(dir); err == nil {
		t.Error("nothing is missing in an empty directory")
	}
	first, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, keyFile), []byte("new\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Missing(dir); err != nil {
		t.Error(err)
	}
	second, err := Load(dir)
	if err != nil || second.ID == first.ID {
		t.Fatalf("it is %q, %v", second.ID, err)
	}
	if again, err := Load(dir); err != nil || again.ID != second.ID {
		t.Errorf("it is %q after %q, %v", again.ID, second.ID, err)
	}
}
