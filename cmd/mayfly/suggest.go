package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"mayfly/admin"
	"mayfly/function"
	"mayfly/internal/nearest"
)

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
	if name := nearest.To(args[0], names); name != "" {
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
	if name := nearest.To(missing.GetSpecifiedName(), names); name != "" && len(missing.GetSpecifiedName()) > 1 {
		e.text += fmt.Sprintf("; did you mean --%s?", name)
	}
	return e
}

// noSuch adds the name that was probably meant to an agent's "there is no such function".
func (a *app) noSuch(cmd *cobra.Command, name string, err error) error {
	return didYouMean(err, name, "mayfly fn show", "mayfly fn ls", func() []string {
		list, err := a.client.Functions(cmd.Context())
		if err != nil {
			return nil // the first error says enough
		}
		var names []string
		for _, f := range list {
			names = append(names, f.Name)
		}
		return names
	})
}

// didYouMean adds the one of names that was probably meant to a KindNotFound, and what to type: show with that name, or all.
func didYouMean(err error, name, show, all string, names func() []string) error {
	fe, ok := errors.AsType[*function.Error](err)
	if !ok || fe.Kind != admin.KindNotFound {
		return err
	}
	out, known := *fe, names()
	switch guess := nearest.To(name, known); {
	case guess != "":
		out.Err = fmt.Errorf("%w; did you mean %q?", fe.Err, guess)
		out.Hint = show + " " + guess
	case len(known) == 0:
		out.Hint = "nothing is deployed yet: mayfly deploy DIR"
	default:
		out.Hint = all
	}
	return &out
}

// hinted says what to type where an error does not.
func hinted(err error, hint string) error {
	fe, ok := errors.AsType[*function.Error](err)
	if !ok || fe.Hint != "" || fe.Kind != admin.KindNotFound {
		return err
	}
	out := *fe
	out.Hint = hint
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
