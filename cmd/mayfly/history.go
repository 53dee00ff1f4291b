package main

import (
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"mayfly/admin"
)

func fnHistory(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "history NAME", Short: "Show what was deployed before", Args: arguments("NAME"), ValidArgsFunction: a.functionNames,
		Long: `Show the deployed version of a function and up to ten that were before it, newest first. A version whose module is gone
from this node is fetched from another node when somebody goes back to it.`,
		Example: "  mayfly fn history overheat\n  mayfly rollback overheat",
	}
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		all, err := a.client.History(cmd.Context(), args[0])
		if err != nil {
			return a.noSuch(cmd, args[0], err)
		}
		return list(a, *out, versionView(a), all)
	}
	return cmd
}

func versionView(a *app) view[admin.Version] {
	here := map[bool]string{true: "yes", false: "no"}
	return view[admin.Version]{
		name: func(v admin.Version) string { return strconv.FormatUint(v.Revision, 10) },
		columns: []column[admin.Version]{
			{head: "REVISION", cell: func(v admin.Version) string { return strconv.FormatUint(v.Revision, 10) }},
			{head: "VERSION", cell: func(v admin.Version) string { return orElse(v.Version, "-") }},
			{head: "MODULE", cell: func(v admin.Version) string { return v.Digest[:min(len(v.Digest), 19)] }},
			{head: "AGE", cell: func(v admin.Version) string { return a.age(v.Deployed) }},
			{head: "STATE", cell: func(v admin.Version) string { return v.State }},
			{head: "HERE", wide: true, cell: func(v admin.Version) string { return here[v.Here] }},
			{head: "REASON", cell: func(v admin.Version) string { return orElse(v.Reason, "-") }},
		},
	}
}

func rollbackCommand(a *app) *cobra.Command {
	var to string
	var spread time.Duration
	cmd := &cobra.Command{
		Use: "rollback NAME", Short: "Deploy the version before again", Args: arguments("NAME"), ValidArgsFunction: a.functionNames,
		Long: `Deploy an earlier version of a function again, with the module, manifest and settings it had: the one before the present
one, or the one named with --to. That is a deployment like any other: it is in the history, so that going back twice is
going forward again; events that run end with the version they began with; a version on trial ends. The version may what
it was permitted when it was deployed.`,
		Example: "  mayfly rollback overheat\n  mayfly rollback overheat --to 1.2.0",
	}
	cmd.Flags().StringVar(&to, "to", "", "revision, version or beginning of the module's digest; see mayfly fn history")
	cmd.Flags().DurationVar(&spread, "nodes-timeout", 10*time.Second, "how long every live node of the cluster may take to have it (0 = do not wait)")
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		f, err := a.orderedFunction(cmd.Context(), args[0], func() (admin.Function, error) { return a.client.Rollback(cmd.Context(), args[0], to) })
		if err != nil {
			return a.noSuch(cmd, args[0], err)
		}
		nodes, err := a.awaitNodes(cmd.Context(), f, spread)
		if err != nil {
			return err
		}
		a.note("%s is %s again%s", escape(f.Name), escape(orElse(f.Version, f.Digest)), nodes)
		return one(a, *out, a.deployedView(), f)
	}
	return cmd
}
