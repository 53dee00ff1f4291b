package agent

import (
	"context"
	"time"

	"mayfly/admin"
	"mayfly/agent/dispatch"
	"mayfly/agent/release"
	"mayfly/cluster/catalog"
	"mayfly/function"
)

// Canary implements admin.Releases.
func (a releases) Canary(_ context.Context, name string) (admin.Canary, error) {
	f, err := a.find(name)
	if err != nil {
		return admin.Canary{}, err
	}
	if err := noCanary(f); err != nil {
		return admin.Canary{}, err
	}
	c := f.Canary
	out := admin.Canary{
		Function: name, Version: c.Function.Manifest.Version, Digest: c.Function.Module.String(), Beside: f.Manifest.Version,
		Since: c.Since, Rules: c.Rules, Verdict: string(release.Open), Elsewhere: []admin.CanaryReport{},
	}
	for _, t := range a.dispatch.Trials() {
		if t.Function.Name() == name && t.Canary.Since.Equal(c.Since) {
			r := a.verdict(&t)
			out.Verdict, out.Reason, out.Stopped = string(r.Verdict), r.Reason, t.Stopped || r.Verdict == release.Worse
			out.Old, out.New = armOf(t.Old), armOf(t.New)
		}
	}
	for _, e := range a.heard(name, c.Since) {
		out.Elsewhere = append(out.Elsewhere, admin.CanaryReport{Node: e.node, Verdict: string(e.Verdict), Reason: e.Reason})
	}
	out.Waits = a.waitsFor(&out)
	return out, nil
}

func armOf(t dispatch.Arm) admin.CanaryArm {
	return admin.CanaryArm{Events: t.Events, Failed: t.Failed, P90US: t.P90.Microseconds()}
}

// waitsFor says what has to happen before a trial ends.
func (a releases) waitsFor(c *admin.Canary) string {
	worse, good := c.Verdict == string(release.Worse), c.Verdict == string(release.Good)
	for _, e := range c.Elsewhere {
		worse, good = worse || e.Verdict == string(release.Worse), good || e.Verdict == string(release.Good)
	}
	left := c.Rules.For - time.Since(c.Since)
	switch {
	case worse && !a.maySign():
		return "a node with an operator's key: it ends the trial when it hears of it"
	case worse:
		return "it is being ended"
	case !good:
		return "more events"
	case c.Rules.For == 0:
		return "an operator"
	case left > 0:
		return left.Round(time.Second).String()
	case !a.maySign():
		return "a node with an operator's key: it promotes it"
	}
	return "it is being promoted"
}

// EndCanary implements admin.Releases.
func (a releases) EndCanary(ctx context.Context, name string, promote bool) (admin.Function, error) {
	f, err := a.find(name)
	if err != nil {
		return admin.Function{}, err
	}
	out, err := a.endTrial(ctx, f, promote, "an operator ended its trial")
	if err != nil {
		return admin.Function{}, err
	}
	return a.shown(out, a.counters()[name]), nil
}

// reportsIn are the reports in a node's record, reportsFor the other way round.
func reportsIn(said []catalog.CanaryReport) []release.Report {
	var all []release.Report
	for _, r := range said {
		all = append(all, release.Report{Function: r.Function, Since: r.Since, Verdict: release.Verdict(r.Verdict), Reason: r.Reason})
	}
	return all
}

func reportsFor(all []release.Report) []catalog.CanaryReport {
	var out []catalog.CanaryReport
	for _, r := range all {
		out = append(out, catalog.CanaryReport{Function: r.Function, Since: r.Since, Verdict: string(r.Verdict), Reason: r.Reason})
	}
	return out
}

var _ admin.Releases = releases{}

// loadable are the versions of f that calls may be of.
func loadable(f *function.Function) []*function.Function {
	if f.Canary == nil {
		return []*function.Function{f}
	}
	return []*function.Function{f, f.Canary.Function}
}

// meant is the version of f that another node's call is of: the one on trial, if it says so.
func meant(f *function.Function, version uint64) *function.Function {
	if f != nil && f.Canary != nil && f.Canary.Function.Version == version {
		return f.Canary.Function
	}
	return f
}
