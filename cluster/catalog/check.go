package catalog

import (
	"fmt"
	"slices"
	"strings"

	"mayfly/event"
	"mayfly/function"
)

// Check says why f cannot be deployed beside the others: a route that another function has (kind "route-conflict"), or publishes
// that come back to it (kind "loop").
func (s *Snapshot) Check(f *function.Function) error {
	if err := checkRoutes(s, f); err != nil {
		return err
	}
	return checkLoops(s, f)
}

// An MQTT 3.1.1 message has no room for a hop count, so a message that goes round cannot be told from a new one while it does.
// What can be told is who may publish where, and who listens there: both are in the manifests. Brokers are not told apart, nor
// is it known what a function really publishes: a permission is taken at its word.

// checkLoops refuses a function with which messages could go round, unless a function on the way says that it knows.
func checkLoops(now *Snapshot, f *function.Function) error {
	way := now.loop(f)
	if way == nil {
		return nil
	}
	var told []string
	for _, s := range way {
		told = append(told, fmt.Sprintf("%s may publish on %q, which %s is triggered by (%q)", s.from, s.permission, s.to, s.filter))
	}
	return &function.Error{
		Op: "deploy", Subject: f.Name(), Class: function.ClassReject, Kind: "loop",
		Err:  fmt.Errorf("its messages would come back to it, for ever: %s", strings.Join(told, "; ")),
		Hint: "let [permissions] publish name only what it really publishes; if the loop ends by itself, say in [permissions]: loop = true",
	}
}

// step is one function triggering another.
type step struct{ from, permission, to, filter string }

// loop returns a shortest way of f's messages back to f; nil when there is none.
func (s *Snapshot) loop(f *function.Function) []step {
	if f.Manifest.Permissions.Loop {
		return nil
	}
	all := []*function.Function{f}
	for _, other := range s.functions {
		if other.Name() != f.Name() && !other.Manifest.Permissions.Loop {
			all = append(all, other)
		}
	}
	ways := map[string][]step{}
	for queue := []*function.Function{f}; len(queue) > 0; queue = queue[1:] {
		from := queue[0]
		for _, to := range all {
			if _, known := ways[to.Name()]; known {
				continue
			}
			via, ok := triggers(from, to)
			if !ok {
				continue
			}
			before := ways[from.Name()]
			way := append(slices.Clip(before), via)
			if to == f {
				return way
			}
			ways[to.Name()] = way
			queue = append(queue, to)
		}
	}
	return nil
}

// triggers says whether something that from may publish triggers to.
func triggers(from, to *function.Function) (step, bool) {
	for _, permission := range from.Manifest.MayPublish() {
		for i := range to.Manifest.MQTT {
			if filter := to.Manifest.MQTT[i].Topic.Filter(); filter != "" && event.Overlaps(permission, filter) {
				return step{from.Name(), permission, to.Name(), to.Manifest.MQTT[i].Topic.String()}, true
			}
		}
	}
	return step{}, false
}

// checkRoutes refuses a function one of whose routes takes requests of another function's.
func checkRoutes(now *Snapshot, f *function.Function) error {
	for _, other := range now.functions {
		if other.Name() == f.Name() {
			continue
		}
		for _, a := range f.Manifest.HTTP {
			for _, b := range other.Manifest.HTTP {
				if a.Route().Conflicts(b.Route()) {
					return &function.Error{
						Op: "deploy", Subject: f.Name(), Class: function.ClassReject, Kind: "route-conflict",
						Err:  fmt.Errorf("its route %q and the route %q of function %q take the same requests", a.Route(), b.Route(), other.Name()),
						Hint: fmt.Sprintf("change one of the routes, or remove the other function: mayfly fn rm %s", other.Name()),
					}
				}
			}
		}
	}
	return nil
}
