package identity

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// Grant is all that makes a node a member. It holds the keys of gossip: it travels over TLS only.
type Grant struct {
	Format      int      `json:"format"`
	Cluster     string   `json:"cluster"`
	CA          []byte   `json:"ca"`          // certificate of the authority, DER
	Certificate []byte   `json:"certificate"` // the node's, DER
	Keys        []byte   `json:"keys"`        // statement about the keys of gossip
	Trust       []byte   `json:"trust"`       // statement about the operators to obey
	Revocations [][]byte `json:"revocations,omitempty"`
	Name        string   `json:"name,omitempty"`   // what the token calls the node
	Labels      []string `json:"labels,omitempty"` // what the token says of it
}

const (
	grantFormat = 1
	// MaxMessage bounds an encoded Grant, JoinRequest or certificate request, in bytes.
	MaxMessage = 2 << 20
	maxLabels  = 32
	maxLabel   = 64
)

// ErrMessage is wrapped by errors about messages that cannot be read.
var ErrMessage = errors.New("not a message of this version")

// Encode returns the grant as JSON.
func (g Grant) Encode() []byte { return encodeMessage(g) }

// DecodeGrant reads an encoded grant. What it says is checked where it is accepted: by Join and Membership.Renewed.
func DecodeGrant(b []byte) (Grant, error) {
	var g Grant
	err := decodeMessage(b, &g)
	if err == nil && g.Format != grantFormat {
		err = fmt.Errorf("grant: %w: format %d", ErrMessage, g.Format)
	}
	return g, err
}

// JoinRequest is what a node sends to the signer to become a member. It holds a secret: it travels over TLS only, to a signer
// that Token.TLS has verified.
type JoinRequest struct {
	Token string `json:"token"`
	CSR   []byte `json:"csr"` // PKCS #10, DER; only its key counts
}

// Encode returns the request as JSON.
func (r JoinRequest) Encode() []byte { return encodeMessage(r) }

// DecodeJoinRequest reads an encoded request. What it says is checked by Authority.Admit.
func DecodeJoinRequest(b []byte) (JoinRequest, error) {
	var r JoinRequest
	return r, decodeMessage(b, &r)
}

func encodeMessage(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // strings and bytes only: it cannot fail
	}
	return b
}

func decodeMessage(b []byte, v any) error {
	if len(b) > MaxMessage {
		return fmt.Errorf("%w: %d bytes", ErrMessage, len(b))
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%w: %w", ErrMessage, err)
	}
	return nil
}

// checkNames checks what a token may say of a node.
func checkNames(name string, labels []string) error {
	if name != "" && !isPlain(name) {
		return fmt.Errorf("%q cannot be a node's name: 1 to %d visible characters", name, maxLabel)
	}
	if len(labels) > maxLabels {
		return fmt.Errorf("%d labels, the most is %d", len(labels), maxLabels)
	}
	for _, l := range labels {
		if !isPlain(l) || strings.ContainsAny(l, "|,") {
			return fmt.Errorf("%q cannot be a label: 1 to %d visible characters without | and comma", l, maxLabel)
		}
	}
	return nil
}

func isPlain(s string) bool {
	return s != "" && len(s) <= maxLabel && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}
