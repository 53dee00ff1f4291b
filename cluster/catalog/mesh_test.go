package catalog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"mayfly/function"
)

// tester is a test or one run of a property.
type tester interface {
	Helper()
	Fatalf(format string, args ...any)
}

// mesh is a few replicas that call each other directly, when the test says so. Nothing runs by itself.
type mesh struct {
	t     tester
	nodes map[string]*member
	wall  time.Time // of everybody, but for member.skew
}

// member is one replica with all it has.
type member struct {
	*Replica
	mesh *mesh
	name string
	disk *memory
	skew time.Duration
	off  bool // nobody reaches it, and it reaches nobody
	said [][]byte
	opts func(*Options)
}

func newMesh(t tester, names string) *mesh {
	m := &mesh{t: t, nodes: map[string]*member{}, wall: time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)}
	for i, name := range strings.Fields(names) {
		n := m.add(name, nil)
		if i > 0 {
			continue
		}
		if err := n.catalog.Founded(context.Background()); err != nil {
			t.Fatalf("%v", err)
		}
	}
	return m
}

func (m *mesh) add(name string, opts func(*Options)) *member {
	n := &member{mesh: m, name: name, disk: newMemory(), opts: opts}
	m.nodes[name] = n
	n.restart()
	return n
}

// restart opens what is on the member's disk.
func (n *member) restart() {
	o := Options{
		Node: n.name, Log: slog.New(slog.DiscardHandler), Built: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
		Now: func() time.Time { return n.mesh.wall.Add(n.skew) },
	}
	if n.opts != nil {
		n.opts(&o)
	}
	c, err := Open(n.disk, o)
	if err != nil {
		n.mesh.t.Fatalf("%s: %v", n.name, err)
	}
	n.Replica = NewReplica(c, Exchange{
		Cluster: "site", Peers: n, Log: o.Log, Announce: func(b []byte) error { n.said = append(n.said, b); return nil },
	})
}

var errAway = errors.New("nobody answers")

// Pull implements Peers.
func (n *member) Pull(ctx context.Context, node string, request []byte) ([]byte, error) {
	other := n.mesh.nodes[node]
	if other == nil || other.off || n.off {
		return nil, errAway
	}
	return other.Serve(ctx, n.name, request)
}

// compare lets n compare itself with another member.
func (n *member) compare(other string) applied {
	n.mesh.t.Helper()
	a, _, err := n.exchange(context.Background(), other)
	if err != nil {
		n.mesh.t.Fatalf("%s compares with %s: %v", n.name, other, err)
	}
	return a
}

// settle lets all members that are on compare until nothing changes any more.
func (m *mesh) settle() {
	m.t.Helper()
	for range 10 {
		before := m.roots()
		for _, a := range m.on() {
			for _, b := range m.on() {
				if a != b {
					m.nodes[a].compare(b)
				}
			}
		}
		if slices.Equal(before, m.roots()) {
			return
		}
	}
	m.t.Fatalf("it does not settle: %v", m.roots())
}

func (m *mesh) on() (names []string) {
	for name, n := range m.nodes {
		if !n.off {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func (m *mesh) roots() (all []string) {
	for _, name := range m.on() {
		all = append(all, fmt.Sprintf("%x", m.nodes[name].catalog.Snapshot().Root()))
	}
	return all
}

// equal says whether all members that are on hold the same.
func (m *mesh) equal() bool {
	roots := m.roots()
	return len(slices.Compact(roots)) == 1
}

// pass lets time pass for everybody; those who are off do not notice but for their clock.
func (m *mesh) pass(d time.Duration) {
	m.wall = m.wall.Add(d)
	for _, n := range m.nodes {
		if !n.off {
			n.runs(d)
		}
	}
}

func (n *member) runs(d time.Duration) {
	h := &n.catalog.horizon
	h.mu.Lock()
	defer h.mu.Unlock()
	h.start()
	h.state.Running += d.Milliseconds()
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.met1st.IsZero() {
		n.met1st = n.met1st.Add(-min(d, 3*time.Hour)) // they have been in contact all the time
	}
}

// live lets days pass in which everybody who is on meets everybody, and does what time asks for.
func (m *mesh) live(days int) {
	m.t.Helper()
	for range days {
		m.pass(24 * time.Hour)
		m.settle()
		for _, name := range m.on() {
			if err := m.nodes[name].collect(context.Background()); err != nil {
				m.t.Fatalf("%s: %v", name, err)
			}
		}
	}
}

func (n *member) deploy(name, more string) {
	n.mesh.t.Helper()
	f := manifestOf(n.mesh.t, name, more)
	if _, err := n.catalog.Put(context.Background(), f); err != nil {
		n.mesh.t.Fatalf("%s deploys %s: %v", n.name, name, err)
	}
}

func (n *member) remove(name string) {
	n.mesh.t.Helper()
	if err := n.catalog.Delete(context.Background(), name); err != nil {
		n.mesh.t.Fatalf("%s removes %s: %v", n.name, name, err)
	}
}

// has returns the names of the functions a member has.
func (n *member) has() string {
	var names []string
	for _, f := range n.catalog.List() {
		names = append(names, f.Name())
	}
	return strings.Join(names, " ")
}

func manifestOf(t tester, name, more string) function.Function {
	m, err := function.ParseManifest("f.toml", []byte("manifest = 1\nname = \""+name+"\"\n[module]\npath = \"a.wasm\"\n"+more))
	if err != nil {
		t.Fatalf("%v", err)
	}
	return function.Function{Manifest: m, Module: function.DigestOf([]byte(name))}
}

// shows fails unless all members that are on have exactly these functions.
func (m *mesh) shows(t *testing.T, want string) {
	t.Helper()
	for _, name := range m.on() {
		if got := m.nodes[name].has(); got != want {
			t.Errorf("%s has %q, want %q", name, got, want)
		}
	}
}
