package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"mayfly/admin"
	"mayfly/function"
)

// exitDiffers is what plan and caps diff say when there is a difference; an error of theirs is exitFailed.
const exitDiffers = 2

// Exit codes. They are documented and never change their meaning.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitNoAgent     = 3
	exitNotFound    = 4
	exitDenied      = 5
	exitFunction    = 6
	exitTimeout     = 7
	exitNotReady    = 8
	exitNoPlace     = 9
	exitInterrupted = 130
)

func exitCodesTopic() *cobra.Command {
	return &cobra.Command{
		Use:   "exit-codes",
		Short: "What the exit codes mean",
		Long: `Exit codes of mayfly. They keep their meaning in later versions.

    0  done
    1  it failed: the agent refused, or could not do it
    2  the command line or a file named in it is wrong; nothing was changed
    3  no agent answers
    4  there is no such function, dead letter, node, token, file or broker
    5  you may not: the agent or the system denied it
    6  it ran, but not well: invoke ended in retry, reject or a trap; a test failed
    7  the time given was not enough
    8  status --check: the agent is not ready
    9  drill: something would have no place
  130  interrupted

mayfly plan and mayfly caps diff say whether something differs: 0 nothing, 2 something, 1 any error.`,
	}
}

// usageError is a mistake on the command line or in a file it names.
type usageError struct {
	text string
	hint string
}

func (e *usageError) Error() string { return e.text }

// exitError carries an exit code for an end that is not an error of its own; what there is to say has been said.
type exitError struct{ code int }

func (e exitError) Error() string { return fmt.Sprintf("exit %d", e.code) }

// report prints what went wrong in cmd, what would help, and returns the exit code.
func (a *app) report(cmd *cobra.Command, err error) int {
	if err == nil {
		return exitOK
	}
	if e, ok := errors.AsType[exitError](err); ok {
		return e.code
	}
	if cmd.Context().Err() != nil { // Ctrl-C is an answer, not a failure
		return exitInterrupted
	}
	hint, code := "", exitFailed
	if e, ok := errors.AsType[*usageError](err); ok {
		hint, code = e.hint, exitUsage
	} else if e, ok := errors.AsType[*function.Error](err); ok {
		hint, code = e.Hint, codeOf(e.Kind)
	}
	if cmd.Annotations[differs] != "" {
		code = exitFailed
	}
	fmt.Fprintf(a.Stderr, "error: %s\n", indent(escapeText(err.Error()), "       "))
	fmt.Fprintf(a.Stderr, "next:  %s\n", indent(escapeText(orElse(hint, defaultHint(cmd, code))), "       "))
	return code
}

// defaultHint is what to type when nobody knows better.
func defaultHint(cmd *cobra.Command, code int) string {
	if code == exitUsage {
		return cmd.CommandPath() + " --help"
	}
	return "mayfly status"
}

func codeOf(kind string) int {
	switch kind {
	case admin.KindNotRunning:
		return exitNoAgent
	case admin.KindNotFound:
		return exitNotFound
	case admin.KindDenied:
		return exitDenied
	case admin.KindInvalid, admin.KindTooLarge:
		return exitUsage
	case kindTimeout:
		return exitTimeout
	}
	return exitFailed
}

// kindTimeout is the kind of errors about time that was not enough.
const kindTimeout = "timeout"

// indent puts prefix before every line but the first.
func indent(s, prefix string) string {
	return strings.ReplaceAll(strings.TrimRight(s, "\n"), "\n", "\n"+prefix)
}
