package agent

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mayfly/admin"
	"mayfly/cluster/catalog"
	"mayfly/cluster/identity"
	"mayfly/function"
	"mayfly/store"
)

// puts makes records like those of a function with state that the cluster runs.
func (d *device) puts(t *testing.T, name string) {
	t.Helper()
	m, err := function.ParseManifest("f.toml", []byte("manifest = 1\nname = \""+name+"\"\n[module]\npath = \"a.wasm\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.catalog.Put(t.Context(), function.Function{Manifest: m, Module: function.DigestOf([]byte(name))}); err != nil {
		t.Fatal(err)
	}
	d.keeps(t)
}

// empty fails unless nothing of a cluster is left on a node.
func (d *device) empty(t *testing.T) {
	t.Helper()
	if d.pool != nil || d.member != nil {
		t.Error("it is a member still")
	}
	if got := d.names(); len(got) != 0 {
		t.Errorf("it has %v", got)
	}
	if value, _, err := d.store.Get(store.State.Key("f", []byte("k"))); err != nil || value != nil {
		t.Errorf("state is left: %q, %v", value, err)
	}
	if _, version, _ := d.store.Get(leavingKey()); version != 0 {
		t.Error("it would leave again")
	}
	for _, name := range []string{"membership", "joined", identity.AuthorityFile} {
		if _, err := os.Stat(filepath.Join(d.cfg.Node.Data, "cluster", name)); err == nil {
			t.Errorf("%s is left", name)
		}
	}
}

// A node that leaves is alone and empty, the others know it and look for it no more, and it can join again.
func TestLeave(t *testing.T) {
	one, two := newDevice(t, "one"), newDevice(t, "two")
	if _, err := two.Leave(t.Context(), admin.LeaveRequest{}); function.KindOf(err) != admin.KindAlone {
		t.Fatalf("who is alone leaves: %v", err)
	}
	if _, err := one.Init(t.Context(), admin.InitRequest{Name: "site"}); err != nil {
		t.Fatal(err)
	}
	one.restart()
	two.joins(one)
	one.until("it sees the other", func() bool { return len(one.pool.others()) == 1 })
	one.puts(t, "f")
	two.until("it has the function", func() bool { return len(two.names()) == 1 })
	two.keeps(t)
	_, err := one.Init(t.Context(), admin.InitRequest{Name: "site"})
	if e := err.(*function.Error); !strings.Contains(e.Hint, "mayfly leave") { //nolint:forcetypeassert // it is to be this type
		t.Errorf("init on a member: %v, hint %q", err, e.Hint)
	}
	if _, err := one.Leave(t.Context(), admin.LeaveRequest{}); function.KindOf(err) != admin.KindConflict {
		t.Errorf("who holds the authority's key leaves: %v", err)
	}
	left, err := two.Leave(t.Context(), admin.LeaveRequest{})
	if err != nil || !left.Heard || left.Others != 1 || !left.Restarts {
		t.Fatalf("%+v, %v", left, err)
	}
	two.restart()
	two.empty(t)
	if value, _, err := two.store.Get(sessionKey("mf1")); err != nil || value == nil {
		t.Error("a session at a broker was forgotten before it was purged")
	}
	one.until("it looks for it no more", func() bool { _, known := one.pool.known.calls(two.node.ID); return !known })
	if all, err := (nodes{one.Agent}).List(t.Context()); err != nil || len(all) != 1 {
		t.Errorf("%+v, %v", all, err)
	}
	two.joins(one)
	two.until("it has the function again", func() bool { return len(two.names()) == 1 })
	one.until("it is described again", func() bool { return len(one.catalog.Snapshot().Nodes()) == 2 })

	if _, err := one.Leave(t.Context(), admin.LeaveRequest{Force: true}); err != nil {
		t.Fatal(err)
	}
	one.restart()
	one.empty(t)
	if aside, _ := filepath.Glob(filepath.Join(one.cfg.Node.Data, "cluster.left-*", identity.AuthorityFile)); len(aside) != 1 {
		t.Errorf("the authority is at %v", aside)
	}
	if _, err := one.Init(t.Context(), admin.InitRequest{Name: "another"}); err != nil {
		t.Errorf("it founds another: %v", err)
	}
}

// keeps leaves what a member without an operator's key has of a function.
func (d *device) keeps(t *testing.T) {
	t.Helper()
	if err := d.save([]store.Op{{Key: store.State.Key("f", []byte("k")), Value: []byte("v")}, {Key: sessionKey("mf1"), Value: []byte("{}")}}); err != nil {
		t.Fatal(err)
	}
}

// A power cut between any two steps of leaving is made good by the next start: never is a node alone with the cluster's functions.
func TestLeavingIsInterrupted(t *testing.T) {
	for _, c := range []struct {
		after string
		steps func(d *device) error
	}{
		{"the mark", func(*device) error { return nil }},
		{"the catalog", func(d *device) error { return d.eraseBut(store.Catalog, nil) }},
		{"the membership", func(d *device) error {
			for _, s := range []store.Space{store.Catalog, store.State, store.Done} {
				if err := d.eraseBut(s, nil); err != nil {
					return err
				}
			}
			return identity.Abandon(d.path("cluster"))
		}},
	} {
		t.Run(c.after, func(t *testing.T) {
			d := newDevice(t, "one")
			if _, err := d.Init(t.Context(), admin.InitRequest{Name: "site"}); err != nil {
				t.Fatal(err)
			}
			d.restart()
			d.puts(t, "f")
			d.gone.Store(true)
			text, err := json.Marshal(departure{"site", true})
			if err == nil {
				err = d.save([]store.Op{{Key: leavingKey(), Value: text}})
			}
			if err == nil {
				err = c.steps(d)
			}
			if err != nil {
				t.Fatal(err)
			}
			d.restart()
			d.empty(t)
			if _, ok := d.catalog.Snapshot().Record(catalog.KindNode, d.node.ID); ok {
				t.Error("it describes itself to nobody")
			}
		})
	}
}
