package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"mayfly/admin"
)

type invokeOptions struct {
	data        string
	topic       string
	contentType string
	attrs       []string
}

func invokeCommand(a *app) *cobra.Command {
	var o invokeOptions
	cmd := &cobra.Command{
		Use:   "invoke NAME",
		Short: "Run a function once, by hand",
		Long: `Make one event by hand, run it through a deployed function and show what came of it.

The effects are real: what the function publishes is published, what it stores is stored. What it responded goes to
standard output, everything else to standard error. Exit code 6 if the event did not end well.
To try a function without effects: mayfly test.`,
		Example: `  mayfly invoke overheat -d '{"t": 91}' --topic plant/7/temp
  mayfly invoke overheat -d @reading.json -o json`,
		Args:              arguments("NAME"),
		ValidArgsFunction: a.functionNames,
	}
	flags := cmd.Flags()
	flags.StringVarP(&o.data, "data", "d", "", "payload: text, @FILE, or - for standard input")
	flags.StringVarP(&o.topic, "topic", "t", "", "topic of the event; selects the trigger whose captures apply")
	flags.StringVar(&o.contentType, "content-type", "", "content type of the payload")
	flags.StringArrayVarP(&o.attrs, "attr", "a", nil, "attribute KEY=VALUE: id, source, subject, time, or your own (repeatable)")
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return a.invoke(cmd, args[0], o, *out) }
	return cmd
}

func (a *app) invoke(cmd *cobra.Command, name string, o invokeOptions, out format) error {
	payload, err := a.data(o.data)
	if err != nil {
		return err
	}
	req := admin.InvokeRequest{Topic: o.topic, ContentType: o.contentType, Body: admin.NewBody(payload)}
	for _, w := range o.attrs {
		key, value, ok := strings.Cut(w, "=")
		if !ok || key == "" {
			return &usageError{text: fmt.Sprintf("--attr %q: want KEY=VALUE", w), hint: "mayfly invoke " + name + " --attr id=42"}
		}
		req.Attrs = append(req.Attrs, admin.Attr{Name: key, Value: value})
	}
	ran, err := a.client.Invoke(cmd.Context(), name, req)
	if err != nil {
		return a.noSuch(cmd, name, err)
	}
	v := view[admin.Ran]{
		name:   func(r admin.Ran) string { return r.Outcome },
		detail: func(w io.Writer, r admin.Ran, _ bool) { a.ranDetail(w, r) },
	}
	if err := one(a, out, v, ran); err != nil {
		return err
	}
	if ran.Outcome != "done" {
		return exitError{exitFunction}
	}
	return nil
}

// ranDetail writes the response to w and the rest of the story to standard error.
func (a *app) ranDetail(w io.Writer, r admin.Ran) {
	for _, l := range r.Log {
		a.note("%-5s  %s", l.Level, escape(l.Text))
	}
	if r.Dropped > 0 {
		a.note("%s over the limit dropped", plural(int64(r.Dropped), "log line"))
	}
	for _, m := range r.Publishes {
		a.note("published  %s", a.messageLine(m))
	}
	for _, s := range r.Writes {
		a.note("stored     %s", writeLine(s))
	}
	switch {
	case r.Error != nil:
		fmt.Fprintf(a.Stderr, "error: %s\n", indent(escapeText(r.Error.Message), "       ")) // a trap's stack has lines
		if r.Error.Hint != "" {
			fmt.Fprintf(a.Stderr, "next:  %s\n", escape(r.Error.Hint))
		}
	case r.Failure != "":
		a.note("it said: %s", escape(r.Failure))
	}
	a.note("%s on %s in %s (CPU %s, memory %s)", r.Outcome, escape(r.Node), micros(r.Usage.WallUS), micros(r.Usage.CPUUS), size(r.Usage.Memory))
	if r.Response == nil {
		return
	}
	body := r.Response.Body.Bytes()
	if !a.outTTY {
		_, _ = w.Write(body) // a program reads it: as it is
		return
	}
	fmt.Fprintln(w, strings.TrimSuffix(escapeText(string(body)), "\n"))
}

func (a *app) messageLine(m admin.Message) string {
	flags := fmt.Sprintf("QoS %d", m.QoS)
	if m.Retain {
		flags += ", retained"
	}
	return fmt.Sprintf("%s (%s) %s", escape(m.Topic), flags, shown(m.Body))
}

func writeLine(s admin.StateWrite) string {
	if s.Delete {
		return escape(s.Key) + " deleted"
	}
	return escape(s.Key) + " = " + shown(s.Body)
}

// maxShown is how much of a payload a line for people shows.
const maxShown = 400

// shown is a payload on one line.
func shown(b admin.Body) string {
	data := b.Bytes()
	text := escape(string(data[:min(len(data), maxShown)]))
	if len(data) > maxShown {
		text += fmt.Sprintf("… (%s)", size(int64(len(data))))
	}
	return text
}
