// Package secret keeps values that functions may read and nobody else: sealed to the keys of nodes (HPKE, RFC 9180), carried as
// ciphertext by the catalog, opened in memory only. DESIGN.md beside this file walks the failures.
package secret

import (
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"mayfly/internal/durable"
)

// KeyFile is the file, in the directory of LoadKey, with the key of a node.
const KeyFile = "secrets.key"

const (
	keyPEM    = "MAYFLY SECRETS KEY"
	keyHeader = "Id" // what the public half hashes to: a flipped bit in a key is a key
	keyIDSize = 8
)

// ErrKey is wrapped by errors about keys that are none.
var ErrKey = errors.New("not a key for secrets")

// Key opens what was sealed to a node. It is not the key that is the node's identity: that one signs, and a node whose key for
// secrets is replaced stays who it is. Safe for concurrent use.
type Key struct{ private hpke.PrivateKey }

// kem is how keys of text are sealed: X25519, because a share must be small enough for hundreds of nodes in one record.
func kem() hpke.KEM { return hpke.DHKEM(ecdh.X25519()) }

// LoadKey reads the node's key from dir, or makes one that is there, durable, when it returns: fresh says so. One that is damaged
// is an error that names the file and the way out.
func LoadKey(dir string) (k *Key, fresh bool, err error) {
	path := filepath.Join(dir, KeyFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		k, err = createKey(dir)
		return k, true, err
	}
	if err != nil {
		return nil, false, fmt.Errorf("key for secrets: %w", err)
	}
	block, _ := pem.Decode(text)
	if block != nil && block.Type == keyPEM {
		if private, err := kem().NewPrivateKey(block.Bytes); err == nil {
			if k = (&Key{private}); block.Headers[keyHeader] == keyID(k.Public()) {
				return k, false, nil
			}
		}
	}
	return nil, false, fmt.Errorf("key for secrets %s: %w; restore it from a backup, or remove it: the node makes another one and asks the other nodes for what it cannot open", path, ErrKey)
}

func createKey(dir string) (*Key, error) {
	private, err := kem().GenerateKey()
	if err != nil {
		return nil, fmt.Errorf("key for secrets: %w", err)
	}
	k := &Key{private}
	bytes, err := private.Bytes()
	if err == nil {
		text := pem.EncodeToMemory(&pem.Block{Type: keyPEM, Headers: map[string]string{keyHeader: keyID(k.Public())}, Bytes: bytes})
		err = durable.Write(filepath.Join(dir, KeyFile), text)
	}
	if err != nil {
		return nil, fmt.Errorf("key for secrets: %w", err)
	}
	return k, nil
}

// Public is the half of the key that others seal to.
func (k *Key) Public() []byte { return k.private.PublicKey().Bytes() }

// keyID names a public key.
func keyID(public []byte) string {
	sum := sha256.Sum256(append([]byte("mayfly key for secrets "), public...))
	return hex.EncodeToString(sum[:keyIDSize])
}
