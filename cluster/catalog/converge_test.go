package catalog

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"mayfly/function"
)

// held is everything a member holds, in full.
func (n *member) held() [][]byte {
	var all [][]byte
	n.catalog.Snapshot().all(func(e *entry) bool { all = append(all, e.Encode()); return true })
	return all
}

// Whatever is deployed, removed, paused and described wherever, whoever compares with whom, whoever loses power: afterwards all are equal; and
// roots are equal exactly when every record is.
func TestEverythingConverges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newMesh(t, "a b c")
		names := []string{"a", "b", "c"}
		node := func(label string) *member { return m.nodes[rapid.SampledFrom(names).Draw(t, label)] }
		for range rapid.IntRange(1, 25).Draw(t, "steps") {
			n := node("node")
			f := rapid.SampledFrom([]string{"f", "g", "h"}).Draw(t, "function")
			switch rapid.IntRange(0, 6).Draw(t, "what") {
			case 0, 1:
				n.deploy(f, fmt.Sprintf("[config]\nx = %d\n", rapid.IntRange(0, 3).Draw(t, "x")))
			case 2:
				if _, ok := n.catalog.Get(f); ok {
					n.remove(f)
				}
			case 3:
				if _, ok := n.catalog.Get(f); ok {
					if _, err := n.catalog.SetPaused(context.Background(), f, rapid.Bool().Draw(t, "paused")); err != nil {
						t.Fatal(err)
					}
				}
			case 4:
				if err := n.catalog.PutNode(context.Background(), Node{Name: n.name, Zone: rapid.StringN(0, 3, 9).Draw(t, "zone")}); err != nil {
					t.Fatal(err)
				}
			case 5:
				if other := node("other"); other != n {
					n.compare(other.name)
				}
			case 6:
				n.restart()
			}
			m.wall = m.wall.Add(time.Duration(rapid.IntRange(0, 2).Draw(t, "ms")) * time.Millisecond)
			a, b := m.nodes["a"], m.nodes["b"]
			same := slices.EqualFunc(a.held(), b.held(), bytes.Equal)
			if roots := a.catalog.Snapshot().Root() == b.catalog.Snapshot().Root(); roots != same {
				t.Fatalf("roots equal: %v; records equal: %v", roots, same)
			}
		}
		m.settle()
		if !m.equal() {
			t.Fatalf("not equal: %v", m.roots())
		}
		want := m.nodes["a"].held()
		for _, name := range names[1:] {
			if !slices.EqualFunc(want, m.nodes[name].held(), bytes.Equal) {
				t.Fatalf("%s holds something else", name)
			}
		}
		m.nodes["b"].restart()
		if !slices.EqualFunc(want, m.nodes["b"].held(), bytes.Equal) {
			t.Fatalf("after a restart b holds something else")
		}
	})
}

// Thousands of records travel in pages, each step a batch a small store takes.
func TestManyRecordsTravelInPages(t *testing.T) {
	m := newMesh(t, "a b")
	a, b := m.nodes["a"], m.nodes["b"]
	const n = 4000
	for i := range n {
		r := Record{Kind: KindConfig, Key: fmt.Sprintf("k%04d", i), Ver: versionAt(m.wall) + uint64(i), Writer: "a", Body: bytes.Repeat([]byte("x"), 1+i%700)}
		if changed, err := a.catalog.Apply(t.Context(), []Record{r}, "x"); changed != 1 || err != nil {
			t.Fatal(changed, err)
		}
	}
	large := Record{Kind: KindConfig, Key: "large", Ver: versionAt(m.wall), Writer: "a", Body: make([]byte, MaxBody)}
	if _, err := a.catalog.Apply(t.Context(), []Record{large}, "x"); err != nil {
		t.Fatal(err)
	}
	got := b.compare("a")
	if len(got.changed) != n+1 || !m.equal() {
		t.Errorf("%d of %d came", len(got.changed), n+1)
	}
	if most := b.disk.largest; most > 300_000 {
		t.Errorf("a batch of %d bytes; the smallest store takes 300,000", most)
	}
	if got := a.compare("b"); len(got.changed) != 0 {
		t.Errorf("%d came back", len(got.changed))
	}
}

// Deleting and deploying again wins over what was there, with any clock.
func TestDeletedAndDeployedAgain(t *testing.T) {
	for _, skew := range []time.Duration{0, -50 * 365 * 24 * time.Hour, 12 * 365 * 24 * time.Hour} {
		m := newMesh(t, "a b c")
		a, b := m.nodes["a"], m.nodes["b"]
		a.deploy("f", "")
		m.settle()
		b.skew = skew // it hears no clock but its own here: it stands alone
		b.catalog.clocks.others = nil
		b.remove("f")
		b.deploy("f", "[config]\nx = 2\n")
		f, _ := b.catalog.Get("f")
		if skew <= 0 {
			a.compare("b")
			if got, ok := a.catalog.Get("f"); !ok || got.Version != f.Version {
				t.Errorf("skew %v: a has %v", skew, got)
			}
			continue
		}
		a.compare("b")
		if got, _ := a.catalog.Get("f"); got.Version == f.Version || a.catalog.Refused()[RefusedFuture] != 1 {
			t.Errorf("a version of 2038 was taken over: %v", a.catalog.Refused())
		}
		b.skew = 0 // somebody sets the clock, and deploys again
		b.catalog.clocks.others = nil
		b.compare("a")
		b.deploy("f", "[config]\nx = 3\n")
		m.settle()
		if !m.equal() {
			t.Error("a version of 2038 is there for ever")
		}
	}
}

// A node whose clock nobody should follow refuses what an operator orders, and says what to do; alone it may.
func TestTheClockGuard(t *testing.T) {
	for _, c := range []struct {
		name    string
		skew    time.Duration
		company bool
		want    string
	}{
		{"right", 0, true, ""},
		{"a little off", 4 * time.Minute, true, ""},
		{"off", 6 * time.Minute, true, "6m0s off those of the 2 nodes"},
		{"1970", -56 * 365 * 24 * time.Hour, true, "not set"},
		{"2038", 12 * 365 * 24 * time.Hour, true, "off those of"},
		{"1970, alone", -56 * 365 * 24 * time.Hour, false, ""},
		{"2038, alone", 12 * 365 * 24 * time.Hour, false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMesh(t, "a b c")
			a := m.nodes["a"]
			a.skew = c.skew
			if c.company {
				for _, other := range []string{"b", "c"} {
					b, err := m.nodes[other].MarshalBinary()
					if err != nil || a.Merge(other, b) != nil || len(b) > 64 {
						t.Fatal(err)
					}
				}
			}
			_, err := a.catalog.Put(t.Context(), manifestOf(t, "f", ""))
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Fatalf("%v, want %q", err, c.want)
			}
			if err != nil && (function.KindOf(err) != "clock" || hint(err) == "") {
				t.Errorf("kind %q, hint %q", function.KindOf(err), hint(err))
			}
			if err := a.catalog.PutNode(t.Context(), Node{Name: "x"}); err != nil {
				t.Errorf("a node may always say what it is: %v", err)
			}
			if v := a.catalog.Snapshot().newest; c.company && v > versionAt(m.wall.Add(maxAhead)) {
				t.Errorf("it issued version %v", timeOf(v))
			}
		})
	}
}

// Versions grow over all records, so that what was written after something was seen is newer than it.
func TestVersionsAreAboveAllThatWasSeen(t *testing.T) {
	m := newMesh(t, "a b")
	m.nodes["b"].skew = 4 * time.Minute // as much as is tolerated
	m.nodes["b"].deploy("f", "")
	m.nodes["a"].compare("b")
	m.nodes["a"].deploy("g", "")
	f, _ := m.nodes["a"].catalog.Get("f")
	g, _ := m.nodes["a"].catalog.Get("g")
	if g.Version <= f.Version {
		t.Errorf("g %d is older than f %d, which it has seen", g.Version, f.Version)
	}
}

// What a node says of itself is written by itself alone, and once.
func TestNodesDescribeThemselves(t *testing.T) {
	m := newMesh(t, "a b")
	a, b := m.nodes["a"], m.nodes["b"]
	before := a.disk.writes
	for range 2 {
		if err := a.catalog.PutNode(t.Context(), Node{Name: "pi", Zone: "hall", Labels: []string{"mains", "gpio"}, Version: "1"}); err != nil {
			t.Fatal(err)
		}
	}
	if n := a.disk.writes - before; n != 1 {
		t.Errorf("%d writes", n)
	}
	b.compare("a")
	nodes := b.catalog.Snapshot().Nodes()
	if len(nodes) != 1 || nodes[0].ID != "a" || nodes[0].Name != "pi" || strings.Join(nodes[0].Labels, " ") != "gpio mains" {
		t.Errorf("%+v", nodes)
	}
	if _, err := b.catalog.Set(t.Context(), KindNode, "a", []byte("{}")); function.KindOf(err) != "record" {
		t.Errorf("b described a: %v", err)
	}
	if _, err := b.catalog.Set(t.Context(), KindConfig, "site", []byte("x")); err != nil {
		t.Error(err)
	}
	if r := b.catalog.Snapshot().Records(KindConfig); len(r) != 1 || string(r[0].Body) != "x" {
		t.Errorf("%+v", r)
	}
	if err := b.catalog.Remove(t.Context(), KindNode, "a"); err != nil {
		t.Error(err)
	}
	m.settle()
	if n := len(a.catalog.Snapshot().Nodes()); n != 0 {
		t.Errorf("%d nodes", n)
	}
}

// When a part of the cluster is out of reach, calls to it that wait for a time limit leave workers for the part that is not, which goes first.
func TestWhoAnswersGoesFirst(t *testing.T) {
	r := newMesh(t, "a").nodes["a"].Replica
	past := time.Now().Add(-time.Second)
	for i := range 20 {
		r.peers[fmt.Sprint("dead", i)] = &peer{failed: true, due: past}
	}
	r.peers["alive"] = &peer{due: past}
	next := func() string {
		node, soonest := r.choose()
		if node == "" && soonest < time.Hour {
			t.Errorf("it would look again in %v though nobody may be called", soonest)
		} else if node != "" {
			r.peers[node].busy, r.peers[node].due = true, time.Time{}
		}
		return node
	}
	if got := next(); got != "alive" {
		t.Fatalf("%q was called before who answers", got)
	}
	for range workers / 2 {
		if got := next(); !strings.HasPrefix(got, "dead") {
			t.Fatalf("%q is called", got)
		}
	}
	if got := next(); got != "" {
		t.Errorf("%q is called too: nobody is left for who answers", got)
	}
	*r.peers["alive"] = peer{due: past}
	if got := next(); got != "alive" {
		t.Errorf("%q is called while somebody answers", got)
	}
	for _, p := range r.peers {
		if p.failed && p.busy {
			*p = peer{failed: true, due: time.Now().Add(time.Minute)}
			break
		}
	}
	if got := next(); !strings.HasPrefix(got, "dead") {
		t.Errorf("%q is called when a worker is free again", got)
	}
}
