package admin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"mayfly/event"
	"mayfly/function"
)

// DiffPermissions returns what next may and old may not, then what old may and next may not, each in the order of the kinds. A
// permission that another one covers is no change: "plant/+/alarm" is nothing new after "plant/#".
func DiffPermissions(old, next *function.Manifest) []PermissionChange {
	out := []PermissionChange{}
	for _, p := range beyond(old, next) {
		p.Added = true
		out = append(out, p)
	}
	return append(out, beyond(next, old)...)
}

// beyond returns the permissions of m that base does not have.
func beyond(base, m *function.Manifest) []PermissionChange {
	have := permissions(base)
	var out []PermissionChange
	for _, p := range permissions(m) {
		if !slices.ContainsFunc(have, func(h PermissionChange) bool { return h.covers(p) }) {
			out = append(out, p)
		}
	}
	return out
}

func permissions(m *function.Manifest) []PermissionChange {
	var out []PermissionChange
	add := func(kind string, values ...string) {
		for _, v := range values {
			out = append(out, PermissionChange{Kind: kind, Value: v})
		}
	}
	add(PermitPublish, m.Permissions.Publish...)
	add(PermitHTTP, m.Permissions.HTTP...)
	add(PermitSecret, m.Permissions.Secrets...)
	if m.Permissions.Loop {
		add(PermitLoop, "what it publishes may come back to it")
	}
	for i := range m.MQTT {
		add(PermitPublish, m.MQTT[i].ReplyFilters()...)
	}
	for i := range m.HTTP {
		if m.HTTP[i].Auth == "public" {
			add(PermitPublic, m.HTTP[i].Route().String())
		}
	}
	return out
}

// covers says whether who has p needs nothing more for q.
func (p PermissionChange) covers(q PermissionChange) bool {
	if p.Kind != q.Kind {
		return false
	}
	switch p.Kind {
	case PermitPublish:
		return event.Covers(p.Value, q.Value)
	case PermitHTTP:
		prefix, wild := strings.CutSuffix(p.Value, "*")
		_, path, _ := strings.Cut(prefix, "://")
		if wild && strings.Contains(path, "/") { // the host is written out: a prefix never ends inside of it
			return strings.HasPrefix(q.Value, prefix)
		}
	}
	return p.Value == q.Value
}

// String is the permission in words.
func (p PermissionChange) String() string { return p.Kind + " " + p.Value }

// permitted refuses a version that asks for more than the deployed one may, unless the operator said that it shall ([O4]).
func (s *Server) permitted(ctx context.Context, d *Deployment) error {
	deployed, err := s.deployed(ctx, d.Manifest.Name)
	if deployed == nil || err != nil {
		return err
	}
	more := beyond(deployed, &d.Manifest)
	if len(more) == 0 {
		return nil
	}
	var words []string
	for _, p := range more {
		words = append(words, p.String())
	}
	return &function.Error{
		Op: "deploy", Subject: d.Manifest.Name, Class: function.ClassReject, Kind: KindPermission,
		Err:  fmt.Errorf("version %s asks for more than version %s, which is deployed, may: %s", d.Manifest.Version, deployed.Version, strings.Join(words, "; ")),
		Hint: "if it shall: mayfly deploy --allow-new-permissions",
	}
}

// deployed returns the manifest of the deployed function of that name, nil if there is none.
func (s *Server) deployed(ctx context.Context, name string) (*function.Manifest, error) {
	f, err := s.backend.Functions.Get(ctx, name)
	if function.KindOf(err) == KindNotFound {
		return nil, nil //nolint:nilnil // that there is none is an answer
	}
	if err != nil {
		return nil, err
	}
	m, err := f.Parsed()
	if err != nil {
		return nil, err
	}
	return &m, nil
}

// Parsed returns the manifest of a function that was not taken from a list, with the settings it was deployed with.
func (f *Function) Parsed() (function.Manifest, error) {
	m, err := function.ParseManifest(f.Name+"/function.toml", []byte(f.Manifest))
	if err == nil && f.Manifest == "" {
		err = errors.New("the agent did not send it")
	}
	if err != nil {
		return m, &function.Error{
			Op: "read", Subject: "manifest of the deployed " + f.Name, Class: function.ClassReject, Kind: KindConflict, Err: err,
			Hint: "compare `mayfly version` with the agent's; or remove it: mayfly fn rm " + f.Name,
		}
	}
	set := map[string]string{}
	for _, a := range f.Config {
		set[a.Name] = a.Value
	}
	return m, applySettings(&m, set)
}
