package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"mayfly/admin"
	"mayfly/cluster/identity"
	"mayfly/function"
)

// ordered does what may need operators' signatures, with the keys of --signing-key. The agent proposes the order that would make it true; look says
// whether it is what was asked for; then it is signed and submitted, until the change is made. done says that a submitted order made it, so
// that do has not returned without error.
func (a *app) ordered(ctx context.Context, look func(admin.Order) error, do func() error) (done bool, err error) {
	for range 4 {
		err = do()
		o, asked := admin.OrderOf(err)
		if !asked || len(a.reach.signing) == 0 {
			return false, err
		}
		if err := look(o); err != nil {
			return false, &function.Error{
				Op: "sign", Subject: o.Key, Class: function.ClassReject, Kind: "not-what-was-asked", Hint: "do not trust that node: ask another one",
				Err: fmt.Errorf("the agent wants something else to be signed: %w", err),
			}
		}
		a.note("signing: %s", escape(described(o)))
		if o.Signatures, err = a.sign(o); err != nil {
			return false, err
		}
		if err := a.submit(ctx, o); err != nil {
			return false, err
		}
		if o.Kind != "history" { // that comes first, when there is one
			return true, nil
		}
	}
	return false, err
}

// orderedFunction is ordered for a change of a deployed function. What is signed is shown: that it is this change the node answers for.
func (a *app) orderedFunction(ctx context.Context, name string, do func() (admin.Function, error)) (f admin.Function, err error) {
	done, err := a.ordered(ctx, about("function", name, anything), func() (err error) { f, err = do(); return err })
	if done {
		return a.client.Function(ctx, name)
	}
	return f, err
}

// orderedNode is ordered for what operators wish of a node.
func (a *app) orderedNode(ctx context.Context, name string, do func() (admin.Member, error)) (m admin.Member, err error) {
	look := func(o admin.Order) error {
		m, err := a.client.Node(ctx, name)
		if err != nil {
			return err
		}
		return about("config", "node/"+m.ID, anything)(o)
	}
	done, err := a.ordered(ctx, look, func() (err error) { m, err = do(); return err })
	if done {
		return a.client.Node(ctx, name)
	}
	return m, err
}

// sign adds the signatures of all keys that were given.
func (a *app) sign(o admin.Order) ([]byte, error) {
	all := o.Signatures
	for _, file := range a.reach.signing {
		key, err := identity.LoadOperator(file)
		if err != nil {
			return nil, &usageError{text: "--signing-key: " + err.Error()}
		}
		one := key.Sign(o.Cluster, o.Message())
		if len(all) == 0 {
			all = one
		} else if all, err = identity.JoinSignatures(all, one); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// submit submits an order, or keeps it in a file when more operators have to sign it.
func (a *app) submit(ctx context.Context, o admin.Order) error {
	err := a.client.Submit(ctx, o)
	if function.KindOf(err) != "unsigned" {
		return err
	}
	text, fault := json.MarshalIndent(o, "", " ")
	file := filepath.Base(o.Kind + "-" + o.Key + ".order")
	if fault == nil {
		fault = os.WriteFile(file, append(text, '\n'), 0o644) //nolint:gosec // it is for others to read
	}
	if fault != nil {
		return errors.Join(err, fault)
	}
	return hinted(err, "if others must sign too, give them "+file+", within a day: mayfly operators sign "+file+" --signing-key FILE; then repeat this command")
}

// described says what an order does.
func described(o admin.Order) string {
	if o.Deleted {
		return fmt.Sprintf("cluster %s: remove %s %s", o.Cluster, o.Kind, o.Key)
	}
	if o.Kind == "function" {
		var b orderedBody
		if json.Unmarshal(o.Body, &b) == nil {
			text := fmt.Sprintf("cluster %s: function %s is module %s", o.Cluster, o.Key, b.Module)
			if b.Canary != nil {
				text += ", on trial beside it " + b.Canary.Module
			}
			if b.Paused {
				text += ", paused"
			}
			return text
		}
	}
	if o.Kind == "config" {
		return fmt.Sprintf("cluster %s: %s is %s", o.Cluster, o.Key, o.Body)
	}
	return fmt.Sprintf("cluster %s: %s %s, %d bytes", o.Cluster, o.Kind, o.Key, len(o.Body))
}

// orderedBody is the part of a function's record that is looked at before it is signed.
type orderedBody struct {
	Manifest json.RawMessage `json:"manifest"`
	Module   string          `json:"module"`
	Paused   bool            `json:"paused"`
	Canary   *orderedBody    `json:"canary"`
}

var errNotAsked = errors.New("that was not asked for")

// about accepts orders about one thing, and the history that is written before a function changes. check looks at the body; nil accepts a removal
// only.
func about(kind, key string, check func(body []byte) error) func(admin.Order) error {
	return func(o admin.Order) error {
		switch {
		case kind == "function" && o.Kind == "history" && o.Key == key:
			return nil
		case o.Kind != kind || key != "" && o.Key != key || o.Deleted != (check == nil):
			return fmt.Errorf("%s: %w", described(o), errNotAsked)
		case check == nil:
			return nil
		}
		return check(o.Body)
	}
}

// deploys accepts the deployment of this very module and manifest.
func deploys(req admin.DeployRequest, module []byte) func(body []byte) error {
	return func(body []byte) error {
		var b orderedBody
		m, err := req.Parsed()
		if err == nil {
			err = json.Unmarshal(body, &b)
		}
		if err != nil {
			return err
		}
		if req.Canary != nil {
			if b.Canary == nil {
				return errNotAsked
			}
			b = *b.Canary
		}
		want, err := json.Marshal(m)
		switch {
		case err != nil:
			return err
		case b.Module != function.DigestOf(module).String():
			return fmt.Errorf("its module is %s, not that of this folder", b.Module)
		case !bytes.Equal(want, b.Manifest):
			return errors.New("its manifest is not that of this folder, or the agent is of another version")
		}
		return nil
	}
}

// anything accepts any change of the thing itself: what is signed is shown.
func anything([]byte) error { return nil }

// paused accepts a function that runs, or does not.
func paused(want bool) func([]byte) error {
	return func(body []byte) error {
		var b orderedBody
		if err := json.Unmarshal(body, &b); err != nil || b.Paused != want {
			return errors.Join(err, errNotAsked)
		}
		return nil
	}
}

func operatorsCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "operators", Short: "Whose orders the cluster obeys; make a key, sign an order",
		Long: `What the whole cluster runs is ordered by operators: a node obeys only what enough of their keys have signed. The
first key is on the node that made the cluster. Another may be anywhere, such as on a laptop: with --signing-key FILE
verbs that need a signature sign with it, through whichever node. deploy, fn rm, fn pause and fn resume look at what
they sign and refuse anything else; the others show it. Setting secrets takes a node where a key is.`,
		Example: `  mayfly operators create laptop.key
  mayfly operators trust mfo1.... mfo1.... --threshold 1 --yes
  mayfly --address https://192.168.1.20:7948 --token @token --signing-key laptop.key deploy examples/overheat`,
	}
	cmd.AddCommand(operatorsList(a), operatorsCreate(a), operatorsTrust(a), operatorsSign(a))
	return cmd
}

func operatorsView() view[admin.Operators] {
	return view[admin.Operators]{
		name: func(o admin.Operators) string { return fmt.Sprint(o.Threshold) },
		detail: func(w io.Writer, o admin.Operators, _ bool) {
			fmt.Fprintf(w, "%d of %d must sign\n", o.Threshold, len(o.Keys))
			for _, k := range o.Keys {
				fmt.Fprintln(w, escape(k))
			}
		},
	}
}

func operatorsList(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "ls", Aliases: []string{"list"}, Short: "Whose orders count", Args: arguments(),
		Long: "Show the keys whose orders the cluster obeys, and how many of them must sign.", Example: "  mayfly operators ls",
	}
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		o, err := a.client.Operators(cmd.Context())
		if err != nil {
			return err
		}
		return one(a, *out, operatorsView(), o)
	}
	return cmd
}

func operatorsCreate(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "create FILE", Short: "Make an operator's key", Args: arguments("FILE"),
		Long:    "Make a key and write it to a file that only you can read; the half that others may know is printed. No agent is asked.",
		Example: "  mayfly operators create laptop.key",
		RunE: func(_ *cobra.Command, args []string) error {
			if _, err := os.Stat(args[0]); err == nil {
				return &usageError{text: args[0] + " is there already", hint: "a key that is overwritten is lost: name another file"}
			}
			key, err := identity.GenerateOperator()
			if err == nil {
				err = key.Save(args[0])
			}
			if err != nil {
				return err
			}
			fmt.Fprintln(a.Stdout, key.Public())
			a.note("next, on the node that made the cluster, with all keys that are to count: mayfly operators trust KEY... --threshold 1")
			return nil
		},
	}
}

func operatorsTrust(a *app) *cobra.Command {
	var o admin.Operators
	cmd := &cobra.Command{
		Use: "trust KEY...", Short: "Say whose orders count", Args: arguments("KEY..."),
		Long: `Say whose orders count from now on: these keys', no others, and how many of them must sign. It is asked of the node that
made the cluster.

What was signed by keys that do not count any more, or by fewer than must sign now, is not obeyed any more either, and
has to be deployed again. So add keys before you deploy, and think twice before you take one away.`,
		Example: "  mayfly operators trust mfo1.... mfo1.... --threshold 1 --yes",
	}
	a.yesFlag(cmd)
	cmd.Flags().IntVar(&o.Threshold, "threshold", 1, "how many of them must sign")
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o.Keys = args
		if err := a.confirm(fmt.Sprintf("obey these %d keys, %d of which must sign, and nobody else?", len(args), o.Threshold)); err != nil {
			return err
		}
		now, err := a.client.Trust(cmd.Context(), o)
		if err != nil {
			return err
		}
		return one(a, *out, operatorsView(), now)
	}
	return cmd
}

func operatorsSign(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "sign FILE", Short: "Sign another operator's order", Args: arguments("FILE"),
		Long: `Sign the order that another operator's command has left in FILE because one signature is not enough, and submit it. When
still more must sign it is written back.`,
		Example: "  mayfly operators sign function-overheat.order --signing-key mine.key",
	}
	a.yesFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(a.reach.signing) == 0 {
			return &usageError{text: "mayfly operators sign: there is no key", hint: "add --signing-key FILE"}
		}
		text, err := os.ReadFile(args[0])
		if err != nil {
			return &usageError{text: err.Error()}
		}
		var o admin.Order
		if err := json.Unmarshal(text, &o); err != nil {
			return &usageError{text: args[0] + " is no order: " + err.Error()}
		}
		if err := a.confirm("sign: " + escape(described(o)) + "?"); err != nil {
			return err
		}
		if o.Signatures, err = a.sign(o); err != nil {
			return err
		}
		if err := a.submit(cmd.Context(), o); err != nil {
			return err
		}
		a.note("done: %s", escape(described(o)))
		return nil
	}
	return cmd
}
