package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"mayfly/admin"
)

func secretCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "secret",
		Short: "Set, list and remove secrets of functions",
		Long: `A secret is a value that functions read whose manifests name it in [permissions] secrets. It is sealed to the keys of
the nodes: what they tell each other and have on disk shows nothing of it. A file in the [node] secrets directory of a
device goes before it there.`,
		Example: "  mayfly secret set webhook < webhook.txt\n  mayfly secret ls",
	}
	cmd.AddCommand(secretSet(a), secretList(a), secretRemove(a))
	return cmd
}

func (a *app) secretView() view[admin.Secret] {
	return view[admin.Secret]{
		name:  func(s admin.Secret) string { return s.Name },
		empty: "there is no secret; next: mayfly secret set NAME < FILE",
		columns: []column[admin.Secret]{
			{head: "NAME", cell: func(s admin.Secret) string { return s.Name }},
			{head: "FROM", cell: func(s admin.Secret) string { return s.From }},
			{head: "READABLE", cell: func(s admin.Secret) string {
				if s.Why != "" {
					return "no"
				}
				return "yes"
			}},
			{head: "SIZE", cell: func(s admin.Secret) string { return size(int64(s.Bytes)) }},
			{head: "AGE", cell: func(s admin.Secret) string { return a.age(s.Set) }},
			{head: "FUNCTIONS", cell: func(s admin.Secret) string { return orElse(strings.Join(s.Functions, ","), "-") }},
			{head: "SEALED TO", wide: true, cell: func(s admin.Secret) string { return orElse(strings.Join(s.Nodes, ","), "-") }},
			{head: "WHY", wide: true, cell: func(s admin.Secret) string { return s.Why }},
		},
		detail: func(w io.Writer, s admin.Secret, _ bool) {
			fields(w, "secret", s.Name, "sealed to", strings.Join(s.Nodes, ", "), "away", strings.Join(s.Later, ", "))
		},
	}
}

func secretSet(a *app) *cobra.Command {
	var file string
	var raw bool
	cmd := &cobra.Command{
		Use: "set NAME", Short: "Set a secret, from standard input or a file", Args: arguments("NAME"),
		Long: `Set a secret for all nodes. The value is read from standard input, or a file: never from the command line, where other
users and the history of the shell would see it. A line break at its end is left out, unless --raw. Functions get the
new value with their next event.

In a cluster it takes an operator's key: do it where mayfly init ran. Nodes that are away, or join later, are passed the
value by those that have it. After a node was revoked, set again what it knew.`,
		Example: "  pass show hooks/plant | mayfly secret set webhook\n  mayfly secret set tls-key --file key.pem --raw",
	}
	cmd.Flags().StringVar(&file, "file", "", "read the value from this file")
	cmd.Flags().BoolVar(&raw, "raw", false, "keep a line break at the end")
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		value, err := a.secretValue(file, raw)
		if err != nil {
			return err
		}
		s, err := a.client.SetSecret(cmd.Context(), args[0], value)
		if err != nil {
			return err
		}
		a.note("%s is set, %s", escape(s.Name), plural(int64(s.Bytes), "byte"))
		return one(a, *out, a.secretView(), s)
	}
	return cmd
}

// secretValue reads a value from a file, or standard input.
func (a *app) secretValue(file string, raw bool) ([]byte, error) {
	from := a.Stdin
	if file != "" {
		f, err := os.Open(file)
		if err != nil {
			return nil, &usageError{text: err.Error(), hint: "--file names a file that holds the value"}
		}
		defer f.Close()
		from = f
	} else if isTerminal(a.Stdin) {
		a.note("the value, and then Ctrl-D on a line of its own; it is shown as you type: better pipe it in")
	}
	value, err := io.ReadAll(io.LimitReader(from, admin.MaxSecret+2))
	if err != nil {
		return nil, err
	}
	if !raw {
		value = bytes.TrimSuffix(bytes.TrimSuffix(value, []byte("\n")), []byte("\r"))
	}
	switch {
	case len(value) == 0:
		return nil, &usageError{text: "the value is empty", hint: "pipe it in, or name a file: --file"}
	case len(value) > admin.MaxSecret:
		return nil, &usageError{text: fmt.Sprintf("the value has more than %d bytes", admin.MaxSecret), hint: "put what is large into a file of the device, and its key into a secret"}
	}
	return value, nil
}

func secretList(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "ls", Aliases: []string{"list"}, Short: "List secrets, without their values", Args: arguments(),
		Long: `List the secrets: where this node has each from, whether it can read it, and which functions may. With -o wide also to
which nodes it was sealed when it was set. Values are shown by no command.`,
		Example: "  mayfly secret ls -o wide",
	}
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		all, err := a.client.Secrets(cmd.Context())
		if err != nil {
			return err
		}
		return list(a, *out, a.secretView(), all)
	}
	return cmd
}

func secretRemove(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "rm NAME...", Aliases: []string{"remove", "delete"}, Short: "Remove secrets", Args: arguments("NAME..."),
		Long:    "Remove secrets from all nodes. Functions that ask for one are told that there is none.",
		Example: "  mayfly secret rm webhook --yes",
	}
	a.yesFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := a.confirm(fmt.Sprintf("remove %s on all nodes?", quoted(args))); err != nil {
			return err
		}
		for _, name := range args {
			remove := func() error { return a.client.RemoveSecret(cmd.Context(), name) }
			if _, err := a.ordered(cmd.Context(), about("secret", name, nil), remove); err != nil {
				return err
			}
			a.note("%s removed", escape(name))
		}
		return nil
	}
	return cmd
}
