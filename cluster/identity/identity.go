// Package identity says who a node is: its Ed25519 key, and its id, which is a hash of that key. Nobody else can take the id
// without the key, and no registry has to hand it out.
package identity

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Node is one node's identity.
type Node struct {
	ID  string // 16 letters and digits
	Key ed25519.PrivateKey
}

const (
	keyFile = "node.key"
	pemType = "MAYFLY NODE SEED"
)

// Load reads the node's key from dir, or makes one that is there, durable, when Load returns. A key file that is damaged is an
// error: a node must not become somebody else by accident.
func Load(dir string) (Node, error) {
	path := filepath.Join(dir, keyFile)
	text, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return create(dir)
	case err != nil:
		return Node{}, fmt.Errorf("node key: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != pemType || len(block.Bytes) != ed25519.SeedSize {
		return Node{}, fmt.Errorf("node key %s: it is damaged; restore it from a backup, or remove it to let the node become a new one", path)
	}
	return of(ed25519.NewKeyFromSeed(block.Bytes)), nil
}

func of(key ed25519.PrivateKey) Node {
	sum := sha256.Sum256(key.Public().(ed25519.PublicKey))
	id := strings.ToLower(base32.StdEncoding.EncodeToString(sum[:10]))
	return Node{ID: id, Key: key}
}

func create(dir string) (Node, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return Node{}, err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: key.Seed()})
	if err := writeDurably(dir, text); err != nil {
		return Node{}, fmt.Errorf("node key: %w", err)
	}
	return of(key), nil
}

// writeDurably makes the file appear whole or not at all.
func writeDurably(dir string, text []byte) error {
	f, err := os.CreateTemp(dir, keyFile+".*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, keyFile))
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
