package agent

import (
	"maps"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"mayfly/agent/placement"
	"mayfly/cluster"
	"mayfly/cluster/catalog"
	"mayfly/function"
	"mayfly/store"
)

// A node that is alone sees itself, and that something about it has changed.
func TestAViewOfOneself(t *testing.T) {
	v := newViewer(nil, placement.Node{ID: "a", Slots: 2})
	first := v.View(nil)
	if first.Self.ID != "a" || len(first.Peers) != 0 || v.now() != first {
		t.Errorf("%+v", first)
	}
	v.change(func(n *placement.Node) { n.Draining = true })
	second := v.View(nil)
	if !second.Self.Draining || second.Epoch == first.Epoch || first.Self.Draining || !v.here().Draining {
		t.Errorf("before %+v, after %+v", first, second)
	}
}

// What is said of another node comes from gossip and the catalog; only what lasts makes another epoch.
func TestAViewOfTheOthers(t *testing.T) {
	f, second, back := pair(t,
		cluster.Meta{Arch: cluster.ArchARM, Slots: 2, Speed: 24, Memory: 5, Port: 7947},
		catalog.Node{Name: "hall-2", Zone: "east", Labels: []string{"mains"}, Capabilities: []string{"broker:a"}})
	v := f.electorate().viewer
	first := *v.now()
	want := placement.Node{
		ID: second, Name: "hall-2", Arch: "arm", OS: "linux", Labels: []string{"mains"}, Zone: "east", Capabilities: []string{"broker:a"},
		Slots: 2, Speed: 1.5, Memory: 32 << 20,
	}
	if len(first.Peers) != 1 || !alike(&placement.View{Peers: first.Peers}, &placement.View{Peers: []placement.Node{want}}) {
		t.Fatalf("%+v", first.Peers)
	}
	if again := v.now(); again.Epoch != first.Epoch {
		t.Error("nothing changed, and it is another epoch")
	}
	back.Drain(true)
	seen(t, f.pool, func(all []cluster.Member) bool {
		return slices.ContainsFunc(all, func(m cluster.Member) bool { return m.Meta.Draining })
	})
	if next := v.now(); next.Epoch == first.Epoch || !next.Peers[0].Draining {
		t.Errorf("%+v", next)
	}
}

// Loads are no reason to think again about what may run where.
func TestWhatLasts(t *testing.T) {
	base := placement.Node{ID: "a", Slots: 2, Labels: []string{"x"}}
	for _, c := range []struct {
		what   string
		change func(*placement.Node)
		same   bool
	}{
		{"nothing", func(*placement.Node) {}, true},
		{"load", func(n *placement.Node) { n.Running, n.Queued, n.RTT, n.Age, n.Cold = 1, 2, 3, 4, 5 }, true},
		{"slots", func(n *placement.Node) { n.Slots++ }, false},
		{"labels", func(n *placement.Node) { n.Labels = []string{"y"} }, false},
		{"trust", func(n *placement.Node) { n.Untrusted = true }, false},
		{"draining", func(n *placement.Node) { n.Draining = true }, false},
	} {
		n := base
		c.change(&n)
		one, two := placement.View{Self: base}, placement.View{Self: n}
		if alike(&one, &two) != c.same {
			t.Errorf("%s of this node", c.what)
		}
		one, two = placement.View{Peers: []placement.Node{base}}, placement.View{Peers: []placement.Node{n}}
		if alike(&one, &two) != c.same {
			t.Errorf("%s of another node", c.what)
		}
	}
	if one, two := (placement.View{Peers: []placement.Node{base}}), (placement.View{}); alike(&one, &two) {
		t.Error("a node that is gone")
	}
}

// Whoever finds the view too old has it made anew, and does not wait for that.
func TestAnOldViewIsMadeAnew(t *testing.T) {
	f := founded(t, cut)
	v := f.electorate().viewer
	v.now()
	if v.View(nil); len(v.stale) != 0 && time.Since(v.made.Load().at) < viewAge {
		t.Error("a fresh view is made anew")
	}
	aged := *v.made.Load()
	aged.at = aged.at.Add(-viewAge)
	v.made.Store(&aged)
	for range 3 {
		v.View((*function.Function)(nil))
	}
	if len(v.stale) != 1 {
		t.Errorf("it was asked for %d times", len(v.stale))
	}
}

func TestNamesOfArchitectures(t *testing.T) {
	for arch, want := range map[cluster.Arch]string{
		cluster.ArchAMD64: "amd64", cluster.ArchARM64: "arm64", cluster.ArchARM: "arm", cluster.ArchRISCV64: "riscv64",
		cluster.ArchUnknown: "unknown", 99: "unknown",
	} {
		if got := archOf(arch); got != want {
			t.Errorf("%d is %q", arch, got)
		}
	}
}

// Where the nodes were is remembered over a restart; what did not change is not written; who will never come back is forgotten.
func TestWhereTheNodesWere(t *testing.T) {
	dir := t.TempDir()
	st, stop := opened(t, dir)
	k, err := openAddresses(st)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]whereabouts{
		"a": {Gossip: "10.0.0.1:7946", Calls: "10.0.0.1:7947", Signer: true},
		"b": {Calls: "10.0.0.2:7947"},
		"c": {Gossip: "10.0.0.3:7946"},
	}
	write := func(ops []store.Op) {
		t.Helper()
		done := make(chan error, 1)
		if err := st.Submit(ops, func(err error) { done <- err }); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	ops := k.saw(all)
	if len(ops) != 3 || len(k.saw(all)) != 0 {
		t.Errorf("%d writes, and then more", len(ops))
	}
	write(append(ops, store.Op{Key: addressKey("damaged"), Value: []byte("?")}))
	stop()
	st, _ = opened(t, dir)
	if k, err = openAddresses(st); err != nil || !maps.Equal(k.copy(), all) {
		t.Fatalf("after a restart %v, %v", k.copy(), err)
	}
	if seeds := k.seeds(); len(seeds) != 2 || slices.ContainsFunc(seeds, func(p cluster.Peer) bool { return p.Name == "b" }) {
		t.Errorf("seeds %v", seeds)
	}
	if at, ok := k.calls("a"); !ok || at != "10.0.0.1:7947" {
		t.Error(at, ok)
	}
	for _, node := range []string{"c", "unknown"} {
		if at, ok := k.calls(node); ok {
			t.Errorf("%s takes calls at %q", node, at)
		}
	}
	write(k.forget("a"))
	if again, err := openAddresses(st); err != nil || len(again.copy()) != 2 || len(k.copy()) != 2 {
		t.Errorf("%v, %v", again.copy(), err)
	}
}

// The file of peers is whole or not there, and what is left of an attempt that failed is nothing.
func TestTheFileOfPeers(t *testing.T) {
	dir := t.TempDir()
	f := peersFile{filepath.Join(dir, "peers")}
	if b, err := f.LoadPeers(); b != nil || err != nil {
		t.Error(b, err)
	}
	for _, text := range []string{"one", "two"} {
		if err := f.SavePeers([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if b, err := f.LoadPeers(); string(b) != text || err != nil {
			t.Error(string(b), err)
		}
	}
	if err := (peersFile{filepath.Join(dir, "nowhere", "peers")}).SavePeers(nil); err == nil {
		t.Error("saved where there is no directory")
	}
	if err := (peersFile{dir}).SavePeers([]byte("x")); err == nil {
		t.Error("saved over a directory")
	}
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	if beside, _ := filepath.Glob(filepath.Join(filepath.Dir(dir), "peers.*")); err != nil || len(left) != 1 || len(beside) != 0 {
		t.Errorf("left over: %v %v, %v", left, beside, err)
	}
}
