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

	"mayfly/internal/durable"
)

// Node is one node's identity.
type Node struct {
	ID  string // 16 letters and digits, in lower case
	Key ed25519.PrivateKey
}

const (
	keyFile = "node.key"
	pemType = "MAYFLY NODE SEED"
	pemID   = "Id"  // what the seed's key hashes to: a flipped bit in a seed is a seed
	wish    = "new" // in the place of a key: the node shall become a new one
)

// Load reads the node's key from dir, or makes one that is there, durable, when Load returns. A key file that is damaged is an
// error that wraps ErrDamaged: a node must not become somebody else by accident [I6]. One that holds the word new is replaced.
func Load(dir string) (Node, error) {
	path := filepath.Join(dir, keyFile)
	text, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return create(dir)
	case err != nil:
		return Node{}, fmt.Errorf("node key: %w", err)
	}
	if strings.TrimSpace(string(text)) == wish {
		return create(dir)
	}
	key, ok := decodeSeed(pemType, text)
	if !ok {
		return Node{}, fmt.Errorf("node key %s: %w; %s", path, ErrDamaged, keyAdvice(path))
	}
	return of(key), nil
}

// Missing returns the error for a key that is not where a node has lived: to make one would make it another node, whose sessions at
// the broker nobody collects and whose certificate is not its own. It returns nil when the key, or a wish for a new one, is there.
func Missing(dir string) error {
	path := filepath.Join(dir, keyFile)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("node key %s: it is missing, and this node has run here before; %s", path, keyAdvice(path))
	}
	return nil
}

func keyAdvice(path string) string {
	return fmt.Sprintf("restore it from a backup, or let the node become a new one: echo %s > %s", wish, path)
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
	if err := durable.Write(filepath.Join(dir, keyFile), encodeSeed(pemType, key)); err != nil {
		return Node{}, fmt.Errorf("node key: %w", err)
	}
	return of(key), nil
}

func encodeSeed(kind string, key ed25519.PrivateKey) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Headers: map[string]string{pemID: idOf(key.Public())}, Bytes: key.Seed()})
}

func decodeSeed(kind string, text []byte) (ed25519.PrivateKey, bool) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != kind || len(block.Bytes) != ed25519.SeedSize {
		return nil, false
	}
	key := ed25519.NewKeyFromSeed(block.Bytes)
	if len(block.Headers) > 0 && block.Headers[pemID] != idOf(key.Public()) { // none: written by a version that did not say
		return nil, false
	}
	return key, true
}
