package catalog

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"mayfly/function"
)

// Dispute is something a function may not do because of another one that was there first: both were deployed on sides that did not
// see each other. Every node that has the same records comes to the same disputes.
type Dispute struct {
	Function string
	Trigger  string // the route that is not served, "http[0]"; empty: the whole function is paused
	Winner   string // the other function
	Reason   string
}

// Disputes returns what functions may not do, sorted by function.
func (s *Snapshot) Disputes() []Dispute { return s.disputes }

// Dispute returns why a trigger of a function is not served, or with an empty trigger why the function is paused.
func (s *Snapshot) Dispute(name, trigger string) (Dispute, bool) {
	i := slices.IndexFunc(s.disputes, func(d Dispute) bool { return d.Function == name && d.Trigger == trigger })
	if i < 0 {
		return Dispute{}, false
	}
	return s.disputes[i], true
}

// settle derives the functions as they should run [C7]: of two that want the same requests, and of those whose messages would go round, the one
// that was deployed first wins; then the one whose name comes first.
func (s *Snapshot) settle() {
	s.functions, s.disputes = nil, nil
	for _, e := range s.kinds[KindFunction] {
		if e.function != nil {
			s.functions = append(s.functions, e.function)
		}
	}
	order := slices.Clone(s.functions)
	slices.SortFunc(order, func(a, b *function.Function) int {
		return cmp.Or(a.Deployed.Compare(b.Deployed), strings.Compare(a.Name(), b.Name()))
	})
	s.settleRoutes(order)
	s.settleLoops(order)
	slices.SortFunc(s.disputes, func(a, b Dispute) int {
		return cmp.Or(strings.Compare(a.Function, b.Function), strings.Compare(a.Trigger, b.Trigger))
	})
}

func (s *Snapshot) settleRoutes(order []*function.Function) {
	type served struct {
		route    function.Route
		function string
	}
	var all []served
	for _, f := range order {
		before := len(all)
		for i, h := range f.Manifest.HTTP {
			route := h.Route()
			clash := slices.IndexFunc(all[:before], func(o served) bool { return route.Conflicts(o.route) })
			if clash < 0 {
				all = append(all, served{route, f.Name()})
				continue
			}
			s.disputes = append(s.disputes, Dispute{
				Function: f.Name(), Trigger: fmt.Sprintf("http[%d]", i), Winner: all[clash].function,
				Reason: fmt.Sprintf("function %q, which was deployed before, has the route %q, which takes the same requests", all[clash].function, all[clash].route),
			})
		}
	}
}

// settleLoops pauses functions until no messages can go round. Functions that are not part of any circle, which is nearly always all of them,
// are told apart first, so that the costly search is for the others.
func (s *Snapshot) settleLoops(order []*function.Function) {
	suspects := circling(order)
	running := &Snapshot{}
	for _, f := range suspects {
		way := running.loop(f)
		if way == nil {
			running.functions = append(running.functions, f)
			continue
		}
		other := way[0].to
		if other == f.Name() {
			other = way[len(way)-1].from
		}
		s.disputes = append(s.disputes, Dispute{
			Function: f.Name(), Winner: other,
			Reason: fmt.Sprintf("its messages would come back to it by way of %q, which was deployed before: %q is triggered by what it may publish", other, way[0].to),
		})
		paused := *f
		paused.Paused = true
		i, _ := slices.BinarySearchFunc(s.functions, f, byName)
		s.functions[i] = &paused
	}
}

func byName(a, b *function.Function) int { return strings.Compare(a.Name(), b.Name()) }

// circling returns those of the functions that may be part of a circle, in the order given: who triggers nobody, or is triggered by nobody, is
// taken away until nothing changes.
func circling(order []*function.Function) []*function.Function {
	var left []*function.Function
	for _, f := range order {
		if m := &f.Manifest; !m.Permissions.Loop && len(m.MQTT) > 0 && len(m.MayPublish()) > 0 {
			left = append(left, f)
		}
	}
	to := make([][]int, len(left))
	in, out := make([]int, len(left)), make([]int, len(left))
	for i, a := range left {
		for j, b := range left {
			if _, ok := triggers(a, b); ok {
				to[i] = append(to[i], j)
				in[j]++
				out[i]++
			}
		}
	}
	gone := make([]bool, len(left))
	for changed := true; changed; {
		changed = false
		for i := range left {
			if gone[i] || in[i] > 0 && out[i] > 0 {
				continue
			}
			gone[i], changed = true, true
			for j := range left {
				if gone[j] {
					continue
				}
				if slices.Contains(to[i], j) {
					in[j]--
				}
				if slices.Contains(to[j], i) {
					out[j]--
				}
			}
		}
	}
	n := 0
	return slices.DeleteFunc(left, func(*function.Function) bool { n++; return gone[n-1] })
}
