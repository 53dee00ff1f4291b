package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"mayfly/admin"
	"mayfly/agent/release"
	"mayfly/cluster/catalog"
	"mayfly/function"
)

// keptModules are the modules that belong to something, as of a snapshot of the catalog.
type keptModules struct {
	of   *catalog.Snapshot
	now  map[function.Digest]bool // of deployed functions and their canaries
	past map[function.Digest]bool // of histories
}

// kept returns which modules belong to something.
func (a *Agent) kept() *keptModules {
	s := a.catalog.Snapshot()
	if k := a.keeping.Load(); k != nil && k.of == s {
		return k
	}
	k := &keptModules{s, map[function.Digest]bool{}, map[function.Digest]bool{}}
	for _, f := range s.List() {
		k.now[f.Module] = true
		if f.Canary != nil {
			k.now[f.Canary.Function.Module] = true
		}
	}
	for _, r := range s.Records(catalog.KindHistory) {
		h, err := release.Decode(r.Body)
		if err != nil {
			continue // told when somebody asks for it
		}
		for _, v := range h {
			if d, err := function.ParseDigest(v.Module); err == nil {
				k.past[d] = true
			}
		}
	}
	a.keeping.Store(k)
	return k
}

// deployed says whether a module belongs to a deployed function or to one on trial.
func (a *Agent) deployed(d function.Digest) bool { return a.kept().now[d] }

// wanted says whether a module belongs to a function, or to a version that somebody may go back to [R2].
func (a *Agent) wanted(d function.Digest) bool {
	k := a.kept()
	return k.now[d] || k.past[d]
}

// history returns what was before; one that cannot be read is none, and is replaced by the next deployment.
func (a *Agent) history(name string) release.History {
	r, ok := a.catalog.Snapshot().Record(catalog.KindHistory, name)
	if !ok {
		return nil
	}
	h, err := release.Decode(r.Body)
	if err != nil {
		a.log.Warn("what was deployed before cannot be read", "function", name, "err", err)
	}
	return h
}

// remember adds a version to the history of its function. It happens before that version is replaced: whenever we die, what is not deployed any
// more is in the history [R2].
func (a *Agent) remember(ctx context.Context, v release.Version) error {
	name := v.Manifest.Name
	body, err := a.history(name).With(v).Encode()
	if err == nil {
		_, err = a.catalog.Set(ctx, catalog.KindHistory, name, body)
	}
	if err != nil {
		return &function.Error{
			Op: "deploy", Subject: name, Class: function.ClassOf(err), Kind: function.KindOf(err), Err: fmt.Errorf("the present version cannot be put into the history: %w", err),
		}
	}
	return nil
}

// forgetHistory ends the history of a function that is removed.
func (a *Agent) forgetHistory(ctx context.Context, name string) error {
	err := a.catalog.Remove(ctx, catalog.KindHistory, name)
	if function.KindOf(err) == admin.KindNotFound {
		return nil
	}
	return err
}

// releases implements admin.Releases.
type releases struct{ *Agent }

// History implements admin.Releases.
func (a releases) History(_ context.Context, name string) ([]admin.Version, error) {
	f, err := a.find(name)
	if err != nil {
		return nil, err
	}
	all := []admin.Version{a.versionOf(release.Of(f), admin.VersionDeployed)}
	if f.Canary != nil {
		all = append([]admin.Version{a.versionOf(release.Of(f.Canary.Function), admin.VersionCanary)}, all...)
		all[0].Revision = f.Version
	}
	for _, v := range a.history(name) {
		state := admin.VersionReplaced
		if v.Failed != "" {
			state = admin.VersionFailed
		}
		all = append(all, a.versionOf(v, state))
	}
	return all, nil
}

func (a releases) versionOf(v release.Version, state string) admin.Version {
	d, _ := function.ParseDigest(v.Module) // checked when it was read
	return admin.Version{
		Function: v.Manifest.Name, Revision: v.Revision, Version: v.Manifest.Version, Digest: v.Module, Deployed: v.Deployed, State: state, Reason: v.Failed, Here: a.modules.Has(d),
	}
}

// Rollback implements admin.Releases: what is gone back to is deployed like anything new, and what it replaces is in the history then. A trial
// that is under way ends.
func (a releases) Rollback(ctx context.Context, name, to string) (admin.Function, error) {
	f, err := a.find(name)
	if err != nil {
		return admin.Function{}, err
	}
	v, err := a.history(name).Find(to, release.Of(f))
	if err != nil {
		return admin.Function{}, &function.Error{
			Op: "roll back", Subject: name, Class: function.ClassReject, Kind: admin.KindNotFound, Err: err, Hint: "mayfly fn history " + name,
		}
	}
	digest, err := function.ParseDigest(v.Module)
	if err != nil {
		return admin.Function{}, err
	}
	fetch, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	module, err := shelf{a.Agent}.Module(fetch, digest)
	if err != nil {
		return admin.Function{}, &function.Error{
			Op: "roll back", Subject: name, Class: function.ClassReject, Kind: admin.KindNotFound,
			Err: fmt.Errorf("its module %s is not to be had: %w", digest.Short(), err), Hint: "deploy that version from where it was built or pushed",
		}
	}
	a.log.Info("going back", "function", name, "to", v.Manifest.Version, "module", digest.Short())
	return a.Deploy(ctx, admin.Deployment{Manifest: v.Manifest, Source: []byte(v.Manifest.Source), Module: module, Digest: digest}, func(admin.Progress) {})
}

// keepModule stores a module. Where there is no room beside those of earlier versions, these give way: what is deployed comes first.
func (a *Agent) keepModule(d *admin.Deployment) error {
	err := a.modules.Put(d.Digest, bytes.NewReader(d.Module), a.wanted)
	if function.KindOf(err) == "quota" {
		a.log.Warn("modules of earlier versions give way to a new one; to keep more, raise the quota of modules", "function", d.Manifest.Name)
		err = a.modules.Put(d.Digest, bytes.NewReader(d.Module), a.deployed)
	}
	return err
}

var errNoCanary = errors.New("no version of it is on trial")
