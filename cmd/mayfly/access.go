package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"mayfly/admin"
)

func accessCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "access",
		Short: "Make, list and revoke tokens for operators from afar",
		Long: `An API token lets somebody who is not on the device use mayfly there: with --address and --token. It is valid on the
node that made it and keeps to its scope: read looks; deploy also changes what runs; admin also changes who belongs.`,
		Example: "  mayfly access create dashboard --scope read > token\n  mayfly --address https://192.168.1.20:7947 --token @token status",
	}
	cmd.AddCommand(accessCreate(a), accessList(a), accessRevoke(a))
	return cmd
}

func (a *app) accessView() view[admin.AccessToken] {
	return view[admin.AccessToken]{
		name:  func(t admin.AccessToken) string { return t.ID },
		empty: "there is no API token; next: mayfly access create NAME --scope read",
		columns: []column[admin.AccessToken]{
			{head: "ID", cell: func(t admin.AccessToken) string { return t.ID }},
			{head: "NAME", cell: func(t admin.AccessToken) string { return t.Name }},
			{head: "SCOPE", cell: func(t admin.AccessToken) string { return t.Scope }},
			{head: "EXPIRES", cell: func(t admin.AccessToken) string { return a.until(t.Expires) }},
			{head: "AGE", cell: func(t admin.AccessToken) string { return a.age(t.Created) }},
		},
		detail: func(w io.Writer, t admin.AccessToken, _ bool) { fmt.Fprintln(w, escape(t.Token)) },
	}
}

func accessCreate(a *app) *cobra.Command {
	var req admin.AccessRequest
	var ttl time.Duration
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Make an API token", Args: arguments("NAME"),
		Long: `Make an API token and print it: standard output holds nothing else. The node keeps a hash of it only, so it cannot be
shown again.`,
		Example: "  mayfly access create ci --scope deploy --ttl 720h > token",
	}
	cmd.Flags().StringVar(&req.Scope, "scope", admin.ScopeRead, "what it is good for: read, deploy or admin")
	cmd.Flags().DurationVar(&ttl, "ttl", 0, "how long it is valid (0 = until it is revoked)")
	_ = cmd.RegisterFlagCompletionFunc("scope", // it fails only for a flag that is not there
		cobra.FixedCompletions([]string{admin.ScopeRead, admin.ScopeDeploy, admin.ScopeAdmin}, cobra.ShellCompDirectiveNoFileComp))
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		req.Name, req.TTLMS = args[0], ttl.Milliseconds()
		t, err := a.client.CreateAccess(cmd.Context(), req)
		if err != nil {
			return err
		}
		a.note("API token %s, scope %s, expires %s; from afar: mayfly --address https://HOST:PORT --token @FILE status", escape(t.ID), escape(t.Scope), a.until(t.Expires))
		return one(a, *out, a.accessView(), t)
	}
	return cmd
}

func accessList(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "ls", Aliases: []string{"list"}, Short: "List API tokens", Args: arguments(),
		Long: "List the API tokens of this node, also those that have expired.", Example: "  mayfly access ls",
	}
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ts, err := a.client.AccessTokens(cmd.Context())
		if err != nil {
			return err
		}
		return list(a, *out, a.accessView(), ts)
	}
	return cmd
}

func accessRevoke(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "revoke ID...", Aliases: []string{"rm"}, Short: "End API tokens", Args: arguments("ID..."),
		Long: "End API tokens; what they are used for at this moment goes on.", Example: "  mayfly access revoke 9f3a12c4d5e6",
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, id := range args {
				if err := a.client.RevokeAccess(cmd.Context(), id); err != nil {
					return err
				}
				a.note("API token %s revoked", escape(id))
			}
			return nil
		},
	}
}
