package ownership

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
)

// Claim is what a node says of a session, retained at the session's own broker: who is connected to the broker can read who has
// the session, also when the nodes do not see each other.
type Claim struct {
	Node     string  `json:"node"`
	Score    float64 `json:"score"`
	Epoch    uint64  `json:"epoch"`              // grows with every change of the owner: the fencing token of what it writes
	Turn     uint64  `json:"turn"`               // grows with every publication by one owner in one epoch: a sign of life
	Released bool    `json:"released,omitempty"` // it had the session and gave it away

	// Filters are the topic filters the session is subscribed to, and how often it was: what a new owner need not subscribe again,
	// which would make the broker send every retained message again ([MQTT-3.8.4-3]).
	Filters map[string]uint32 `json:"filters,omitempty"`
}

const (
	maxClaim = 4 << 10 // bytes of a claim
	maxEpoch = 1 << 62 // far beyond what counting reaches; a greater one was not counted
)

var errClaim = errors.New("not a claim of a session")

// ParseClaim reads what Claim.encode wrote. Whoever may publish at the broker can write claims: what is impossible is refused.
func ParseClaim(data []byte) (Claim, error) {
	var c Claim
	if len(data) > maxClaim {
		return c, fmt.Errorf("%w: %d bytes", errClaim, len(data))
	}
	if err := json.Unmarshal(data, &c); err != nil {
		return Claim{}, errors.Join(errClaim, err)
	}
	if c.Node == "" || c.Epoch == 0 || c.Epoch > maxEpoch || !(c.Score > 0) || math.IsInf(c.Score, 0) {
		return Claim{}, fmt.Errorf("%w: node %q, epoch %d, score %v", errClaim, c.Node, c.Epoch, c.Score)
	}
	return c, nil
}

func (c Claim) encode() ([]byte, error) { return json.Marshal(c) }

// Beats says whether c's node has the better right to the session. No two nodes beat each other.
func (c Claim) Beats(other Claim) bool { return beats(c.Score, c.Node, other.Score, other.Node) }

// supersedes says whether c is a later word than other: epochs count owners, of two with one epoch the better counts, and one
// node's own claims are numbered.
func (c Claim) supersedes(other Claim) bool {
	switch {
	case c.Epoch != other.Epoch:
		return c.Epoch > other.Epoch
	case c.Node != other.Node:
		return c.Beats(other)
	}
	return c.Turn > other.Turn
}
