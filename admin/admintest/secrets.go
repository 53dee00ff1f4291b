package admintest

import (
	"context"
	"maps"
	"slices"

	"mayfly/admin"
)

// Secrets keeps secrets in memory. It implements admin.Secrets.
type Secrets struct{ agent *Agent }

var _ admin.Secrets = Secrets{}

// SetSecret implements admin.Secrets. In a cluster one node is away.
func (s Secrets) SetSecret(_ context.Context, name string, value []byte) (admin.Secret, error) {
	a := s.agent
	x := admin.Secret{Name: name, From: admin.SecretSealed, Set: a.Now(), Bytes: len(value), Nodes: []string{"bench"}}
	a.Site.mu.Lock()
	for i, m := range a.Site.members {
		switch {
		case i == 0:
		case i == len(a.Site.members)-1:
			x.Later = append(x.Later, m.Name)
		default:
			x.Nodes = append(x.Nodes, m.Name)
		}
	}
	a.Site.mu.Unlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.secrets == nil {
		a.secrets = map[string]admin.Secret{}
	}
	a.secrets[name] = x
	return x, nil
}

// Secrets implements admin.Secrets.
func (s Secrets) Secrets(context.Context) ([]admin.Secret, error) {
	s.agent.mu.Lock()
	defer s.agent.mu.Unlock()
	var all []admin.Secret
	for _, name := range slices.Sorted(maps.Keys(s.agent.secrets)) {
		x := s.agent.secrets[name]
		for _, f := range s.agent.functions {
			if slices.Contains(f.manifest.Permissions.Secrets, name) {
				x.Functions = append(x.Functions, f.Name)
			}
		}
		slices.Sort(x.Functions)
		x.Later = nil
		all = append(all, x)
	}
	return all, nil
}

// RemoveSecret implements admin.Secrets.
func (s Secrets) RemoveSecret(_ context.Context, name string) error {
	s.agent.mu.Lock()
	defer s.agent.mu.Unlock()
	if _, ok := s.agent.secrets[name]; !ok {
		return notFound("remove", "secret", name)
	}
	delete(s.agent.secrets, name)
	return nil
}
