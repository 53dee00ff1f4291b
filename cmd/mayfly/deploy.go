package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mayfly/admin"
	"mayfly/function"
)

type deployOptions struct {
	wait    bool
	dryRun  bool
	allow   bool
	timeout time.Duration
	spread  time.Duration
	set     []string
	from    registries
	trial   trialOptions
}

func deployCommand(a *app) *cobra.Command {
	var o deployOptions
	cmd := &cobra.Command{
		Use:   "deploy [DIR|function.toml|oci://...]",
		Short: "Deploy a function",
		Long: `Deploy the function of a folder (default: this one) to the agent, or replace it.

The agent checks manifest and module, compiles it and opens its triggers. Events that run meanwhile end with the
version they began with. In a cluster it is then waited for until every live node has it; exit code 7 says that one had
not in time, and it gets there by itself later.

A version that asks for permissions which the deployed one does not have is refused, unless you say that it shall have
them. See mayfly plan and mayfly caps diff.

A function in a registry is named by oci://HOST/REPOSITORY:TAG or, better, by @sha256:DIGEST: what is deployed is what
the tag meant at that moment, and its digest is told. See mayfly push.

With --canary it is on trial beside the deployed version, see mayfly canary. What it replaces stays in the history, see
mayfly rollback.`,
		Example: `  mayfly deploy examples/convert
  mayfly deploy --dry-run                 everything that could fail, without changing anything
  mayfly deploy --set limit_c=80 --wait
  mayfly deploy oci://registry.local/iot/overheat:1.2.0`,
		Args: arguments("[DIR|function.toml|oci://...]"),
	}
	flags := cmd.Flags()
	o.from.flags(cmd)
	flags.BoolVarP(&o.wait, "wait", "w", false, "wait until its triggers are open")
	flags.BoolVar(&o.dryRun, "dry-run", false, "check and compile, change nothing")
	flags.DurationVar(&o.timeout, "timeout", time.Minute, "how long --wait waits")
	flags.DurationVar(&o.spread, "nodes-timeout", 10*time.Second, "how long every live node of the cluster may take to have it (0 = do not wait)")
	flags.BoolVar(&o.allow, "allow-new-permissions", false, "let it have permissions that the deployed version does not have")
	flags.StringArrayVar(&o.set, "set", nil, "replace a value of [config]: KEY=VALUE (repeatable)")
	o.trial.flags(flags)
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.deploy(cmd.Context(), argOr(args, "."), o, *out)
	}
	return cmd
}

func (a *app) deploy(ctx context.Context, arg string, o deployOptions, out format) error {
	set, err := settings(o.set)
	if err != nil {
		return err
	}
	rules, err := o.trial.asked()
	if err != nil {
		return err
	}
	p, module, err := a.open(ctx, arg, o.from)
	if err != nil {
		return err
	}
	began := a.Now()
	req := admin.DeployRequest{File: p.file, Manifest: string(p.text), Set: set, DryRun: o.dryRun, AllowNewPermissions: o.allow, Canary: rules}
	var f admin.Function
	done, err := a.ordered(ctx, about("function", p.manifest.Name, deploys(req, module)), func() (err error) {
		f, err = a.client.Deploy(ctx, req, module, func(s admin.Progress) {
			a.progress("%s: %s %s", p.manifest.Name, s.Stage, escape(s.Note))
		})
		return err
	})
	if done {
		f, err = a.client.Function(ctx, p.manifest.Name)
	}
	if err == nil && o.wait && !o.dryRun {
		f, err = a.await(ctx, f, o.timeout)
	}
	nodes := ""
	if err == nil && !o.dryRun {
		nodes, err = a.awaitNodes(ctx, f, o.spread)
	}
	a.progress("")
	if err != nil {
		return err
	}
	version, did := f.Version, "deployed"
	switch {
	case o.dryRun:
		did = "could be deployed; nothing was changed"
	case rules != nil:
		version, did = p.manifest.Version, fmt.Sprintf("on trial with %d %% of the events", rules.Percent)
	}
	a.note("%s %s %s%s in %s", f.Name, version, did, nodes, micros(a.Now().Sub(began).Microseconds()))
	return one(a, out, a.deployedView(), f)
}

// deployedView shows a function that was just deployed.
func (a *app) deployedView() view[admin.Function] {
	v := functionView(a)
	v.detail = func(w io.Writer, f admin.Function, _ bool) { a.deployLine(w, f) }
	return v
}

// deployLine says how the function is now and, when it is not well, what to type.
func (a *app) deployLine(w io.Writer, f admin.Function) {
	fmt.Fprintf(w, "%s %s %s", escape(f.Name), escape(f.Version), a.paint(f.State))
	if f.Reason != "" {
		fmt.Fprintf(w, ": %s", escape(f.Reason))
	}
	fmt.Fprintln(w)
	if f.Canary != "" {
		fmt.Fprintf(w, "  beside it %s is on trial: mayfly canary status %s\n", escape(f.Canary), escape(f.Name))
	}
	for _, t := range f.Triggers {
		fmt.Fprintf(w, "  %s %s\n", escape(t.Name), escape(t.Spec))
	}
	if f.Hint != "" {
		fmt.Fprintf(w, "  next: %s\n", escape(f.Hint))
	}
}

// settings reads KEY=VALUE words.
func settings(words []string) (map[string]string, error) {
	set := map[string]string{}
	for _, w := range words {
		key, value, ok := strings.Cut(w, "=")
		if !ok || key == "" {
			return nil, &usageError{text: fmt.Sprintf("--set %q: want KEY=VALUE", w), hint: "mayfly deploy --set limit_c=80"}
		}
		set[key] = value
	}
	return set, nil
}

// await asks until f is ready, has failed, or the time is over; then it shows the last lines the function logged.
func (a *app) await(ctx context.Context, f admin.Function, timeout time.Duration) (admin.Function, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, errTimeout)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for f.State == admin.StateStarting {
		a.progress("%s: %s", f.Name, escape(f.Reason))
		select {
		case <-ctx.Done():
			if !errors.Is(context.Cause(ctx), errTimeout) {
				return f, ctx.Err()
			}
			a.lastLines(context.WithoutCancel(ctx), f.Name)
			return f, &function.Error{
				Op: "deploy", Subject: f.Name, Class: function.ClassRetry, Kind: kindTimeout,
				Err: fmt.Errorf("it is deployed but not ready after %v: %s", timeout, f.Reason), Hint: orElse(f.Hint, "mayfly status"),
			}
		case <-tick.C:
		}
		next, err := a.client.Function(ctx, f.Name)
		if err != nil {
			continue // the deadline decides
		}
		f = next
	}
	if f.State == admin.StateFailed {
		a.lastLines(ctx, f.Name)
		return f, &function.Error{
			Op: "deploy", Subject: f.Name, Class: function.ClassReject, Kind: "failed",
			Err: fmt.Errorf("it is deployed but cannot run: %s", f.Reason), Hint: orElse(f.Hint, "mayfly fn show "+f.Name),
		}
	}
	return f, nil
}

var errTimeout = errors.New("the time is over")

// lastLines shows on standard error what the function logged last; no lines or no answer is no news.
func (a *app) lastLines(ctx context.Context, name string) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	_ = a.client.Logs(ctx, admin.LogQuery{Function: name, Limit: 20}, func(f admin.Frame[admin.LogRecord]) error {
		if f.Record != nil {
			a.note("%s", a.logLine(*f.Record))
		}
		return nil
	})
}

func orElse(s, without string) string {
	if s == "" {
		return without
	}
	return s
}
