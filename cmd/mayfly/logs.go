package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"mayfly/admin"
	"mayfly/internal/nearest"
)

type logsOptions struct {
	follow bool
	since  string
	level  string
	last   int
}

func logsCommand(a *app) *cobra.Command {
	var o logsOptions
	cmd := &cobra.Command{
		Use:   "logs [NAME]",
		Short: "Show what functions logged",
		Long: `Show the log lines the agent keeps, of one function or of all. Filters run on the agent; if this reader is too slow,
lines are dropped and counted, never the agent held up.`,
		Example: `  mayfly logs overheat -f
  mayfly logs --level warn --since 10m`,
		Args:              arguments("[NAME]"),
		ValidArgsFunction: a.functionNames,
	}
	flags := cmd.Flags()
	flags.BoolVarP(&o.follow, "follow", "f", false, "go on with new lines")
	flags.StringVar(&o.since, "since", "", "not older than this: a duration (10m) or a time (RFC 3339)")
	flags.StringVar(&o.level, "level", "", "at least this: debug, info, warn or error")
	flags.IntVarP(&o.last, "last", "n", 0, "only the newest of the past (0 = all that are kept)")
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		name := argOr(args, "")
		if name != "" {
			if _, err := a.client.Function(cmd.Context(), name); err != nil {
				return a.noSuch(cmd, name, err)
			}
		}
		return a.logs(cmd.Context(), name, o, *out)
	}
	return cmd
}

func (a *app) logs(ctx context.Context, name string, o logsOptions, out format) error {
	q := admin.LogQuery{Function: name, Level: o.level, Limit: o.last, Follow: o.follow}
	levels := []string{"", "debug", "info", "warn", "error"}
	if !slices.Contains(levels, o.level) {
		e := &usageError{text: fmt.Sprintf("--level %q: want debug, info, warn or error", o.level)}
		if guess := nearest.To(o.level, levels[1:]); guess != "" {
			e.text += fmt.Sprintf("; did you mean %q?", guess)
		}
		return e
	}
	if o.since != "" {
		since, err := moment(o.since, a.Now())
		if err != nil {
			return err
		}
		q.Since = since
	}
	got := 0
	v := view[admin.LogRecord]{
		name:   func(r admin.LogRecord) string { return r.Event },
		detail: func(w io.Writer, r admin.LogRecord, wide bool) { fmt.Fprintln(w, a.logLineWide(r, wide)) },
	}
	err := a.client.Logs(ctx, q, func(f admin.Frame[admin.LogRecord]) error {
		a.dropped(f.Dropped)
		if f.Record == nil {
			return nil
		}
		got++
		return stream(a, out, v, *f.Record)
	})
	if err == nil && got == 0 && !o.follow {
		a.note("no lines are kept that match")
	}
	return endOfStream(ctx, err, seen{follow: o.follow, got: got})
}

// moment reads a duration before now, or a time.
func moment(s string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(s); err == nil {
		return now.Add(-d), nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return t, &usageError{text: fmt.Sprintf("--since %q is neither a duration nor a time", s), hint: "--since 10m, or --since 2026-11-22T12:00:00Z"}
	}
	return t, nil
}

func (a *app) logLine(r admin.LogRecord) string { return a.logLineWide(r, false) }

func (a *app) logLineWide(r admin.LogRecord, wide bool) string {
	level := fmt.Sprintf("%-5s", escape(r.Level))
	if r.Level == "warn" || r.Level == "error" {
		level = a.paint(r.Level) + level[len(r.Level):]
	}
	if wide {
		return fmt.Sprintf("%s  %s  %s  %s  %s  %s",
			r.Time.Format(time.RFC3339Nano), escape(r.Node), escape(r.Function), escape(r.Event), level, escape(r.Text))
	}
	return fmt.Sprintf("%s  %s  %s  %s", a.clock(r.Time), escape(r.Function), level, escape(r.Text))
}
