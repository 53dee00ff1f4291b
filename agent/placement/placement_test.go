package placement

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"mayfly/function"
)

func fn(require ...string) *function.Function {
	return &function.Function{Manifest: function.Manifest{
		Limits:    function.Limits{Memory: 1 << 20},
		Placement: function.Placement{Require: require},
	}}
}

func node(id string, running int) Node {
	return Node{ID: id, Arch: "arm64", OS: "linux", Labels: []string{"gpio"}, Slots: 2, Running: running, Speed: 1, Memory: 64 << 20}
}

func TestPlace(t *testing.T) {
	t.Parallel()
	busy, idle, far := node("a", 2), node("b", 0), node("c", 0)
	far.RTT = time.Second
	draining := node("d", 0)
	draining.Draining = true
	for _, c := range []struct {
		name string
		f    *function.Function
		view View
		want Choice
	}{
		{"alone", fn(), View{Self: node("a", 0)}, Choice{"a", true, ReasonLocal}},
		{"alone and busy", fn(), View{Self: busy}, Choice{"a", true, ReasonQueued}},
		{"room here beats an idle peer", fn(), View{Self: node("a", 1), Peers: []Node{idle}}, Choice{"a", true, ReasonLocal}},
		{"busy here, idle peer", fn(), View{Self: busy, Peers: []Node{idle}}, Choice{"b", false, ReasonPeer}},
		{"busy here, peer far away", fn(), View{Self: busy, Peers: []Node{far}}, Choice{"a", true, ReasonQueued}},
		{"not here", fn("node:b"), View{Self: node("a", 0), Peers: []Node{idle}}, Choice{"b", false, ReasonRequired}},
		{"nowhere", fn("label:camera"), View{Self: node("a", 0), Peers: []Node{idle}}, Choice{"", false, ReasonNowhere}},
		{"draining", fn(), View{Self: draining}, Choice{"", false, ReasonNowhere}},
		{"one of several", fn("arch:amd64|arm64", "label:gpio"), View{Self: node("a", 0)}, Choice{"a", true, ReasonLocal}},
	} {
		if got := Place(c.f, &c.view, 10*time.Millisecond); got != c.want {
			t.Errorf("%s: got %+v, want %+v", c.name, got, c.want)
		}
	}
}

// A chosen node is never one that Explain says failed a rule, and nowhere means that every node failed one.
func TestPlaceAgreesWithExplain(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		gen := func(id string) Node {
			n := node(id, rapid.IntRange(0, 4).Draw(t, "running"))
			n.Draining = rapid.Bool().Draw(t, "draining")
			n.Arch = rapid.SampledFrom([]string{"arm64", "amd64"}).Draw(t, "arch")
			n.RTT = time.Duration(rapid.IntRange(0, 50).Draw(t, "rtt")) * time.Millisecond
			return n
		}
		view := View{Self: gen("self")}
		for i := range rapid.IntRange(0, 5).Draw(t, "peers") {
			view.Peers = append(view.Peers, gen(string(rune('a'+i))))
		}
		f := fn(rapid.SampledFrom([]string{"arch:arm64", "arch:amd64|arm64", "label:none"}).Draw(t, "rule"))
		choice, possible := Place(f, &view, 5*time.Millisecond), 0
		for _, row := range Explain(f, &view, 5*time.Millisecond) {
			if len(row.Failed) == 0 {
				possible++
			} else if row.Node == choice.Node {
				t.Fatalf("chose %s, which failed %q", row.Node, row.Failed)
			}
		}
		if (choice.Node == "") != (possible == 0) {
			t.Fatalf("choice %+v with %d possible nodes", choice, possible)
		}
	})
}

func TestPlaceHereAllocatesNothing(t *testing.T) {
	f, view := fn("arch:arm64|amd64", "label:gpio"), View{Self: node("a", 0)}
	if n := testing.AllocsPerRun(100, func() { Place(f, &view, time.Millisecond) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
