package placement

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"mayfly/function"
)

func fn(require ...string) *function.Function {
	return &function.Function{Manifest: function.Manifest{
		Name: "f", Limits: function.Limits{Memory: 1 << 20}, Placement: function.Placement{Require: require},
	}}
}

func node(id string, running int) Node {
	return Node{ID: id, Arch: "arm64", OS: "linux", Labels: []string{"gpio"}, Slots: 2, Running: running, Speed: 1, Memory: 64 << 20}
}

// query asks about f on a node whose own load is that of v.Self.
func query(f *function.Function, v *View) *Query {
	ring := RingOf(f, v)
	return &Query{Function: f, View: v, Ring: &ring, Exec: 10 * time.Millisecond, Home: v.Self.load(), Rand: func(int) int { return 0 }}
}

func TestPlace(t *testing.T) {
	t.Parallel()
	idle, far, broken, tired, none := node("b", 0), node("c", 0), node("d", 0), node("e", 0), node("n", 0)
	far.RTT, broken.Untrusted, tired.Power, none.Slots = time.Second, true, PowerLow, 0
	draining := node("a", 0)
	draining.Draining = true
	state := fn("label:gpio")
	state.Manifest.State.Scope = function.ScopeNode
	stranded := fn("label:camera")
	stranded.Manifest.State.Scope = function.ScopeCluster
	liking := fn()
	liking.Manifest.Placement.Prefer = []string{"label:mains"}
	mains := node("m", 0)
	mains.Labels = []string{"mains"}
	near := fn()
	near.Manifest.Placement.Prefer = []string{"near-trigger"}
	for _, c := range []struct {
		name string
		f    *function.Function
		view View
		want Choice
	}{
		{"alone", fn(), View{Self: node("a", 0)}, Choice{"a", true, ReasonLocal}},
		{"alone and busy", fn(), View{Self: node("a", 2)}, Choice{"a", true, ReasonQueued}},
		{"room here beats an idle peer", fn(), View{Self: node("a", 1), Peers: []Node{idle}}, Choice{"a", true, ReasonLocal}},
		{"busy here, idle peer", fn(), View{Self: node("a", 2), Peers: []Node{idle}}, Choice{"b", false, ReasonPeer}},
		{"busy here, peer far away", fn(), View{Self: node("a", 2), Peers: []Node{far}}, Choice{"a", true, ReasonQueued}},
		{"not here", fn("node:b"), View{Self: node("a", 0), Peers: []Node{idle}}, Choice{"b", false, ReasonRequired}},
		{"nowhere", fn("label:camera"), View{Self: node("a", 0), Peers: []Node{idle}}, Choice{"", false, ReasonNowhere}},
		{"draining", fn(), View{Self: draining}, Choice{"", false, ReasonNowhere}},
		{"draining, and a peer", fn(), View{Self: draining, Peers: []Node{idle}}, Choice{"b", false, ReasonRequired}},
		{"one of several", fn("arch:amd64|arm64", "label:gpio"), View{Self: node("a", 0)}, Choice{"a", true, ReasonLocal}},
		{"no certificate", fn("node:d"), View{Self: node("a", 0), Peers: []Node{broken}}, Choice{"", false, ReasonNowhere}},
		{"battery low", fn("node:e"), View{Self: node("a", 0), Peers: []Node{tired}}, Choice{"", false, ReasonNowhere}},
		{"no slots", fn("node:n"), View{Self: node("a", 0), Peers: []Node{none}}, Choice{"", false, ReasonNowhere}},
		{"battery low here", fn(), View{Self: tired}, Choice{"e", true, ReasonLocal}},
		{"state stays", state, View{Self: node("a", 2), Peers: []Node{idle}}, Choice{"a", true, ReasonState}},
		{"state stays while it drains", state, View{Self: draining, Peers: []Node{idle}}, Choice{"a", true, ReasonState}},
		{"state and not eligible", stranded, View{Self: node("a", 0), Peers: []Node{idle}}, Choice{"", false, ReasonStranded}},
		{"liked better elsewhere", liking, View{Self: node("a", 0), Peers: []Node{mains}}, Choice{"m", false, ReasonPeer}},
		{"liked nowhere", liking, View{Self: node("a", 0), Peers: []Node{idle}}, Choice{"a", true, ReasonLocal}},
		{"near its trigger", near, View{Self: node("a", 3), Peers: []Node{idle}}, Choice{"a", true, ReasonQueued}},
	} {
		if got := Choose(query(c.f, &c.view)); got != c.want {
			t.Errorf("%s: got %+v, want %+v", c.name, got, c.want)
		}
	}
}

func TestSatisfies(t *testing.T) {
	t.Parallel()
	n := node("id-1", 0)
	n.Name, n.Zone, n.Capabilities, n.Power = "pump", "hall", []string{"simd"}, PowerBattery
	for term, want := range map[string]bool{
		"arch:amd64|arm64": true, "arch:amd64": false, "os:linux": true, "os:darwin": false, "label:gpio": true, "label:gp": false,
		"node:pump": true, "node:id-1": true, "node:": false, "node:other|pump": true, "zone:hall": true, "zone:yard": false,
		"cap:simd": true, "cap:gpu": false, "power:battery": true, "power:mains": false, "near-trigger": false, "moon:full": false,
	} {
		if got := Satisfies(&n, term); got != want {
			t.Errorf("%s: %v", term, got)
		}
	}
}

func TestReconsider(t *testing.T) {
	t.Parallel()
	full, room := Load{Running: 2, Queued: 2, Slots: 2}, Load{Running: 1, Slots: 2}
	v := View{Self: node("a", 2), Peers: []Node{node("b", 0), node("c", 0)}}
	v.Self.Queued = 1
	answersFor := func(q *Query, by map[string]Answer) []Answer {
		var all []Answer
		for _, place := range q.Ring.Members {
			all = append(all, by[q.View.at(place).ID])
		}
		return all
	}
	for _, c := range []struct {
		name string
		f    *function.Function
		by   map[string]Answer
		want Choice
	}{
		{"the one with room", fn(), map[string]Answer{"b": {full, 0, true}, "c": {room, 0, true}}, Choice{"c", false, ReasonProbed}},
		{"all full: here", fn(), map[string]Answer{"b": {full, 0, true}, "c": {full, 0, true}}, Choice{"a", true, ReasonQueued}},
		{"silent ones are not asked again", fn(), map[string]Answer{"b": {full, 0, true}, "c": {room, 0, false}}, Choice{"a", true, ReasonQueued}},
		{"far away", fn(), map[string]Answer{"c": {room, time.Second, true}}, Choice{"a", true, ReasonQueued}},
		{"all full and not here", fn("node:b|c"), map[string]Answer{"b": {full, 0, true}, "c": {full, 0, true}}, Choice{"", false, ReasonFull}},
		{"not asked", fn(), nil, Choice{"a", true, ReasonQueued}},
	} {
		q := query(c.f, &v)
		if got := Reconsider(q, answersFor(q, c.by)); got != c.want {
			t.Errorf("%s: got %+v, want %+v", c.name, got, c.want)
		}
	}
	q := query(fn(), &v)
	q.Not = "c"
	if got := Reconsider(q, answersFor(q, map[string]Answer{"c": {room, 0, true}})); got.Node == "c" {
		t.Error("chose the one that cannot")
	}
}

// Calls that were sent and are not in anybody's figures yet count, and a peer that has its fill of ours is left alone.
func TestSentCallsCount(t *testing.T) {
	t.Parallel()
	v := View{Self: node("a", 2), Peers: []Node{node("b", 0), node("c", 0)}}
	q := query(fn("node:b|c"), &v)
	q.Sent = func(id string) int { return map[string]int{"b": 3}[id] }
	for seed := range 20 {
		q.Rand = func(n int) int { return seed % n }
		if got := Choose(q); got.Node != "c" {
			t.Fatalf("got %+v", got)
		}
	}
	q.Sent = func(string) int { return 4 }
	if got := Choose(q); got != (Choice{"", false, ReasonFull}) {
		t.Errorf("both have twice their slots of ours: %+v", got)
	}
}

func drawNode(t *rapid.T, id string) Node {
	n := node(id, rapid.IntRange(0, 4).Draw(t, "running"))
	n.Draining = rapid.Bool().Draw(t, "draining")
	n.Arch = rapid.SampledFrom([]string{"arm64", "amd64"}).Draw(t, "arch")
	n.RTT = time.Duration(rapid.IntRange(0, 50).Draw(t, "rtt")) * time.Millisecond
	n.Power = Power(rapid.IntRange(0, 2).Draw(t, "power"))
	n.Untrusted = rapid.Bool().Draw(t, "untrusted")
	return n
}

func drawView(t *rapid.T) *View {
	v := &View{Self: drawNode(t, "self")}
	for i := range rapid.IntRange(0, 12).Draw(t, "peers") {
		v.Peers = append(v.Peers, drawNode(t, string(rune('a'+i))))
	}
	return v
}

// A chosen node is never one that Explain says failed a rule, and nowhere means that every node failed one.
func TestPlaceAgreesWithExplain(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		v := drawView(t)
		f := fn(rapid.SampledFrom([]string{"arch:arm64", "arch:amd64|arm64", "label:none"}).Draw(t, "rule"))
		q := query(f, v)
		q.Rand = func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "chance") }
		choice, possible := Choose(q), 0
		for _, row := range Explain(f, v, q.Exec) {
			if len(row.Failed) == 0 {
				possible++
			} else if row.Node == choice.Node {
				t.Fatalf("chose %s, which failed %q", row.Node, row.Failed)
			}
		}
		if (choice.Node == "") != (possible == 0) {
			t.Fatalf("choice %+v with %d possible nodes", choice, possible)
		}
		filtered := 0
		for _, c := range q.Ring.Filtered {
			filtered += c.Nodes
		}
		if q.Ring.Eligible != possible || filtered != 1+len(v.Peers)-possible {
			t.Fatalf("the ring counts %d eligible and %d not, explained are %d of %d", q.Ring.Eligible, filtered, possible, 1+len(v.Peers))
		}
	})
}

// Who is chosen costs no more than this node's queue, as the same query explains it.
func TestChoiceIsNoWorseThanWaiting(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		v := drawView(t)
		v.Self.Running, v.Self.Slots = 4, 2
		q := query(fn(), v)
		q.Rand = func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "chance") }
		choice := Choose(q)
		rows := q.Candidates()
		for _, row := range rows[1:] {
			if row.Node == choice.Node && len(rows[0].Failed) == 0 && row.Cost.Total() >= rows[0].Cost.Total() {
				t.Fatalf("chose %+v and would have been done here at %v", row, rows[0].Cost)
			}
		}
	})
}

func TestLocalAllocatesNothing(t *testing.T) {
	f, view := fn("arch:arm64|amd64", "label:gpio"), View{Self: node("a", 0), Peers: []Node{node("b", 0)}}
	if n := testing.AllocsPerRun(100, func() { Local(f, &view) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkLocal(b *testing.B) {
	f, view := fn("arch:arm64|amd64", "label:gpio"), View{Self: node("a", 0), Peers: []Node{node("b", 0)}}
	for b.Loop() {
		Local(f, &view)
	}
}

func BenchmarkChoose(b *testing.B) {
	f, v := fn(), many(300)
	q := query(f, v)
	q.Home, q.Rand = Load{Running: 2, Queued: 5, Slots: 2}, rand.IntN
	for b.Loop() {
		Choose(q)
	}
}

func BenchmarkRing(b *testing.B) {
	f, v := fn(), many(300)
	for b.Loop() {
		RingOf(f, v)
	}
}

func many(n int) *View {
	v := &View{Self: node("n", 2)}
	for i := range n - 1 {
		v.Peers = append(v.Peers, node("n"+string(rune('A'+i/26))+string(rune('A'+i%26)), i%3))
	}
	slices.SortFunc(v.Peers, func(a, b Node) int { return slices.Compare([]byte(a.ID), []byte(b.ID)) })
	return v
}
