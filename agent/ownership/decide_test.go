package ownership

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func genNodes(t *rapid.T) []Node {
	var nodes []Node
	for _, id := range rapid.SliceOfNDistinct(rapid.IntRange(0, 30), 0, 8, rapid.ID).Draw(t, "ids") {
		nodes = append(nodes, Node{
			ID: fmt.Sprint("n", id), Weight: rapid.SampledFrom([]float64{0, 1, 2, 0.5, math.NaN(), -1}).Draw(t, "weight"),
			Eligible: rapid.IntRange(0, 3).Draw(t, "eligible") > 0, BrokerUp: rapid.Bool().Draw(t, "up"), Draining: rapid.IntRange(0, 3).Draw(t, "drains") == 0,
		})
	}
	return nodes
}

// Whatever the order in which nodes are seen, the same one is on top; one that goes takes nobody's session but its own.
func TestTop(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		nodes, session := genNodes(t), rapid.String().Draw(t, "session")
		top, ok := Top(session, nodes)
		for _, n := range nodes {
			if s := Score(session, n.ID, n.Weight); !(s > 0) || math.IsInf(s, 0) {
				t.Fatalf("score of %+v is %v", n, s)
			}
		}
		turned := slices.Clone(nodes)
		slices.Reverse(turned)
		if again, ok2 := Top(session, turned); ok != ok2 || again.ID != top.ID {
			t.Fatalf("%v, and the other way round %v", top, again)
		}
		if !ok {
			if slices.ContainsFunc(nodes, func(n Node) bool { return n.Eligible && !n.Draining }) {
				t.Fatal("nobody, of nodes that could")
			}
			return
		}
		if !top.Eligible || top.Draining {
			t.Fatalf("%+v cannot have it", top)
		}
		others := slices.DeleteFunc(slices.Clone(nodes), func(n Node) bool { return n.ID != top.ID && n.BrokerUp == top.BrokerUp })
		if again, _ := Top(session, others); again.ID != top.ID {
			t.Fatalf("when others went it became %s's", again.ID)
		}
	})
}

func TestSharesFollowWeights(t *testing.T) {
	t.Parallel()
	nodes := []Node{{ID: "a", Weight: 1, Eligible: true}, {ID: "b", Weight: 2, Eligible: true}, {ID: "c", Weight: 4, Eligible: true}}
	got := map[string]int{}
	for i := range 7000 {
		top, _ := Top(fmt.Sprint("session", i), nodes)
		got[top.ID]++
	}
	for id, want := range map[string]int{"a": 1000, "b": 2000, "c": 4000} {
		if d := got[id] - want; d < -150 || d > 150 {
			t.Errorf("%s has %d of 7000, want about %d", id, got[id], want)
		}
	}
}

func genClaim(t *rapid.T, label string) Claim {
	return Claim{
		Node: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, label+" node"), Score: rapid.SampledFrom([]float64{1, 2, 3}).Draw(t, label+" score"),
		Epoch: rapid.Uint64Range(1, 4).Draw(t, label+" epoch"), Turn: rapid.Uint64Range(1, 4).Draw(t, label+" turn"),
	}
}

// Any two different claims have an order, and it is the same for everybody.
func TestClaimsAreOrdered(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := genClaim(t, "a"), genClaim(t, "b"), genClaim(t, "c")
		a.Score, b.Score, c.Score = scoreOf(a.Node), scoreOf(b.Node), scoreOf(c.Node) // a node has one
		same := a.Node == b.Node && a.Epoch == b.Epoch && a.Turn == b.Turn
		if !same && a.Epoch == b.Epoch && a.Node != b.Node && a.Beats(b) == b.Beats(a) {
			t.Fatalf("%+v and %+v beat each other, or neither", a, b)
		}
		if a.supersedes(b) && b.supersedes(a) || !same && !a.supersedes(b) && !b.supersedes(a) {
			t.Fatalf("%+v and %+v have no order", a, b)
		}
		if a.supersedes(b) && b.supersedes(c) && !a.supersedes(c) {
			t.Fatalf("%+v, %+v, %+v go in a circle", a, b, c)
		}
	})
}

func scoreOf(node string) float64 { return Score("s", node, 1) }

func TestParseClaim(t *testing.T) {
	t.Parallel()
	good := Claim{Node: "a", Score: 1.5, Epoch: 7, Turn: 3, Filters: map[string]uint32{"in/#": 2}}
	data, err := good.encode()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ParseClaim(data); err != nil || got.Node != "a" || got.Score != 1.5 || got.Epoch != 7 || got.Turn != 3 || got.Filters["in/#"] != 2 {
		t.Errorf("%+v, %v", got, err)
	}
	for _, text := range []string{
		"", "x", "{}", `{"node":"a","score":1}`, `{"node":"","score":1,"epoch":1}`, `{"node":"a","score":-1,"epoch":1}`, `{"node":"a","epoch":1}`,
		`{"node":"a","score":1,"epoch":18446744073709551615}`, `{"node":"a","score":1,"epoch":-1}`, `{"node":"` + string(make([]byte, maxClaim)) + `"}`,
	} {
		if c, err := ParseClaim([]byte(text)); !errors.Is(err, errClaim) {
			t.Errorf("%.40q is taken for %+v, %v", text, c, err)
		}
	}
}

// Decisions one at a time, in situations that a test of whole sites meets by chance only.
func TestNext(t *testing.T) {
	t.Parallel()
	now := time.Now()
	key := "s"
	both := []Node{{ID: "a", Eligible: true, BrokerUp: true}, {ID: "b", Eligible: true, BrokerUp: true}}
	best, _ := Top(key, both)
	worst := map[string]string{"a": "b", "b": "a"}[best.ID]
	claim := func(node string, epoch uint64) Claim {
		return Claim{Node: node, Score: Score(key, node, 1), Epoch: epoch, Turn: 1}
	}
	only := func(id string) []Node { return []Node{{ID: id, Eligible: true, BrokerUp: true}} }
	released := claim(worst, 4)
	released.Released = true
	for _, c := range []struct {
		name  string
		state State
		in    Input
		want  Do
		epoch uint64
		phase Phase
	}{
		{"nobody has it", State{}, Input{Self: best.ID, Nodes: both}, Publish, 1, Claiming},
		{"not on top", State{}, Input{Self: worst, Nodes: both}, Wait, 0, Watching},
		{"what is stored here counts", State{}, Input{Self: best.ID, Nodes: both, Floor: 9}, Publish, 10, Claiming},
		{"it was ours: the same epoch", State{}, Input{Self: best.ID, Nodes: both, Known: Known{Claim: claim(best.ID, 4)}}, Publish, 4, Claiming},
		{"given away", State{}, Input{Self: best.ID, Nodes: both, Known: Known{Claim: released}}, Publish, 5, Claiming},
		{"held down", State{}, Input{Self: best.ID, Nodes: both, Known: Known{Claim: claim(worst, 4), Heard: now}}, Wait, 0, Watching},
		{
			"long enough on top",
			State{top: now.Add(-time.Minute)},
			Input{Self: best.ID, Nodes: both, Known: Known{Claim: claim(worst, 4), Heard: now}},
			Publish, 5, Claiming,
		},
		{
			"alive though gossip does not see it",
			State{top: now.Add(-time.Minute), holder: best.ID, seen: true, gone: now.Add(-10 * time.Second)},
			Input{Self: worst, Nodes: only(worst), Known: Known{Claim: claim(best.ID, 4), Heard: now.Add(-5 * time.Second)}},
			Wait, 0, Watching,
		},
		{
			"no sign of life since it is gone",
			State{top: now.Add(-time.Minute), holder: best.ID, seen: true, gone: now.Add(-10 * time.Second)},
			Input{Self: worst, Nodes: only(worst), Known: Known{Claim: claim(best.ID, 4), Heard: now.Add(-15 * time.Second)}},
			Publish, 5, Claiming,
		},
		{
			"objection of a better one",
			State{Phase: Claiming, Epoch: 5, before: 4},
			Input{Self: worst, Nodes: only(worst), Known: Known{Claim: claim(best.ID, 6), Heard: now}},
			Wait, 0, Watching,
		},
		{
			"a worse one claims too",
			State{Phase: Claiming, Epoch: 5, before: 4},
			Input{Self: best.ID, Nodes: both, Known: Known{Claim: claim(worst, 5), Heard: now}},
			Publish, 6, Claiming,
		},
		{
			"it has let go",
			State{Phase: Claiming, Epoch: 5, before: 4, allow: time.Hour},
			Input{Self: best.ID, Nodes: both, Known: Known{Claim: claim(best.ID, 5), Let: 4}},
			Connect, 5, Owning,
		},
		{
			"cut off by a better one",
			State{Phase: Owning, Epoch: 5},
			Input{Self: worst, Nodes: only(worst), Lost: true, Known: Known{Claim: claim(best.ID, 6), Heard: now}},
			Leave, 5, Watching,
		},
		{
			"cut off by a worse one",
			State{Phase: Owning, Epoch: 5},
			Input{Self: best.ID, Nodes: only(best.ID), Lost: true, Known: Known{Claim: claim(worst, 6), Heard: now}},
			Publish, 7, Claiming,
		},
		{
			"asked by a worse one",
			State{Phase: Owning, Epoch: 5},
			Input{Self: best.ID, Nodes: both, Known: Known{Claim: claim(worst, 6), Heard: now}},
			Publish, 7, Owning,
		},
		{"covered by who gave up", State{Phase: Owning, Epoch: 4}, Input{Self: best.ID, Nodes: both, Known: Known{Claim: released}}, Publish, 5, Owning},
		{"that, and cut off", State{Phase: Owning, Epoch: 4}, Input{Self: best.ID, Nodes: both, Lost: true, Known: Known{Claim: released}}, Publish, 5, Claiming},
		{"only the network", State{Phase: Owning, Epoch: 5}, Input{Self: best.ID, Nodes: both, Lost: true, Known: Known{Claim: claim(best.ID, 5)}}, Stay, 5, Owning},
		{
			"drains",
			State{Phase: Owning, Epoch: 5},
			Input{Self: best.ID, Nodes: []Node{{ID: best.ID, Eligible: true, Draining: true}}, Known: Known{Claim: claim(best.ID, 5)}},
			Leave, 5, Watching,
		},
	} {
		c.in.Now, c.in.Key = now, key
		s, step := c.state.Next(Rules{}.WithDefaults(), c.in)
		if step.Do != c.want || step.Claim.Epoch != c.epoch || s.Phase != c.phase {
			t.Errorf("%s: %v with epoch %d, %v; want %v with %d, %v", c.name, step.Do, step.Claim.Epoch, s.Phase, c.want, c.epoch, c.phase)
		}
	}
}

// Whatever comes in, in whatever order: a node connects only with a claim it has made, never under an epoch that is over, and never
// claims what it cannot have.
func TestNextNeverConnectsUnclaimed(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var s State
		now, claimed := time.Now(), uint64(0)
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 20000).Draw(t, "ms")) * time.Millisecond)
			in := Input{
				Now: now, Self: "n1", Nodes: genNodes(t), Key: "s", Lost: rapid.Bool().Draw(t, "lost"), Floor: rapid.Uint64Range(0, 3).Draw(t, "floor"),
				Known: Known{Claim: genClaim(t, "known"), Heard: now, Let: rapid.Uint64Range(0, 4).Draw(t, "let")},
			}
			if rapid.Bool().Draw(t, "mine") {
				in.Known.Node = "n1"
			}
			var step Step
			s, step = s.Next(Rules{}.WithDefaults(), in)
			switch step.Do {
			case Publish:
				if step.Claim.Epoch < in.Known.Epoch || step.Claim.Node != "n1" {
					t.Fatalf("claims %+v over %+v", step.Claim, in.Known.Claim)
				}
				claimed = step.Claim.Epoch
			case Connect:
				if top, ok := Top("s", in.Nodes); !ok || s.Epoch != claimed || s.let == "" && top.ID != "n1" {
					t.Fatalf("connects with epoch %d, claimed %d, on top %v", s.Epoch, claimed, top)
				}
			case Wait, Stay, Leave:
			}
			if s.Phase == Owning && !able(in.Nodes, "n1") {
				t.Fatal("owns what it cannot have")
			}
		}
	})
}
