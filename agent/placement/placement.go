// Package placement decides where a function runs: pure functions over the view a node has of its cluster. Nothing here waits, asks
// or remembers, and chance is handed in; the same view and the same chance give the same answer, so a decision can be computed
// again to explain it.
//
// The rule is: here first, when this node is eligible and has room. Else the better of two random ones out of the K nodes the
// function belongs to, which are warm for it, by estimated milliseconds; if that one refuses, whoever of the K and this node is
// soonest done by what they say when they are asked. One hop: who was chosen runs it or refuses. Least loaded by gossip would be
// the obvious rule and is the wrong one: everybody picks the same node until the news of it is out (Mitzenmacher, "How useful is
// old information?"); `make sim` shows both.
package placement

import (
	"time"

	"mayfly/function"
)

// K is how many nodes a function belongs to. Few enough that its module is warm there, enough that two of them are a choice.
const K = 5

// Power is what a node runs on.
type Power uint8

// Kinds of power. What is unknown is taken for mains.
const (
	PowerMains   Power = iota
	PowerBattery       // takes work, at a price
	PowerLow           // takes no work of others
)

func (p Power) String() string { return [...]string{"mains", "battery", "low"}[min(p, PowerLow)] }

// Node is what is known of one node. Values of peers may be seconds old.
type Node struct {
	ID           string
	Name         string // for people; "" = ID
	Arch         string // GOARCH
	OS           string // GOOS
	Labels       []string
	Zone         string   // "" = unknown
	Capabilities []string // what its engine can do beyond the ordinary
	Power        Power
	Untrusted    bool // its certificate is missing, expired or revoked: it is given nothing
	Draining     bool
	Slots        int     // calls it runs at once
	Running      int     // calls running now
	Queued       int     // calls waiting for a slot
	Speed        float64 // 1 = the reference device; 0 = unknown, taken for 1
	Memory       int64   // bytes a call may get at most; 0 = unknown
	RTT          time.Duration
	Cold         time.Duration // what it takes to get this function's module ready; 0 when it is loaded
	Age          time.Duration // how old these figures are
}

// Load is how busy a node says it is.
type Load struct {
	Running int `json:"running"`
	Queued  int `json:"queued"`
	Slots   int `json:"slots"`
}

// Full says whether one more call is refused: as many wait as run.
func (l Load) Full() bool { return l.Queued >= l.Slots }

// View is the cluster as one node sees it, for one function as far as Cold is concerned. Peers holds nobody on a node that is alone.
// It is not changed once it was handed out.
type View struct {
	Self  Node
	Peers []Node
	// Epoch is another number whenever the nodes or anything but their Running, Queued, RTT, Cold and Age changed. With the same
	// Epoch, Peers are the same nodes in the same order. 0 = unknown: nothing is remembered of this view.
	Epoch uint64
}

// Reason says in a few words why a place was chosen; it is shown to people.
type Reason string

// Reasons.
const (
	ReasonLocal    Reason = "this node is eligible and has room"
	ReasonState    Reason = "its state is on this node"
	ReasonOwner    Reason = "its state is on the node that has its trigger, which runs it and keeps what it does"
	ReasonQueued   Reason = "no room anywhere sooner than in this node's queue"
	ReasonPeer     Reason = "a peer is expected to be done sooner"
	ReasonRequired Reason = "this node is not eligible"
	ReasonProbed   Reason = "the first choice refused; of all that were asked this node is soonest done"
	ReasonFull     Reason = "every eligible node is full"
	ReasonNowhere  Reason = "no node is eligible"
	ReasonStranded Reason = "its state is on this node, and this node is not eligible"
)

// Choice is where to run.
type Choice struct {
	Node   string // "" when nowhere
	Here   bool
	Reason Reason
}

// Local answers for a call that has a slot of this node: it may run here at once, or it has to be chosen for. It allocates nothing
// when the call runs here. When it answers false, Choice is nowhere if there is nobody else either.
func Local(f *function.Function, v *View) (Choice, bool) {
	bound := stateful(f)
	switch ok := failed(f, &v.Self, true) == ""; {
	case ok && bound:
		return Choice{v.Self.ID, true, ReasonState}, true
	case ok && (len(v.Peers) == 0 || unmet(f, v, &v.Self) == 0):
		return Choice{v.Self.ID, true, ReasonLocal}, true
	case bound:
		return Choice{Reason: ReasonStranded}, false
	case len(v.Peers) == 0:
		return Choice{Reason: ReasonNowhere}, false
	case ok:
		return Choice{Reason: ReasonPeer}, false // somewhere else it is liked better
	}
	return Choice{Reason: ReasonRequired}, false
}

// stateful says whether f's calls have to run where its events arrive: its state is there.
func stateful(f *function.Function) bool {
	return f.Manifest.State.Scope != "" && f.Manifest.State.Scope != function.ScopeNone
}

// Cost is an estimate of when a node would be done, in its parts.
type Cost struct {
	Wait   time.Duration `json:"wait_ns"`   // for a slot
	Exec   time.Duration `json:"exec_ns"`   // the call itself, there
	Cold   time.Duration `json:"cold_ns"`   // to get the module ready
	RTT    time.Duration `json:"rtt_ns"`    // to it and back
	Energy time.Duration `json:"energy_ns"` // what a battery is worth
	Prefer time.Duration `json:"prefer_ns"` // what placement.prefer wants and is not so there
}

// Total is the sum of the parts.
func (c Cost) Total() time.Duration { return c.Wait + c.Exec + c.Cold + c.RTT + c.Energy + c.Prefer }

// Prices in milliseconds, so that everything adds up to one figure.
const (
	EnergyCost = 10 * time.Millisecond // of running on a battery
	PreferCost = 20 * time.Millisecond // of one term of placement.prefer that a node does not satisfy
)

// Estimate is the time until n would be done with one more call that takes exec on a node of speed 1. What the function prefers is
// not in it.
func Estimate(n *Node, exec time.Duration) Cost {
	speed := n.Speed
	if speed <= 0 {
		speed = 1
	}
	own := time.Duration(float64(exec) / speed)
	waiting := max(0, n.Running+n.Queued+1-n.Slots)
	c := Cost{
		Wait: own * time.Duration(waiting) / time.Duration(max(1, n.Slots)),
		Exec: own, Cold: n.Cold, RTT: n.RTT,
	}
	if n.Power != PowerMains {
		c.Energy = EnergyCost
	}
	return c
}

// estimate adds to Estimate what f prefers.
func estimate(f *function.Function, v *View, n *Node, exec time.Duration) Cost {
	c := Estimate(n, exec)
	c.Prefer = PreferCost * time.Duration(unmet(f, v, n))
	return c
}
