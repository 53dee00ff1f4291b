package catalog

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// A device that comes back from a drawer after months takes over what is there, brings back nothing that was deleted, and keeps what
// was deployed on it meanwhile.
func TestBackFromADrawer(t *testing.T) {
	m := newMesh(t, "a b c")
	m.nodes["a"].deploy("old", "")
	m.nodes["a"].deploy("stays", "")
	m.nodes["c"].deploy("mine", "") // written by the device itself, known to all
	m.live(2)
	c := m.nodes["c"]
	c.off = true
	m.nodes["a"].remove("old")
	m.nodes["b"].remove("mine")
	m.live(40)
	if floor, _ := m.nodes["a"].catalog.horizon.marks(); floor == 0 || m.nodes["a"].catalog.Snapshot().count != 1 {
		t.Fatalf("the tombstones were not collected: the test shows nothing (floor %d)", floor)
	}
	m.nodes["b"].deploy("new", "")
	c.off = false
	c.restart()
	c.deploy("alone", "") // it stands alone still
	for _, n := range []string{"a", "b"} {
		m.nodes[n].compare("c") // they ask first, and believe nothing
	}
	if got := m.nodes["a"].has(); got != "alone stays" {
		t.Errorf("a has %q", got)
	}
	m.settle()
	m.shows(t, "alone new stays")
	if !m.equal() {
		t.Error("they are not equal")
	}
	var lost []string
	for _, x := range c.catalog.Snapshot().Conflicts() {
		lost = append(lost, x.Lost.Key)
	}
	if got := strings.Join(lost, " "); got != "mine old" && got != "old mine" {
		t.Errorf("it does not show what it dropped: %q", got)
	}
	m.live(3)
	m.shows(t, "alone new stays")
	if s := c.Status(); len(s.Split) != 0 || s.Floor.IsZero() {
		t.Errorf("%+v", s)
	}
}

// Two that come back from drawers and meet each other before they meet anybody else do not take each other for the site [C4], for however many days
// they have no other company.
func TestTwoBackFromDrawersMeetFirst(t *testing.T) {
	for _, together := range []int{0, 1, 5, 14} {
		m := newMesh(t, "a b c d")
		m.nodes["a"].deploy("old", "")
		m.nodes["a"].deploy("stays", "")
		m.live(40) // in good standing, all of them
		m.nodes["c"].off = true
		m.live(3)
		m.nodes["d"].off = true
		m.nodes["a"].remove("old")
		m.live(40)
		if floor, _ := m.nodes["a"].catalog.horizon.marks(); floor == 0 || m.nodes["a"].catalog.Snapshot().count != 1 {
			t.Fatalf("the tombstone was not collected: the test shows nothing (floor %d)", floor)
		}
		for _, name := range []string{"a", "b"} {
			m.nodes[name].off = true
		}
		for _, name := range []string{"c", "d"} {
			m.nodes[name].off = false
			m.nodes[name].restart()
		}
		m.settle()
		m.live(together)
		fresh := m.add("e", nil) // it joins while the two are the only ones there
		m.settle()
		m.live(together)
		for name, n := range m.nodes {
			if _, synced := n.catalog.horizon.marks(); n.off == false && timeOf(synced).After(m.wall.AddDate(0, 0, -35)) {
				t.Errorf("after %d days with nobody else %s claims to know what was deleted up to %v", together, name, timeOf(synced))
			}
		}
		for _, name := range []string{"a", "b"} {
			m.nodes[name].off = false
		}
		fresh.compare("a")
		m.settle()
		m.shows(t, "stays")
		if !m.equal() {
			t.Errorf("after %d days they are not equal", together)
		}
		m.live(3)
		m.shows(t, "stays")
	}
}

// The same for one that was on all the time with its cable out.
func TestBackFromALongCableCut(t *testing.T) {
	m := newMesh(t, "a b c")
	m.nodes["a"].deploy("old", "")
	m.live(2)
	c := m.nodes["c"]
	c.off = true
	m.nodes["a"].remove("old")
	for range 40 {
		m.live(1)
		c.runs(24 * time.Hour)
		if err := c.collect(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	c.off = false
	m.settle()
	m.shows(t, "")
	if !m.equal() {
		t.Error("they are not equal")
	}
}

// A new node takes over everything, also when somebody who was away for too long asks it first.
func TestANewNodeDoesNotLaunder(t *testing.T) {
	m := newMesh(t, "a b c")
	m.nodes["a"].deploy("old", "")
	m.nodes["a"].deploy("stays", "")
	m.live(2)
	m.nodes["c"].off = true
	m.nodes["a"].remove("old")
	m.live(40)
	m.nodes["c"].off = false
	fresh := m.add("d", nil)
	fresh.compare("c") // nobody has told it anything else
	if fresh.has() != "old stays" {
		t.Fatal("the test shows nothing")
	}
	m.nodes["a"].compare("d")
	m.nodes["b"].compare("d")
	if m.nodes["a"].has() != "stays" || m.nodes["b"].has() != "stays" {
		t.Fatalf("it came back by way of the new node: %q", m.nodes["a"].has())
	}
	m.settle()
	m.shows(t, "stays")
}

// Two halves that were both on for longer than tombstones are kept take over what is new, not what the other may have deleted, and say so.
// An operator decides with the ordinary commands.
func TestSplitIsLeftToTheOperator(t *testing.T) {
	m := newMesh(t, "a b c d")
	m.nodes["a"].deploy("gone", "")
	m.nodes["a"].deploy("stays", "")
	m.live(2)
	m.apart(t, 40, func(day int) {
		switch day {
		case 1:
			m.nodes["a"].remove("gone")
			m.nodes["a"].deploy("early", "") // older than what the other side will have collected?
			m.nodes["c"].remove("stays")
			m.nodes["c"].deploy("stays", "[config]\nx = 1\n")
		case 2:
			m.nodes["d"].deploy("temporary", "")
			m.nodes["d"].remove("temporary")
		case 39:
			m.nodes["d"].deploy("late", "")
		}
	})
	m.settle()
	if got := m.nodes["a"].has(); got != "early late stays" {
		t.Errorf("a has %q", got)
	}
	if got := m.nodes["c"].has(); !strings.Contains(got, "gone") || !strings.Contains(got, "late stays") {
		t.Errorf("c has %q", got)
	}
	for _, n := range m.nodes { // ten minutes later
		for _, p := range n.peers {
			if !p.split.since.IsZero() {
				p.split.since = p.split.since.Add(-splitPatience)
			}
		}
	}
	m.settle()
	if s := m.nodes["c"].Status().Split; len(s) != 2 || !strings.Contains(strings.Join(s[0].OnlyHere, " "), "function/gone") {
		t.Fatalf("c does not say so: %+v", s)
	}
	m.nodes["c"].remove("gone")
	if strings.Contains(m.nodes["a"].has(), "early") && !strings.Contains(m.nodes["c"].has(), "early") {
		m.nodes["a"].deploy("early", "[config]\nagain = 1\n")
	}
	m.settle()
	m.shows(t, "early late stays")
	if !m.equal() {
		t.Error("they are not equal")
	}
	if s := m.nodes["c"].Status().Split; len(s) != 0 {
		t.Errorf("still %+v", s)
	}
}

// apart lets two halves live without each other.
func (m *mesh) apart(t *testing.T, days int, each func(day int)) {
	t.Helper()
	halves := [][]string{{"a", "b"}, {"c", "d"}}
	for day := range days {
		each(day)
		m.wall = m.wall.Add(24 * time.Hour)
		for i, half := range halves {
			for _, name := range half {
				m.nodes[name].runs(24 * time.Hour)
			}
			for _, name := range halves[1-i] {
				m.nodes[name].off = true
			}
			m.settle()
			for _, name := range half {
				if err := m.nodes[name].collect(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			for _, name := range halves[1-i] {
				m.nodes[name].off = false
			}
		}
	}
}

// A site that was switched off for a year is whole again, whatever its clocks say.
func TestTheWholeSiteWasOff(t *testing.T) {
	m := newMesh(t, "a b c")
	m.nodes["a"].deploy("f", "")
	m.nodes["a"].deploy("g", "")
	m.live(3)
	m.nodes["c"].off = true
	m.nodes["a"].remove("g")
	m.settle()
	m.wall = m.wall.Add(365 * 24 * time.Hour)
	for _, n := range m.nodes {
		n.off = false
		n.restart()
		n.skew = -50 * 365 * 24 * time.Hour
	}
	m.settle()
	m.shows(t, "f")
	if !m.equal() {
		t.Error("they are not equal")
	}
}

// A clock that jumps years ahead makes no tombstone old [C5].
func TestAClockThatJumpsCollectsNothing(t *testing.T) {
	m := newMesh(t, "a b")
	m.nodes["a"].deploy("f", "")
	m.live(40) // nor is it old because the node is
	m.nodes["a"].remove("f")
	m.settle()
	m.wall = m.wall.Add(12 * 365 * 24 * time.Hour)
	m.live(20)
	for name, n := range m.nodes {
		if floor, _ := n.catalog.horizon.marks(); floor != 0 || n.catalog.Snapshot().count != 1 {
			t.Errorf("%s collected a tombstone of twenty days", name)
		}
	}
	m.live(20)
	for name, n := range m.nodes {
		if floor, synced := n.catalog.horizon.marks(); floor == 0 || synced < floor || n.catalog.Snapshot().count != 0 {
			t.Errorf("%s did not collect a tombstone of forty days: floor %d, synced %d", name, floor, synced)
		}
	}
}

// A tombstone that was collected is not taken back from who still has it.
func TestACollectedTombstoneStaysAway(t *testing.T) {
	m := newMesh(t, "a b")
	a, b := m.nodes["a"], m.nodes["b"]
	a.deploy("f", "")
	a.remove("f")
	m.settle()
	for range 3 {
		m.live(1)
		a.runs(12 * 24 * time.Hour) // b is off most of the time
	}
	if err := a.collect(t.Context()); err != nil || a.catalog.Snapshot().count != 0 || b.catalog.Snapshot().count != 1 {
		t.Fatal("the test shows nothing", err)
	}
	if got := a.compare("b"); len(got.changed) != 0 || a.catalog.Snapshot().count != 0 {
		t.Errorf("it took back %v", got.changed)
	}
}

// What must be cleaned up first is not collected, and who has no company collects nothing.
func TestWhatIsNotCollected(t *testing.T) {
	m := newMesh(t, "a b")
	a := m.nodes["a"]
	a.deploy("f", "")
	a.remove("f")
	a.runs(60 * 24 * time.Hour)
	if err := a.collect(t.Context()); err != nil || a.catalog.Snapshot().count != 1 {
		t.Errorf("alone it collected, %v", err)
	}
	m.live(1)
	a.options.Keep = func(Record) bool { return true }
	m.live(2)
	if a.catalog.Snapshot().count != 1 {
		t.Error("it collected what was to be kept")
	}
}

// What was deleted stays deleted, whoever is away, for however long, comes back in whatever order and with whatever clock; and what was never
// deleted stays.
func TestDeletedStaysDeleted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newMesh(t, "a b c d")
		names := []string{"a", "b", "c", "d"}
		m.nodes["a"].deploy("gone", "")
		m.nodes["b"].deploy("stays", "")
		m.live(rapid.SampledFrom([]int{1, 2, 10, 35}).Draw(t, "days before"))
		away := rapid.SliceOfNDistinct(rapid.SampledFrom(names[1:]), 0, 3, rapid.ID).Draw(t, "away")
		for _, name := range away {
			m.nodes[name].off = true
		}
		m.nodes["a"].remove("gone")
		m.live(rapid.SampledFrom([]int{0, 1, 29, 35, 70}).Draw(t, "days"))
		for _, name := range away {
			n := m.nodes[name]
			n.off = false
			n.skew = rapid.SampledFrom([]time.Duration{0, 0, time.Hour, -50 * 365 * 24 * time.Hour, 12 * 365 * 24 * time.Hour}).Draw(t, "skew")
			if rapid.Bool().Draw(t, "restarted") {
				n.restart()
			}
		}
		for range rapid.IntRange(0, 12).Draw(t, "first meetings") {
			one, other := rapid.SampledFrom(names).Draw(t, "one"), rapid.SampledFrom(names).Draw(t, "other")
			if one != other {
				m.nodes[one].compare(other)
			}
			if strings.Contains(m.nodes["a"].has(), "gone") {
				t.Fatalf("it came back on a after %s met %s", one, other)
			}
		}
		m.settle()
		for _, name := range names {
			if got := m.nodes[name].has(); got != "stays" {
				t.Fatalf("%s has %q", name, got)
			}
		}
		if !m.equal() {
			t.Fatalf("not equal: %v", m.roots())
		}
	})
}
