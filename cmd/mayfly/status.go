package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"mayfly/admin"
)

func statusCommand(a *app) *cobra.Command {
	check := false
	cmd := &cobra.Command{
		Use:   "status",
		Short: "How the agent is",
		Long: `How the agent is: brokers, functions, what waits, what was lost and why, sandbox engine, store, disk, memory.
Whatever is not well comes with a reason and the next thing to do.`,
		Example: `  mayfly status
  mayfly status --check --quiet        exit code 8 if the agent is not ready`,
		Args: arguments(),
	}
	cmd.Flags().BoolVar(&check, "check", false, "exit with code 8 if the agent is not ready")
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		st, err := a.client.Status(cmd.Context())
		if err != nil {
			return err
		}
		v := view[admin.Status]{
			name:   func(s admin.Status) string { return s.Node.Name },
			detail: func(w io.Writer, s admin.Status, wide bool) { a.statusDetail(w, s, wide) },
		}
		if err := one(a, *out, v, st); err != nil {
			return err
		}
		if check && !st.Ready {
			return exitError{exitNotReady}
		}
		return nil
	}
	return cmd
}

func (a *app) statusDetail(w io.Writer, s admin.Status, wide bool) {
	state := "not ready"
	if s.Ready {
		state = "ready"
	}
	fmt.Fprintf(w, "%-12s  %s\n", "agent", a.paint(state))
	for _, r := range s.Reasons {
		fields(w, "because", r.Text, "next", r.Hint)
	}
	fields(w, "node", fmt.Sprintf("%s (%s), mayfly %s on %s, up %s", s.Node.Name, s.Node.ID, s.Node.Version, s.Node.Arch,
		duration(time.Duration(s.Node.UptimeSeconds)*time.Second)))
	if c := s.Cluster; c != nil {
		fields(w, "cluster", fmt.Sprintf("%s (%s), %s", c.Name, c.ID, plural(int64(c.Members), "live member")))
	}
	for _, b := range s.Brokers {
		a.brokerDetail(w, b)
	}
	if len(s.Brokers) == 0 {
		fields(w, "broker", "none is configured")
	}
	a.waiting(w, s)
	for _, l := range s.Losses {
		fields(w, "lost", fmt.Sprintf("%s, %s%s%s", plural(int64(l.Count), "event"), l.Reason, a.last(l.Last), of(l.Function)))
	}
	if len(s.Losses) == 0 {
		fields(w, "lost", "nothing")
	}
	fields(w, "engine", fmt.Sprintf("%s: %d of %d slots busy, %s", s.Engine.Name, s.Engine.Busy, s.Engine.Slots, plural(int64(s.Engine.Modules), "module")),
		"", s.Engine.Note)
	a.storage(w, s, wide)
	fields(w, "memory", fmt.Sprintf("%s resident, %s Go heap%s", size(s.Memory.RSSBytes), size(s.Memory.HeapBytes), limit(s.Memory.LimitBytes)))
	fmt.Fprintln(w)
	f := format("table")
	if wide {
		f = "wide"
	}
	_ = list(a, f, functionView(a), s.Functions) // a table cannot fail
}

// ago says how long ago something was, nothing where that is not known.
func (a *app) ago(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return " " + a.age(t) + " ago"
}

// last is ago as an addition.
func (a *app) last(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return ", last" + a.ago(t)
}

func of(function string) string {
	if function == "" {
		return ""
	}
	return " (" + function + ")"
}

func limit(n int64) string {
	if n == 0 {
		return ""
	}
	return ", limit " + size(n)
}

func (a *app) brokerDetail(w io.Writer, b admin.Broker) {
	state := "down"
	if b.Connected {
		state = "connected"
	}
	kind := ""
	if b.Embedded {
		kind = " (embedded)"
	}
	since := ""
	if !b.Since.IsZero() {
		since = " for " + a.age(b.Since)
	}
	fmt.Fprintf(w, "%-12s  %s %s%s, %s%s\n", "broker", escape(b.Name), escape(b.URL), kind, a.paint(state), since)
	fields(w, "", fmt.Sprintf("%d in, %d out, %d in flight, %s", b.Received, b.Published, b.InFlight, plural(int64(b.Reconnects), "reconnect")))
	if b.LastError != nil {
		fields(w, "", fmt.Sprintf("last error%s: %s", a.ago(b.LastErrorAt), b.LastError.Message), "next", b.LastError.Hint)
	}
}

func (a *app) waiting(w io.Writer, s admin.Status) {
	for _, b := range []struct {
		name string
		admin.Backlog
	}{{"journal", s.Journal}, {"outbox", s.Outbox}, {"dead letters", s.DeadLetters}} {
		text := "empty"
		if b.Count > 0 {
			text = fmt.Sprintf("%d, %s, oldest %s", b.Count, size(b.Bytes), duration(time.Duration(b.OldestSeconds)*time.Second))
		}
		if b.QuotaBytes > 0 {
			text += ", quota " + size(b.QuotaBytes)
		}
		fields(w, b.name, text)
	}
}

func (a *app) storage(w io.Writer, s admin.Status, wide bool) {
	text := fmt.Sprintf("%s, %s", s.Store.Path, size(s.Store.Bytes))
	if !s.Store.Writable {
		text += ", not writable: nothing is acknowledged"
	}
	fields(w, "store", text)
	findings := s.Store.Findings
	if !wide && len(findings) > 3 {
		fields(w, "", fmt.Sprintf("%d earlier findings: mayfly status -o wide", len(findings)-3))
		findings = findings[len(findings)-3:]
	}
	for _, f := range findings {
		text := fmt.Sprintf("%s ago: %s", a.age(f.Time), f.Text)
		if f.Lost > 0 {
			text += ", lost " + plural(f.Lost, "record")
		}
		fields(w, "", text)
	}
	d := s.Disk
	fields(w, "disk", fmt.Sprintf("%s of %s free on %s (floor %s), %s written since the start",
		size(d.FreeBytes), size(d.TotalBytes), d.Path, size(d.FloorBytes), size(d.WrittenBytes)))
}
