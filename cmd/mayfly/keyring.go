package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"mayfly/admin"
)

func keyringCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keyring",
		Short: "Rotate the gossip key, see who has it",
		Long: `The gossip key is the outer fence of the cluster: who lacks it hears nothing. Rotate it when a device that had it is
gone. A device that sleeps through it fetches the new key when it wakes up.`,
		Example: "  mayfly keyring rotate\n  mayfly keyring status",
	}
	cmd.AddCommand(keyringRotate(a), keyringStatus(a))
	return cmd
}

func keyringView() view[admin.Keyring] {
	return view[admin.Keyring]{
		name: func(k admin.Keyring) string {
			if len(k.Keys) == 0 {
				return ""
			}
			return k.Keys[0].ID
		},
		detail: func(w io.Writer, k admin.Keyring, _ bool) {
			state := "settled: every live node uses it alone"
			if !k.Settled {
				state = "under way"
			}
			fields(w, "rotation", state, "because", k.Reason, "next", k.Hint)
			for _, key := range k.Keys {
				use := "old, still understood"
				if key.Primary {
					use = "primary"
				}
				fields(w, "key", key.ID+", "+use)
			}
			for _, n := range k.Nodes {
				fields(w, "node", fmt.Sprintf("%s: sends with %s, has %s, as of %s ago", n.Name, orElse(n.Primary, "a key nobody knows"), plural(int64(n.Keys), "key"), old(n.AgeMS)))
			}
		},
	}
}

func keyringStatus(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "status", Short: "Who has which gossip key", Args: arguments(),
		Long: "Who has which gossip key, and how far a rotation got. Keys are named by fingerprints.", Example: "  mayfly keyring status -o json",
	}
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		k, err := a.client.Keyring(cmd.Context())
		if err != nil {
			return err
		}
		return one(a, *out, keyringView(), k)
	}
	return cmd
}

func keyringRotate(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "rotate", Short: "Make a new gossip key", Args: arguments(),
		Long: `Make a new gossip key and spread it; when every live node has it, all use it and the old one is dropped. It goes on by
itself: mayfly keyring status says how far it got.`,
		Example: "  mayfly keyring rotate",
	}
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		k, err := a.client.Rotate(cmd.Context())
		if err != nil {
			return err
		}
		return one(a, *out, keyringView(), k)
	}
	return cmd
}
