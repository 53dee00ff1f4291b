package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mayfly/admin"
)

func initCommand(a *app) *cobra.Command {
	var req admin.InitRequest
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make a cluster, of which this node is the first",
		Long: `Make a cluster of which this node is the first. The agent makes the cluster's authority, its gossip key and a
certificate for itself; what is deployed goes on running. Others join with a token: mayfly token create.`,
		Example: "  mayfly init --cluster plant\n  mayfly token create",
		Args:    arguments(),
	}
	cmd.Flags().StringVar(&req.Name, "cluster", "", "name of the cluster (default: the agent chooses)")
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		began := a.started(cmd.Context())
		c, err := a.client.Init(cmd.Context(), req)
		if err != nil {
			return err
		}
		a.awaitRestart(cmd.Context(), c.Restarts, "as a member of "+c.Name, began)
		a.note("next: mayfly token create, and on the other device: mayfly join TOKEN --via HOST:PORT")
		return one(a, *out, clusterView(a), c)
	}
	return cmd
}

func joinCommand(a *app) *cobra.Command {
	via := ""
	cmd := &cobra.Command{
		Use:   "join TOKEN --via HOST:PORT",
		Short: "Make this node a member of a cluster",
		Long: `Make this node a member of a cluster. The token says which authority to trust, so nobody in between can offer
another; it comes from mayfly token create on a member. TOKEN may be @FILE, or - for standard input, so that it is not
seen in the list of processes.

--via is any member; the port is that of calls between nodes, the one after gossip, 7947 by default.`,
		Example: "  mayfly join @token --via 192.168.1.20:7947",
		Args:    arguments("TOKEN"),
	}
	cmd.Flags().StringVar(&via, "via", "", "a member to join by: HOST:PORT")
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if via == "" {
			return &usageError{text: "mayfly join: --via is missing", hint: "name any member: mayfly join TOKEN --via HOST:7947"}
		}
		token, err := a.data(args[0])
		if err != nil {
			return err
		}
		began := a.started(cmd.Context())
		c, err := a.client.Join(cmd.Context(), admin.JoinRequest{Token: strings.TrimSpace(string(token)), Via: via})
		if err != nil {
			return err
		}
		a.awaitRestart(cmd.Context(), c.Restarts, "as a member of "+c.Name, began)
		a.note("next: mayfly nodes ls")
		return one(a, *out, clusterView(a), c)
	}
	return cmd
}

// started is when the agent began, the zero time if it does not say.
func (a *app) started(ctx context.Context) time.Time {
	st, err := a.client.Status(ctx)
	if err != nil {
		return time.Time{} // the request that follows says why
	}
	return st.Node.Started
}

// awaitRestart waits until an agent that starts anew answers again, so that the next command finds it. It has become what it is
// to be whatever comes of the waiting.
func (a *app) awaitRestart(ctx context.Context, restarts bool, as string, began time.Time) {
	if !restarts {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, restartTimeout)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if st, err := a.client.Status(ctx); err == nil && !st.Node.Started.Equal(began) {
			a.progress("")
			return
		}
		a.progress("the agent starts anew %s", escape(as))
		select {
		case <-ctx.Done():
			a.progress("")
			a.note("the agent does not answer yet; see: mayfly status")
			return
		case <-tick.C:
		}
	}
}

// restartTimeout is longer than the agent takes to drain, 20 s unless it is told otherwise.
const restartTimeout = 40 * time.Second

func clusterView(a *app) view[admin.Cluster] {
	return view[admin.Cluster]{
		name: func(c admin.Cluster) string { return c.ID },
		detail: func(w io.Writer, c admin.Cluster, _ bool) {
			fields(w, "cluster", fmt.Sprintf("%s (%s)", c.Name, c.ID), "node", c.Node, "authority", c.CA,
				"members", fmt.Sprintf("%d live", c.Members), "since", a.age(c.Since)+" ago")
		},
	}
}
