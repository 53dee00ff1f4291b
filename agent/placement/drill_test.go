package placement

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"mayfly/function"
)

// highest is an ownership rule for tests: the highest weight among the eligible.
func highest(f *function.Function, trigger string, nodes []Node) string {
	owner, best := "", 0.0
	for i := range nodes {
		if w := Weigh(f.Name()+trigger, &nodes[i]); failed(f, &nodes[i], false) == "" && w > best {
			owner, best = nodes[i].ID, w
		}
	}
	return owner
}

func TestDrill(t *testing.T) {
	t.Parallel()
	a, b, c := node("a", 0), node("b", 0), node("c", 0)
	c.Labels = []string{"camera"}
	v := &View{Self: a, Peers: []Node{b, c}}
	counter := fn()
	counter.Manifest.Name, counter.Manifest.State.Scope = "counter", function.ScopeNode
	camera := fn("label:camera")
	camera.Manifest.Name = "camera"
	busy := fn()
	busy.Manifest.Name = "busy"
	demands := []Demand{
		{Function: counter, Triggers: []string{"mqtt[0]"}, Rate: 10, Exec: 20 * time.Millisecond},
		{Function: camera, Triggers: []string{"mqtt[0]"}, Rate: 1, Exec: 10 * time.Millisecond},
		{Function: busy, Triggers: []string{"mqtt[0]"}, Rate: 100, Exec: 30 * time.Millisecond},
	}
	own := highest(counter, "mqtt[0]", v.nodes(""))

	d := Drill(v, own, demands, highest)
	if !d.Known || len(d.Nodes) != 2 || d.Capacity != 4 || math.Abs(d.Demand-3.21) > 1e-9 {
		t.Errorf("%+v", d)
	}
	if row := d.Functions[0]; len(row.Moves) != 1 || row.Moves[0].From != own || row.Moves[0].To == own || row.Note == "" || !row.Fits {
		t.Errorf("counter, owned by %s: %+v", own, row)
	}
	if d = Drill(v, "c", demands, highest); d.Fits || d.Functions[1].Fits || d.Functions[1].Note == "" || d.Functions[1].Eligible != 0 {
		t.Errorf("only c has a camera: %+v", d.Functions[1])
	}
	demands[2].Rate = 130
	if d = Drill(v, "b", demands[2:], highest); !d.Fits || d.Functions[0].Room < 3.89 {
		t.Errorf("3.9 of 4: %+v", d)
	}
	demands[2].Rate = 140
	if d = Drill(v, "b", demands[2:], highest); d.Fits || math.Abs(d.Functions[0].Room-4) > 0.01 {
		t.Errorf("4.2 of 4: %+v", d)
	}
	if d = Drill(v, "nobody", demands, highest); d.Known || len(d.Nodes) != 3 {
		t.Errorf("an unknown node: %+v", d)
	}
	if _, err := json.Marshal(d); err != nil {
		t.Error(err)
	}
}

// Room is exact: no function gets more than it asks, no node gives more than it has, and what does not fit fits no other way: the nodes
// it could be moved to, one way or another, are all full.
func TestDrillSharesOutExactly(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		functions, nodes := rapid.IntRange(1, 6).Draw(t, "functions"), rapid.IntRange(1, 6).Draw(t, "nodes")
		sizes := rapid.SliceOfN(rapid.IntRange(0, 20), nodes, nodes).Draw(t, "sizes")
		f := newFlow(functions, sizes)
		for i := range functions {
			f.demand[i] = rapid.IntRange(0, 30).Draw(t, "demand")
			for n := range nodes {
				if rapid.Bool().Draw(t, "uses") {
					f.mayUse(i, n)
				}
			}
		}
		f.run()
		total := 0
		for i := range functions {
			if f.served(i) > f.demand[i] {
				t.Fatalf("function %d gets %d of %d", i, f.served(i), f.demand[i])
			}
			total += f.served(i)
		}
		for n := range nodes {
			if f.used(n) > sizes[n] {
				t.Fatalf("node %d gives %d of %d", n, f.used(n), sizes[n])
			}
		}
		// The most there can be is the least cut (Ford and Fulkerson): over all sets of functions, their demand left out, plus
		// the size of what the rest may use.
		least := math.MaxInt
		for set := range 1 << functions {
			cut, used := 0, map[int]bool{}
			for i := range functions {
				if set>>i&1 == 0 {
					cut += f.demand[i]
					continue
				}
				for _, n := range f.uses[i] {
					used[n] = true
				}
			}
			for n := range used {
				cut += sizes[n]
			}
			least = min(least, cut)
		}
		if total != least {
			t.Fatalf("%d is shared out, there is room for %d", total, least)
		}
	})
}

func TestPlan(t *testing.T) {
	t.Parallel()
	v := &View{Self: node("a", 0)}
	for i := range 8 {
		n := node(fmt.Sprint("n", i), 0)
		if i < 2 {
			n.Labels = []string{"camera"}
		}
		v.Peers = append(v.Peers, n)
	}
	c := Plan(nil, fn("label:gpio"), v)
	if len(c.Gained) != 7 || len(c.Lost) != 0 || len(c.After.Ring) != K || len(c.After.Nodes) != 9 {
		t.Errorf("new: %+v", c)
	}
	c = Plan(fn("label:gpio"), fn("label:camera"), v)
	if !slices.Equal(c.Gained, []string{"n0", "n1"}) || len(c.Lost) != 7 || len(c.After.Ring) != 2 {
		t.Errorf("moved: gained %v, lost %v, ring %v", c.Gained, c.Lost, c.After.Ring)
	}
	if c = Plan(fn("label:gpio"), fn("label:gpio"), v); len(c.Gained)+len(c.Lost) != 0 || !slices.Equal(c.Before.Ring, c.After.Ring) {
		t.Errorf("the same again: %+v", c)
	}
}
