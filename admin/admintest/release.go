package admintest

import (
	"context"
	"errors"
	"strconv"

	"mayfly/admin"
	"mayfly/function"
)

// Releases makes an Agent admin.Releases: of each function it keeps what was before, and a version on trial.
type Releases struct{ *Agent }

var _ admin.Releases = Releases{}

// replace makes f the deployed one and keeps what was. a.mu is held.
func (a *Agent) replace(f deployed) {
	if old, ok := a.functions[f.Name]; ok && old.Digest != f.Digest {
		a.past[f.Name] = append([]deployed{old}, a.past[f.Name]...)
	}
	a.functions[f.Name] = f
}

// try puts f on trial. a.mu is held.
func (a *Agent) try(f deployed, rules function.CanaryRules) (admin.Function, error) {
	old, ok := a.functions[f.Name]
	if !ok {
		return admin.Function{}, &function.Error{
			Op: "canary", Subject: f.Name, Class: function.ClassReject, Kind: admin.KindConflict, Err: errors.New("nothing is deployed that it could be compared with"), Hint: "deploy it without --canary",
		}
	}
	old.Canary, old.trial, old.rules = f.Version, &f, rules
	a.functions[f.Name] = old
	return old.Function, nil
}

func version(f deployed, state string) admin.Version {
	return admin.Version{Function: f.Name, Revision: f.Revision, Version: f.Version, Digest: f.Digest, Deployed: f.Deployed, State: state, Here: true}
}

// History implements admin.Releases.
func (r Releases) History(_ context.Context, name string) ([]admin.Version, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f, ok := r.functions[name]
	if !ok {
		return nil, notFound("show", "function", name)
	}
	all := []admin.Version{version(f, admin.VersionDeployed)}
	for _, old := range r.past[name] {
		all = append(all, version(old, admin.VersionReplaced))
	}
	return all, nil
}

// Rollback implements admin.Releases.
func (r Releases) Rollback(_ context.Context, name, to string) (admin.Function, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f, ok := r.functions[name]
	if !ok {
		return admin.Function{}, notFound("roll back", "function", name)
	}
	for _, old := range r.past[name] {
		if to == "" || to == old.Version || to == strconv.FormatUint(old.Revision, 10) {
			old.Revision = f.Revision + 1
			r.replace(old)
			return old.Function, nil
		}
	}
	return admin.Function{}, notFound("roll back", "earlier version", name)
}

// Canary implements admin.Releases.
func (r Releases) Canary(_ context.Context, name string) (admin.Canary, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.functions[name]
	if f.trial == nil {
		return admin.Canary{}, notFound("canary", "version on trial", name)
	}
	return admin.Canary{
		Function: name, Version: f.trial.Version, Digest: f.trial.Digest, Beside: f.Version, Since: f.trial.Deployed, Rules: f.rules,
		Verdict: "open", Reason: "3 of 50 events", Waits: "more events", Old: admin.CanaryArm{Events: 27, P90US: 400}, New: admin.CanaryArm{Events: 3, Failed: 1, P90US: 900},
		Elsewhere: []admin.CanaryReport{{Node: "hall-2", Verdict: "good"}},
	}, nil
}

// EndCanary implements admin.Releases.
func (r Releases) EndCanary(_ context.Context, name string, promote bool) (admin.Function, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.functions[name]
	if f.trial == nil {
		return admin.Function{}, notFound("canary", "version on trial", name)
	}
	next := f
	if promote {
		next = *f.trial
	}
	next.Canary, next.trial, next.Revision = "", nil, f.Revision+1
	r.replace(next)
	return next.Function, nil
}
