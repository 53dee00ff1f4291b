// Package ownership decides which node has the broker session of a trigger, so that one node handles each message and another one
// takes over when it cannot any more.
//
// A trigger of scope cluster has one session at its broker, whose client id belongs to the trigger. Whoever connects with it has
// the session: the broker cuts off the one before ([MQTT-3.1.4-2]) and sends what that one had not acknowledged ([MQTT-4.4.0-1]).
// So owning is being connected, and all that has to be agreed is who should be. Every node computes that by itself, from the
// live nodes (Top), waits a moment, says so in a retained message (Claim), and connects. Claims keep two nodes that do not see each
// other from taking the session away from each other for ever: they can compare scores.
//
// State.Next is the whole decision, as a pure function. Owner carries it out for one trigger, Board keeps the claims of one broker.
// DESIGN.md walks what happens when a node dies between any two steps.
package ownership

import (
	"crypto/sha256"
	"encoding/binary"
	"math"
)

// Node is one live node as a candidate for one trigger.
type Node struct {
	ID       string
	Weight   float64 // how much it should have, beside the others; 0 or less counts as 1
	Eligible bool    // it meets what the trigger's function requires
	BrokerUp bool    // its connection to the trigger's broker is good
	Draining bool    // it gives away what it has
}

// Score is how much a session belongs to a node: weighted rendezvous hashing. Of n nodes each has the highest score for its
// weight's share of all sessions, and a node that comes or goes moves only the sessions it gets or had. It is positive and finite.
func Score(session, node string, weight float64) float64 {
	if !(weight > 0) || math.IsInf(weight, 0) {
		weight = 1
	}
	h := sha256.New()
	h.Write([]byte(session))
	h.Write([]byte{0})
	h.Write([]byte(node))
	x := binary.BigEndian.Uint64(h.Sum(nil))
	u := (float64(x>>11) + 0.5) / (1 << 53) // uniform in (0, 1), both ends excluded
	return -weight / math.Log(u)
}

// Top returns who should have the session, and false when nobody can. A node that is not eligible or drains never has it. When no
// connection to the broker is good, that is no difference between nodes: ownership stays where it is while a broker restarts.
func Top(session string, nodes []Node) (top Node, ok bool) {
	up := false
	for _, n := range nodes {
		up = up || n.candidate() && n.BrokerUp
	}
	best := 0.0
	for _, n := range nodes {
		if !n.candidate() || up && !n.BrokerUp {
			continue
		}
		score := Score(session, n.ID, n.Weight)
		if !ok || beats(score, n.ID, best, top.ID) {
			top, best, ok = n, score, true
		}
	}
	return top, ok
}

func (n Node) candidate() bool { return n.Eligible && !n.Draining }

func beats(score float64, node string, other float64, otherNode string) bool {
	return score > other || score == other && node < otherNode
}
