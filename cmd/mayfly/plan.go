package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"mayfly/admin"
)

// differs marks verbs whose exit code says whether something differs: 0 nothing, 2 something, 1 any error.
const differs = "differs"

func planCommand(a *app) *cobra.Command {
	var set []string
	var from registries
	cmd := &cobra.Command{
		Use:   "plan [DIR|function.toml|oci://...]",
		Short: "What a deploy would change, and where it would run",
		Long: `What deploying the function of a folder (default: this one) would change: every value of the manifest that is another,
every permission more or less, and where it would run. The agent checks and compiles it as for a deploy; nothing is
changed.

Exit code 0 if nothing would change, 2 if something would, 1 for any error.`,
		Example:     "  mayfly plan examples/overheat\n  mayfly plan -o json",
		Args:        arguments("[DIR|function.toml|oci://...]"),
		Annotations: map[string]string{differs: "yes"},
	}
	cmd.Flags().StringArrayVar(&set, "set", nil, "replace a value of [config]: KEY=VALUE (repeatable)")
	from.flags(cmd)
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		p, err := a.plan(cmd.Context(), argOr(args, "."), set, from)
		if err != nil {
			return err
		}
		err = one(a, *out, view[admin.Plan]{
			name:   func(p admin.Plan) string { return p.Function },
			detail: func(w io.Writer, p admin.Plan, wide bool) { a.planDetail(w, p, wide) },
		}, p)
		if err == nil && p.Action != admin.PlanNothing {
			return exitError{exitDiffers}
		}
		return err
	}
	return cmd
}

func (a *app) plan(ctx context.Context, arg string, words []string, from registries) (admin.Plan, error) {
	set, err := settings(words)
	if err != nil {
		return admin.Plan{}, err
	}
	p, module, err := a.open(ctx, arg, from)
	if err != nil {
		return admin.Plan{}, err
	}
	return a.client.Plan(ctx, admin.DeployRequest{File: p.file, Manifest: string(p.text), Set: set, DryRun: true}, module)
}

func (a *app) planDetail(w io.Writer, p admin.Plan, wide bool) {
	does := map[string]string{
		admin.PlanCreate: "would be new", admin.PlanReplace: "would replace what is deployed", admin.PlanNothing: "is what is deployed: nothing would change",
	}[p.Action]
	fmt.Fprintf(w, "%s %s %s\n", escape(p.Function), escape(p.Version), orElse(does, p.Action))
	for _, c := range p.Changes {
		if c.Field == "module" && !wide {
			c.From, c.To = c.From[:min(len(c.From), 19)], c.To[:min(len(c.To), 19)] // enough of a digest to tell two apart
		}
		switch {
		case c.From == "":
			fmt.Fprintf(w, "  + %s = %s\n", escape(c.Field), escape(c.To))
		case c.To == "":
			fmt.Fprintf(w, "  - %s = %s\n", escape(c.Field), escape(c.From))
		default:
			fmt.Fprintf(w, "  ~ %s = %s, was %s\n", escape(c.Field), escape(c.To), escape(c.From))
		}
	}
	if len(p.Permissions) > 0 {
		fmt.Fprintf(w, "\npermissions\n")
		permissionLines(w, p.Permissions)
		if p.Action == admin.PlanReplace && more(p.Permissions) > 0 {
			fmt.Fprintln(w, "  next: if it shall have them: mayfly deploy --allow-new-permissions")
		}
	}
	if len(p.Places) > 0 {
		fmt.Fprintln(w)
		a.candidates(column[admin.Candidate]{head: "NODE", cell: placeName}, p.Places, wide)
	}
	for _, o := range p.Owners {
		fields(w, "trigger", owners(o))
	}
	for _, warning := range p.Warnings {
		fields(w, "warning", warning)
	}
}

func owners(o admin.Owner) string {
	switch {
	case o.Then == "":
		return o.Trigger + ": nobody could own it"
	case o.Now == "" || o.Now == o.Then:
		return o.Trigger + " on " + o.Then
	}
	return fmt.Sprintf("%s would move from %s to %s", o.Trigger, o.Now, o.Then)
}
