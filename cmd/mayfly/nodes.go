package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mayfly/admin"
)

func nodesCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "nodes",
		Aliases: []string{"node"},
		Short:   "List, show, label, drain and revoke nodes",
		Long: `The members of the cluster as this node sees them. A node is named by its name, its id, or the beginning of an id that
only one has.`,
		Example: "  mayfly nodes ls\n  mayfly nodes drain gate",
	}
	cmd.AddCommand(nodesList(a), nodesShow(a), nodesLabel(a), nodesDrain(a), nodesRevoke(a))
	return cmd
}

func memberState(m admin.Member) string {
	if m.Draining && m.State == admin.MemberAlive {
		return "draining"
	}
	return m.State
}

func ms(v float64) string {
	if v == 0 {
		return "0 ms"
	}
	return fmt.Sprintf("%.1f ms", v)
}

// old is how old figures are.
func old(ageMS int64) string {
	return fmt.Sprintf("%.1fs", float64(ageMS)/1000)
}

func (a *app) memberView() view[admin.Member] {
	labels := func(m admin.Member) string { return orElse(strings.Join(m.Labels, ","), "-") }
	return view[admin.Member]{
		name: func(m admin.Member) string { return m.ID },
		columns: []column[admin.Member]{
			{head: "NAME", cell: func(m admin.Member) string { return m.Name }},
			{head: "STATE", cell: memberState},
			{head: "ARCH", cell: func(m admin.Member) string { return m.Arch }},
			{head: "BUSY", cell: func(m admin.Member) string { return fmt.Sprintf("%d/%d", m.Running, m.Slots) }},
			{head: "QUEUED", cell: func(m admin.Member) string { return fmt.Sprint(m.Queued) }},
			{head: "RTT", cell: func(m admin.Member) string { return ms(m.RTTMS) }},
			{head: "AGE", cell: func(m admin.Member) string { return old(m.AgeMS) }},
			{head: "LABELS", cell: labels},
			{head: "ID", wide: true, cell: func(m admin.Member) string { return m.ID }},
			{head: "ADDRESS", wide: true, cell: func(m admin.Member) string { return m.Address }},
			{head: "ADMIN", wide: true, cell: func(m admin.Member) string { return orElse(m.AdminAddress, "-") }},
			{head: "VERSION", wide: true, cell: func(m admin.Member) string { return m.Version }},
			{head: "REASON", wide: true, cell: func(m admin.Member) string { return orElse(m.Reason, "-") }},
		},
		detail: func(w io.Writer, m admin.Member, _ bool) { a.memberDetail(w, m) },
	}
}

func (a *app) memberDetail(w io.Writer, m admin.Member) {
	self := ""
	if m.Self {
		self = ", the one that answers"
	}
	fields(w, "node", fmt.Sprintf("%s (%s)%s", m.Name, m.ID, self), "state", memberState(m), "reason", m.Reason, "next", m.Hint,
		"address", m.Address, "admin", m.AdminAddress, "labels", strings.Join(m.Labels, ", "),
		"runs", fmt.Sprintf("mayfly %s on %s/%s", m.Version, m.OS, m.Arch),
		"load", fmt.Sprintf("%d of %d slots busy, %d queued, %s away, as of %s ago", m.Running, m.Slots, m.Queued, ms(m.RTTMS), old(m.AgeMS)))
	if m.MemoryBytes > 0 {
		fields(w, "memory", size(m.MemoryBytes)+" for one sandbox")
	}
	if !m.Joined.IsZero() {
		fields(w, "member", "for "+a.age(m.Joined))
	}
	if !m.Certificate.IsZero() {
		fields(w, "certificate", "expires "+a.until(m.Certificate))
	}
	for _, o := range m.Owns {
		fields(w, "owns", o)
	}
}

func nodesList(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "ls", Aliases: []string{"list"}, Short: "List the nodes of the cluster", Args: arguments(),
		Long:    "List all nodes this node knows, also those that are down or revoked. AGE is how old the figures of a node are.",
		Example: "  mayfly nodes ls -o wide",
	}
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ms, err := a.client.Nodes(cmd.Context())
		if err != nil {
			return err
		}
		return list(a, *out, a.memberView(), ms)
	}
	return cmd
}

func nodesShow(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "show NODE", Short: "Show one node", Args: arguments("NODE"), ValidArgsFunction: a.nodeNames,
		Long: "Show one node: state and why, load, labels, what it owns.", Example: "  mayfly nodes show gate",
	}
	return showing(a, cmd, (*admin.Client).Node, a.noNode, a.memberView())
}

func nodesLabel(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "label NODE +LABEL -LABEL...", Short: "Add and remove labels of a node", Args: arguments("NODE", "+LABEL..."), ValidArgsFunction: a.nodeNames,
		Long: `Add (+) and remove (-) labels of a node; what is placed by them moves. Options come before the node's name, because
what comes after it and begins with - is a label to remove.`,
		Example: "  mayfly nodes label gate +gpio -spare",
	}
	cmd.Flags().SetInterspersed(false)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var req admin.LabelRequest
		for _, word := range args[1:] {
			switch {
			case strings.HasPrefix(word, "+"):
				req.Add = append(req.Add, word[1:])
			case strings.HasPrefix(word, "-"):
				req.Remove = append(req.Remove, word[1:])
			default:
				return &usageError{text: fmt.Sprintf("%q: a label has + before it to add it, - to remove it", word), hint: "mayfly nodes label " + args[0] + " +" + word}
			}
		}
		m, err := a.orderedNode(cmd.Context(), args[0], func() (admin.Member, error) { return a.client.Label(cmd.Context(), args[0], req) })
		if err != nil {
			return a.noNode(cmd, args[0], err)
		}
		a.note("%s has %s", escape(m.Name), orElse(escape(strings.Join(m.Labels, ", ")), "no labels"))
		return nil
	}
	return cmd
}

func nodesDrain(a *app) *cobra.Command {
	off := false
	cmd := &cobra.Command{
		Use: "drain NODE", Short: "Let a node hand over what it has", Args: arguments("NODE"), ValidArgsFunction: a.nodeNames,
		Long: `Let a node hand over its triggers to others and take no more work, before it is switched off or repaired. It stays a
member. With --off it takes part again. mayfly drill --kill NODE says beforehand where everything would go.`,
		Example: "  mayfly nodes drain gate\n  mayfly nodes drain gate --off",
	}
	cmd.Flags().BoolVar(&off, "off", false, "take part again")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		m, err := a.orderedNode(cmd.Context(), args[0], func() (admin.Member, error) { return a.client.Drain(cmd.Context(), args[0], !off) })
		if err != nil {
			return a.noNode(cmd, args[0], err)
		}
		if off {
			a.note("%s takes part again", escape(m.Name))
			return nil
		}
		a.note("%s hands over what it has; see: mayfly nodes show %s", escape(m.Name), escape(m.Name))
		return nil
	}
	return cmd
}

func nodesRevoke(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "revoke NODE", Short: "End a node's membership for good", Args: arguments("NODE"), ValidArgsFunction: a.nodeNames,
		Long: `End a node's membership for good, because it was stolen or sold. Nobody speaks to it any more; what it owned goes to
others. It cannot be undone: the device must join anew, as another node. Rotate the gossip key afterwards.`,
		Example: "  mayfly nodes revoke gate --yes && mayfly keyring rotate",
	}
	a.yesFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		m, err := a.client.Node(cmd.Context(), args[0])
		if err != nil {
			return a.noNode(cmd, args[0], err)
		}
		if err := a.confirm(fmt.Sprintf("revoke node %s (%s) for good?", escape(m.Name), escape(m.ID))); err != nil {
			return err
		}
		if err := a.client.RevokeNode(cmd.Context(), m.ID); err != nil {
			return err
		}
		a.note("%s revoked; next: mayfly keyring rotate", escape(m.Name))
		return nil
	}
	return cmd
}

// nodeNames completes the name of a node.
func (a *app) nodeNames(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := contextFor(cmd, time.Second)
	defer cancel()
	list, err := a.client.Nodes(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []cobra.Completion
	for _, m := range list {
		names = append(names, m.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// noNode adds the name that was probably meant to "there is no such node".
func (a *app) noNode(cmd *cobra.Command, name string, err error) error {
	return didYouMean(err, name, "mayfly nodes show", "mayfly nodes ls", func() []string {
		list, err := a.client.Nodes(cmd.Context())
		if err != nil {
			return nil // the first error says enough
		}
		var names []string
		for _, m := range list {
			names = append(names, m.Name)
		}
		return names
	})
}
