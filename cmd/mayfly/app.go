package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mayfly/admin"
)

// app is what the verbs of one command line share.
type app struct {
	process
	client *admin.Client

	reach reach
	quiet bool
	yes   bool

	outTTY bool // a person reads standard output
	errTTY bool // a person reads standard error
	colour bool
}

func newApp(p process) *app {
	a := &app{process: p, outTTY: isTerminal(p.Stdout), errTTY: isTerminal(p.Stderr)}
	a.colour = a.outTTY && p.Getenv("NO_COLOR") == "" && p.Getenv("TERM") != "dumb"
	a.client = admin.NewClient(admin.Sockets(p.Getenv)...)
	return a
}

// newRoot returns the whole tree of commands.
func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "mayfly",
		Short: "Run functions where the events are",
		Long: `mayfly deploys WebAssembly functions to the agent on this device and shows what they do.

An MQTT message, an HTTP request or a schedule is an event; an event runs a function; what the function
says is published, stored or returned.`,
		Example: `  mayfly deploy examples/convert        deploy a function
  mayfly sub 'plant/#'                  watch what is published
  mayfly pub plant/7/temp '{"t": 91}'   make an event
  mayfly events tail                    see what became of it, and why`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return a.connect(cmd.Context()) },
	}
	root.SetIn(a.Stdin)
	root.SetOut(a.Stdout)
	root.SetErr(a.Stderr)
	root.SetFlagErrorFunc(flagError)
	a.reach.flags(root)
	root.PersistentFlags().BoolVar(&a.quiet, "quiet", false, "no progress and no notes")
	root.AddGroup(
		&cobra.Group{ID: "author", Title: "Author:"}, &cobra.Group{ID: "ship", Title: "Ship:"},
		&cobra.Group{ID: "understand", Title: "Understand:"}, &cobra.Group{ID: "data", Title: "Data:"},
		&cobra.Group{ID: "cluster", Title: "Cluster:"}, &cobra.Group{ID: "care", Title: "Care:"},
	)
	add := func(group string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("author", newCommand(a), buildCommand(a), testCommand(a))
	add("ship", pushCommand(a), pullCommand(a), planCommand(a), capsCommand(a), deployCommand(a), canaryCommand(a), rollbackCommand(a), fnCommand(a), secretCommand(a))
	add("understand", statusCommand(a), explainCommand(a), eventsCommand(a), logsCommand(a), dlqCommand(a), usageCommand(a))
	add("data", pubCommand(a), subCommand(a), invokeCommand(a))
	add("cluster", initCommand(a), tokenCommand(a), joinCommand(a), leaveCommand(a), nodesCommand(a), drillCommand(a), keyringCommand(a), operatorsCommand(a), accessCommand(a))
	add("care", configCommand(a), versionCommand(a), manCommand(a))
	root.AddCommand(exitCodesTopic())
	root.InitDefaultCompletionCmd(a.process.Args...)
	finish(root)
	return root
}

// finish makes every group of verbs answer for what it does not know.
func finish(root *cobra.Command) {
	for _, c := range root.Commands() {
		if c.HasSubCommands() && !c.Runnable() {
			c.RunE = func(cmd *cobra.Command, args []string) error { return unknownCommand(cmd, args) }
			c.Args = cobra.ArbitraryArgs
		}
		finish(c)
	}
	if !root.HasParent() {
		root.RunE = func(cmd *cobra.Command, args []string) error { return unknownCommand(cmd, args) }
		root.Args = cobra.ArbitraryArgs
	}
}

// note tells a person something that is not data.
func (a *app) note(format string, args ...any) {
	if !a.quiet {
		fmt.Fprintf(a.Stderr, format+"\n", args...)
	}
}

// progress shows a line that the next one replaces; only a person sees it.
func (a *app) progress(format string, args ...any) {
	if !a.quiet && a.errTTY {
		fmt.Fprintf(a.Stderr, "\r\x1b[K"+format, args...)
	}
}

// confirm asks before something is destroyed. Nobody to ask means no.
func (a *app) confirm(question string) error {
	if a.yes {
		return nil
	}
	if !isTerminal(a.Stdin) || !a.errTTY {
		return &usageError{text: question + " nobody is there to ask", hint: "add --yes if you mean it"}
	}
	fmt.Fprintf(a.Stderr, "%s [y/N] ", question)
	line, err := bufio.NewReader(a.Stdin).ReadString('\n')
	if answer := strings.ToLower(strings.TrimSpace(line)); err == nil && (answer == "y" || answer == "yes") {
		return nil
	}
	return &usageError{text: "not confirmed: nothing was changed", hint: "answer y, or add --yes"}
}

// yesFlag adds --yes to a destructive verb.
func (a *app) yesFlag(cmd *cobra.Command) {
	cmd.Flags().BoolVarP(&a.yes, "yes", "y", false, "do not ask")
}

// data reads what an argument stands for: itself, @file, or - for standard input.
func (a *app) data(arg string) ([]byte, error) {
	switch {
	case arg == "-":
		return io.ReadAll(a.Stdin)
	case strings.HasPrefix(arg, "@"):
		text, err := os.ReadFile(arg[1:])
		if err != nil {
			return nil, &usageError{text: err.Error(), hint: "@ names a file; to send a text that starts with @, pipe it in and give -"}
		}
		return text, nil
	}
	return []byte(arg), nil
}

// clock shows a time of day, in the reader's zone.
func (a *app) clock(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.In(a.Now().Location()).Format("15:04:05.000")
}

// age shows how long ago something was.
func (a *app) age(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return duration(a.Now().Sub(t))
}

// functionNames completes the name of a function from the agent's list.
func (a *app) functionNames(cmd *cobra.Command, _ []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(cmd.Context(), time.Second)
	defer cancel()
	list, err := a.client.Functions(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []cobra.Completion
	for _, f := range list {
		names = append(names, f.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
