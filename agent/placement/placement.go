// Package placement decides where a function runs: a pure function over the view a node has of its cluster. Nothing here
// waits, asks or remembers; the same view gives the same answer, so a decision can be computed again to explain it.
//
// The rule is: here first, when this node is eligible and has room; otherwise the eligible node that is expected to be done
// soonest. Everything is estimated in milliseconds, so that an explanation can be read.
package placement

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"mayfly/function"
)

// Node is what is known of one node. Values of peers may be seconds old.
type Node struct {
	ID       string
	Arch     string // GOARCH
	OS       string // GOOS
	Labels   []string
	Slots    int // calls it runs at once
	Running  int // calls running now
	Queued   int // calls waiting for a slot
	Speed    float64
	Memory   int64         // bytes a call may get at most
	RTT      time.Duration // 0 for this node
	Cold     time.Duration // what it takes to get this function's module ready; 0 when it is loaded
	Draining bool
	Age      time.Duration // how old these figures are
}

// View is the cluster as one node sees it. Peers holds nobody on a node that is alone.
type View struct {
	Self  Node
	Peers []Node
}

// Reason says in a few words why a place was chosen; it is shown to people.
type Reason string

// Reasons.
const (
	ReasonLocal    Reason = "this node is eligible and has room"
	ReasonQueued   Reason = "no room anywhere sooner than in this node's queue"
	ReasonPeer     Reason = "a peer is expected to be done sooner"
	ReasonRequired Reason = "this node is not eligible"
	ReasonNowhere  Reason = "no node is eligible"
)

// Choice is where to run.
type Choice struct {
	Node   string // "" when nowhere
	Here   bool
	Reason Reason
}

// Place chooses for one call of f whose execution takes about exec. It allocates nothing when the call runs here.
func Place(f *function.Function, v *View, exec time.Duration) Choice {
	here := eligible(f, &v.Self)
	if here && (v.Self.Running < v.Self.Slots || len(v.Peers) == 0) {
		return Choice{v.Self.ID, true, localReason(&v.Self)}
	}
	best, cost := Choice{Reason: ReasonNowhere}, time.Duration(0)
	if here {
		best, cost = Choice{v.Self.ID, true, ReasonQueued}, Estimate(&v.Self, exec).Total()
	}
	for i := range v.Peers {
		p := &v.Peers[i]
		if !eligible(f, p) {
			continue
		}
		if c := Estimate(p, exec).Total(); best.Node == "" || c < cost {
			best, cost = Choice{p.ID, false, ReasonPeer}, c
			if !here {
				best.Reason = ReasonRequired
			}
		}
	}
	return best
}

func localReason(self *Node) Reason {
	if self.Running < self.Slots {
		return ReasonLocal
	}
	return ReasonQueued
}

// Cost is an estimate of when a node would be done, in its parts.
type Cost struct{ Wait, Exec, Cold, RTT time.Duration }

// Total is the sum of the parts.
func (c Cost) Total() time.Duration { return c.Wait + c.Exec + c.Cold + c.RTT }

// Estimate is the time until n would be done with one more call that takes exec on a node of speed 1.
func Estimate(n *Node, exec time.Duration) Cost {
	speed := n.Speed
	if speed <= 0 {
		speed = 1
	}
	own := time.Duration(float64(exec) / speed)
	waiting := max(0, n.Running+n.Queued+1-n.Slots)
	return Cost{
		Wait: own * time.Duration(waiting) / time.Duration(max(1, n.Slots)),
		Exec: own, Cold: n.Cold, RTT: n.RTT,
	}
}

// Candidate is one node's row in an explanation: every rule it failed, not only the first, and the parts of its cost.
type Candidate struct {
	Node   string
	Here   bool
	Failed []string
	Cost   Cost
	Age    time.Duration
}

// Explain lists every node of the view with all its failed rules and its cost, this node first.
func Explain(f *function.Function, v *View, exec time.Duration) []Candidate {
	rows := make([]Candidate, 0, 1+len(v.Peers))
	rows = append(rows, Candidate{v.Self.ID, true, Failed(f, &v.Self), Estimate(&v.Self, exec), v.Self.Age})
	for i := range v.Peers {
		p := &v.Peers[i]
		rows = append(rows, Candidate{p.ID, false, Failed(f, p), Estimate(p, exec), p.Age})
	}
	return rows
}

// Failed returns every rule of f's manifest that n does not satisfy, in words.
func Failed(f *function.Function, n *Node) []string {
	var failed []string
	if n.Draining {
		failed = append(failed, "the node is draining")
	}
	if n.Memory > 0 && f.Manifest.Limits.Memory > n.Memory {
		failed = append(failed, fmt.Sprintf("limits.memory = %d bytes, the node allows %d", f.Manifest.Limits.Memory, n.Memory))
	}
	for _, rule := range f.Manifest.Placement.Require {
		if !Satisfies(n, rule) {
			failed = append(failed, fmt.Sprintf("placement.require %q: the node is arch:%s os:%s labels:%s",
				rule, n.Arch, n.OS, strings.Join(n.Labels, ",")))
		}
	}
	return failed
}

func eligible(f *function.Function, n *Node) bool {
	if n.Draining || n.Memory > 0 && f.Manifest.Limits.Memory > n.Memory {
		return false
	}
	for _, rule := range f.Manifest.Placement.Require {
		if !Satisfies(n, rule) {
			return false
		}
	}
	return true
}

// Satisfies says whether n satisfies one rule of placement.require: "arch:arm64|amd64", "os:linux", "label:gpio",
// "node:<id>"; several values are separated by |.
func Satisfies(n *Node, rule string) bool {
	kind, values, _ := strings.Cut(rule, ":")
	for value := range strings.SplitSeq(values, "|") {
		switch kind {
		case "arch":
			if n.Arch == value {
				return true
			}
		case "os":
			if n.OS == value {
				return true
			}
		case "node":
			if n.ID == value {
				return true
			}
		case "label":
			if slices.Contains(n.Labels, value) {
				return true
			}
		}
	}
	return false
}
