package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"mayfly/admin"
)

func explainCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "explain",
		Short: "Why something runs where it runs, or does not",
		Long: `Why something runs where it runs: one row per node, every rule it does not satisfy, when it would be done and what
that is made of, and how old the figures are. The data are those of the node that answers.`,
		Example: "  mayfly explain fn overheat\n  mayfly explain node gate",
	}
	cmd.AddCommand(explainOne(a, admin.ExplainQuery{Function: "NAME"}), explainOne(a, admin.ExplainQuery{Event: "ID"}), explainOne(a, admin.ExplainQuery{Node: "NODE"}))
	return cmd
}

// explainOne returns the verb for what is set in about.
func explainOne(a *app, about admin.ExplainQuery) *cobra.Command {
	cmd := &cobra.Command{
		Use: "fn NAME", Short: "Where a function may run, and where it would", Args: arguments("NAME"), ValidArgsFunction: a.functionNames,
		Long:    "Where a function may run, why not elsewhere, and the last decisions about it.",
		Example: "  mayfly explain fn overheat",
	}
	query := func(arg string) admin.ExplainQuery { return admin.ExplainQuery{Function: arg} }
	missed := a.noSuch
	switch {
	case about.Event != "":
		cmd.Use, cmd.Short, cmd.Args, cmd.ValidArgsFunction = "event ID", "Why an event ran where it ran", arguments("ID"), nil
		cmd.Long = "Why an event ran where it ran. Ids are those of mayfly events tail; an agent remembers its latest events."
		cmd.Example = "  mayfly explain event 01JD0Z8K2Q"
		query = func(arg string) admin.ExplainQuery { return admin.ExplainQuery{Event: arg} }
		missed = func(_ *cobra.Command, _ string, err error) error {
			return hinted(err, "mayfly events tail --follow=false -o wide")
		}
	case about.Node != "":
		cmd.Use, cmd.Short, cmd.Args, cmd.ValidArgsFunction = "node NODE", "What a node may run, and what not", arguments("NODE"), a.nodeNames
		cmd.Long = "What a node may run and why not the rest: one row per function."
		cmd.Example = "  mayfly explain node gate"
		query = func(arg string) admin.ExplainQuery { return admin.ExplainQuery{Node: arg} }
		missed = a.noNode
	}
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		e, err := a.client.Explain(cmd.Context(), query(args[0]))
		if err != nil {
			return missed(cmd, args[0], err)
		}
		return one(a, *out, view[admin.Explanation]{
			name:   func(admin.Explanation) string { return args[0] },
			detail: func(w io.Writer, e admin.Explanation, wide bool) { a.explanation(w, e, wide) },
		}, e)
	}
	return cmd
}

func (a *app) explanation(w io.Writer, e admin.Explanation, wide bool) {
	first := column[admin.Candidate]{head: "NODE", cell: placeName}
	if e.Query.Node != "" {
		first = column[admin.Candidate]{head: "FUNCTION", cell: func(c admin.Candidate) string { return c.Function }}
	}
	fields(w, "seen from", fmt.Sprintf("%s, at %s", e.Node, a.clock(e.Time)), "note", e.Note)
	fmt.Fprintln(w)
	a.candidates(first, e.Rows, wide)
	if len(e.Decisions) == 0 {
		return
	}
	fmt.Fprintf(w, "\nlast decisions\n")
	for _, d := range e.Decisions {
		took := ""
		if d.TookMS > 0 {
			took = ", took " + ms(d.TookMS)
		}
		refused := ""
		if len(d.Refused) > 0 {
			refused = "; refused by " + strings.Join(d.Refused, ", ")
		}
		fmt.Fprintf(w, "%s  %s  %s on %s: %s (expected %s%s)%s\n", a.clock(d.Time), escape(d.Event), escape(d.Function),
			orElse(escape(d.Name), "no node"), escape(d.Why), ms(d.ScoreMS), took, escape(refused))
	}
}

func placeName(c admin.Candidate) string {
	if c.Here {
		return c.Name + " (here)"
	}
	return c.Name
}

// candidates prints rows as a table.
func (a *app) candidates(first column[admin.Candidate], rows []admin.Candidate, wide bool) {
	v := view[admin.Candidate]{
		name:  placeName,
		empty: "nothing is deployed",
		columns: []column[admin.Candidate]{
			first,
			{head: "RANK", cell: func(c admin.Candidate) string {
				if c.Rank == 0 {
					return "-"
				}
				return fmt.Sprint(c.Rank)
			}},
			{head: "SCORE", cell: func(c admin.Candidate) string { return ms(c.ScoreMS) }},
			{head: "PARTS", cell: parts},
			{head: "AGE", cell: func(c admin.Candidate) string { return old(c.AgeMS) }},
			{head: "OWNS", cell: func(c admin.Candidate) string { return orElse(strings.Join(c.Owns, ","), "-") }},
			{head: "MAY RUN", cell: func(c admin.Candidate) string {
				if c.Eligible() {
					return "yes"
				}
				return "no: " + strings.Join(c.Failed, "; ")
			}},
			{head: "ID", wide: true, cell: func(c admin.Candidate) string { return c.Node }},
		},
	}
	f := format("table")
	if wide {
		f = "wide"
	}
	_ = list(a, f, v, rows) // a table cannot fail
}

func parts(c admin.Candidate) string {
	var words []string
	for _, p := range c.Parts {
		words = append(words, fmt.Sprintf("%s %.1f", p.Name, p.MS))
	}
	return orElse(strings.Join(words, " + "), "-")
}
