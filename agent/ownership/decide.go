package ownership

import (
	"slices"
	"time"
)

// Rules are how long a node waits before what.
type Rules struct {
	HoldDown time.Duration // default 2 s: a node takes a session only when it was on top for so long, and up to Jitter more
	Jitter   time.Duration // default 1 s
	Stranger time.Duration // default 10 s: instead of HoldDown, when the owner is somebody never seen: who just started sees nobody
	Object   time.Duration // default 250 ms between claiming and connecting, in which an owner who is alive after all may object
	Grace    time.Duration // default 2 s instead of Object when the owner is seen alive: it finishes what is running and lets go
	Refresh  time.Duration // default 30 s between the signs of life of an owner
	Fresh    time.Duration // default 75 s: how long a sign of life is believed, longer than two of them are apart
	SettleLo time.Duration // default 100 ms, with SettleHi: after a lost connection, before claims are looked at
	SettleHi time.Duration // default 300 ms
}

// WithDefaults returns r with every zero field at its default.
func (r Rules) WithDefaults() Rules {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&r.HoldDown, 2 * time.Second},
		{&r.Jitter, time.Second},
		{&r.Stranger, 10 * time.Second},
		{&r.Object, 250 * time.Millisecond},
		{&r.Grace, 2 * time.Second},
		{&r.Refresh, 30 * time.Second},
		{&r.Fresh, 75 * time.Second},
		{&r.SettleLo, 100 * time.Millisecond},
		{&r.SettleHi, 300 * time.Millisecond},
	} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	return r
}

// Known is what a node knows of a session's claims.
type Known struct {
	Claim           // the latest; the zero Claim when there is none
	Heard time.Time // when it was heard; zero: it was there when this node began to listen, nobody knows for how long
	Let   uint64    // the highest epoch whose owner said that it has let go
}

// Phase is what a node is to a session.
type Phase uint8

// Phases.
const (
	Watching Phase = iota // somebody else has it, or should
	Claiming              // this node has said that it takes it
	Owning                // this node is connected to it, or tries to be
)

func (p Phase) String() string { return [...]string{"watching", "claiming", "owning"}[p] }

// Do is what is to be done.
type Do uint8

// What is to be done.
const (
	Wait    Do = iota // nothing, until something changes or the time comes
	Publish           // the claim, and look again when the broker has confirmed it
	Connect           // with the epoch
	Stay              // connected, or connect again with the same epoch
	Leave             // finish what runs, give back the rest, disconnect, say so
)

func (d Do) String() string { return [...]string{"wait", "publish", "connect", "stay", "leave"}[d] }

// State is what one node remembers of one session between two decisions ([U1]). The zero State is the beginning. It is a value: Next returns
// the one to go on with.
type State struct {
	Phase Phase
	Epoch uint64 // of this node's last claim

	top      time.Time     // on top since then; zero = it is not
	patience time.Duration // extra, of this time on top
	asked    time.Time     // Claiming: when the claim was confirmed; zero = it is to be published
	allow    time.Duration // Claiming: how long the owner may take to object or let go
	before   uint64        // Claiming: the epoch of the owner who is to let go; 0 = there is none

	holder string    // node of the latest claim
	seen   bool      // it was a candidate since this node began to watch
	gone   time.Time // and is none any more, since then
	let    string    // node that has let go: no candidate until gossip knows it too, or it claims again
}

// Input is what a decision is made of.
type Input struct {
	Now    time.Time
	Self   string
	Nodes  []Node // live, Self among them
	Known  Known
	Floor  uint64  // the highest epoch known besides the claims: what is stored here
	Lost   bool    // the connection ended, or could not be made
	Chance float64 // 0 to 1
	Key    string  // the session, for scores
	Bound  bool    // sessions are their nodes' own: nobody is cut off by a connection, and two for a moment are better than none
}

// Step is one decision.
type Step struct {
	Do    Do
	Claim Claim     // Publish and Connect: what this node says
	Until time.Time // Wait and Stay: look again then at the latest; zero = when something changes
}

// Next decides. It does not block, keep or change anything it was given, and the same input gives the same answer.
func (s State) Next(r Rules, in Input) (State, Step) {
	s = s.follow(&in)
	switch s.Phase {
	case Claiming:
		return s.claiming(r, in)
	case Owning:
		return s.owning(r, in)
	case Watching:
	}
	return s.watching(r, in)
}

// follow keeps track of whether the holder of the latest claim is somebody gossip shows as able to own, and leaves out of the
// candidates who has said that it lets go: gossip may take long to tell the same.
func (s State) follow(in *Input) State {
	k := &in.Known
	switch {
	case k.Released && k.Node != in.Self:
		s.let = k.Node
	case k.Node == s.let, !able(in.Nodes, s.let):
		s.let = ""
	}
	if s.let != "" {
		in.Nodes = slices.DeleteFunc(slices.Clone(in.Nodes), func(n Node) bool { return n.ID == s.let })
	}
	if s.holder != k.Node {
		s.holder, s.seen, s.gone = k.Node, false, time.Time{}
	}
	connected := slices.ContainsFunc(in.Nodes, func(n Node) bool { return n.candidate() && n.BrokerUp })
	for _, n := range in.Nodes {
		if n.ID == s.holder && n.candidate() && (n.BrokerUp || !connected) { // as in Top: when it is nobody's, it is no difference
			s.seen, s.gone = true, time.Time{}
			return s
		}
	}
	if s.seen && s.gone.IsZero() {
		s.gone = in.Now
	}
	return s
}

func (in *Input) onTop() bool {
	top, ok := Top(in.Key, in.Nodes)
	return ok && top.ID == in.Self
}

// mine is the claim this node can make.
func (in *Input) mine() Claim {
	weight := 1.0
	for _, n := range in.Nodes {
		if n.ID == in.Self {
			weight = n.Weight
		}
	}
	return Claim{Node: in.Self, Score: Score(in.Key, in.Self, weight), Filters: in.Known.Filters}
}

// free says whether nobody else has the session as far as claims tell.
func (in *Input) free() bool {
	return in.Known.Node == "" || in.Known.Node == in.Self || in.Known.Released
}

// alive says whether the holder of the latest claim has given a sign of life that is newer than what gossip says of it.
func (s State) alive(r Rules, in Input) bool {
	heard := in.Known.Heard
	return !heard.IsZero() && in.Now.Sub(heard) < r.Fresh && (s.gone.IsZero() || heard.After(s.gone))
}

func (s State) watching(r Rules, in Input) (State, Step) {
	if !in.onTop() {
		s.top = time.Time{}
		return s, Step{Do: Wait}
	}
	if s.top.IsZero() {
		s.top, s.patience = in.Now, time.Duration(in.Chance*float64(r.Jitter))
	}
	if in.free() {
		return s.claim(in, 0)
	}
	if in.Known.Beats(in.mine()) && s.alive(r, in) {
		return s, Step{Do: Wait, Until: in.Known.Heard.Add(r.Fresh)}
	}
	hold := r.HoldDown
	if !s.seen {
		hold = r.Stranger
	}
	if due := s.top.Add(hold + s.patience); in.Now.Before(due) {
		return s, Step{Do: Wait, Until: due}
	}
	allow := r.Object
	if s.seen && s.gone.IsZero() {
		allow = r.Grace
	}
	return s.claim(in, allow)
}

// claim begins to take the session, whose owner may take so long to object or let go. Who had it last, with nobody in between,
// goes on in the same epoch: what it remembers of packet ids is still true.
func (s State) claim(in Input, allow time.Duration) (State, Step) {
	c := in.mine()
	c.Epoch = max(in.Known.Epoch, s.Epoch, in.Floor) + 1
	if in.Known.Node == in.Self && in.Known.Epoch >= in.Floor {
		c.Epoch = in.Known.Epoch
	}
	c.Turn = in.Known.Turn + 1
	s.Phase, s.Epoch, s.asked, s.allow, s.before = Claiming, c.Epoch, time.Time{}, allow, 0
	if !in.free() && !in.Bound {
		s.before = in.Known.Epoch
	}
	return s, Step{Do: Publish, Claim: c}
}

func (s State) claiming(r Rules, in Input) (State, Step) {
	mine := in.mine()
	mine.Epoch, mine.Turn = s.Epoch, in.Known.Turn+1
	if other := in.Known; other.Node != in.Self && !other.Released && other.Epoch >= s.Epoch {
		if other.Beats(mine) {
			return s.watch(), Step{Do: Wait}
		}
		return s.claim(in, r.Grace)
	}
	if !in.onTop() {
		return s.watch(), Step{Do: Leave, Claim: mine}
	}
	if s.asked.IsZero() {
		s.asked = in.Now
	}
	if due := s.asked.Add(s.allow); s.before > in.Known.Let && in.Now.Before(due) {
		return s, Step{Do: Wait, Until: due}
	}
	s.Phase = Owning
	return s, Step{Do: Connect, Claim: mine}
}

func (s State) watch() State {
	s.Phase, s.top, s.asked, s.before = Watching, time.Time{}, time.Time{}, 0
	return s
}

func (s State) owning(r Rules, in Input) (State, Step) {
	mine, other := in.mine(), in.Known
	mine.Epoch, mine.Turn = s.Epoch, other.Turn+1
	covered := other.Node != in.Self && other.Epoch >= s.Epoch // by a later claim, though its node may have given up or be shut out
	switch {
	case covered && !other.Released && (other.Beats(mine) || !in.onTop()), !able(in.Nodes, in.Self):
		return s.watch(), Step{Do: Leave, Claim: mine}
	case covered && in.Lost:
		return s.claim(in, r.Grace)
	case covered: // or nobody would know whose it is, and signs of life would count for nothing
		s.Epoch = other.Epoch + 1
		mine.Epoch, mine.Turn = s.Epoch, 1
		return s, Step{Do: Publish, Claim: mine}
	}
	return s, Step{Do: Stay, Claim: mine}
}

// able says whether a node may have the session at all. A bad connection to the broker does not count: then nobody has it until
// another node takes it.
func able(nodes []Node, id string) bool {
	for _, n := range nodes {
		if n.ID == id {
			return n.candidate()
		}
	}
	return false
}
