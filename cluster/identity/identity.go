// Package identity says who a node is, who belongs to the cluster, and whose orders count.
//
// A node is its Ed25519 key; its id is a hash of that key, so nobody else can take the id and no registry hands it out. A
// cluster is its certificate authority, which lives on one node, the signer. A node joins with a token that names the
// authority, and keeps what it was granted as its Membership: certificate, keys of gossip, the operators it obeys, and who was
// shut out. DESIGN.md walks through what happens when any of this is interrupted.
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
	ID  string // 16 letters and digits, in lower case
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
	key, ok := decodeSeed(pemType, text)
	if !ok {
		return Node{}, fmt.Errorf("node key %s: it is damaged; restore it from a backup, or remove it to let the node become a new one", path)
	}
	return of(key), nil
}

func of(key ed25519.PrivateKey) Node { return Node{ID: idOf(key.Public()), Key: key} }

// Fingerprint is what gossip says of the node's key: half of its hash, more than the id holds.
func (n Node) Fingerprint() (f [16]byte) {
	sum := sha256.Sum256(publicOf(n.Key))
	copy(f[:], sum[:])
	return f
}

// IDOf returns the only id that a node whose key has this fingerprint may have [I1].
func IDOf(fingerprint [16]byte) string { return spell(fingerprint[:10]) }

// IDOfKey returns the only id that the node with this key may have [I1]; "" when it is no Ed25519 key.
func IDOfKey(key ed25519.PublicKey) string { return idOf(key) }

// idOf is IDOfKey of a key as certificates hold it.
func idOf(public any) string {
	key, ok := public.(ed25519.PublicKey)
	if !ok || len(key) != ed25519.PublicKeySize {
		return ""
	}
	sum := sha256.Sum256(key)
	return spell(sum[:10])
}

func publicOf(key ed25519.PrivateKey) ed25519.PublicKey {
	return key.Public().(ed25519.PublicKey)
}

// spell writes bytes in letters and digits that a person can read out, and that select with a double click.
func spell(b []byte) string {
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b))
}

// unspell reads what spell wrote, in upper or lower case. n is how many bytes it must be.
func unspell(s string, n int) ([]byte, bool) {
	b, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(strings.ToUpper(s))
	return b, err == nil && len(b) == n && spell(b) == strings.ToLower(s)
}

func create(dir string) (Node, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return Node{}, err
	}
	if err := writeDurably(dir, keyFile, encodeSeed(pemType, key)); err != nil {
		return Node{}, fmt.Errorf("node key: %w", err)
	}
	return of(key), nil
}

func encodeSeed(kind string, key ed25519.PrivateKey) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: key.Seed()})
}

func decodeSeed(kind string, text []byte) (ed25519.PrivateKey, bool) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != kind || len(block.Bytes) != ed25519.SeedSize {
		return nil, false
	}
	return ed25519.NewKeyFromSeed(block.Bytes), true
}
