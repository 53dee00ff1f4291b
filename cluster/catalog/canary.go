package catalog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"mayfly/function"
)

// canary is a version on trial in the body of its function's record. A node of a version that does not know of trials runs the other one.
type canary struct {
	Manifest function.Manifest    `json:"manifest"`
	Module   string               `json:"module"`
	Since    time.Time            `json:"since"`
	Rules    function.CanaryRules `json:"rules"`
}

// trialVersion marks the version number of a function on trial: node to node its calls are told from those of the other one.
const trialVersion = 1 << 63

func canaryOf(f *function.Function) *canary {
	if f.Canary == nil {
		return nil
	}
	c := f.Canary
	return &canary{c.Function.Manifest, c.Function.Module.String(), c.Since, c.Rules}
}

// read returns the trial beside f.
func (c *canary) read(f *function.Function) (*function.Canary, error) {
	if c == nil {
		return nil, nil
	}
	digest, err := function.ParseDigest(c.Module)
	if err != nil {
		return nil, err
	}
	if c.Manifest.Name != f.Name() {
		return nil, fmt.Errorf("its canary is of %q", c.Manifest.Name)
	}
	if err := c.Rules.Check(); err != nil {
		return nil, err
	}
	return &function.Canary{
		Function: &function.Function{
			Manifest: c.Manifest, Module: digest, Version: f.Version | trialVersion, Deployed: c.Since, Paused: f.Paused, Trial: true,
		},
		Since: c.Since, Rules: c.Rules,
	}, nil
}

// Amend changes the function of that name, if what is there now is of version seen; else it is of class reject and kind "conflict", and
// nothing changes. It refuses what Put refuses, of a version on trial too. change must not do anything else.
func (c *Catalog) Amend(ctx context.Context, name string, seen uint64, change func(f *function.Function)) (*function.Function, error) {
	return c.changeFunction(ctx, "deploy", name, func(now *Snapshot, old *function.Function) (*function.Function, error) {
		if old == nil || old.Version != seen {
			return nil, refused("deploy", name, "conflict", errors.New("somebody changed the function at the same time"), "look at it again: mayfly fn show "+name)
		}
		f := *old
		change(&f)
		if err := now.Check(&f); err != nil {
			return nil, err
		}
		if f.Canary != nil {
			return &f, now.Check(f.Canary.Function)
		}
		return &f, nil
	})
}

// CanaryReport is what a node says of a version on trial, in its own record: so no operator's key is needed to say it.
type CanaryReport struct {
	Function string    `json:"function"`
	Since    time.Time `json:"since"`
	Verdict  string    `json:"verdict"`
	Reason   string    `json:"reason,omitempty"`
}
