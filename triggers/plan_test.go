package triggers

import (
	"context"
	"fmt"
	"log/slog"
	"testing"

	"pgregory.net/rapid"

	"mayfly/event"
)

func drawSubscription(t *rapid.T) Subscription {
	return Subscription{
		Function: rapid.SampledFrom([]string{"f", "g", "h", "i"}).Draw(t, "function"),
		Trigger:  fmt.Sprintf("mqtt[%d]", rapid.IntRange(0, 2).Draw(t, "trigger")),
		Broker:   rapid.SampledFrom([]string{"", "site"}).Draw(t, "broker"),
		Filter:   rapid.SampledFrom([]string{"a/b", "a/+", "a/#", "c", "#", "+/b", "$SYS/x"}).Draw(t, "filter"),
		Alone:    rapid.IntRange(0, 4).Draw(t, "alone") == 0,
		Stores:   rapid.Bool().Draw(t, "stores"),
	}
}

// Everything wanted is in exactly one group, no group holds two overlapping filters, and what had a group keeps it.
func TestPlan(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		id := func(s Subscription) string { return s.Function + s.Trigger }
		wanted := rapid.SliceOfNDistinct(rapid.Custom(drawSubscription), 0, 8, id).Draw(t, "wanted")
		first := Plan(wanted[:len(wanted)/2], func(Subscription) (int, bool) { return 0, false })
		placed := map[Subscription]int{}
		for _, g := range first {
			for _, m := range g.Members {
				placed[m] = g.Number
			}
		}
		seen := map[Subscription]int{}
		for _, g := range Plan(wanted, func(s Subscription) (int, bool) { n, ok := placed[s]; return n, ok }) {
			for i, a := range g.Members {
				if before, ok := placed[a]; ok && before != g.Number {
					t.Fatalf("%v moved from group %d to %d", a, before, g.Number)
				}
				seen[a]++
				for _, b := range g.Members[:i] {
					if a.Broker != b.Broker || a.Alone || b.Alone || a.Stores != b.Stores || event.Overlaps(a.Filter, b.Filter) {
						t.Fatalf("%v and %v share group %d", a, b, g.Number)
					}
				}
			}
		}
		for _, s := range wanted {
			if seen[s] != 1 {
				t.Fatalf("%v is in %d groups", s, seen[s])
			}
		}
	})
}

func nowhere(Subscription) (int, bool) { return 0, false }

// A slow function must not fill the window of the others: each has a session of its own as long as there are few. A hundred share
// those few.
func TestPlanIsRoomyForAFewFunctions(t *testing.T) {
	t.Parallel()
	var wanted []Subscription
	for i := range 100 {
		for trigger := range 3 {
			wanted = append(wanted, Subscription{
				Function: fmt.Sprintf("f%02d", i), Trigger: fmt.Sprintf("mqtt[%d]", trigger), Filter: fmt.Sprintf("in/%d/%d", i, trigger), Stores: i%2 == 0,
			})
		}
		groups := Plan(wanted, nowhere)
		if want := min(i+1, roomy); len(groups) != want {
			t.Fatalf("%d functions have %d groups, want %d", i+1, len(groups), want)
		}
		for _, g := range groups {
			for _, m := range g.Members {
				if i < roomy && m.Function != g.Members[0].Function {
					t.Fatalf("of %d functions two share group %d", i+1, g.Number)
				}
			}
		}
	}
}

// Among many that need no disk one that does gets a group that is not full of them.
func TestPlanKeepsThoseThatStoreApart(t *testing.T) {
	t.Parallel()
	var wanted []Subscription
	for i := range 2 * roomy {
		wanted = append(wanted, Subscription{Function: fmt.Sprintf("f%02d", i), Trigger: "mqtt[0]", Filter: fmt.Sprintf("in/%d", i), Stores: i >= roomy})
	}
	if groups := Plan(wanted, nowhere); len(groups) != roomy+1 || !groups[roomy].Members[0].Stores {
		t.Errorf("%+v", groups)
	}
}

type idleSource struct{ started, stopped chan string }

func (s idleSource) Run(ctx context.Context, _ Sink) error {
	s.started <- "started"
	<-ctx.Done()
	s.stopped <- "stopped"
	return nil
}

func TestSetStartsAndStops(t *testing.T) {
	t.Parallel()
	set := NewSet(slog.New(slog.DiscardHandler))
	a := idleSource{make(chan string, 1), make(chan string, 1)}
	want := map[string]func() Running{"a": func() Running { return Running{Source: a} }}
	set.Apply(want)
	<-a.started
	set.Apply(map[string]func() Running{"a": func() Running { t.Error("started again"); return Running{} }})
	set.Apply(nil)
	select {
	case <-a.stopped:
	default:
		t.Error("Apply returned before the source had stopped")
	}
	set.Close()
	set.Apply(want)
	select {
	case <-a.started:
		t.Error("started after Close")
	default:
	}
}
