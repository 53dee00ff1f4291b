package agent

import (
	"context"
	"encoding/json"
	"maps"
	"runtime"
	"slices"
	"time"

	"mayfly/agent/changelog"
	"mayfly/agent/placement"
	"mayfly/cluster"
	"mayfly/cluster/catalog"
	"mayfly/store"
)

// wish is what operators want of a node, besides what the node's own configuration says. Its record's key is nodeWish and the id.
type wish struct {
	Labels  []string `json:"labels,omitempty"`  // that it has besides its own
	Without []string `json:"without,omitempty"` // of its own
	Drain   bool     `json:"drain,omitempty"`
}

const nodeWish = "node/"

func wishOf(s *catalog.Snapshot, node string) (w wish) {
	if r, ok := s.Record(catalog.KindConfig, nodeWish+node); ok {
		_ = json.Unmarshal(r.Body, &w) // of another version: no wish this one knows
	}
	return w
}

// with adds what was wished at the node's own door.
func (w wish) with(own wish) wish {
	return wish{
		Labels: slices.Concat(w.Labels, own.Labels), Without: slices.Concat(w.Without, own.Without), Drain: w.Drain || own.Drain,
	}
}

// labels are this node's: those of its configuration and of its join token, and what operators changed of them.
func (a *Agent) labels(w wish) []string {
	_, granted := a.member.Named()
	set := map[string]bool{}
	for _, l := range slices.Concat(a.cfg.Node.Labels, granted, w.Labels) {
		set[l] = true
	}
	for _, l := range w.Without {
		delete(set, l)
	}
	return slices.Sorted(maps.Keys(set))
}

// follow makes this node like the catalog, whoever changed it, until ctx ends.
func (a *Agent) follow(ctx context.Context) error {
	before := map[string]bool{}
	for _, f := range a.catalog.List() {
		before[f.Name()] = true
	}
	for {
		now := a.catalog.Snapshot()
		a.obey(ctx, wishOf(now, a.node.ID))
		if err := a.reconcile(); err != nil {
			a.log.Error("not everything that is deployed could be started; trying again", "err", err)
		}
		a.pool.bell.ring()
		before = a.tidy(now, before)
		retry := time.NewTimer(time.Minute)
		select {
		case <-ctx.Done():
			retry.Stop()
			return nil
		case <-now.Next():
		case <-retry.C:
		}
		retry.Stop()
	}
}

// obey makes this node what operators want it to be, and says so.
func (a *Agent) obey(ctx context.Context, w wish) {
	own, err := a.ownWish()
	if err != nil {
		a.log.Warn("what was wished of this node at its own door cannot be read", "err", err)
	}
	w = w.with(own)
	labels := a.labels(w)
	a.viewer.change(func(n *placement.Node) { n.Labels, n.Draining = labels, w.Drain })
	a.pool.gossip.UpdateMeta(func(m *cluster.Meta) { m.Draining = w.Drain })
	n := catalog.Node{
		Name: a.cfg.Node.Name, Zone: a.cfg.Cluster.Zone, Labels: labels, Version: a.version, Arch: runtime.GOARCH, OS: runtime.GOOS,
		Capabilities: a.capabilities(), Canaries: reportsFor(a.trials.told()),
	}
	a.describing.Lock()
	defer a.describing.Unlock()
	if a.gone.Load() {
		return
	}
	if err = a.catalog.PutNode(ctx, n); err != nil && ctx.Err() == nil {
		a.log.Warn("the other nodes cannot be told what this node is; trying again", "err", err)
	}
}

// tidy removes what functions left that are gone. Who removed them did it there.
func (a *Agent) tidy(now *catalog.Snapshot, before map[string]bool) (after map[string]bool) {
	after = map[string]bool{}
	for _, f := range now.List() {
		after[f.Name()] = true
	}
	damaged := now.Damaged()
	for name := range before {
		if after[name] || slices.Contains(damaged, name) {
			after[name] = true
			continue
		}
		if err := a.forget(name); err != nil {
			a.log.Warn("what a removed function left could not be deleted; trying again", "function", name, "err", err)
			after[name] = true // so that it is tried again
		}
	}
	return after
}

// forget deletes everything of a function that is gone but its dead letters.
func (a *Agent) forget(name string) error {
	a.engine.Unload(name)
	for _, prefix := range [][]byte{store.State.Prefix(name), store.Done.Prefix(name), changelog.Prefix(name)} {
		if err := a.erase(prefix); err != nil {
			return err
		}
	}
	for _, m := range a.modules.List() {
		if !a.wanted(m.Digest) {
			if err := a.modules.Remove(m.Digest); err != nil {
				return err
			}
		}
	}
	a.log.Info("removed", "function", name)
	return nil
}

// prefetch gets the modules ready of the functions that belong to this node, until ctx ends: where placement sends calls first, they need
// not wait for a module to be fetched and compiled.
func (a *Agent) prefetch(ctx context.Context) error {
	for {
		now, members := a.catalog.Snapshot(), a.pool.gossip.Watch()
		view := a.viewer.now()
		missing := false
		for _, f := range now.List() {
			if ctx.Err() != nil || !slices.Contains(placement.RingOf(f, view).Members, placement.Here) {
				continue
			}
			for _, f := range loadable(f) {
				if err := a.engine.Load(ctx, f); err != nil {
					missing = true
					a.log.Debug("a module is not ready here yet", "function", f.Name(), "err", err)
				}
			}
		}
		wait := time.NewTimer(time.Hour)
		if missing {
			wait.Reset(10 * time.Second)
		}
		select {
		case <-ctx.Done():
			wait.Stop()
			return nil
		case <-now.Next():
		case <-members:
		case <-wait.C:
		}
		wait.Stop()
	}
}
