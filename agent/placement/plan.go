package placement

import (
	"slices"

	"mayfly/function"
)

// Outlook is where a function would run.
type Outlook struct {
	Function string      `json:"function"`
	Ring     []string    `json:"ring"`     // the nodes it belongs to, best first
	Eligible []string    `json:"eligible"` // all nodes that could run it
	Nodes    []Candidate `json:"nodes"`    // all nodes, with every rule they fail; this one first
}

// Change is what deploying a function would change of where it runs.
type Change struct {
	Before Outlook  `json:"before"` // empty for a function that is new
	After  Outlook  `json:"after"`
	Gained []string `json:"gained,omitempty"` // nodes that could run it from then on
	Lost   []string `json:"lost,omitempty"`   // and that could not any more
}

// Look returns where f would run in v.
func Look(f *function.Function, v *View) Outlook {
	o := Outlook{Function: f.Name(), Ring: []string{}, Eligible: []string{}, Nodes: Explain(f, v, 0)}
	ring := RingOf(f, v)
	for _, place := range ring.Members {
		o.Ring = append(o.Ring, v.at(place).ID)
	}
	for i := range o.Nodes {
		if len(o.Nodes[i].Failed) == 0 {
			o.Eligible = append(o.Eligible, o.Nodes[i].Node)
		}
	}
	return o
}

// Plan returns what it would change to deploy f in the place of old; old may be nil.
func Plan(old, f *function.Function, v *View) Change {
	c := Change{After: Look(f, v)}
	if old != nil {
		c.Before = Look(old, v)
	}
	c.Gained = without(c.After.Eligible, c.Before.Eligible)
	c.Lost = without(c.Before.Eligible, c.After.Eligible)
	return c
}

func without(all, others []string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(s string) bool { return slices.Contains(others, s) })
}

// at returns the node at a place of a ring.
func (v *View) at(place int) *Node {
	if place == Here {
		return &v.Self
	}
	return &v.Peers[place]
}
