package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"mayfly/admin"
	"mayfly/function"
)

func capsCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "caps",
		Aliases: []string{"permissions"},
		Short:   "What a version may that the deployed one may not",
		Long: `What a function may do beyond computing is what its manifest says: topics it publishes on, addresses it calls, secrets
it reads, routes anybody may call. A version that asks for more than the deployed one is refused unless you say
mayfly deploy --allow-new-permissions.`,
		Example: "  mayfly caps diff examples/overheat",
	}
	cmd.AddCommand(capsDiff(a))
	return cmd
}

func capsDiff(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "diff [DIR|function.toml]", Short: "Compare permissions with the deployed version", Args: arguments("[DIR|function.toml]"),
		Long: `Compare the permissions that a manifest asks for with those of the deployed version: + is asked for anew, - is given
up. The module need not be built.

Exit code 0 if it asks for nothing more, 2 if it does, 1 for any error.`,
		Example:     "  mayfly caps diff examples/overheat -o json",
		Annotations: map[string]string{differs: "yes"},
	}
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		p, err := openProject(argOr(args, "."))
		if err != nil {
			return err
		}
		var deployed function.Manifest
		f, err := a.client.Function(cmd.Context(), p.manifest.Name)
		if err == nil {
			deployed, err = f.Parsed()
		} else if function.KindOf(err) == admin.KindNotFound {
			a.note("%s is not deployed: all it asks for is new", p.manifest.Name)
			err = nil
		}
		if err != nil {
			return err
		}
		diff := admin.DiffPermissions(&deployed, &p.manifest)
		if err := a.showPermissions(*out, diff); err != nil {
			return err
		}
		if more(diff) > 0 {
			return exitError{exitDiffers}
		}
		return nil
	}
	return cmd
}

func (a *app) showPermissions(out format, diff []admin.PermissionChange) error {
	if out == "table" || out == "wide" {
		if len(diff) == 0 {
			a.note("the same permissions")
		}
		permissionLines(a.Stdout, diff)
		return nil
	}
	return list(a, out, view[admin.PermissionChange]{name: admin.PermissionChange.String}, diff)
}

func permissionLines(w io.Writer, diff []admin.PermissionChange) {
	for _, p := range diff {
		sign := "-"
		if p.Added {
			sign = "+"
		}
		fmt.Fprintf(w, "  %s %s\n", sign, escape(p.String()))
	}
}

// more counts what is asked for anew.
func more(diff []admin.PermissionChange) (n int) {
	for _, p := range diff {
		if p.Added {
			n++
		}
	}
	return n
}
