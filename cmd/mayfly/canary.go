package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"mayfly/admin"
	"mayfly/function"
)

// trialOptions are the flags of a deployment that only puts a version on trial.
type trialOptions struct {
	share string
	rules function.CanaryRules
}

func (o *trialOptions) flags(flags *pflag.FlagSet) {
	o.rules = function.DefaultCanary()
	flags.StringVar(&o.share, "canary", "", "put it on trial: it gets this share of the events, such as 10%, the deployed version the rest")
	flags.DurationVar(&o.rules.For, "for", o.rules.For, "with --canary: it replaces the deployed version after this time, if it is no worse (0 = never by itself)")
	flags.IntVar(&o.rules.MinEvents, "min-events", o.rules.MinEvents, "with --canary: events it must have had on a node before it is judged there")
	flags.Float64Var(&o.rules.ErrorFactor, "max-errors", o.rules.ErrorFactor, "with --canary: its share of failures may be up to so many times the other's, and 1 %")
	flags.Float64Var(&o.rules.LatencyFactor, "max-latency", o.rules.LatencyFactor, "with --canary: nine tenths of its runs may take up to so many times as long, and 1 ms")
}

// asked returns the rules of a trial, nil when none is asked for.
func (o *trialOptions) asked() (*function.CanaryRules, error) {
	if o.share == "" {
		return nil, nil
	}
	percent, err := strconv.Atoi(strings.TrimSuffix(o.share, "%"))
	if err != nil {
		return nil, &usageError{text: fmt.Sprintf("--canary %q: want a whole number of percent", o.share), hint: "mayfly deploy --canary 10%"}
	}
	rules := o.rules
	rules.Percent = percent
	if err := rules.Check(); err != nil {
		return nil, &usageError{text: err.Error(), hint: "mayfly deploy --canary 10% --for 10m"}
	}
	return &rules, nil
}

func canaryCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "canary",
		Short: "Watch, promote or end a version on trial",
		Long: `A version deployed with mayfly deploy --canary 10% is on trial: it gets that share of the events, by their order key,
so that events that belong together meet one version. When it fails more often or takes longer than the deployed one, a
node gives it no more events and the trial ends; when it does no worse for long enough it replaces the deployed version.

In a cluster every node judges by what it sees. The trial ends everywhere by the word of a node that has an operator's
key; until then the others do without it by themselves.`,
		Example: "  mayfly deploy --canary 10% --for 30m\n  mayfly canary status overheat",
	}
	cmd.AddCommand(canaryStatus(a), canaryEnd(a, true), canaryEnd(a, false))
	return cmd
}

func canaryStatus(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "status NAME", Short: "How the version on trial does", Args: arguments("NAME"), ValidArgsFunction: a.functionNames,
		Long:    "How the version on trial does on this node beside the deployed one, what other nodes say, and what it waits for.",
		Example: "  mayfly canary status overheat -o json",
	}
	return showing(a, cmd, (*admin.Client).Canary, a.noSuch, view[admin.Canary]{
		name:   func(c admin.Canary) string { return c.Function },
		detail: func(w io.Writer, c admin.Canary, _ bool) { a.canaryDetail(w, c) },
	})
}

func (a *app) canaryDetail(w io.Writer, c admin.Canary) {
	arm := func(n admin.CanaryArm) string {
		return fmt.Sprintf("%d events here, %d failed, nine tenths of the runs within %s", n.Events, n.Failed, micros(n.P90US))
	}
	stopped := ""
	if c.Stopped {
		stopped = "; it gets no more events on this node"
	}
	fields(w, "function", c.Function, "on trial", fmt.Sprintf("%s, %d %% of the events for %s", orElse(c.Version, c.Digest), c.Rules.Percent, a.age(c.Since)),
		"verdict", c.Verdict+": "+c.Reason+stopped, "waits for", c.Waits, "new", arm(c.New), "deployed", orElse(c.Beside, "-")+": "+arm(c.Old))
	for _, e := range c.Elsewhere {
		fields(w, "on "+e.Node, strings.TrimSuffix(e.Verdict+": "+e.Reason, ": "))
	}
}

func canaryEnd(a *app, promote bool) *cobra.Command {
	cmd := &cobra.Command{
		Use: "abort NAME", Short: "End a trial", Args: arguments("NAME"), ValidArgsFunction: a.functionNames,
		Long:    "End a trial: the deployed version gets all events again. The other one is in the history, as failed.",
		Example: "  mayfly canary abort overheat",
	}
	if promote {
		cmd.Use, cmd.Short = "promote NAME", "Deploy the version on trial"
		cmd.Long = "Make the version on trial the deployed one, now, whatever the verdict. What it replaces is in the history."
		cmd.Example = "  mayfly canary promote overheat"
	}
	var spread time.Duration
	cmd.Flags().DurationVar(&spread, "nodes-timeout", 10*time.Second, "how long every live node of the cluster may take to know (0 = do not wait)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		f, err := a.orderedFunction(cmd.Context(), args[0], func() (admin.Function, error) { return a.client.EndCanary(cmd.Context(), args[0], promote) })
		if err != nil {
			return a.noSuch(cmd, args[0], err)
		}
		nodes, err := a.awaitNodes(cmd.Context(), f, spread)
		if err != nil {
			return err
		}
		a.note("%s is %s for all events%s", escape(f.Name), escape(orElse(f.Version, f.Digest)), nodes)
		return nil
	}
	return cmd
}
