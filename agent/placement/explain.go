package placement

import (
	"time"

	"mayfly/function"
)

// Candidate is one node's row in an explanation: every rule it failed, not only the first, and the parts of its cost.
type Candidate struct {
	Node   string        `json:"node"`
	Here   bool          `json:"here,omitempty"`
	Ring   bool          `json:"ring,omitempty"` // it is one of the K the function belongs to
	Failed []string      `json:"failed,omitempty"`
	Load   Load          `json:"load"`
	Cost   Cost          `json:"cost"`
	Age    time.Duration `json:"age_ns"` // of what was known of it
}

// Explain lists every node of the view with all its failed rules and its cost, this node first.
func Explain(f *function.Function, v *View, exec time.Duration) []Candidate {
	ring := RingOf(f, v)
	rows := make([]Candidate, 0, 1+len(v.Peers))
	for i := Here; i < len(v.Peers); i++ {
		n := &v.Self
		if i != Here {
			n = &v.Peers[i]
		}
		rows = append(rows, Candidate{
			Node: n.ID, Here: i == Here, Failed: reasons(f, n, i == Here), Load: n.load(),
			Cost: estimate(f, v, n, exec), Age: n.Age,
		})
	}
	for _, place := range ring.Members {
		rows[place+1].Ring = true
	}
	return rows
}

func (n *Node) load() Load { return Load{n.Running, n.Queued, n.Slots} }

// Candidates are the members of q's ring and this node, with what Choose takes them to cost.
func (q *Query) Candidates() []Candidate {
	self := &q.View.Self
	rows := []Candidate{{
		Node: self.ID, Here: true, Failed: reasons(q.Function, self, true), Load: q.Home, Cost: q.home(),
	}}
	if len(rows[0].Failed) == 0 && stateful(q.Function) {
		return rows
	}
	for _, place := range q.Ring.Members {
		if place == Here {
			rows[0].Ring = true
			continue
		}
		p := &q.View.Peers[place]
		rows = append(rows, Candidate{Node: p.ID, Ring: true, Load: p.load(), Cost: q.peer(p), Age: p.Age})
	}
	return rows
}

// Decision is the record of one call that was placed: what `mayfly explain` shows. One that ran here because there was room has
// nothing but its first fields.
type Decision struct {
	Time       time.Time     `json:"time"`
	Event      string        `json:"event"`
	Function   string        `json:"function"`
	Trigger    string        `json:"trigger,omitempty"`
	Node       string        `json:"node"` // where it ran, "" = nowhere yet
	Here       bool          `json:"here"`
	Reason     Reason        `json:"reason"`
	Exec       time.Duration `json:"exec_ns,omitempty"`  // what a call was expected to take on a node of speed 1
	Eligible   int           `json:"eligible,omitempty"` // nodes that could
	Filtered   []Count       `json:"filtered,omitempty"` // nodes that could not
	Candidates []Candidate   `json:"candidates,omitempty"`
	Refusals   []Refusal     `json:"refusals,omitempty"`
	Waited     time.Duration `json:"waited_ns"` // from its arrival to the decision
	Took       time.Duration `json:"took_ns"`   // from the decision to the answer
}

// Refusal is a peer that was asked and did not run the call.
type Refusal struct {
	Node string        `json:"node"`
	Kind string        `json:"kind"` // of the error
	Why  string        `json:"why"`
	Took time.Duration `json:"took_ns"`
}
