package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mayfly/admin"
)

func tokenCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "token",
		Aliases: []string{"tokens"},
		Short:   "Make, list and revoke tokens with which nodes join",
		Long: `A join token lets a device become a member of the cluster. It is good for a time and a number of devices, and it names
the cluster's authority. For operators from afar there are API tokens: mayfly access.`,
		Example: "  mayfly token create --uses 5\n  mayfly token ls",
	}
	cmd.AddCommand(tokenCreate(a), tokenList(a), tokenRevoke(a))
	return cmd
}

func (a *app) tokenView() view[admin.JoinToken] {
	return view[admin.JoinToken]{
		name:  func(t admin.JoinToken) string { return t.ID },
		empty: "no join token is valid; next: mayfly token create",
		columns: []column[admin.JoinToken]{
			{head: "ID", cell: func(t admin.JoinToken) string { return t.ID }},
			{head: "NAME", cell: func(t admin.JoinToken) string { return orElse(t.Name, "-") }},
			{head: "USED", cell: func(t admin.JoinToken) string { return fmt.Sprintf("%d of %d", t.Used, t.Uses) }},
			{head: "EXPIRES", cell: func(t admin.JoinToken) string { return a.until(t.Expires) }},
			{head: "LABELS", cell: func(t admin.JoinToken) string { return orElse(strings.Join(t.Labels, ","), "-") }},
			{head: "AGE", wide: true, cell: func(t admin.JoinToken) string { return a.age(t.Created) }},
		},
		detail: func(w io.Writer, t admin.JoinToken, _ bool) { fmt.Fprintln(w, escape(t.Token)) },
	}
}

// until shows when something ends.
func (a *app) until(t time.Time) string {
	switch left := t.Sub(a.Now()); {
	case t.IsZero():
		return "never"
	case left <= 0:
		return "expired"
	default:
		return "in " + duration(left)
	}
}

func tokenCreate(a *app) *cobra.Command {
	var req admin.TokenRequest
	var ttl time.Duration
	cmd := &cobra.Command{
		Use: "create", Short: "Make a join token", Args: arguments(),
		Long: `Make a token with which devices join, and print it: standard output holds nothing else. It cannot be shown again.
Every device that joins with it gets its labels.`,
		Example: "  mayfly token create --ttl 1h --uses 1\n  mayfly token create --name hall-2 --uses 20 --label hall-2 --label gpio > token",
	}
	flags := cmd.Flags()
	flags.DurationVar(&ttl, "ttl", 24*time.Hour, "how long it is valid, 30 days at most")
	flags.IntVar(&req.Uses, "uses", 1, "how many devices may join with it")
	flags.StringVar(&req.Name, "name", "", "a name for people")
	flags.StringArrayVar(&req.Labels, "label", nil, "label of those who join with it (repeatable)")
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		req.TTLMS = ttl.Milliseconds()
		t, err := a.client.CreateToken(cmd.Context(), req)
		if err != nil {
			return err
		}
		a.note("token %s for %s, expires %s; on the device: mayfly join TOKEN --via HOST:PORT", escape(t.ID), plural(int64(t.Uses), "device"), a.until(t.Expires))
		return one(a, *out, a.tokenView(), t)
	}
	return cmd
}

func tokenList(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "ls", Aliases: []string{"list"}, Short: "List join tokens", Args: arguments(),
		Long: "List the join tokens that may still be used. Their secrets are not kept.", Example: "  mayfly token ls",
	}
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ts, err := a.client.Tokens(cmd.Context())
		if err != nil {
			return err
		}
		return list(a, *out, a.tokenView(), ts)
	}
	return cmd
}

func tokenRevoke(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "revoke ID...", Aliases: []string{"rm"}, Short: "End join tokens", Args: arguments("ID..."),
		Long: "End join tokens. Who joined with one stays a member: see mayfly nodes revoke.", Example: "  mayfly token revoke t1",
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, id := range args {
				if err := a.client.RevokeToken(cmd.Context(), id); err != nil {
					return hinted(err, "mayfly token ls")
				}
				a.note("join token %s revoked", escape(id))
			}
			return nil
		},
	}
}
