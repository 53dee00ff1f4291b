package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"mayfly/admin"
	"mayfly/function"
)

func dlqCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "dlq",
		Aliases: []string{"dead-letters"},
		Short:   "Look at events that were given up; replay or drop them",
		Long:    "Dead letters are events that were rejected or failed too often. They are kept with their payload and the error.",
		Example: "  mayfly dlq ls\n  mayfly dlq show overheat-1\n  mayfly dlq replay --function overheat",
	}
	cmd.AddCommand(dlqList(a), dlqShow(a), dlqReplay(a), dlqDrop(a))
	return cmd
}

func (a *app) letterView() view[admin.DeadLetter] {
	why := func(d admin.DeadLetter) string {
		if d.Error == nil {
			return "-"
		}
		return d.Error.Message
	}
	return view[admin.DeadLetter]{
		name:  func(d admin.DeadLetter) string { return d.ID },
		empty: "no dead letters",
		columns: []column[admin.DeadLetter]{
			{head: "ID", cell: func(d admin.DeadLetter) string { return d.ID }},
			{head: "FUNCTION", cell: func(d admin.DeadLetter) string { return d.Function }},
			{head: "TOPIC", cell: func(d admin.DeadLetter) string { return orElse(d.Topic, "-") }},
			{head: "DIED", cell: func(d admin.DeadLetter) string { return a.age(d.Died) + " ago" }},
			{head: "ATTEMPTS", cell: func(d admin.DeadLetter) string { return strconv.Itoa(d.Attempts) }},
			{head: "SIZE", wide: true, cell: func(d admin.DeadLetter) string { return size(d.Bytes) }},
			{head: "EVENT", wide: true, cell: func(d admin.DeadLetter) string { return d.Event }},
			{head: "WHY", cell: why},
		},
		detail: func(w io.Writer, d admin.DeadLetter, _ bool) {
			fields(w, "dead letter", d.ID, "function", d.Function, "trigger", d.Trigger, "event", d.Event, "topic", d.Topic,
				"received", a.age(d.Received)+" ago", "died", fmt.Sprintf("%s ago, after %s", a.age(d.Died), plural(int64(d.Attempts), "attempt")),
				"why", why(d))
			if d.Error != nil {
				fields(w, "next", d.Error.Hint)
			}
			for _, at := range d.Attrs {
				fields(w, at.Name, at.Value)
			}
			if d.Body != nil {
				data := d.Body.Bytes()
				fields(w, "payload", fmt.Sprintf("%s: %s", size(int64(len(data))), escape(string(data))))
			}
		},
	}
}

func dlqList(a *app) *cobra.Command {
	var q admin.DeadLetterQuery
	cmd := &cobra.Command{
		Use: "ls", Aliases: []string{"list"}, Short: "List dead letters", Args: arguments(),
		Long: "List dead letters, the oldest first, without their payloads.", Example: "  mayfly dlq ls --function overheat",
	}
	cmd.Flags().StringVar(&q.Function, "function", "", "only those of this function")
	cmd.Flags().IntVarP(&q.Limit, "limit", "n", 0, "at most that many (0 = 1000)")
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ds, err := a.client.DeadLetters(cmd.Context(), q)
		if err != nil {
			return err
		}
		return list(a, *out, a.letterView(), ds)
	}
	return cmd
}

func dlqShow(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "show ID", Short: "Show one dead letter with its payload", Args: arguments("ID"),
		Long: "Show one dead letter: event, payload, error.", Example: "  mayfly dlq show overheat-1 -o json",
	}
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		d, err := a.client.DeadLetter(cmd.Context(), args[0])
		if err != nil {
			return a.noLetter(err)
		}
		return one(a, *out, a.letterView(), d)
	}
	return cmd
}

// letterQuery adds the flags that say which dead letters are meant.
func letterQuery(cmd *cobra.Command, q *admin.DeadLetterQuery) {
	cmd.Flags().StringVar(&q.Function, "function", "", "all of this function")
	cmd.Flags().BoolVar(&q.All, "all", false, "all of them")
}

// which checks that exactly one way of saying which was used.
func which(cmd *cobra.Command, args []string, q *admin.DeadLetterQuery) error {
	q.IDs = args
	ways := 0
	for _, used := range []bool{len(args) > 0, q.Function != "", q.All} {
		if used {
			ways++
		}
	}
	if ways != 1 {
		return &usageError{text: cmd.CommandPath() + ": say which: IDs, --function NAME or --all", hint: "mayfly dlq ls"}
	}
	return nil
}

func dlqReplay(a *app) *cobra.Command {
	var q admin.DeadLetterQuery
	cmd := &cobra.Command{
		Use: "replay [ID...]", Short: "Run dead letters again", Args: arguments("[ID...]"),
		Long:    "Queue dead letters as new events with all their attempts; they leave the list in the same step.",
		Example: "  mayfly dlq replay overheat-1\n  mayfly dlq replay --function overheat",
	}
	letterQuery(cmd, &q)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.changeLetters(cmd, args, &q, "queued again", a.client.Replay)
	}
	return cmd
}

func dlqDrop(a *app) *cobra.Command {
	var q admin.DeadLetterQuery
	cmd := &cobra.Command{
		Use: "drop [ID...]", Short: "Delete dead letters", Args: arguments("[ID...]"),
		Long: "Delete dead letters for good.", Example: "  mayfly dlq drop overheat-1 --yes",
	}
	letterQuery(cmd, &q)
	a.yesFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := which(cmd, args, &q); err != nil {
			return err
		}
		if err := a.confirm("delete these dead letters for good?"); err != nil {
			return err
		}
		return a.changeLetters(cmd, args, &q, "dropped", a.client.Drop)
	}
	return cmd
}

func (a *app) changeLetters(cmd *cobra.Command, args []string, q *admin.DeadLetterQuery, did string,
	change func(context.Context, admin.DeadLetterQuery) (int, error),
) error {
	if err := which(cmd, args, q); err != nil {
		return err
	}
	n, err := change(cmd.Context(), *q)
	if err != nil {
		return a.noLetter(err)
	}
	a.note("%s %s", plural(int64(n), "dead letter"), did)
	return nil
}

// noLetter says where the ids are when one is wrong.
func (a *app) noLetter(err error) error {
	fe, ok := errors.AsType[*function.Error](err)
	if !ok || fe.Kind != admin.KindNotFound || fe.Hint != "" {
		return err
	}
	out := *fe
	out.Hint = "mayfly dlq ls"
	return &out
}
