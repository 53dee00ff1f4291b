package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"mayfly/admin"
)

func fnCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "fn",
		Aliases: []string{"function", "functions"},
		Short:   "List, show, remove, pause and resume functions",
		Long:    "What is deployed on the agent, how it is doing, and how to stop it.",
		Example: "  mayfly fn ls\n  mayfly fn show overheat",
	}
	cmd.AddCommand(fnList(a), fnShow(a), fnHistory(a), fnRemove(a), fnPause(a, true), fnPause(a, false))
	return cmd
}

// functionView shows functions.
func functionView(a *app) view[admin.Function] {
	count := func(n uint64) string { return strconv.FormatUint(n, 10) }
	return view[admin.Function]{
		name:  func(f admin.Function) string { return f.Name },
		empty: "nothing is deployed yet; next: mayfly deploy DIR",
		columns: []column[admin.Function]{
			{head: "NAME", cell: func(f admin.Function) string { return f.Name }},
			{head: "VERSION", cell: func(f admin.Function) string { return orElse(f.Version, "-") }},
			{head: "STATE", cell: func(f admin.Function) string { return f.State }},
			{head: "RECEIVED", cell: func(f admin.Function) string { return count(f.Counters.Received) }},
			{head: "DONE", cell: func(f admin.Function) string { return count(f.Counters.Done) }},
			{head: "FAILED", cell: func(f admin.Function) string { return count(f.Counters.Failed + f.Counters.Rejected) }},
			{head: "DEAD", cell: func(f admin.Function) string { return count(f.Counters.DeadLettered) }},
			{head: "AGE", cell: func(f admin.Function) string { return a.age(f.Deployed) }},
			{head: "RUN", wide: true, cell: func(f admin.Function) string { return measured(f.Counters.RunUS) }},
			{head: "CPU", wide: true, cell: func(f admin.Function) string { return measured(f.Counters.CPUUS) }},
			{head: "SIZE", wide: true, cell: func(f admin.Function) string { return size(f.ModuleBytes) }},
			{head: "ABI", wide: true, cell: func(f admin.Function) string { return f.ABI }},
			{head: "REVISION", wide: true, cell: func(f admin.Function) string { return count(f.Revision) }},
			{head: "REASON", wide: true, cell: func(f admin.Function) string { return orElse(f.Reason, "-") }},
		},
		detail: func(w io.Writer, f admin.Function, wide bool) { a.functionDetail(w, f, wide) },
	}
}

func (a *app) functionDetail(w io.Writer, f admin.Function, wide bool) {
	state := a.paint(f.State)
	fmt.Fprintf(w, "%-12s  %s\n", "function", escape(f.Name))
	fmt.Fprintf(w, "%-12s  %s\n", "state", state)
	if f.Canary != "" {
		fields(w, "on trial", f.Canary+", see: mayfly canary status "+f.Name)
	}
	fields(w, "reason", f.Reason, "next", f.Hint, "version", f.Version, "about", f.Description,
		"deployed", fmt.Sprintf("%s ago, revision %d", a.age(f.Deployed), f.Revision),
		"module", fmt.Sprintf("%s, %s, %s", f.Digest, size(f.ModuleBytes), f.ABI))
	for _, t := range f.Triggers {
		fields(w, "trigger", strings.TrimSpace(fmt.Sprintf("%s %s, %s %s", t.Name, t.Spec, t.State, t.Reason)))
	}
	c := f.Counters
	fields(w, "events", fmt.Sprintf("%d received, %d done, %d retried, %d rejected, %d failed, %d dead-lettered",
		c.Received, c.Done, c.Retried, c.Rejected, c.Failed, c.DeadLettered),
		"not run", fmt.Sprintf("%d filtered out, %d sent twice, %d coalesced", c.Filtered, c.Duplicate, c.Coalesced),
		"now", fmt.Sprintf("%d running, %d queued", c.Running, c.Queued),
		"time", fmt.Sprintf("%s a run of late, %s of CPU in all", measured(c.RunUS), micros(c.CPUUS)),
		"published", strconv.FormatUint(c.Published, 10))
	if f.LastError != nil {
		fields(w, "last error", strings.TrimLeft(a.ago(f.LastErrorAt)+": ", ": ")+f.LastError.Message, "next", f.LastError.Hint)
	}
	if wide && f.Manifest != "" {
		fmt.Fprintf(w, "\n%s", escapeText(f.Manifest))
	}
}

func fnList(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "ls", Aliases: []string{"list"}, Short: "List functions", Args: arguments(),
		Long:    "List the deployed functions with what they did since the agent started.",
		Example: "  mayfly fn ls -o wide",
	}
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		fs, err := a.client.Functions(cmd.Context())
		if err != nil {
			return err
		}
		return list(a, *out, functionView(a), fs)
	}
	return cmd
}

func fnShow(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "show NAME", Short: "Show one function", Args: arguments("NAME"), ValidArgsFunction: a.functionNames,
		Long:    "Show one function: state and why, triggers, counters, last error; with -o wide also its manifest.",
		Example: "  mayfly fn show overheat",
	}
	return showing(a, cmd, (*admin.Client).Function, a.noSuch, functionView(a))
}

// showing makes cmd show what has the name it is given; missed says what to do when there is none.
func showing[T any](a *app, cmd *cobra.Command, get func(*admin.Client, context.Context, string) (T, error), missed unfound, v view[T]) *cobra.Command {
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		found, err := get(a.client, cmd.Context(), args[0])
		if err != nil {
			return missed(cmd, args[0], err)
		}
		return one(a, *out, v, found)
	}
	return cmd
}

// unfound makes of an error about a name one that suggests another.
type unfound func(cmd *cobra.Command, name string, err error) error

func fnRemove(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "rm NAME...", Aliases: []string{"remove", "delete"}, Short: "Remove functions", Args: arguments("NAME..."),
		ValidArgsFunction: a.functionNames,
		Long:              "Remove functions with their state and their waiting events. Dead letters stay until they are dropped.",
		Example:           "  mayfly fn rm overheat --yes",
	}
	a.yesFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		for _, name := range args {
			if _, err := a.client.Function(cmd.Context(), name); err != nil {
				return a.noSuch(cmd, name, err)
			}
		}
		if err := a.confirm(fmt.Sprintf("remove %s with state and waiting events?", quoted(args))); err != nil {
			return err
		}
		for _, name := range args {
			_, err := a.ordered(cmd.Context(), about("function", name, nil), func() error { return a.client.Remove(cmd.Context(), name) })
			if err != nil {
				return a.noSuch(cmd, name, err)
			}
			a.note("%s removed", escape(name))
		}
		return nil
	}
	return cmd
}

func fnPause(a *app, pause bool) *cobra.Command {
	cmd := &cobra.Command{
		Use: "resume NAME...", Short: "Let paused functions run again", Args: arguments("NAME..."), ValidArgsFunction: a.functionNames,
		Long:    "Open the triggers of paused functions again; what waited at the broker comes in.",
		Example: "  mayfly fn resume overheat",
	}
	if pause {
		cmd.Use, cmd.Short = "pause NAME...", "Stop functions without removing them"
		cmd.Long = "Close the triggers of functions. What runs ends; what comes waits at the broker as long as the broker keeps it."
		cmd.Example = "  mayfly fn pause overheat"
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		for _, name := range args {
			var f admin.Function
			done, err := a.ordered(cmd.Context(), about("function", name, paused(pause)), func() (err error) {
				f, err = a.client.SetPaused(cmd.Context(), name, pause)
				return err
			})
			if done {
				f, err = a.client.Function(cmd.Context(), name)
			}
			if err != nil {
				return a.noSuch(cmd, name, err)
			}
			a.note("%s %s", escape(f.Name), f.State)
		}
		return nil
	}
	return cmd
}

func quoted(names []string) string {
	all := make([]string, len(names))
	for i, n := range names {
		all[i] = strconv.Quote(n)
	}
	return strings.Join(all, ", ")
}
