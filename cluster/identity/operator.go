package identity

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"mayfly/internal/durable"
)

// Operator is a key that orders are signed with.
type Operator struct{ key ed25519.PrivateKey }

// OperatorFile is the file, in the directory of Found, with the key of the operator who founded the cluster.
const OperatorFile = "operator.key"

const (
	operatorPEM    = "MAYFLY OPERATOR SEED"
	operatorPrefix = "mfo1."
	keyIDSize      = 8
	maxSignatures  = 16
)

// GenerateOperator makes a key.
func GenerateOperator() (Operator, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	return Operator{key}, err
}

// LoadOperator reads a key from a file.
func LoadOperator(path string) (Operator, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Operator{}, fmt.Errorf("operator's key: %w", err)
	}
	key, ok := decodeSeed(operatorPEM, text)
	if !ok {
		return Operator{}, fmt.Errorf("operator's key %s: %w; restore it from a backup, or let the cluster trust another one", path, ErrDamaged)
	}
	return Operator{key}, nil
}

// Save writes the key to a file that only its owner can read, durably. It replaces a file that is there.
func (o Operator) Save(path string) error {
	if err := durable.Write(path, encodeSeed(operatorPEM, o.key)); err != nil {
		return fmt.Errorf("operator's key: %w", err)
	}
	return nil
}

// String names the key without its secret half.
func (o Operator) String() string { return o.Public().String() }

// Public returns the half of the key that others may know.
func (o Operator) Public() OperatorKey { return OperatorKey{publicOf(o.key)} }

// Sign signs a message for one cluster: the same operator may be trusted by several, and an order is for one. The result is
// what Trust.Verify wants; JoinSignatures makes one of several.
func (o Operator) Sign(cluster string, message []byte) []byte {
	return encodeSignatures([]signature{{o.Public().id(), ed25519.Sign(o.key, order(cluster, message))}})
}

// order is what an operator's signature is over.
func order(cluster string, message []byte) []byte {
	b := appendPart([]byte("mayfly order\n"), []byte(cluster))
	return append(b, message...)
}

// OperatorKey is the public key of an operator. Its text is "mfo1." and letters and digits.
type OperatorKey struct{ key ed25519.PublicKey }

func (k OperatorKey) String() string { return operatorPrefix + spell(k.key) }

// ParseOperatorKey reads the text of a key.
func ParseOperatorKey(s string) (OperatorKey, error) {
	text, ok := strings.CutPrefix(strings.TrimSpace(s), operatorPrefix)
	key, fits := unspell(text, ed25519.PublicKeySize)
	if !ok || !fits {
		return OperatorKey{}, fmt.Errorf("%q is not an operator's key: it is %s and %d letters and digits", s, operatorPrefix, len(spell(make([]byte, ed25519.PublicKeySize))))
	}
	return OperatorKey{key}, nil
}

func (k OperatorKey) id() (id [keyIDSize]byte) {
	sum := sha256.Sum256(k.key)
	copy(id[:], sum[:])
	return id
}

// ErrUntrusted is wrapped by errors about orders that must not be obeyed.
var ErrUntrusted = errors.New("not signed by operators this cluster trusts")

// signature is one operator's, with the id of the key.
type signature struct {
	by  [keyIDSize]byte
	sig []byte
}

const signaturesFormat = 1

// encodeSignatures returns the one encoding of signatures sorted by key: format, then key and signature of each.
func encodeSignatures(all []signature) []byte {
	b := []byte{signaturesFormat}
	for _, s := range all {
		b = append(append(b, s.by[:]...), s.sig...)
	}
	return b
}

// decodeSignatures reads at least one signature, each of another key, in ascending order: one key never counts twice.
func decodeSignatures(b []byte) ([]signature, error) {
	const size = keyIDSize + ed25519.SignatureSize
	if len(b) == 0 {
		return nil, fmt.Errorf("%w: there is no signature", ErrUntrusted)
	}
	if b[0] != signaturesFormat || len(b) == 1 || (len(b)-1)%size != 0 || len(b) > 1+maxSignatures*size {
		return nil, fmt.Errorf("%w: not a signature", ErrUntrusted)
	}
	var all []signature
	for b = b[1:]; len(b) > 0; b = b[size:] {
		s := signature{sig: bytes.Clone(b[keyIDSize:size])}
		copy(s.by[:], b)
		if n := len(all); n > 0 && bytes.Compare(all[n-1].by[:], s.by[:]) >= 0 {
			return nil, fmt.Errorf("%w: signatures out of order", ErrUntrusted)
		}
		all = append(all, s)
	}
	return all, nil
}

// JoinSignatures returns both operators' signatures of one message as one. Of one key's the first is kept.
func JoinSignatures(a, b []byte) ([]byte, error) {
	all, err := decodeSignatures(a)
	if err != nil {
		return nil, err
	}
	more, err := decodeSignatures(b)
	if err != nil {
		return nil, err
	}
	for _, s := range more {
		at, found := slices.BinarySearchFunc(all, s, func(x, y signature) int { return bytes.Compare(x.by[:], y.by[:]) })
		if !found {
			all = slices.Insert(all, at, s)
		}
	}
	if len(all) > maxSignatures {
		return nil, fmt.Errorf("operators: %d signatures, the most is %d", len(all), maxSignatures)
	}
	return encodeSignatures(all), nil
}

// Trust says whose orders a cluster obeys. The zero Trust obeys nobody.
type Trust struct {
	Cluster   string
	Epoch     uint64        // grows with every change, from 1
	Threshold int           // how many of the keys must have signed, at least 1
	Keys      []OperatorKey // none = development: everybody is obeyed
}

// Development says that orders need no signature. Whoever can reach a node can then tell it what to run: say so, loudly.
func (t Trust) Development() bool { return t.Epoch > 0 && len(t.Keys) == 0 }

// Verify says whether the message is an order of this cluster's operators: every signature must be right and of a trusted
// key, and there must be enough of them. That a wrong one spoils it, and is not just left out, keeps strangers from making
// ever new variants of an order by adding to it.
func (t Trust) Verify(message, signatures []byte) error {
	if t.Development() {
		return nil
	}
	all, err := decodeSignatures(signatures)
	if err != nil {
		return err
	}
	said := order(t.Cluster, message)
	for _, s := range all {
		i := slices.IndexFunc(t.Keys, func(k OperatorKey) bool { return k.id() == s.by })
		switch {
		case i < 0:
			return fmt.Errorf("%w: key %x is not trusted", ErrUntrusted, s.by)
		case !ed25519.Verify(t.Keys[i].key, said, s.sig):
			return fmt.Errorf("%w: the signature of %s does not fit the order", ErrUntrusted, t.Keys[i])
		}
	}
	if len(all) < t.Threshold || t.Threshold < 1 {
		return fmt.Errorf("%w: it has %d signatures and needs %d", ErrUntrusted, len(all), t.Threshold)
	}
	return nil
}

func (t Trust) check() error {
	if len(t.Keys) > maxSignatures {
		return fmt.Errorf("trust: %d keys, the most is %d", len(t.Keys), maxSignatures)
	}
	if len(t.Keys) > 0 && (t.Threshold < 1 || t.Threshold > len(t.Keys)) {
		return fmt.Errorf("trust: %d of %d keys cannot sign", t.Threshold, len(t.Keys))
	}
	if len(t.Keys) == 0 && t.Threshold != 1 {
		return fmt.Errorf("trust: nobody is trusted, and %d must sign", t.Threshold)
	}
	for i, k := range t.Keys {
		if len(k.key) != ed25519.PublicKeySize {
			return errors.New("trust: a key is empty")
		}
		if i > 0 && bytes.Compare(t.Keys[i-1].key, k.key) >= 0 {
			return errors.New("trust: a key is there twice, or the keys are not sorted")
		}
	}
	return nil
}

// encode returns the one encoding of t: epoch, threshold, sorted keys. The cluster is in the statement around it.
func (t Trust) encode() []byte {
	b := append(binary.BigEndian.AppendUint64(nil, t.Epoch), byte(t.Threshold))
	for _, k := range t.Keys {
		b = append(b, k.key...)
	}
	return b
}

func decodeTrust(cluster string, b []byte) (Trust, error) {
	r := reader{rest: b}
	t := Trust{Cluster: cluster, Epoch: r.uint64(), Threshold: int(r.byte())}
	for !r.out && len(r.rest) > 0 {
		t.Keys = append(t.Keys, OperatorKey{bytes.Clone(r.take(ed25519.PublicKeySize))})
	}
	if !r.end() || t.Epoch == 0 {
		return Trust{}, fmt.Errorf("%w: not a set of operators", ErrStatement)
	}
	if err := t.check(); err != nil {
		return Trust{}, fmt.Errorf("%w: %w", ErrStatement, err)
	}
	return t, nil
}
