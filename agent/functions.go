package agent

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"time"

	"mayfly/admin"
	"mayfly/agent/placement"
	"mayfly/agent/release"
	"mayfly/function"
	"mayfly/store"
	"mayfly/triggers/cron"
	"mayfly/wasm/admission"
)

// Deploy implements admin.Functions.
func (a *Agent) Deploy(ctx context.Context, d admin.Deployment, progress func(admin.Progress)) (admin.Function, error) {
	f := function.Function{Manifest: d.Manifest, Module: d.Digest, Deployed: time.Now()}
	f.Manifest.Source = string(d.Source)
	if old, ok := a.catalog.Get(f.Name()); ok {
		f.Paused = old.Paused
	}
	if err := a.acceptable(&f); err != nil {
		return admin.Function{}, err
	}
	if d.Canary != nil {
		f.Trial = true
		if _, err := a.beside(&f); err != nil {
			return admin.Function{}, err
		}
	}
	progress(admin.Progress{Stage: admin.StageCompile, Note: fmt.Sprintf("%d bytes for %s", len(d.Module), runtime.GOARCH)})
	info, err := a.engine.Compile(ctx, d.Module, admission.Limits{Memory: d.Manifest.Limits.Memory, ABI: d.Manifest.Module.ABI})
	if err == nil {
		err = a.engine.Load(ctx, &f) // its limits fit a slot here
	}
	if err != nil || d.DryRun {
		return a.shown(&f, nil), err
	}
	note := fmt.Sprintf("compiled in %d ms", info.Took.Milliseconds())
	if info.Cached {
		note = "compiled before"
	}
	progress(admin.Progress{Stage: admin.StageStore, Note: note})
	if err := a.keepModule(&d); err != nil {
		return admin.Function{}, err
	}
	put, err := a.put(ctx, &f, d.Canary)
	if err != nil {
		return admin.Function{}, err
	}
	progress(admin.Progress{Stage: admin.StageSubscribe})
	if err := a.reconcile(); err != nil {
		return admin.Function{}, err
	}
	progress(admin.Progress{Stage: admin.StageReady})
	a.log.Info("deployed", "function", f.Name(), "version", f.Manifest.Version, "module", f.Module.Short())
	return a.shown(put, a.counters()[f.Name()]), nil
}

// acceptable says why f cannot be deployed, before anything is done for it.
func (a *Agent) acceptable(f *function.Function) error {
	for _, c := range f.Manifest.Cron {
		if _, _, err := cron.Parse(f.Name(), c.Schedule); err != nil {
			return err
		}
	}
	if why := a.subs.unfit(f); why != "" {
		return &function.Error{Op: "deploy", Subject: f.Name(), Class: function.ClassReject, Kind: "state-scope", Err: errors.New(why)}
	}
	return a.catalog.Snapshot().Check(f)
}

// put makes f the deployed function, or the one on trial beside it.
func (a *Agent) put(ctx context.Context, f *function.Function, trial *function.CanaryRules) (*function.Function, error) {
	if trial != nil {
		return a.beginTrial(ctx, f, *trial)
	}
	if old, ok := a.catalog.Get(f.Name()); ok && (old.Module != f.Module || !reflect.DeepEqual(old.Manifest, f.Manifest)) {
		if err := a.remember(ctx, release.Of(old)); err != nil {
			return nil, err
		}
	}
	return a.catalog.Put(ctx, *f)
}

// List implements admin.Functions.
func (a *Agent) List(context.Context) ([]admin.Function, error) {
	counters := a.counters()
	var all []admin.Function
	for _, f := range a.catalog.List() {
		all = append(all, a.shown(f, counters[f.Name()]))
	}
	return all, nil
}

// Get implements admin.Functions.
func (a *Agent) Get(_ context.Context, name string) (admin.Function, error) {
	f, err := a.find(name)
	if err != nil {
		return admin.Function{}, err
	}
	shown := a.shown(f, a.counters()[name])
	shown.Manifest = f.Manifest.Source
	for _, c := range f.Manifest.Config {
		shown.Config = append(shown.Config, admin.Attr{Name: c.Key, Value: c.Value})
	}
	return shown, nil
}

func (a *Agent) find(name string) (*function.Function, error) {
	if f, ok := a.catalog.Get(name); ok {
		return f, nil
	}
	return nil, &function.Error{
		Op: "find", Subject: name, Class: function.ClassReject, Kind: admin.KindNotFound,
		Err: fmt.Errorf("no function of this name is deployed"), Hint: "mayfly fn ls",
	}
}

// Remove implements admin.Functions. Events that still wait become dead letters: an operator who removes the wrong function
// has lost nothing but its state.
func (a *Agent) Remove(ctx context.Context, name string) error {
	if _, err := a.find(name); err != nil {
		return err
	}
	if err := a.forgetHistory(ctx, name); err != nil {
		return err
	}
	if err := a.catalog.Delete(ctx, name); err != nil {
		return err
	}
	if err := a.reconcile(); err != nil {
		return err
	}
	return a.forget(name)
}

// erase deletes all keys below prefix, in batches.
func (a *Agent) erase(prefix []byte) error {
	for {
		var ops []store.Op
		err := a.store.Keys(prefix, nil, func(key []byte, _ uint64) bool {
			ops = append(ops, store.Op{Key: bytes.Clone(key), Delete: true})
			return len(ops) < 500
		})
		if err != nil || len(ops) == 0 {
			return err
		}
		if err := a.subs.commit(ops); err != nil {
			return err
		}
	}
}

// SetPaused implements admin.Functions.
func (a *Agent) SetPaused(ctx context.Context, name string, paused bool) (admin.Function, error) {
	f, err := a.catalog.SetPaused(ctx, name, paused)
	if err != nil {
		return admin.Function{}, err
	}
	if err := a.reconcile(); err != nil {
		return admin.Function{}, err
	}
	return a.shown(f, a.counters()[name]), nil
}

// shown is a function as people see it.
func (a *Agent) shown(f *function.Function, c *counted) admin.Function {
	m := &f.Manifest
	out := admin.Function{
		Name: m.Name, Version: m.Version, Description: m.Description, State: admin.StateReady, Digest: f.Module.String(),
		ABI: string(m.Module.ABI), Revision: f.Version, Deployed: f.Deployed, Triggers: a.triggers(f),
	}
	for _, module := range a.modules.List() {
		if module.Digest == f.Module {
			out.ModuleBytes = module.Size
		}
	}
	if f.Canary != nil {
		out.Canary = cmp.Or(f.Canary.Function.Manifest.Version, f.Canary.Function.Module.Short())
	}
	if c != nil {
		c.into(&out)
	}
	out.State, out.Reason, out.Hint = a.state(f, out.Triggers)
	return out
}

func (a *Agent) state(f *function.Function, all []admin.Trigger) (state, reason, hint string) {
	if d, lost := a.catalog.Snapshot().Dispute(f.Name(), ""); lost {
		return admin.StatePaused, d.Reason, "change what one of them publishes or listens to, or remove one: mayfly fn rm " + f.Name()
	}
	if f.Paused {
		return admin.StatePaused, "an operator paused it; its events wait", "mayfly fn resume " + f.Name()
	}
	if reason, hint, rests := a.budgets.resting(f.Name()); rests {
		return admin.StatePaused, reason, hint
	}
	if unmet := a.unmet(f); len(unmet) > 0 && !a.runsElsewhere(f) {
		return admin.StateFailed, "it may not run on this node: " + strings.Join(unmet, "; "), "mayfly config show, or change [placement] and deploy again"
	}
	for _, t := range all {
		if t.State != admin.StateReady {
			return t.State, t.Name + ": " + t.Reason, "mayfly status"
		}
	}
	return admin.StateReady, "", ""
}

// runsElsewhere says whether another live node may run f.
func (a *Agent) runsElsewhere(f *function.Function) bool {
	peers := a.viewer.View(f).Peers
	return slices.ContainsFunc(peers, func(n placement.Node) bool { return len(placement.Failed(f, &n)) == 0 })
}

func (a *Agent) triggers(f *function.Function) []admin.Trigger {
	all := []admin.Trigger{}
	for i := range f.Manifest.MQTT {
		t := admin.Trigger{Name: fmt.Sprintf("mqtt[%d]", i), State: admin.StateReady}
		m := &f.Manifest.MQTT[i]
		t.Spec = fmt.Sprintf("%s qos %d", m.Topic, m.QoS) + a.subs.ownership(f.Name(), t.Name)
		if why := a.subs.fault(f.Name(), t.Name); why != "" {
			t.State, t.Reason = admin.StateFailed, why
		} else if why := a.subs.waiting(m.Broker); why != "" {
			t.State, t.Reason = admin.StateStarting, why
		}
		all = append(all, t)
	}
	for i, h := range f.Manifest.HTTP {
		all = append(all, a.routed(f, fmt.Sprintf("http[%d]", i), h))
	}
	for i, c := range f.Manifest.Cron {
		all = append(all, a.scheduled(f, fmt.Sprintf("cron[%d]", i), c))
	}
	return all
}

func (a *Agent) scheduled(f *function.Function, name string, c function.CronTrigger) admin.Trigger {
	t := admin.Trigger{Name: name, Spec: c.Schedule, State: admin.StateReady}
	switch next, fault, waiting := a.ticks.state(f.Name(), name); {
	case fault != "":
		t.State, t.Reason = admin.StateFailed, fault
	case waiting != "":
		t.State, t.Reason = admin.StateStarting, waiting
	case !next.IsZero():
		t.Spec += ", next " + next.Format(time.RFC3339)
	}
	return t
}
