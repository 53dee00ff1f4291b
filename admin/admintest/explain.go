package admintest

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"mayfly/admin"
	"mayfly/function"
)

// runMS is what every function takes.
const runMS = 4.0

// candidates judges every member: the rules of the manifest, then distance and queue.
func (s *Site) candidates(name string, m *function.Manifest, without ...string) []admin.Candidate {
	s.mu.Lock()
	defer s.mu.Unlock()
	var rows []admin.Candidate
	for _, n := range s.members {
		if slices.Contains(without, n.Name) {
			continue
		}
		row := admin.Candidate{Function: name, Node: n.ID, Name: n.Name, Here: n.Self, AgeMS: n.AgeMS}
		if n.State != admin.MemberAlive {
			row.Failed = append(row.Failed, "the node is "+n.State)
		}
		if n.Draining {
			row.Failed = append(row.Failed, "the node is draining")
		}
		for _, rule := range m.Placement.Require {
			if !satisfies(&n, rule) {
				row.Failed = append(row.Failed, fmt.Sprintf("placement.require %q: it is %s with %s", rule, n.Arch, orNone(n.Labels)))
			}
		}
		wait := runMS * float64(max(0, n.Running+n.Queued+1-n.Slots)) / float64(n.Slots)
		row.Parts = []admin.ScorePart{{Name: "rtt", MS: n.RTTMS}, {Name: "wait", MS: wait}, {Name: "exec", MS: runMS}}
		row.ScoreMS = n.RTTMS + wait + runMS
		rows = append(rows, row)
	}
	rank(rows)
	return rows
}

func rank(rows []admin.Candidate) {
	var order []*admin.Candidate
	for i := range rows {
		if rows[i].Eligible() {
			order = append(order, &rows[i])
		}
	}
	slices.SortStableFunc(order, func(a, b *admin.Candidate) int { return cmp.Compare(a.ScoreMS, b.ScoreMS) })
	for i, c := range order {
		c.Rank = i + 1
	}
	if len(order) > 0 {
		order[0].Owns = []string{"mqtt[0]"}
	}
}

func satisfies(n *admin.Member, rule string) bool {
	kind, words, _ := strings.Cut(rule, ":")
	for word := range strings.SplitSeq(words, "|") {
		switch kind {
		case "arch":
			if n.Arch == word {
				return true
			}
		case "label":
			if slices.Contains(n.Labels, word) {
				return true
			}
		case "node":
			if n.Name == word || n.ID == word {
				return true
			}
		}
	}
	return false
}

func orNone(labels []string) string {
	if len(labels) == 0 {
		return "no labels"
	}
	return "labels " + strings.Join(labels, ", ")
}

// owner is the name of the first of rows, "" when nobody is eligible.
func owner(rows []admin.Candidate) string {
	for _, r := range rows {
		if r.Rank == 1 {
			return r.Name
		}
	}
	return ""
}

// rows judges a deployed function.
func (s *Site) rows(ctx context.Context, name string, without ...string) ([]admin.Candidate, error) {
	f, err := s.agent.Get(ctx, name)
	if err != nil {
		return nil, err
	}
	m, err := f.Parsed()
	if err != nil {
		return nil, err
	}
	return s.candidates(name, &m, without...), nil
}

// Explain implements admin.Explainer.
func (s *Site) Explain(ctx context.Context, q admin.ExplainQuery) (admin.Explanation, error) {
	e := admin.Explanation{Node: "bench", Time: s.agent.Now()}
	name := q.Function
	if q.Node != "" {
		return s.explainNode(ctx, e, q.Node)
	}
	for _, ev := range s.stories(ctx) {
		if q.Event != "" && ev.ID == q.Event {
			name, e.Time = ev.Function, ev.Time
		}
	}
	if name == "" {
		return e, notFound("explain", "event", q.Event)
	}
	for _, ev := range s.stories(ctx) {
		if ev.Function == name && (q.Event == "" || ev.ID == q.Event) {
			e.Decisions = append(e.Decisions, admin.Decision{
				Time: ev.Time, Event: ev.ID, Function: name, Node: "4f1cqqqqqqqqqqqq", Name: ev.Node, Here: true, Why: ev.Why, ScoreMS: runMS, TookMS: float64(ev.TotalUS) / 1000,
			})
		}
	}
	var err error
	e.Rows, err = s.rows(ctx, name)
	return e, err
}

func (s *Site) stories(ctx context.Context) []admin.EventRecord {
	var out []admin.EventRecord
	_ = s.agent.Events(ctx, admin.EventQuery{}, func() {}, func(r admin.EventRecord) { out = append(out, r) }) // it does not follow: it cannot fail
	return out
}

func (s *Site) explainNode(ctx context.Context, e admin.Explanation, node string) (admin.Explanation, error) {
	s.mu.Lock()
	m, err := s.find("explain", node)
	if err != nil {
		s.mu.Unlock()
		return e, err
	}
	name := m.Name
	s.mu.Unlock()
	functions, err := s.agent.List(ctx)
	for _, f := range functions {
		rows, err := s.rows(ctx, f.Name)
		if err != nil {
			return e, err
		}
		for _, r := range rows {
			if r.Name == name {
				e.Rows = append(e.Rows, r)
			}
		}
	}
	return e, err
}

// Place implements admin.Explainer.
func (s *Site) Place(ctx context.Context, m *function.Manifest) (admin.Placement, error) {
	p := admin.Placement{Places: s.candidates(m.Name, m)}
	now := ""
	if rows, err := s.rows(ctx, m.Name); err == nil {
		now = owner(rows)
	}
	p.Owners = []admin.Owner{{Trigger: "mqtt[0]", Now: now, Then: owner(p.Places)}}
	if owner(p.Places) == "" {
		p.Warnings = []string{"no node may run it"}
	}
	return p, nil
}

// Drill implements admin.Explainer: a function takes one slot of the node that owns it.
func (s *Site) Drill(ctx context.Context, kill []string) (admin.Drill, error) {
	d := admin.Drill{Fits: true}
	s.mu.Lock()
	if s.cluster == nil {
		s.mu.Unlock()
		return d, admin.Alone("drill")
	}
	for _, node := range kill {
		m, err := s.find("drill", node)
		if err != nil {
			s.mu.Unlock()
			return d, err
		}
		d.Killed = append(d.Killed, m.Name)
	}
	members := slices.Clone(s.members)
	s.mu.Unlock()
	before, after := map[string]float64{}, map[string]float64{}
	functions, err := s.agent.List(ctx)
	for _, f := range functions {
		was, err := s.rows(ctx, f.Name)
		if err != nil {
			return d, err
		}
		is, err := s.rows(ctx, f.Name, d.Killed...)
		if err != nil {
			return d, err
		}
		before[owner(was)]++
		after[owner(is)]++
		if owner(is) != owner(was) {
			d.Moves = append(d.Moves, move(f.Name, owner(was), is))
			d.Fits = d.Fits && owner(is) != ""
		}
	}
	for _, m := range members {
		if !slices.Contains(d.Killed, m.Name) {
			n := admin.DrillNode{Node: m.ID, Name: m.Name, Slots: m.Slots, LoadBefore: before[m.Name], LoadAfter: after[m.Name], Fits: true}
			d.Nodes = append(d.Nodes, n)
		}
	}
	return d, err
}

func move(name, from string, is []admin.Candidate) admin.Move {
	m := admin.Move{Function: name, Trigger: "mqtt[0]", From: from, To: owner(is)}
	if m.To == "" {
		for _, r := range is {
			for _, f := range r.Failed {
				m.Failed = append(m.Failed, r.Name+": "+f)
			}
		}
	}
	return m
}

// Rollout implements admin.Explainer.
func (s *Site) Rollout(ctx context.Context, name string) (admin.Rollout, error) {
	f, err := s.agent.Get(ctx, name)
	if err != nil {
		return admin.Rollout{}, err
	}
	out := admin.Rollout{Function: name, Revision: f.Revision}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.members {
		if m.State != admin.MemberAlive {
			continue
		}
		n := admin.RolloutNode{Node: m.ID, Name: m.Name, Has: !s.late[m.Name]}
		out.Live++
		if n.Has {
			out.Has++
		} else {
			n.Reason = "its catalog is older"
		}
		out.Nodes = append(out.Nodes, n)
	}
	return out, nil
}
