package catalog

import (
	"maps"
	"testing"
	"time"
)

// Who was away for long and comes home believes nothing of somebody who is still behind: an hour in his company must not make it pass
// for one that knows what was deleted, or it would keep what was removed meanwhile [C4].
func TestNothingIsLearnedFromWhoIsBehind(t *testing.T) {
	m := newMesh(t, "a b c d")
	a, b, c := m.nodes["a"], m.nodes["b"], m.nodes["c"]
	for _, name := range []string{"first", "second", "stays"} {
		a.deploy(name, "")
	}
	m.live(2)
	a.off, c.off = true, true
	b.remove("first")
	m.live(40)
	a.off = false
	a.compare("b") // drops the first, and knows from now on that somebody has forgotten it
	floor, synced := a.catalog.horizon.marks()
	if _, behind := c.catalog.horizon.marks(); floor == 0 || behind >= floor || a.has() != "second stays" {
		t.Fatalf("the test shows nothing: floor %d, c is at %d, a has %q", floor, behind, a.has())
	}
	a.off = true
	m.live(1)
	b.remove("second")
	m.live(40)
	a.off, c.off = false, false
	b.off, m.nodes["d"].off = true, true
	for range 3 {
		m.pass(2 * time.Hour)
		a.compare("c")
	}
	if a.catalog.horizon.estranged("c") || a.catalog.horizon.contact("c") < contactFirst {
		t.Fatal("something else than being behind makes c a bad witness: the test shows nothing")
	}
	if _, now := a.catalog.horizon.marks(); now != synced {
		t.Errorf("it learned %v from who is behind", time.Duration((now-synced)>>16)*time.Millisecond)
	}
	b.off, m.nodes["d"].off = false, false
	a.compare("b")
	if got := a.has(); got != "stays" {
		t.Errorf("a has %q", got)
	}
	m.settle()
	m.shows(t, "stays")
}

// Two that did not see each other for longer than deletions are remembered learn nothing from each other about them: what one of them
// has not heard of is no reason for the other to forget a removal that somebody has still to hear of [C4].
func TestNothingIsLearnedFromTheEstranged(t *testing.T) {
	m := newMesh(t, "a b c e")
	a, b, c, e := m.nodes["a"], m.nodes["b"], m.nodes["c"], m.nodes["e"]
	a.deploy("other", "")
	m.live(2)
	c.off = true // it runs on, alone
	a.deploy("gone", "")
	m.live(1)
	e.off = true
	m.wall = m.wall.Add(24 * time.Hour)
	e.remove("gone") // nobody hears of it
	m.live(1)
	c.remove("other")
	m.live(5)
	b.off = true
	m.live(5)
	e.off = false
	m.live(1) // now a hears that it is gone
	e.off = true
	m.live(22)
	c.runs(40 * 24 * time.Hour)
	if err := c.save(t.Context(), marks{synced: versionAt(m.wall)}); err != nil { // it has company, of whom nobody here knows
		t.Fatal(err)
	}
	if err := c.collect(t.Context()); err != nil {
		t.Fatal(err)
	}
	floor, _ := c.catalog.horizon.marks()
	_, synced := a.catalog.horizon.marks()
	tomb := a.catalog.Snapshot().entry(ident{KindFunction, "gone"})
	if tomb == nil || !tomb.Deleted || tomb.Ver > floor || synced < floor || a.catalog.horizon.running()-tomb.held <= 15*24*3600*1000 {
		t.Fatalf("the test shows nothing: floor of c %d, a is at %d, the removal %+v", floor, synced, tomb)
	}
	c.off = false
	a.compare("c")
	if !a.catalog.horizon.estranged("c") {
		t.Fatal("they are not estranged: the test shows nothing")
	}
	c.off, b.off = true, false // b was away for less than removals are remembered
	b.compare("a")
	if got := b.has(); got != "other" {
		t.Errorf("b was told too late: it has %q", got)
	}
}

// What is below the floor and not held is not taken over, whatever way it comes: neither an exchange nor gossip asked for it. What a node
// says of itself, and what is damaged here, is.
func TestApplyIgnoresZombies(t *testing.T) {
	m := newMesh(t, "a")
	a := m.nodes["a"]
	a.deploy("held", "")
	a.deploy("damaged", "")
	held, _ := a.catalog.Snapshot().Record(KindFunction, "held")
	a.disk.synced[string(recordKey(ident{KindFunction, "damaged"}))] = []byte("?")
	a.restart()
	m.pass(60 * 24 * time.Hour)
	floor := versionAt(m.wall.Add(-31 * 24 * time.Hour))
	if err := a.save(t.Context(), marks{floor: floor}); err != nil {
		t.Fatal(err)
	}
	newer := held
	newer.Ver++
	for _, c := range []struct {
		what   string
		record Record
		taken  int
		why    string
	}{
		{"a function that was forgotten", Record{Kind: KindFunction, Key: "z", Ver: floor - 1, Writer: "x", Body: bodyOf(t, "z")}, 0, IgnoredZombie},
		{"another kind that was forgotten", Record{Kind: "config", Key: "z", Ver: floor - 1, Writer: "x", Body: []byte("1")}, 0, IgnoredZombie},
		{"a removal that was forgotten", Record{Kind: KindFunction, Key: "z", Ver: floor, Writer: "x", Deleted: true}, 0, IgnoredCollected},
		{"what may be newer", Record{Kind: KindFunction, Key: "n", Ver: floor, Writer: "x", Body: bodyOf(t, "n")}, 1, ""},
		{"a newer removal", Record{Kind: KindFunction, Key: "m", Ver: floor + 1, Writer: "x", Deleted: true}, 1, ""},
		{"a newer version of what is held", newer, 1, ""},
		{"what a node says of itself", Record{Kind: KindNode, Key: "x", Ver: 1, Writer: "x", Body: []byte("{}")}, 1, ""},
		{"what is damaged here", Record{Kind: KindFunction, Key: "damaged", Ver: floor - 1, Writer: "x", Body: bodyOf(t, "damaged")}, 1, ""},
	} {
		want := maps.Clone(a.catalog.Refused())
		if want == nil {
			want = map[string]int64{}
		}
		if c.why != "" {
			want[c.why]++
		}
		n, err := a.catalog.Apply(t.Context(), []Record{c.record}, "x")
		if got := a.catalog.Refused(); n != c.taken || err != nil || !maps.Equal(got, want) {
			t.Errorf("%s: taken %d, want %d; %v; counted %v, want %v", c.what, n, c.taken, err, got, want)
		}
	}
}
