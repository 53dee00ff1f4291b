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

type eventsOptions struct {
	query   admin.EventQuery
	count   int
	timeout time.Duration
}

func eventsCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "events",
		Short:   "See what happened to events, and why",
		Long:    "The story of every event: received, matched, placed where and why, ran how long, published what, acknowledged.",
		Example: "  mayfly events tail --errors",
	}
	cmd.AddCommand(eventsTail(a))
	return cmd
}

func eventsTail(a *app) *cobra.Command {
	o := eventsOptions{query: admin.EventQuery{Follow: true}}
	cmd := &cobra.Command{
		Use:   "tail",
		Short: "Follow events",
		Long: `Show the events the agent remembers and then those that come: one line each, with -o wide the whole story. Failed
events are remembered longer than others.`,
		Example: `  mayfly events tail --function overheat -o wide
  mayfly events tail --topic 'plant/+/temp' --errors
  mayfly events tail --follow=false -o json`,
		Args: arguments(),
	}
	flags := cmd.Flags()
	flags.StringVar(&o.query.Function, "function", "", "only events of this function")
	flags.StringVar(&o.query.Topic, "topic", "", "only topics that match this filter")
	flags.BoolVar(&o.query.Errors, "errors", false, "only events that failed, will be retried, or were lost")
	flags.BoolVarP(&o.query.Follow, "follow", "f", true, "go on with new events")
	flags.IntVar(&o.query.Limit, "last", 0, "only the newest of the past (0 = all that are kept)")
	flags.IntVarP(&o.count, "count", "n", 0, "end after that many events (0 = never)")
	flags.DurationVarP(&o.timeout, "timeout", "W", 0, "end after that time (0 = never)")
	_ = cmd.RegisterFlagCompletionFunc("function", a.functionNames) // fails only for a flag that is not there
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if name := o.query.Function; name != "" {
			if _, err := a.client.Function(cmd.Context(), name); err != nil {
				return a.noSuch(cmd, name, err)
			}
		}
		return a.eventsTail(cmd.Context(), o, *out)
	}
	return cmd
}

func (a *app) eventsTail(ctx context.Context, o eventsOptions, out format) error {
	if o.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, o.timeout, errTimeout)
		defer cancel()
	}
	v := view[admin.EventRecord]{
		name: func(r admin.EventRecord) string { return r.ID },
		detail: func(w io.Writer, r admin.EventRecord, wide bool) {
			if wide {
				a.story(w, r)
			} else {
				fmt.Fprintln(w, a.eventLine(r))
			}
		},
	}
	got := 0
	err := a.client.Events(ctx, o.query, func(f admin.Frame[admin.EventRecord]) error {
		a.dropped(f.Dropped)
		if f.Record == nil {
			return nil
		}
		if err := stream(a, out, v, *f.Record); err != nil {
			return err
		}
		if got++; got == o.count {
			return errEnough
		}
		return nil
	})
	return endOfStream(ctx, err, seen{o.query.Follow, o.count, got})
}

// subject is what an event is about, for people.
func subject(r admin.EventRecord) string {
	if r.Topic != "" {
		return r.Topic
	}
	return orElse(r.Source, r.Type)
}

// eventLine is an event on one line.
func (a *app) eventLine(r admin.EventRecord) string {
	head := fmt.Sprintf("%s  %s %s", a.clock(r.Time), escape(subject(r)), size(r.Bytes))
	if r.Function == "" {
		return head + " -> no function wants it"
	}
	parts := []string{head + " -> " + escape(r.Function)}
	if r.Attempt > 1 {
		parts = append(parts, fmt.Sprintf("attempt %d", r.Attempt))
	}
	if r.Skipped != "" {
		parts = append(parts, "did not run: "+escape(r.Skipped))
	}
	if r.Node != "" {
		parts = append(parts, fmt.Sprintf("ran %s on %s", micros(r.Usage.WallUS), escape(r.Node)))
	}
	if r.Outcome != "" {
		parts = append(parts, a.paint(escape(r.Outcome)))
	}
	if r.Error != nil {
		why, _, _ := strings.Cut(r.Error.Message, "\n") // the stack of a trap is for -o wide
		parts = append(parts, escape(why))
	}
	for _, p := range r.Published {
		parts = append(parts, "published "+escape(p.Topic))
	}
	if r.Settled != "" {
		parts = append(parts, fmt.Sprintf("%s after %s", escape(r.Settled), micros(r.TotalUS)))
	}
	return strings.Join(parts, ", ")
}

// story is an event in full, one line per thing that happened.
func (a *app) story(w io.Writer, r admin.EventRecord) {
	fmt.Fprintf(w, "%s  event %s\n", a.clock(r.Time), escape(r.ID))
	line := func(what, text string) {
		fmt.Fprintf(w, "    %-10s %s\n", what, indent(escapeText(text), "               "))
	}
	flags := ""
	if r.Retained {
		flags += ", retained"
	}
	if r.Dup {
		flags += ", sent before"
	}
	line("received", fmt.Sprintf("%s, %s, QoS %d%s", subject(r), size(r.Bytes), r.QoS, flags))
	if r.Function == "" {
		line("matched", "no function wants it")
		return
	}
	line("matched", fmt.Sprintf("%s %s, attempt %d", r.Function, r.Trigger, max(r.Attempt, 1)))
	if r.Skipped != "" {
		line("skipped", r.Skipped)
	}
	if r.Node != "" {
		line("placed", r.Node+": "+r.Why)
		for _, rule := range r.Rules {
			line("", rule)
		}
		line("ran", fmt.Sprintf("%s in %s, CPU %s, after waiting %s", r.Outcome, micros(r.Usage.WallUS), micros(r.Usage.CPUUS), micros(r.WaitUS)))
	}
	if r.Error != nil {
		line("failed", r.Error.Message)
		if r.Error.Hint != "" {
			line("next", r.Error.Hint)
		}
	}
	if r.Writes > 0 {
		line("stored", plural(int64(r.Writes), "change"))
	}
	for _, p := range r.Published {
		line("published", fmt.Sprintf("%s, %s, QoS %d", p.Topic, size(p.Bytes), p.QoS))
	}
	if r.Responded > 0 {
		line("responded", fmt.Sprint(r.Responded))
	}
	if r.Settled != "" {
		again := ""
		if r.RetryMS > 0 {
			again = fmt.Sprintf(", again in %s", micros(r.RetryMS*1000))
		}
		line("settled", fmt.Sprintf("%s after %s%s", r.Settled, micros(r.TotalUS), again))
	}
}
