package admintest

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"mayfly/admin"
	"mayfly/function"
)

// Members are the nodes of a site.
type Members struct{ site *Site }

// List implements admin.Nodes.
func (m Members) List(context.Context) ([]admin.Member, error) {
	m.site.mu.Lock()
	defer m.site.mu.Unlock()
	out := slices.Clone(m.site.members)
	slices.SortFunc(out, func(a, b admin.Member) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// find returns the member that node names; the caller holds the lock.
func (s *Site) find(op, node string) (*admin.Member, error) {
	var found []*admin.Member
	for i := range s.members {
		if m := &s.members[i]; m.Name == node || m.ID == node || len(node) >= 2 && strings.HasPrefix(m.ID, node) {
			found = append(found, m)
		}
	}
	switch len(found) {
	case 0:
		return nil, notFound(op, "node", node)
	case 1:
		return found[0], nil
	}
	return nil, &function.Error{
		Op: op, Subject: node, Class: function.ClassReject, Kind: admin.KindConflict,
		Err: fmt.Errorf("%d nodes are called that: %s and %s", len(found), found[0].ID, found[1].ID), Hint: "give more of the id",
	}
}

// change finds a member and changes it.
func (m Members) change(op, node string, change func(*admin.Member)) (admin.Member, error) {
	m.site.mu.Lock()
	defer m.site.mu.Unlock()
	if m.site.cluster == nil {
		return admin.Member{}, admin.Alone(op)
	}
	found, err := m.site.find(op, node)
	if err != nil {
		return admin.Member{}, err
	}
	change(found)
	return *found, nil
}

// Get implements admin.Nodes.
func (m Members) Get(ctx context.Context, node string) (admin.Member, error) {
	got, err := m.change("show", node, func(*admin.Member) {})
	if err != nil {
		return got, err
	}
	functions, err := m.site.agent.List(ctx)
	for _, f := range functions {
		rows, _ := m.site.rows(ctx, f.Name)
		if owner(rows) == got.Name {
			got.Owns = append(got.Owns, f.Name+" mqtt[0]")
		}
	}
	return got, err
}

// Label implements admin.Nodes.
func (m Members) Label(_ context.Context, node string, r admin.LabelRequest) (admin.Member, error) {
	return m.change("label", node, func(f *admin.Member) {
		labels := slices.DeleteFunc(slices.Clone(f.Labels), func(l string) bool { return slices.Contains(r.Remove, l) })
		labels = append(labels, r.Add...)
		slices.Sort(labels)
		f.Labels = slices.Compact(labels)
	})
}

// Drain implements admin.Nodes.
func (m Members) Drain(_ context.Context, node string, on bool) (admin.Member, error) {
	return m.change("drain", node, func(f *admin.Member) { f.Draining = on })
}

// Revoke implements admin.Nodes.
func (m Members) Revoke(_ context.Context, node string) error {
	_, err := m.change("revoke", node, func(f *admin.Member) {
		f.State, f.Reason = admin.MemberRevoked, "an operator revoked it"
	})
	return err
}
