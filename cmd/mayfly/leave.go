package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"mayfly/admin"
)

func leaveCommand(a *app) *cobra.Command {
	var req admin.LeaveRequest
	cmd := &cobra.Command{
		Use: "leave", Short: "Take this node out of its cluster", Args: arguments(),
		Long: `Take this node out of its cluster. It hands over its triggers, tells the others, forgets the membership and starts anew,
alone and empty: the cluster's functions stop here and go on elsewhere; their state on this node and the secrets are
deleted, dead letters and usage stay. It can join again, here or elsewhere, with a new token.

A node that holds the authority's key leaves only with --force, unless nobody else was ever there; its keys are then put
aside in the data directory, as cluster.left-DATE.

Leaving is no revocation: whoever copied this node's keys before could still use them. For a device you do not trust any
more: mayfly nodes revoke, on another node.`,
		Example: "  mayfly leave --yes",
	}
	a.yesFlag(cmd)
	cmd.Flags().BoolVar(&req.Force, "force", false, "also if it holds the authority's key and there are others")
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := a.confirm("leave the cluster, and delete here what the cluster runs?"); err != nil {
			return err
		}
		began := a.started(cmd.Context())
		l, err := a.client.Leave(cmd.Context(), req)
		if err != nil {
			return err
		}
		a.awaitRestart(cmd.Context(), l.Restarts, "alone", began)
		if l.Others > 0 && !l.Heard {
			a.note("no other node has answered that it knows; they see this one as down until: mayfly nodes revoke, there")
		}
		return one(a, *out, leftView(), l)
	}
	return cmd
}

func leftView() view[admin.Left] {
	return view[admin.Left]{
		name: func(l admin.Left) string { return l.Cluster },
		detail: func(w io.Writer, l admin.Left, _ bool) {
			fmt.Fprintf(w, "left %s; this node is alone now\n", escape(l.Cluster))
		},
	}
}
