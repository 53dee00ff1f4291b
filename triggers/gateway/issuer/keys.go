package issuer

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"
)

// algorithms are the signatures we take: asymmetric ones only. With "none" or a shared secret (HS256) everybody who knows the public key
// could sign.
func algorithms() []string {
	return []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
}

// key is a public key and the algorithms a token may name with it: the key says how it is used, not the token (RFC 8725 section 3.1).
type key struct {
	public     crypto.PublicKey
	algorithms []string
}

// keySet is what a provider's keys were when they were fetched. Immutable once it is in use.
type keySet struct {
	issuer     string
	keys       map[string]*key // by key id
	text       []byte          // as it was sent, RFC 7517 section 5
	fetched    time.Time
	generation uint64 // changes with the keys
}

func (s *keySet) same(other *keySet) bool {
	if other == nil || len(s.keys) != len(other.keys) {
		return false
	}
	for id, k := range s.keys {
		o := other.keys[id]
		if o == nil || !slices.Equal(k.algorithms, o.algorithms) || !k.public.(interface{ Equal(crypto.PublicKey) bool }).Equal(o.public) {
			return false
		}
	}
	return true
}

const maxKeys = 100

// jwk is a key as RFC 7517 and RFC 7518 section 6 write it.
type jwk struct {
	Type       string   `json:"kty"`
	ID         string   `json:"kid"`
	Use        string   `json:"use"`
	Operations []string `json:"key_ops"`
	Algorithm  string   `json:"alg"`
	Curve      string   `json:"crv"`
	N, E, X, Y string
}

// parseKeys reads a JWK set. Keys that are not for signatures, have no id or are of a kind we do not take are passed over, as
// RFC 7517 section 5 asks for. A set that says "no keys" is believed: the provider withdrew them all.
func parseKeys(text []byte) (map[string]*key, error) {
	var set struct{ Keys *[]json.RawMessage }
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, fmt.Errorf("not a set of keys: %w", err)
	}
	if set.Keys == nil {
		return nil, errors.New("not a set of keys: it has no member keys")
	}
	if len(*set.Keys) > maxKeys {
		return nil, fmt.Errorf("it has %d keys, the most is %d", len(*set.Keys), maxKeys)
	}
	keys := map[string]*key{}
	for _, raw := range *set.Keys {
		var j jwk
		if json.Unmarshal(raw, &j) != nil || j.ID == "" || j.Use != "" && j.Use != "sig" || j.Operations != nil && !slices.Contains(j.Operations, "verify") {
			continue
		}
		k, err := j.key()
		if err != nil {
			continue
		}
		if keys[j.ID] != nil {
			return nil, fmt.Errorf("two keys have the id %q", j.ID)
		}
		keys[j.ID] = k
	}
	return keys, nil
}

var errKind = errors.New("a kind of key that is not taken")

func (j *jwk) key() (*key, error) {
	var k *key
	var err error
	switch j.Type {
	case "RSA":
		k, err = j.rsa()
	case "EC":
		k, err = j.ec()
	case "OKP":
		x, bad := base64.RawURLEncoding.DecodeString(j.X)
		if j.Curve != "Ed25519" || bad != nil || len(x) != ed25519.PublicKeySize {
			return nil, errKind
		}
		k = &key{ed25519.PublicKey(x), []string{"EdDSA"}}
	default:
		return nil, errKind
	}
	if err != nil || j.Algorithm == "" {
		return k, err
	}
	if !slices.Contains(k.algorithms, j.Algorithm) {
		return nil, errKind
	}
	k.algorithms = []string{j.Algorithm}
	return k, nil
}

// rsa reads an RSA key of 2,048 to 8,192 bits: smaller ones are broken, larger ones cost a millisecond a token.
func (j *jwk) rsa() (*key, error) {
	n, err := base64.RawURLEncoding.DecodeString(j.N)
	e, err2 := base64.RawURLEncoding.DecodeString(j.E)
	modulus, exponent := new(big.Int).SetBytes(n), new(big.Int).SetBytes(e)
	if err != nil || err2 != nil || modulus.BitLen() < 2048 || modulus.BitLen() > 8192 || exponent.BitLen() > 31 || exponent.Int64() < 3 || exponent.Bit(0) == 0 {
		return nil, errKind
	}
	return &key{&rsa.PublicKey{N: modulus, E: int(exponent.Int64())}, []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}}, nil
}

func (j *jwk) ec() (*key, error) {
	curves := map[string]struct {
		curve     elliptic.Curve
		algorithm string
	}{"P-256": {elliptic.P256(), "ES256"}, "P-384": {elliptic.P384(), "ES384"}, "P-521": {elliptic.P521(), "ES512"}}
	c, ok := curves[j.Curve]
	if !ok {
		return nil, errKind
	}
	x, err := base64.RawURLEncoding.DecodeString(j.X)
	y, err2 := base64.RawURLEncoding.DecodeString(j.Y)
	size := (c.curve.Params().BitSize + 7) / 8
	if err != nil || err2 != nil || len(x) != size || len(y) != size {
		return nil, errKind
	}
	public, err := ecdsa.ParseUncompressedPublicKey(c.curve, slices.Concat([]byte{4}, x, y)) // checks that it is on the curve
	if err != nil {
		return nil, errKind
	}
	return &key{public, []string{c.algorithm}}, nil
}
