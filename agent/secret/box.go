package secret

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hpke"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
)

// MaxValue is the longest value, in bytes.
const MaxValue = 32 << 10

// ErrSealed is wrapped when a box is not sealed to the key that was to open it.
var ErrSealed = errors.New("it is not sealed to this node's key")

// ErrBox is wrapped when a box, or a share of one, is not what Seal or pass made.
var ErrBox = errors.New("not a sealed value")

// Box is a value as the catalog carries it: encrypted once with a key of its own, which is sealed to each node that may read it.
type Box struct {
	Text   []byte  `json:"text"`   // AES-256-GCM, the nonce first
	Mark   []byte  `json:"mark"`   // names the key of Text and shows nothing of it: another key is not taken for it
	Shares []Share `json:"shares"` // one for each node
}

// Share is the key of a box, sealed to one node.
type Share struct {
	Node   string `json:"node"`
	Key    string `json:"key"`    // which of the node's keys
	Sealed []byte `json:"sealed"` // RFC 9180, base mode: encapsulated key, then ciphertext
}

// Recipient is a node and the public half of its key for secrets.
type Recipient struct {
	Node string
	Key  []byte
}

// Seal encrypts value, so that only the recipients can read it, and only under this name. Recipients whose keys are none are left out.
func Seal(name string, value []byte, to []Recipient) (*Box, error) {
	if len(value) > MaxValue {
		return nil, fmt.Errorf("it has %d bytes, the most is %d", len(value), MaxValue)
	}
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails (crypto/rand)
	mark, aead, err := derive(key)
	if err != nil {
		return nil, err
	}
	b := &Box{Text: aead.Seal(nil, nil, value, []byte(name)), Mark: mark}
	for _, r := range to {
		if s, err := b.sealTo(name, key, r); err == nil {
			b.Shares = append(b.Shares, s)
		}
	}
	return b, nil
}

// derive makes of the key of a box what names it, and what encrypts with it.
func derive(key []byte) (mark []byte, text cipher.AEAD, err error) {
	mark, err = hkdf.Expand(sha256.New, key, "mayfly secret: mark", 32)
	if err != nil {
		return nil, nil, err
	}
	of, err := hkdf.Expand(sha256.New, key, "mayfly secret: text", 32)
	if err != nil {
		return nil, nil, err
	}
	block, err := aes.NewCipher(of)
	if err != nil {
		return nil, nil, err
	}
	text, err = cipher.NewGCMWithRandomNonce(block)
	return mark, text, err
}

// context binds a share to its secret, its box and its node.
func (b *Box) context(name, node string) []byte {
	return fmt.Appendf(nil, "mayfly secret share 1\x00%s\x00%s\x00%x", name, node, b.Mark)
}

func (b *Box) sealTo(name string, key []byte, r Recipient) (Share, error) {
	public, err := kem().NewPublicKey(r.Key)
	if err != nil {
		return Share{}, fmt.Errorf("%w of %s: %w", ErrKey, r.Node, err)
	}
	sealed, err := hpke.Seal(public, hpke.HKDFSHA256(), hpke.AES256GCM(), b.context(name, r.Node), key)
	return Share{Node: r.Node, Key: keyID(r.Key), Sealed: sealed}, err
}

// key opens the share of the box that is sealed to k as the key of a node; more are shares that came by other ways.
func (b *Box) key(name, node string, k *Key, more ...Share) (key []byte, err error) {
	id, err := keyID(k.Public()), ErrSealed
	for _, s := range append(more, b.Shares...) {
		if s.Node != node || s.Key != id {
			continue
		}
		if key, err = b.open(name, s, k); err == nil {
			return key, nil
		}
	}
	return nil, err
}

func (b *Box) open(name string, s Share, k *Key) ([]byte, error) {
	key, err := hpke.Open(k.private, hpke.HKDFSHA256(), hpke.AES256GCM(), b.context(name, s.Node), s.Sealed)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBox, err)
	}
	mark, _, err := derive(key)
	if err != nil || subtle.ConstantTimeCompare(mark, b.Mark) != 1 {
		return nil, fmt.Errorf("%w: it is the key of another one", ErrBox)
	}
	return key, nil
}

// Open returns the value of a box that is sealed to k as the key of a node; more are shares that came by other ways. Errors wrap
// ErrSealed or ErrBox.
func (b *Box) Open(name, node string, k *Key, more ...Share) ([]byte, error) {
	key, err := b.key(name, node, k, more...)
	if err != nil {
		return nil, err
	}
	_, aead, err := derive(key)
	if err != nil {
		return nil, err
	}
	value, err := aead.Open(nil, nil, b.Text, []byte(name))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBox, err)
	}
	return value, nil
}

// Encode returns the box as a record's body.
func (b *Box) Encode() ([]byte, error) { return json.Marshal(b) }

// Decode reads what Encode wrote.
func Decode(text []byte) (*Box, error) {
	var b Box
	if err := json.Unmarshal(text, &b); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBox, err)
	}
	if len(b.Text) == 0 || len(b.Mark) != 32 {
		return nil, ErrBox
	}
	return &b, nil
}
