package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"mayfly/admin"
)

func drillCommand(a *app) *cobra.Command {
	var kill []string
	cmd := &cobra.Command{
		Use:   "drill --kill NODE",
		Short: "Where everything would land without a node",
		Long: `Where everything would land if nodes were gone, and whether it fits there. Nothing is touched: the answer is computed
from what this node knows. Exit code 9 if something would have no place, or a node more than it can do.`,
		Example: "  mayfly drill --kill gate\n  mayfly drill --kill gate --kill hall -o json",
		Args:    arguments(),
	}
	cmd.Flags().StringArrayVar(&kill, "kill", nil, "a node that would be gone (repeatable)")
	_ = cmd.RegisterFlagCompletionFunc("kill", a.nodeNames) // it fails only for a flag that is not there
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if len(kill) == 0 {
			return &usageError{text: "mayfly drill: --kill is missing", hint: "mayfly nodes ls, then: mayfly drill --kill NODE"}
		}
		d, err := a.client.Drill(cmd.Context(), kill...)
		if err != nil {
			return a.noNode(cmd, kill[0], err)
		}
		err = one(a, *out, view[admin.Drill]{
			name:   func(d admin.Drill) string { return strings.Join(d.Killed, ",") },
			detail: func(w io.Writer, d admin.Drill, wide bool) { a.drillDetail(w, d, wide) },
		}, d)
		if err == nil && !d.Fits {
			return exitError{exitNoPlace}
		}
		return err
	}
	return cmd
}

func (a *app) drillDetail(w io.Writer, d admin.Drill, wide bool) {
	verdict := "everything fits"
	if !d.Fits {
		verdict = "it does not fit"
	}
	fmt.Fprintf(w, "without %s: %s\n", escape(strings.Join(d.Killed, ", ")), verdict)
	f := format("table")
	if wide {
		f = "wide"
	}
	if len(d.Moves) == 0 {
		fmt.Fprintln(w, "nothing would move")
	} else {
		fmt.Fprintln(w)
		_ = list(a, f, moveView(), d.Moves) // a table cannot fail
	}
	for _, m := range d.Moves {
		for _, why := range m.Failed {
			fmt.Fprintf(w, "  %s: %s\n", escape(m.Function), escape(why))
		}
	}
	fmt.Fprintln(w)
	_ = list(a, f, drillView(), d.Nodes)
	for _, c := range d.Caveats {
		fields(w, "but", c)
	}
}

func moveView() view[admin.Move] {
	return view[admin.Move]{columns: []column[admin.Move]{
		{head: "FUNCTION", cell: func(m admin.Move) string { return m.Function }},
		{head: "WHAT", cell: func(m admin.Move) string { return orElse(m.Trigger, "on demand") }},
		{head: "FROM", cell: func(m admin.Move) string { return m.From }},
		{head: "TO", cell: func(m admin.Move) string { return orElse(m.To, "nowhere") }},
		{head: "NOTE", cell: func(m admin.Move) string { return orElse(m.Note, "-") }},
	}}
}

func drillView() view[admin.DrillNode] {
	return view[admin.DrillNode]{empty: "no node would be left", columns: []column[admin.DrillNode]{
		{head: "NODE", cell: func(n admin.DrillNode) string { return n.Name }},
		{head: "SLOTS", cell: func(n admin.DrillNode) string { return fmt.Sprint(n.Slots) }},
		{head: "IN USE", cell: func(n admin.DrillNode) string { return fmt.Sprintf("%.1f", n.LoadBefore) }},
		{head: "THEN", cell: func(n admin.DrillNode) string { return fmt.Sprintf("%.1f", n.LoadAfter) }},
		{head: "FITS", cell: func(n admin.DrillNode) string {
			if n.Fits {
				return "yes"
			}
			return "no: " + n.Reason
		}},
	}}
}
