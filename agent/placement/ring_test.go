package placement

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"mayfly/function"
)

func named(name string) *function.Function {
	return &function.Function{Manifest: function.Manifest{Name: name}}
}

// viewOf is how the node called id sees all.
func viewOf(all []Node, id string) *View {
	v := new(View)
	for _, n := range all {
		if n.ID == id {
			v.Self = n
		} else {
			v.Peers = append(v.Peers, n)
		}
	}
	return v
}

func ids(r *Ring, v *View) (all []string) {
	for _, place := range r.Members {
		all = append(all, v.at(place).ID)
	}
	return all
}

func drawNodes(t *rapid.T, least int) []Node {
	all := make([]Node, rapid.IntRange(least, 30).Draw(t, "nodes"))
	for i := range all {
		all[i] = node(fmt.Sprintf("n%02d", i), 0)
		all[i].Slots = rapid.IntRange(1, 8).Draw(t, "slots")
		all[i].Speed = rapid.Float64Range(0.25, 4).Draw(t, "speed")
	}
	return all
}

// All nodes with the same knowledge have the same ring, and nobody that fails a rule is in it.
func TestRingIsTheSameEverywhere(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		all := drawNodes(t, 2)
		for i := range all {
			all[i].Draining = rapid.Bool().Draw(t, "draining")
		}
		f := named(rapid.String().Draw(t, "function"))
		v := viewOf(all, all[0].ID)
		first := RingOf(f, v)
		for _, n := range all[1:] {
			w := viewOf(all, n.ID)
			other := RingOf(f, w)
			if !slices.Equal(ids(&first, v), ids(&other, w)) {
				t.Fatalf("%v at %s, %v at %s", ids(&first, v), all[0].ID, ids(&other, w), n.ID)
			}
		}
		eligible := 0
		for i := range all {
			if !all[i].Draining {
				eligible++
			} else if slices.Contains(ids(&first, v), all[i].ID) {
				t.Fatalf("%s is draining and in the ring", all[i].ID)
			}
		}
		if len(first.Members) != min(K, eligible) {
			t.Fatalf("%d members of %d eligible", len(first.Members), eligible)
		}
	})
}

// A node that goes takes nobody else's place: the others stay, in their order.
func TestRingMovesNoMoreThanItMust(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		all := drawNodes(t, 3)
		f := named(rapid.String().Draw(t, "function"))
		gone := rapid.IntRange(1, len(all)-1).Draw(t, "gone")
		v := viewOf(all, all[0].ID)
		before := RingOf(f, v)
		w := viewOf(slices.Delete(slices.Clone(all), gone, gone+1), all[0].ID)
		after := RingOf(f, w)
		stay := slices.DeleteFunc(ids(&before, v), func(id string) bool { return id == all[gone].ID })
		if got := ids(&after, w); !slices.Equal(got[:len(stay)], stay) {
			t.Fatalf("before %v, without %s %v", ids(&before, v), all[gone].ID, got)
		}
	})
}

// First places are shared out by weight.
func TestRingFollowsWeights(t *testing.T) {
	t.Parallel()
	var all []Node
	for i := range 10 {
		n := node(fmt.Sprintf("n%d", i), 0)
		n.Slots = 1 + i%2*3 // 1 or 4
		all = append(all, n)
	}
	v, first := viewOf(all, "n0"), map[string]int{}
	const functions = 20_000
	for i := range functions {
		r := RingOf(named(fmt.Sprint("function-", i)), v)
		first[ids(&r, v)[0]]++
	}
	for _, n := range all {
		want := float64(functions*n.Slots) / 25
		if got := float64(first[n.ID]); math.Abs(got-want) > 5*math.Sqrt(want) {
			t.Errorf("%s with %d slots is first %v times, want about %v", n.ID, n.Slots, got, want)
		}
	}
}

// What a function prefers comes first, and only then weight.
func TestRingPrefers(t *testing.T) {
	t.Parallel()
	var all []Node
	for i := range 30 {
		n := node(fmt.Sprintf("n%02d", i), 0)
		if i%10 == 7 {
			n.Labels = append(n.Labels, "mains")
		}
		all = append(all, n)
	}
	f := named("f")
	f.Manifest.Placement.Prefer = []string{"label:mains"}
	v := viewOf(all, "n00")
	r := RingOf(f, v)
	got := ids(&r, v)[:3]
	slices.Sort(got)
	if !slices.Equal(got, []string{"n07", "n17", "n27"}) {
		t.Errorf("the first three are %v", got)
	}
}
