package agent

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"mayfly/admin"
	"mayfly/agent/secret"
	"mayfly/cluster/catalog"
	"mayfly/function"
)

// secretState is under which name vaults ask each other.
const secretState = "secrets"

// openSecrets makes the vault. It starts nothing.
func (a *Agent) openSecrets(*Options) error {
	key, fresh, err := secret.LoadKey(a.cfg.Node.Data)
	if err != nil {
		return err
	}
	c := secret.Config{Node: a.node.ID, Key: key, Records: boxes{a.catalog}, Notes: a.store, Log: a.log.With("part", "secrets")}
	if a.pool != nil {
		c.Peers = vaults{a.pool}
	}
	if names, _ := c.Records.Names(); fresh && len(names) > 0 {
		a.log.Warn("this node has a new key for secrets, and cannot read what was sealed to the one before; it asks the other nodes", "secrets", len(names))
	}
	a.vault, err = secret.Open(c)
	return err
}

// boxes is the catalog as the vault sees it.
type boxes struct{ catalog *catalog.Catalog }

// Names implements secret.Records.
func (b boxes) Names() (names []string, changed <-chan struct{}) {
	now := b.catalog.Snapshot()
	for _, r := range now.Records(catalog.KindSecret) {
		names = append(names, r.Key)
	}
	return names, now.Next()
}

// Get implements secret.Records.
func (b boxes) Get(name string) ([]byte, secret.Version, bool) {
	r, ok := b.catalog.Snapshot().Record(catalog.KindSecret, name)
	return r.Body, secret.Version{Ver: r.Ver, Writer: r.Writer}, ok
}

// Set implements secret.Records.
func (b boxes) Set(ctx context.Context, name string, body []byte) error {
	_, err := b.catalog.Set(ctx, catalog.KindSecret, name, body)
	return err
}

// Remove implements secret.Records.
func (b boxes) Remove(ctx context.Context, name string) error {
	return b.catalog.Remove(ctx, catalog.KindSecret, name)
}

// vaults is how a vault reaches those of the other nodes.
type vaults struct{ pool *pool }

// Live implements secret.Peers.
func (v vaults) Live() (nodes []string, changed <-chan struct{}) {
	changed = v.pool.gossip.Watch()
	for _, node := range v.pool.names() {
		if !v.pool.member.Revoked(node) {
			nodes = append(nodes, node)
		}
	}
	return nodes, changed
}

// Ask implements secret.Peers.
func (v vaults) Ask(ctx context.Context, node string, request []byte) ([]byte, error) {
	return v.pool.peers.Pull(ctx, node, secretState, request)
}

// secrets gives f the secrets its manifest names: the file of this device, else what an operator set. They are read when they are asked for,
// so that a replaced secret is used.
func (a *Agent) secrets(f *function.Function) function.Secrets {
	return granted{a.secretFiles(), a.vault, f.Manifest.Permissions.Secrets}
}

// files is the directory of the secrets that this device has as files; "" = none.
type files string

func (a *Agent) secretFiles() files {
	return files(cmp.Or(a.cfg.Node.Secrets, os.Getenv("CREDENTIALS_DIRECTORY")))
}

func (d files) read(name string) ([]byte, bool) {
	if d == "" {
		return nil, false
	}
	root, err := os.OpenRoot(string(d)) // a name cannot lead out of the directory
	if err != nil {
		return nil, false
	}
	defer root.Close()
	text, err := root.ReadFile(name)
	return text, err == nil
}

// granted are the secrets that one function may read [W6].
type granted struct {
	files files
	vault *secret.Vault
	names []string
}

// Secret implements function.Secrets.
func (g granted) Secret(name string) ([]byte, bool, error) {
	if !slices.Contains(g.names, name) {
		return nil, false, nil
	}
	if text, ok := g.files.read(name); ok {
		return text, true, nil
	}
	return g.vault.Read(name)
}

// sealing implements admin.Secrets.
type sealing struct{ agent *Agent }

// SetSecret implements admin.Secrets.
func (s sealing) SetSecret(ctx context.Context, name string, value []byte) (admin.Secret, error) {
	a := s.agent
	to, err := a.vault.Set(ctx, name, value)
	if err != nil {
		return admin.Secret{}, err
	}
	if len(to.Later) > 0 {
		a.log.Warn("some nodes did not say what their keys are; others pass the secret to them", "secret", name, "nodes", to.Later)
	}
	x := admin.Secret{Name: name, From: admin.SecretSealed, Set: time.Now(), Bytes: len(value), Nodes: s.names(to.Nodes), Later: s.names(to.Later)}
	if _, ok := a.secretFiles().read(name); ok {
		x.From = admin.SecretFile
	}
	return x, nil
}

// names are those of nodes, as people know them.
func (s sealing) names(ids []string) (names []string) {
	said := map[string]string{s.agent.node.ID: s.agent.cfg.Node.Name}
	for _, n := range s.agent.catalog.Snapshot().Nodes() {
		said[n.ID] = cmp.Or(said[n.ID], n.Name)
	}
	for _, id := range ids {
		names = append(names, cmp.Or(said[id], id))
	}
	slices.Sort(names)
	return names
}

// Secrets implements admin.Secrets: what was set, and what manifests name and this device has as a file.
func (s sealing) Secrets(context.Context) ([]admin.Secret, error) {
	a := s.agent
	readers := map[string][]string{}
	for _, f := range a.catalog.List() {
		for _, name := range f.Manifest.Permissions.Secrets {
			readers[name] = append(readers[name], f.Name())
		}
	}
	var all []admin.Secret
	seen := map[string]bool{}
	for _, x := range a.vault.List() {
		seen[x.Name] = true
		shown := admin.Secret{
			Name: x.Name, From: admin.SecretSealed, Set: time.UnixMilli(int64(x.Version.Ver >> 16)), Bytes: x.Bytes, Nodes: s.names(x.Nodes), Functions: readers[x.Name],
		}
		if x.Err != nil {
			shown.Why = fmt.Sprint(x.Err)
		}
		all = append(all, shown)
	}
	for name := range readers {
		if !seen[name] {
			all = append(all, admin.Secret{Name: name, Functions: readers[name]})
		}
	}
	for i := range all {
		if text, ok := a.secretFiles().read(all[i].Name); ok {
			all[i].From, all[i].Bytes, all[i].Why = admin.SecretFile, len(text), ""
		} else if !seen[all[i].Name] {
			all[i].Why = "a function may read it, and nobody has set it"
		}
	}
	slices.SortFunc(all, func(x, y admin.Secret) int { return strings.Compare(x.Name, y.Name) })
	return all, nil
}

// RemoveSecret implements admin.Secrets.
func (s sealing) RemoveSecret(ctx context.Context, name string) error {
	return s.agent.vault.Remove(ctx, name)
}
