package agent

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"mayfly/admin"
	"mayfly/agent/dispatch"
	"mayfly/agent/release"
	"mayfly/function"
)

// canaries are the trials as this node sees them.
type canaries struct {
	mu      sync.Mutex
	reports []release.Report // this node's, sorted by function
}

// of returns this node's report about a trial.
func (c *canaries) of(name string, since time.Time) (release.Report, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return reportOf(c.reports, name, since)
}

func reportOf(all []release.Report, name string, since time.Time) (release.Report, bool) {
	i := slices.IndexFunc(all, func(r release.Report) bool { return r.About(name, since) })
	if i < 0 {
		return release.Report{}, false
	}
	return all[i], true
}

// say replaces this node's reports, and tells whether their verdicts changed. Reasons alone change with every event: they are not worth a
// record of the catalog.
func (c *canaries) say(all []release.Report) (changed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	same := slices.EqualFunc(all, c.reports, func(a, b release.Report) bool { return a.About(b.Function, b.Since) && a.Verdict == b.Verdict })
	if !same {
		c.reports = all
	}
	return !same
}

// told returns what other nodes are told: verdicts only.
func (c *canaries) told() []release.Report {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(c.reports), func(r release.Report) bool { return r.Verdict == release.Open })
}

const canaryEvery = time.Second

// watchCanaries judges the versions on trial until ctx ends: one that is worse gets no more events of this node at once [R4], and the trial ends
// on all nodes as soon as one with an operator's key hears of it.
func (a *Agent) watchCanaries(ctx context.Context) error {
	tick := time.NewTicker(canaryEvery)
	defer tick.Stop()
	for {
		a.judge(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// judge looks at all trials once.
func (a *Agent) judge(ctx context.Context) {
	var mine []release.Report
	trials := a.dispatch.Trials()
	slices.SortFunc(trials, func(x, y dispatch.Trial) int { return compareNames(x.Function, y.Function) })
	for i := range trials {
		mine = append(mine, a.verdict(&trials[i]))
	}
	if a.trials.say(mine) && a.pool != nil {
		a.obey(ctx, wishOf(a.catalog.Snapshot(), a.node.ID)) // the others hear of it by this node's record
	}
	if !a.maySign() {
		return
	}
	for i := range trials {
		t := &trials[i]
		r, ok := a.trials.of(t.Function.Name(), t.Canary.Since)
		all := a.heard(t.Function.Name(), t.Canary.Since)
		reports := make([]release.Report, 0, len(all)+1)
		for _, e := range all {
			reports = append(reports, e.Report)
		}
		if ok {
			reports = append(reports, r)
		}
		verdict, why := release.Decide(t.Canary.Rules, time.Since(t.Canary.Since), reports)
		if verdict != release.Open {
			a.concludeTrial(ctx, t.Function, verdict == release.Good, why)
		}
	}
}

func compareNames(f, g *function.Function) int {
	switch {
	case f.Name() < g.Name():
		return -1
	case f.Name() > g.Name():
		return 1
	}
	return 0
}

// verdict is this node's about one trial; one that was found to be worse stays so, over a restart too when the node is in a cluster.
func (a *Agent) verdict(t *dispatch.Trial) release.Report {
	name, since := t.Function.Name(), t.Canary.Since
	r := release.Report{Function: name, Since: since}
	if before, ok := a.trials.of(name, since); ok && before.Verdict == release.Worse {
		return before
	}
	if own, ok := reportOf(a.saidBefore(), name, since); ok && own.Verdict == release.Worse {
		a.dispatch.StopTrial(name, since)
		return own
	}
	r.Verdict, r.Reason = release.Judge(t.Canary.Rules, release.Arm(t.Old), release.Arm(t.New))
	if r.Verdict == release.Worse {
		a.dispatch.StopTrial(name, since)
		a.log.Warn("a version on trial is worse than the deployed one; it gets no more events here", "function", name, "version", t.Canary.Function.Manifest.Version, "why", r.Reason)
	}
	return r
}

// saidBefore is what this node said of trials, as the catalog has it.
func (a *Agent) saidBefore() []release.Report {
	for _, n := range a.catalog.Snapshot().Nodes() {
		if n.ID == a.node.ID {
			return reportsIn(n.Canaries)
		}
	}
	return nil
}

// reportFrom is what another node says.
type reportFrom struct {
	release.Report
	node string // its name
}

// heard returns what the other nodes say of a trial.
func (a *Agent) heard(name string, since time.Time) (all []reportFrom) {
	for _, n := range a.catalog.Snapshot().Nodes() {
		if r, ok := reportOf(reportsIn(n.Canaries), name, since); ok && n.ID != a.node.ID {
			all = append(all, reportFrom{r, n.Name})
		}
	}
	return all
}

// maySign says whether a change that this node makes is obeyed by the others.
func (a *Agent) maySign() bool {
	return a.orders == nil || a.orders.operator != nil || a.orders.member.Trust().Development()
}

// concludeTrial ends a trial by the rules.
func (a *Agent) concludeTrial(ctx context.Context, f *function.Function, promote bool, why string) {
	if _, err := a.endTrial(ctx, f, promote, why); err != nil && ctx.Err() == nil && function.KindOf(err) != admin.KindConflict {
		a.log.Error("a trial is over and could not be ended; trying again", "function", f.Name(), "err", err)
	} else if err == nil {
		a.log.Info("a trial is over", "function", f.Name(), "promoted", promote, "why", why)
	}
}

// endTrial makes the version on trial beside f the deployed one, or drops it, if f is still what is deployed. What goes is in the history first.
func (a *Agent) endTrial(ctx context.Context, f *function.Function, promote bool, why string) (*function.Function, error) {
	if err := noCanary(f); err != nil {
		return nil, err
	}
	gone := release.Of(f.Canary.Function)
	gone.Revision, gone.Failed = f.Version, why
	if promote {
		gone = release.Of(f)
	}
	if err := a.remember(ctx, gone); err != nil {
		return nil, err
	}
	out, err := a.catalog.Amend(ctx, f.Name(), f.Version, func(next *function.Function) {
		if promote {
			next.Manifest, next.Module = f.Canary.Function.Manifest, f.Canary.Function.Module
			next.Deployed = time.Now().UTC().Truncate(time.Millisecond)
		}
		next.Canary = nil
	})
	if err != nil {
		return nil, err
	}
	return out, a.reconcile()
}

func noCanary(f *function.Function) error {
	if f.Canary != nil {
		return nil
	}
	return &function.Error{
		Op: "canary", Subject: f.Name(), Class: function.ClassReject, Kind: admin.KindNotFound, Err: errNoCanary, Hint: "mayfly deploy DIR --canary 10%",
	}
}

// beginTrial puts f on trial beside what is deployed under its name.
func (a *Agent) beginTrial(ctx context.Context, f *function.Function, rules function.CanaryRules) (*function.Function, error) {
	old, err := a.beside(f)
	if err != nil {
		return nil, err
	}
	now := time.Now().UTC().Truncate(time.Millisecond)
	f.Trial, f.Deployed = true, now
	return a.catalog.Amend(ctx, f.Name(), old.Version, func(next *function.Function) {
		next.Canary = &function.Canary{Function: f, Since: now, Rules: rules}
	})
}

// beside returns the version f would be on trial beside, or why it cannot be.
func (a *Agent) beside(f *function.Function) (*function.Function, error) {
	refuse := func(err error, hint string) (*function.Function, error) {
		return nil, &function.Error{Op: "canary", Subject: f.Name(), Class: function.ClassReject, Kind: admin.KindConflict, Err: err, Hint: hint}
	}
	old, ok := a.catalog.Get(f.Name())
	switch {
	case !ok:
		return refuse(errors.New("nothing is deployed that it could be compared with"), "deploy it without --canary")
	case old.Canary != nil:
		return refuse(errors.New("another version is on trial"), "mayfly canary status "+f.Name()+"; then promote or abort it")
	}
	if err := function.Comparable(&old.Manifest, &f.Manifest); err != nil {
		return refuse(err, "deploy it without --canary")
	}
	return old, nil
}
