package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"mayfly/admin"
)

// deploy is a guest under a name.
type deploy struct {
	name, guest string
	trigger     string // further lines of its trigger
	limits      string // further lines of [limits]
	timeout     string // default 2s
	config      string // lines of [config]
	state       bool
	more        string // further triggers
	silent      bool   // gets no load of its own
}

// usual are a function with state, one without, and one that asks for retries.
func usual(byID bool) []deploy {
	ledger := deploy{name: "ledger", guest: "ledger", state: true}
	if byID {
		ledger.trigger = "id = \"json.id\"\n"
	}
	return []deploy{ledger, {name: "relay", guest: "relay"}, {name: "flaky", guest: "flaky"}}
}

func (d *deploy) manifest() string {
	var b strings.Builder
	fmt.Fprintf(&b, "manifest = 1\nname = %q\nversion = \"1.0.0\"\n[module]\npath = \"%s.wasm\"\n", d.name, d.guest)
	fmt.Fprintf(&b, "[[trigger.mqtt]]\ntopic = \"in/%s/{key}\"\nqos = 1\n%s%s", d.name, d.trigger, d.more)
	fmt.Fprintf(&b, "[limits]\nmemory = \"2MiB\"\ntimeout = %q\n%s", cmp.Or(d.timeout, "2s"), d.limits)
	fmt.Fprintf(&b, "[retry]\nmax_attempts = 8\nbackoff = \"20ms..200ms\"\n")
	if d.state {
		fmt.Fprintf(&b, "[state]\nscope = \"node\"\nquota = \"16MiB\"\n")
	}
	fmt.Fprintf(&b, "[permissions]\npublish = [\"out/#\"]\n")
	if d.config != "" {
		fmt.Fprintf(&b, "[config]\n%s", d.config)
	}
	return b.String()
}

func (t *trial) deploy(d deploy) error {
	module, err := t.module(d.guest)
	if err != nil {
		return err
	}
	if _, err := t.agent.client.Deploy(t.ctx, admin.DeployRequest{File: "function.toml", Manifest: d.manifest()}, module, nil); err != nil {
		return fmt.Errorf("deploy %s: %w", d.name, err)
	}
	return t.agent.ready(t.ctx, 20*time.Second, func(s *admin.Status) bool {
		for _, f := range s.Functions {
			if f.Name == d.name { // nobody keeps what comes before there is a subscription
				return f.State == admin.StateReady && !slices.ContainsFunc(f.Triggers, func(g admin.Trigger) bool {
					return g.State != admin.StateReady || strings.Contains(g.Spec, "no owner yet")
				})
			}
		}
		return false
	})
}
