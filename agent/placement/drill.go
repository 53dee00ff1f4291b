package placement

import (
	"cmp"
	"slices"
	"time"

	"mayfly/function"
)

// Demand is what a function asks of the cluster.
type Demand struct {
	Function *function.Function
	Triggers []string      // those with one owner in the cluster
	Rate     float64       // calls a second, of late, in the whole cluster
	Exec     time.Duration // what a call takes on a node of speed 1
}

// OwnerRule says who would own a trigger among nodes, "" when nobody. It must be the rule that ownership itself follows.
type OwnerRule func(f *function.Function, trigger string, nodes []Node) string

// Drilled is what would become of everything if a node died now. Nothing was touched to find it out.
type Drilled struct {
	Dead      string        `json:"dead"`
	Known     bool          `json:"known"` // there is such a node
	Functions []DrilledRow  `json:"functions"`
	Nodes     []DrilledNode `json:"nodes"`    // those that are left
	Demand    float64       `json:"demand"`   // slots that all functions keep busy, on nodes of speed 1
	Capacity  float64       `json:"capacity"` // slots that are left, times their speed
	Fits      bool          `json:"fits"`     // everything has room where it may run
}

// DrilledRow is one function.
type DrilledRow struct {
	Function string   `json:"function"`
	Before   []string `json:"before"` // the nodes it belongs to
	After    []string `json:"after"`
	Eligible int      `json:"eligible"` // nodes that could run it afterwards
	Moves    []Move   `json:"moves,omitempty"`
	Demand   float64  `json:"demand"` // slots of speed 1
	Room     float64  `json:"room"`   // how much of it there is room for; less than Demand: it does not fit
	Fits     bool     `json:"fits"`
	Note     string   `json:"note,omitempty"` // what an operator has to know
}

// Move is a trigger that gets another owner.
type Move struct {
	Trigger string `json:"trigger"`
	From    string `json:"from"`
	To      string `json:"to"` // "" = nobody
}

// DrilledNode is one node that is left.
type DrilledNode struct {
	Node string  `json:"node"`
	Size float64 `json:"size"` // slots times speed
	Used float64 `json:"used"` // of it, afterwards
}

const milli = 1000

// Drill computes where every function and trigger lands when dead is gone, and whether the rest has room for the same demand. Room is
// exact: the most that can be shared out among the nodes each function belongs to and the owners of its triggers.
func Drill(v *View, dead string, all []Demand, owner OwnerRule) Drilled {
	before := v.nodes("")
	after := v.nodes(dead)
	d := Drilled{Dead: dead, Known: len(after) < len(before), Functions: []DrilledRow{}, Nodes: []DrilledNode{}, Fits: true}
	sizes := make([]int, len(after))
	for i := range after {
		size := after[i].size()
		if after[i].Draining || after[i].Untrusted {
			size = 0
		}
		sizes[i] = int(size * milli)
		d.Nodes = append(d.Nodes, DrilledNode{Node: after[i].ID, Size: size})
		d.Capacity += size
	}
	flow := newFlow(len(all), sizes)
	for i := range all {
		row := drill(&all[i], before, after, dead, owner)
		d.Demand += row.Demand
		flow.demand[i] = int(row.Demand * milli)
		for n := range after {
			if slices.Contains(row.hosts, after[n].ID) {
				flow.mayUse(i, n)
			}
		}
		d.Functions = append(d.Functions, row.DrilledRow)
	}
	flow.run()
	for i := range d.Functions {
		row := &d.Functions[i]
		row.Room = float64(flow.served(i)) / milli
		row.Fits = row.Eligible > 0 && flow.served(i) == flow.demand[i]
		d.Fits = d.Fits && row.Fits
	}
	for n := range d.Nodes {
		d.Nodes[n].Used = float64(flow.used(n)) / milli
	}
	return d
}

// drilled is a row with the nodes its calls may run on.
type drilled struct {
	DrilledRow
	hosts []string
}

func drill(m *Demand, before, after []Node, dead string, owner OwnerRule) drilled {
	f := m.Function
	row := drilled{DrilledRow: DrilledRow{
		Function: f.Name(), Before: ringNames(f, before), After: ringNames(f, after), Demand: m.Rate * m.Exec.Seconds(),
	}}
	for i := range after {
		if failed(f, &after[i], false) == "" {
			row.Eligible++
		}
	}
	bound := stateful(f)
	if !bound || len(m.Triggers) == 0 {
		row.hosts = append(row.hosts, row.After...)
	}
	for _, trigger := range m.Triggers {
		from, to := owner(f, trigger, before), owner(f, trigger, after)
		if from != to {
			row.Moves = append(row.Moves, Move{trigger, from, to})
		}
		if to != "" {
			row.hosts = append(row.hosts, to)
		}
		if bound && from == dead && f.Manifest.State.Scope == function.ScopeNode {
			row.Note = "its state is on " + dead + " alone: the next owner begins without"
		}
	}
	if row.Eligible == 0 {
		row.Note = "no node that is left is eligible: mayfly explain fn " + f.Name()
	}
	return row
}

func ringNames(f *function.Function, nodes []Node) []string {
	names := []string{}
	if len(nodes) == 0 {
		return names
	}
	v := View{Self: nodes[0], Peers: nodes[1:]}
	ring := RingOf(f, &v)
	for _, place := range ring.Members {
		names = append(names, v.at(place).ID)
	}
	return names
}

// nodes are all of v in the order of their ids, but the one called dead.
func (v *View) nodes(dead string) []Node {
	all := append([]Node{v.Self}, v.Peers...)
	all = slices.DeleteFunc(all, func(n Node) bool { return dead != "" && (n.ID == dead || n.Name == dead) })
	slices.SortFunc(all, func(a, b Node) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

// size is what n runs at once, in slots of speed 1.
func (n *Node) size() float64 {
	if n.Speed > 0 {
		return float64(n.Slots) * n.Speed
	}
	return float64(n.Slots)
}
