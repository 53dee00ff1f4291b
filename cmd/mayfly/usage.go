package main

import (
	"encoding/csv"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mayfly/admin"
	"mayfly/internal/tomlcheck"
)

// usageOptions are what `mayfly usage` was asked.
type usageOptions struct {
	query  admin.UsageQuery
	since  string
	prices string
	out    usageFormat
}

// usageFormat is -o with csv beside what every verb has.
type usageFormat struct{ format }

// Set implements pflag.Value.
func (f *usageFormat) Set(s string) error {
	if s == "csv" {
		f.format = "csv"
		return nil
	}
	if err := f.format.Set(s); err != nil {
		return fmt.Errorf("want one of %s, csv", strings.Join(formats(), ", "))
	}
	return nil
}

func usageCommand(a *app) *cobra.Command {
	o := usageOptions{out: usageFormat{"table"}}
	cmd := &cobra.Command{
		Use: "usage", Short: "What functions used, and what it costs", Args: arguments(),
		Long: `What functions used, by hour, day or month in UTC: events, processor time, memory, bytes. An event is counted by the
node it arrived at, wherever it ran; with --cluster, nodes that are away count as others last knew them. Hours are kept
for 45 days in which something ran, their sums by month for ever. What ran in the last minute may be forgotten when the
device loses power.

A price file turns it into money. It is TOML; what it does not say costs nothing:

    currency           = "EUR"
    per_million_events = 0.20
    per_cpu_hour       = 0.05
    per_gib_hour       = 0.01       memory of sandboxes times how long they run
    per_gib_in         = 0.00
    per_gib_out        = 0.09
    per_mib_stored     = 0.00       handed to the disk
    minimum            = 1.00       of the whole`,
		Example: "  mayfly usage --by hour --since 6h\n  mayfly usage --by month --prices prices.toml --cluster\n  mayfly usage --function overheat -o csv",
	}
	cmd.Flags().StringVar(&o.query.By, "by", "day", "hour|day|month")
	cmd.Flags().StringVar(&o.query.Function, "function", "", "only this function")
	cmd.Flags().StringVar(&o.since, "since", "", "from then on: 6h, 7d or 2026-01-31 (default 24h by hour, 30d by day, all by month)")
	cmd.Flags().StringVar(&o.prices, "prices", "", "add what it costs, by this file")
	cmd.Flags().BoolVar(&o.query.Cluster, "cluster", false, "of all nodes, also those that are away")
	cmd.Flags().VarP(&o.out, "output", "o", strings.Join(formats(), "|")+"|csv")
	_ = cmd.RegisterFlagCompletionFunc("by", cobra.FixedCompletions([]cobra.Completion{"hour", "day", "month"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("function", a.functionNames)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return a.usage(cmd, &o) }
	cmd.AddCommand(usageVerify(a))
	return cmd
}

// begin turns --since into a time.
func (o *usageOptions) begin(now time.Time) (err error) {
	switch {
	case o.since == "" && o.query.By == "month":
		return nil
	case o.since == "" && o.query.By == "hour":
		o.since = "24h"
	case o.since == "":
		o.since = "30d"
	}
	if at, err := time.Parse(time.DateOnly, o.since); err == nil {
		o.query.From = at
		return nil
	}
	back, err := tomlcheck.ParseDuration(o.since)
	if err != nil || back <= 0 {
		return &usageError{text: fmt.Sprintf("--since %s: neither a duration nor a date", o.since), hint: "write it like 6h, 7d or 2026-01-31"}
	}
	o.query.From = now.Add(-back)
	return nil
}

// billedRow is a row with what it costs.
type billedRow struct {
	admin.UsageRow
	Cost     *float64 `json:"cost,omitempty"`
	Currency string   `json:"currency,omitempty"`
}

func (a *app) usage(cmd *cobra.Command, o *usageOptions) error {
	if !slices.Contains([]string{"hour", "day", "month"}, o.query.By) {
		return &usageError{text: fmt.Sprintf("--by %s: want hour, day or month", o.query.By), hint: "mayfly usage --by day"}
	}
	if err := o.begin(a.Now()); err != nil {
		return err
	}
	var p *prices
	if o.prices != "" {
		var err error
		if p, err = readPrices(o.prices); err != nil {
			return err
		}
	}
	report, err := a.client.Usage(cmd.Context(), o.query)
	if err != nil {
		return err
	}
	rows := make([]billedRow, 0, len(report.Rows))
	for _, r := range report.Rows {
		b := billedRow{UsageRow: r}
		if p != nil {
			cost := p.cost(&r.UsageSum)
			b.Cost, b.Currency = &cost, p.Currency
		}
		rows = append(rows, b)
	}
	if o.out.format == "csv" {
		err = usageCSV(a.Stdout, rows)
	} else {
		err = list(a, o.out.format, usageView(o, p), rows)
	}
	if err == nil && len(rows) > 0 {
		a.usageTotal(o, p, rows)
	}
	for _, w := range report.Away {
		a.note("%s (%s) is away: in it is what it had used %s ago, by day", escape(w.Node), escape(w.NodeID), a.age(w.AsOf))
	}
	for _, m := range report.Missing {
		a.note("not in it: %s (%s): %s", escape(m.Node), escape(m.NodeID), escape(m.Reason))
	}
	return err
}

// usageTotal says what all rows come to, to people who see a table.
func (a *app) usageTotal(o *usageOptions, p *prices, rows []billedRow) {
	if o.out.format != "table" && o.out.format != "wide" {
		return
	}
	var sum admin.UsageSum
	for i := range rows {
		sum.Add(rows[i].UsageSum)
	}
	text := fmt.Sprintf("in all: %s, %s of processor time", plural(int64(sum.Events), "event"), micros(int64(sum.CPUNS/1000)))
	if p != nil {
		total := p.cost(&sum)
		text += ", " + p.money(max(total, p.MinimumSum))
		if total < p.MinimumSum {
			text += " (the minimum)"
		}
	}
	a.note("%s", text)
}

// when shows the period of a row.
func (r *billedRow) when(by string) string {
	switch at := r.From.UTC(); {
	case at.Year() == 1970:
		return "clock not set"
	case by == "month" || r.Folded:
		return at.Format("2006-01")
	case by == "hour":
		return at.Format("2006-01-02 15:04")
	default:
		return at.Format("2006-01-02")
	}
}

func usageView(o *usageOptions, p *prices) view[billedRow] {
	count := func(of func(*billedRow) uint64) func(billedRow) string {
		return func(r billedRow) string { return strconv.FormatUint(of(&r), 10) }
	}
	bytes := func(of func(*billedRow) uint64) func(billedRow) string {
		return func(r billedRow) string { return size(int64(min(of(&r), 1<<62))) }
	}
	v := view[billedRow]{
		name: func(r billedRow) string { return r.Function }, empty: "nothing was used in that time",
		columns: []column[billedRow]{
			{head: "FROM", cell: func(r billedRow) string { return r.when(o.query.By) }},
			{head: "FUNCTION", cell: func(r billedRow) string { return r.Function }},
			{head: "TENANT", cell: func(r billedRow) string { return orElse(r.Tenant, "-") }},
			{head: "NODE", wide: !o.query.Cluster, cell: func(r billedRow) string { return r.Node }},
			{head: "EVENTS", cell: count(func(r *billedRow) uint64 { return r.Events })},
			{head: "FAILED", cell: count(func(r *billedRow) uint64 { return r.Failed })},
			{head: "CPU", cell: func(r billedRow) string { return micros(int64(r.CPUNS / 1000)) }},
			{head: "GIB-HOURS", cell: func(r billedRow) string { return strconv.FormatFloat(gibHours(&r.UsageSum), 'g', 3, 64) }},
			{head: "IN", cell: bytes(func(r *billedRow) uint64 { return r.BytesIn })},
			{head: "OUT", cell: bytes(func(r *billedRow) uint64 { return r.BytesOut })},
			{head: "PUBLISHED", wide: true, cell: count(func(r *billedRow) uint64 { return r.Published })},
			{head: "STORED", wide: true, cell: bytes(func(r *billedRow) uint64 { return r.StoredBytes })},
			{head: "STATE", wide: true, cell: bytes(func(r *billedRow) uint64 { return r.StateBytes })},
		},
	}
	if p != nil {
		v.columns = append(v.columns, column[billedRow]{head: "COST", cell: func(r billedRow) string { return p.money(*r.Cost) }})
	}
	return v
}

// usageCSV writes rows as RFC 4180 says, times as RFC 3339. A text that a spreadsheet would take for a formula gets a ' before it.
func usageCSV(w io.Writer, rows []billedRow) error {
	out := csv.NewWriter(w)
	head := []string{
		"from", "folded", "node", "node_id", "function", "tenant", "events", "failed", "cpu_ns", "wall_ns", "memory_byte_ms", "bytes_in", "bytes_out",
		"published", "stored_bytes", "state_bytes", "cost", "currency",
	}
	if err := out.Write(head); err != nil {
		return err
	}
	plain := func(s string) string {
		if s = escape(s); s != "" && strings.ContainsRune("=+-@", rune(s[0])) {
			return "'" + s
		}
		return s
	}
	for _, r := range rows {
		cost := ""
		if r.Cost != nil {
			cost = strconv.FormatFloat(*r.Cost, 'f', 9, 64)
		}
		line := []string{r.From.UTC().Format(time.RFC3339), strconv.FormatBool(r.Folded), plain(r.Node), plain(r.NodeID), plain(r.Function), plain(r.Tenant)}
		for _, n := range []uint64{
			r.Events, r.Failed, r.CPUNS, r.WallNS, r.MemoryByteMS, r.BytesIn, r.BytesOut, r.Published, r.StoredBytes, r.StateBytes,
		} {
			line = append(line, strconv.FormatUint(n, 10))
		}
		if err := out.Write(append(line, cost, plain(r.Currency))); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}

func usageVerify(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "verify", Short: "Whether this node's usage ledger is as it was written", Args: arguments(),
		Long: `Compute the chain of this node's usage ledger again: every hour holds a hash over the one before it, so a changed,
removed or added record shows. Exit code 1 if something does not fit. Who can write the disk could compute the whole
chain anew: note the head elsewhere, it changes with everything before it.`,
		Example: "  mayfly usage verify",
	}
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		v, err := a.client.VerifyUsage(cmd.Context())
		if err != nil {
			return err
		}
		show := view[admin.UsageVerification]{
			name: func(v admin.UsageVerification) string { return v.Node },
			detail: func(w io.Writer, v admin.UsageVerification, _ bool) {
				fields(w, "node", v.Node, "fits", fmt.Sprintf("%s, %s", plural(int64(v.Segments), "hour"), plural(int64(v.Months), "month's row")), "head", v.Head,
					"broken", v.Broken)
			},
		}
		if err := one(a, *out, show, v); err != nil {
			return err
		}
		if v.Broken != "" {
			return exitError{exitFailed}
		}
		return nil
	}
	return cmd
}
