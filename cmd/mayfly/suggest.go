package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"mayfly/admin"
	"mayfly/function"
)

// closest returns the name that s is most likely a slip of, or "".
func closest(s string, names []string) string {
	best, at := "", 1+len(s)/3
	for _, name := range names {
		d := distance(strings.ToLower(s), strings.ToLower(name))
		if strings.HasPrefix(name, s) && s != "" {
			d = min(d, 1)
		}
		if d <= at && (best == "" || d < at) {
			best, at = name, d
		}
	}
	return best
}

// distance counts insertions, deletions, replacements and swaps of neighbours (optimal string alignment).
func distance(a, b string) int {
	x, y := []rune(a), []rune(b)
	rows := make([][]int, len(x)+1)
	for i := range rows {
		rows[i] = make([]int, len(y)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(x); i++ {
		for j := 1; j <= len(y); j++ {
			same := 1
			if x[i-1] == y[j-1] {
				same = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+same)
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(x)][len(y)]
}

// unknownCommand answers a group that was called without a verb, or with one it does not have.
func unknownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		if !cmd.HasParent() {
			return cmd.Help()
		}
		if err := cmd.Help(); err != nil {
			return err
		}
		return exitError{exitUsage}
	}
	var names []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() || c.IsAdditionalHelpTopicCommand() {
			names = append(names, c.Name())
		}
	}
	e := &usageError{text: fmt.Sprintf("unknown command %q for %q", args[0], cmd.CommandPath()), hint: cmd.CommandPath() + " --help"}
	if name := closest(args[0], names); name != "" {
		e.text += fmt.Sprintf("; did you mean %q?", name)
		e.hint = cmd.CommandPath() + " " + name
	}
	return e
}

// flagError makes a usage error of what the flag parser says, with the flag that was probably meant.
func flagError(cmd *cobra.Command, err error) error {
	e := &usageError{text: err.Error(), hint: cmd.CommandPath() + " --help"}
	missing, ok := errors.AsType[*pflag.NotExistError](err)
	if !ok {
		return e
	}
	var names []string
	collect := func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, f.Name)
		}
	}
	cmd.Flags().VisitAll(collect)
	cmd.InheritedFlags().VisitAll(collect)
	if name := closest(missing.GetSpecifiedName(), names); name != "" && len(missing.GetSpecifiedName()) > 1 {
		e.text += fmt.Sprintf("; did you mean --%s?", name)
	}
	return e
}

// noSuch adds the name that was probably meant to an agent's "there is no such function".
func (a *app) noSuch(cmd *cobra.Command, name string, err error) error {
	fe, ok := errors.AsType[*function.Error](err)
	if !ok || fe.Kind != admin.KindNotFound {
		return err
	}
	list, listErr := a.client.Functions(cmd.Context())
	if listErr != nil {
		return err // the first error says enough
	}
	var names []string
	for _, f := range list {
		names = append(names, f.Name)
	}
	out := *fe
	switch guess := closest(name, names); {
	case guess != "":
		out.Err = fmt.Errorf("%w; did you mean %q?", fe.Err, guess)
		out.Hint = "mayfly fn show " + guess
	case len(names) == 0:
		out.Hint = "nothing is deployed yet: mayfly deploy DIR"
	default:
		out.Hint = "mayfly fn ls"
	}
	return &out
}

// arguments checks the number of a verb's arguments against their names; a name in brackets is optional, one that ends in
// dots may be repeated.
func arguments(names ...string) cobra.PositionalArgs {
	least, most := 0, len(names)
	for _, n := range names {
		if !strings.HasPrefix(n, "[") {
			least++
		}
		if strings.HasSuffix(strings.TrimSuffix(n, "]"), "...") {
			most = 1 << 20
		}
	}
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return &usageError{text: fmt.Sprintf("%s: %s is missing", cmd.CommandPath(), names[len(args)]), hint: cmd.CommandPath() + " --help"}
		case len(args) > most:
			return &usageError{
				text: fmt.Sprintf("%s: %q is one argument too many", cmd.CommandPath(), args[most]),
				hint: "quote an argument that contains spaces; " + cmd.CommandPath() + " --help",
			}
		}
		return nil
	}
}
