package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"mayfly/admin"
	"mayfly/agent/ownership"
	"mayfly/agent/placement"
	"mayfly/cluster/catalog"
	"mayfly/function"
	"mayfly/triggers"
	"mayfly/triggers/mqtt"
)

// explainer says why things run where they run, from what this node knows. It implements admin.Explainer.
type explainer struct{ agent *Agent }

// lastDecisions is how many decisions an explanation shows.
const lastDecisions = 10

// Explain implements admin.Explainer.
func (e explainer) Explain(ctx context.Context, q admin.ExplainQuery) (admin.Explanation, error) {
	out := admin.Explanation{Query: q, Node: e.agent.cfg.Node.Name, Time: time.Now(), Rows: []admin.Candidate{}, Decisions: []admin.Decision{}}
	switch {
	case q.Event != "":
		return e.event(out, q.Event)
	case q.Node != "":
		return e.node(ctx, out, q.Node)
	}
	f, err := e.agent.find(q.Function)
	if err != nil {
		return out, err
	}
	out.Rows = e.rows(f)
	out.Decisions = e.decisions(func(d *placement.Decision) bool { return d.Function == f.Name() })
	if s := f.Manifest.State.Scope; s != "" && s != function.ScopeNone {
		out.Note = "it has state, so it runs on the node that owns its trigger"
	}
	return out, nil
}

func (e explainer) event(out admin.Explanation, id string) (admin.Explanation, error) {
	found := e.agent.stories.decisions.last(1, func(d *placement.Decision) bool { return d.Event == id })
	if len(found) == 0 {
		return out, &function.Error{
			Op: "explain", Subject: "event " + id, Class: function.ClassReject, Kind: admin.KindNotFound,
			Err:  errors.New("this node has no record of where it ran: it ran elsewhere, it is long ago, or it was one of many that simply ran here"),
			Hint: "mayfly explain fn NAME shows the last decisions",
		}
	}
	d := &found[0]
	out.Time = d.Time
	for i := range d.Candidates {
		out.Rows = append(out.Rows, e.row(d.Function, &d.Candidates[i]))
	}
	rank(out.Rows)
	out.Decisions = []admin.Decision{e.decision(d)}
	return out, nil
}

func (e explainer) node(ctx context.Context, out admin.Explanation, name string) (admin.Explanation, error) {
	m, err := nodes(e).find(ctx, name)
	if err != nil {
		return out, err
	}
	for _, f := range e.agent.catalog.List() {
		for _, row := range e.rows(f) {
			if row.Node == m.ID || row.Here && m.Self {
				out.Rows = append(out.Rows, row)
			}
		}
	}
	out.Decisions = e.decisions(func(d *placement.Decision) bool { return d.Node == m.ID || d.Here && m.Self })
	return out, nil
}

// rows are all nodes for one function, who would take its next event first.
func (e explainer) rows(f *function.Function) []admin.Candidate {
	exec := time.Duration(0)
	if c := e.agent.counters()[f.Name()]; c != nil {
		exec = time.Duration(c.Counters.Average.Load())
	}
	view := *e.agent.viewer.now()
	load := e.agent.dispatch.Load()
	view.Self.Running, view.Self.Queued = load.Running, load.Queued
	owners := e.agent.subs.owners()
	var all []admin.Candidate
	for _, c := range placement.Explain(f, &view, exec) {
		row := e.row(f.Name(), &c)
		for trigger, owner := range owners {
			if name, ok := strings.CutPrefix(trigger, f.Name()+"/"); ok && owner == c.Node {
				row.Owns = append(row.Owns, name)
			}
		}
		slices.Sort(row.Owns)
		all = append(all, row)
	}
	rank(all)
	return all
}

// rank numbers the eligible rows as they would be chosen: this node while it has room, then by score.
func rank(rows []admin.Candidate) {
	slices.SortStableFunc(rows, func(x, y admin.Candidate) int {
		order := func(c *admin.Candidate) int {
			switch {
			case !c.Eligible():
				return 2
			case c.Here:
				return 0
			}
			return 1
		}
		return cmp.Or(cmp.Compare(order(&x), order(&y)), cmp.Compare(x.ScoreMS, y.ScoreMS), strings.Compare(x.Name, y.Name))
	})
	for i := range rows {
		if rows[i].Eligible() {
			rows[i].Rank = i + 1
		}
	}
}

func (e explainer) row(fn string, c *placement.Candidate) admin.Candidate {
	row := admin.Candidate{
		Function: fn, Node: c.Node, Name: e.agent.nameOf(c.Node), Here: c.Here, Failed: append([]string{}, c.Failed...),
		ScoreMS: ms(c.Cost.Total()), AgeMS: c.Age.Milliseconds(),
	}
	for _, part := range []struct {
		name string
		cost time.Duration
	}{{"rtt", c.Cost.RTT}, {"wait", c.Cost.Wait}, {"cold", c.Cost.Cold}, {"exec", c.Cost.Exec}, {"energy", c.Cost.Energy}, {"prefer", c.Cost.Prefer}} {
		if part.cost != 0 {
			row.Parts = append(row.Parts, admin.ScorePart{Name: part.name, MS: ms(part.cost)})
		}
	}
	return row
}

func (a *Agent) nameOf(node string) string {
	if a.pool == nil || node == a.node.ID {
		return a.cfg.Node.Name
	}
	return cmp.Or(a.pool.described()[node].Name, node)
}

func (e explainer) decisions(match func(*placement.Decision) bool) []admin.Decision {
	found := e.agent.stories.decisions.last(lastDecisions, match)
	all := make([]admin.Decision, 0, len(found))
	for i := range found {
		all = append(all, e.decision(&found[i]))
	}
	slices.Reverse(all) // the newest last
	return all
}

func (e explainer) decision(d *placement.Decision) admin.Decision {
	out := admin.Decision{
		Time: d.Time, Event: d.Event, Function: d.Function, Node: d.Node, Here: d.Here, Why: string(d.Reason), TookMS: ms(d.Took),
	}
	if d.Node != "" {
		out.Name = e.agent.nameOf(d.Node)
	}
	for _, c := range d.Candidates {
		if c.Node == d.Node {
			out.ScoreMS = ms(c.Cost.Total())
		}
	}
	for _, r := range d.Refusals {
		out.Refused = append(out.Refused, fmt.Sprintf("%s: %s", e.agent.nameOf(r.Node), r.Why))
	}
	return out
}

// Place implements admin.Explainer.
func (e explainer) Place(_ context.Context, m *function.Manifest) (admin.Placement, error) {
	f := &function.Function{Manifest: *m}
	out := admin.Placement{Places: e.rows(f), Warnings: []string{}}
	if !slices.ContainsFunc(out.Places, func(c admin.Candidate) bool { return c.Eligible() }) {
		out.Warnings = append(out.Warnings, "no node that is known here may run it: its events would wait")
	}
	if e.agent.pool == nil {
		return out, nil
	}
	now := e.agent.subs.owners()
	view := e.agent.viewer.now()
	for _, trigger := range e.agent.subs.sharedTriggers(f) {
		then := e.ownerRule(f, trigger, append([]placement.Node{view.Self}, view.Peers...))
		o := admin.Owner{Trigger: trigger, Now: now[triggerID(f.Name(), trigger)]}
		for _, who := range []struct {
			from string
			to   *string
		}{{o.Now, &o.Now}, {then, &o.Then}} {
			if who.from != "" {
				*who.to = e.agent.nameOf(who.from)
			}
		}
		out.Owners = append(out.Owners, o)
	}
	return out, nil
}

// sharedTriggers are the triggers of f that the cluster would have one owner for.
func (s *subscriptions) sharedTriggers(f *function.Function) (names []string) {
	for i := range f.Manifest.MQTT {
		c := s.claim(f, i)
		if at := s.sites[c.Broker]; at != nil && s.shared(c.spec, at) {
			names = append(names, c.Trigger)
		}
	}
	return names
}

// ownerRule implements placement.OwnerRule.
func (e explainer) ownerRule(f *function.Function, trigger string, all []placement.Node) string {
	s := e.agent.subs
	for i := range f.Manifest.MQTT {
		c := s.claim(f, i)
		if c.Trigger != trigger {
			continue
		}
		key := source(triggers.Group{Broker: c.Broker, Number: numberOwned, Members: []triggers.Subscription{c.Subscription}})
		session := mqtt.ClientID(mqtt.Subscription{Cluster: s.team.cluster, Session: key})
		var candidates []ownership.Node
		for _, n := range all {
			has, _ := brokerOf(n.Capabilities, 0, c.Broker)
			draining := n.Draining
			n.Draining = false
			candidates = append(candidates, ownership.Node{
				ID: n.ID, Weight: float64(n.Slots) * n.Speed, Eligible: has && len(placement.Failed(f, &n)) == 0, BrokerUp: true, Draining: draining,
			})
		}
		if top, ok := ownership.Top(session, candidates); ok {
			return top.ID
		}
	}
	return ""
}

// Rollout implements admin.Explainer.
func (e explainer) Rollout(ctx context.Context, name string) (admin.Rollout, error) {
	a := e.agent
	f, err := a.find(name)
	if err != nil {
		return admin.Rollout{}, err
	}
	out := admin.Rollout{Function: name, Revision: f.Version, Live: 1, Has: 1, Nodes: []admin.RolloutNode{{Node: a.node.ID, Name: a.cfg.Node.Name, Has: true}}}
	if a.pool == nil {
		return out, nil
	}
	s := a.pool.replica.Spread(ctx, catalog.KindFunction, name, f.Version, a.pool.names())
	for _, list := range []struct {
		nodes  []string
		has    bool
		reason string
	}{{s.Have, true, ""}, {s.Missing, false, "it does not have this revision yet"}, {s.Silent, false, "it did not answer"}} {
		for _, node := range list.nodes {
			out.Live++
			if list.has {
				out.Has++
			}
			out.Nodes = append(out.Nodes, admin.RolloutNode{Node: node, Name: a.nameOf(node), Has: list.has, Reason: list.reason})
		}
	}
	return out, nil
}
