package meter

import (
	"maps"
	"testing"
	"time"

	"pgregory.net/rapid"

	"mayfly/function"
)

// model is what the ledger must hold: whatever was synced, by the hour the clock said then, and what was used since.
type model struct {
	synced map[uint64]map[Subject]Usage
	since  map[Subject]Usage
}

func (m *model) sync(now time.Time) {
	hour := hourOf(now)
	if m.synced[hour] == nil {
		m.synced[hour] = map[Subject]Usage{}
	}
	for s, u := range m.since {
		sum := m.synced[hour][s]
		sum.Add(u)
		m.synced[hour][s] = sum
	}
	m.since = map[Subject]Usage{}
}

// rows is what Rows must answer for months, without the state.
func (m *model) rows(now time.Time) map[time.Time]map[Subject]Usage {
	all := map[time.Time]map[Subject]Usage{}
	add := func(hour uint64, s Subject, u Usage) {
		from := timeOf(monthOf(hour))
		if all[from] == nil {
			all[from] = map[Subject]Usage{}
		}
		sum := all[from][s]
		sum.Add(u)
		all[from][s] = sum
	}
	for hour, by := range m.synced {
		for s, u := range by {
			add(hour, s, u)
		}
	}
	for s, u := range m.since {
		add(hourOf(now), s, u)
	}
	return all
}

// Whatever is used, refused, cut off and done to the clock: what was synced is there, each once, in its month; what was not is there until the
// process ends; the chain fits; and no more hours are kept than are to be ([L1], [L2], [L3], [L4]).
func TestLedgerAgainstItsModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		const keep = 4
		d, m := newDisk(), &model{synced: map[uint64]map[Subject]Usage{}, since: map[Subject]Usage{}}
		s := open(t, d, noon(), keep)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch rapid.SampledFrom([]string{"use", "use", "sample", "sample", "clock", "clock", "refused", "cut", "restart"}).Draw(t, "step") {
			case "use":
				subject := Subject{rapid.SampledFrom([]string{"a", "a-b", "ab"}).Draw(t, "function"), rapid.SampledFrom([]string{"", "x"}).Draw(t, "tenant")}
				u := Usage{Events: rapid.Uint64Range(1, 5).Draw(t, "events"), CPU: rapid.Uint64Range(0, 1e9).Draw(t, "cpu")}
				s.use(subject, u)
				sum := m.since[subject]
				sum.Add(u)
				m.since[subject] = sum
			case "sample":
				if err := s.Sample(); err != nil {
					t.Fatal(err)
				}
				m.sync(s.clock())
			case "clock":
				s.set(rapid.SampledFrom([]time.Time{s.clock().Add(time.Hour), s.clock().Add(-time.Hour), s.clock().Add(-26 * time.Hour), time.Unix(5, 0), time.Unix(-5, 0), noon(), noon().AddDate(90, 0, 0)}).Draw(t, "now"))
			case "refused":
				d.allow(0)
				if err := s.Sample(); err == nil && len(m.since) > 0 {
					t.Fatal("a refused sample is no error")
				}
				d.allow(-1)
			case "cut": // after the sample, before the fold
				d.allow(1)
				_ = s.Sample() // the fold may be refused
				m.sync(s.clock())
				fallthrough
			case "restart":
				d.allow(-1)
				s = open(t, d, s.clock(), keep)
				m.since = map[Subject]Usage{}
			}
			compare(t, s, m, d, keep)
		}
	})
}

func compare(t *rapid.T, s *site, m *model, d *disk, keep int) {
	rows, err := s.Rows(Query{By: function.PerMonth})
	if err != nil {
		t.Fatal(err)
	}
	got := map[time.Time]map[Subject]Usage{}
	for _, r := range rows {
		if got[r.From] == nil {
			got[r.From] = map[Subject]Usage{}
		}
		r.State = 0
		got[r.From][r.Subject] = r.Usage
	}
	want := m.rows(s.clock())
	maps.DeleteFunc(want, func(_ time.Time, by map[Subject]Usage) bool { return len(by) == 0 })
	if !maps.EqualFunc(got, want, maps.Equal[map[Subject]Usage, map[Subject]Usage]) {
		t.Fatalf("the ledger says %v, not %v", got, want)
	}
	if v, err := s.Verify(); err != nil || v.Broken != "" {
		t.Fatalf("%+v %v", v, err)
	}
	if n := len(d.keys(kindLink)); n > keep+1 {
		t.Fatalf("%d hours are kept", n)
	}
}

// A record that somebody changed, removed, added or put somewhere else shows, whichever it is: at once in the process that wrote it, and after a
// restart when it is not of the hour that is being written ([L3]).
func TestTamperingShows(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		d := newDisk()
		s := open(t, d, noon(), 3)
		for i := range rapid.IntRange(1, 9).Draw(t, "hours") {
			s.set(noon().Add(time.Duration(i) * 250 * time.Hour))
			s.use(Subject{"a", ""}, Usage{Events: 1, CPU: uint64(i)})
			s.use(Subject{"b", "x"}, Usage{Events: 2})
			if err := s.Sample(); err != nil {
				t.Fatal(err)
			}
		}
		kind := rapid.SampledFrom([]byte{kindAnchor, kindLink, kindMonth, kindRow}).Draw(t, "kind")
		keys := d.keys(kind)
		if len(keys) == 0 {
			t.Skip("there is none yet")
		}
		key := rapid.SampledFrom(keys).Draw(t, "key")
		value := d.records[key]
		switch rapid.SampledFrom([]string{"change", "remove", "add", "cut", "damage"}).Draw(t, "how") {
		case "change":
			changed := append([]byte(nil), value...)
			changed[rapid.IntRange(0, len(changed)-1).Draw(t, "at")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
			d.records[key] = changed
		case "remove":
			delete(d.records, key)
		case "add":
			d.records[key+"z"] = value
		case "cut":
			d.records[key] = value[:len(value)-1]
		case "damage":
			d.records[key] = nil // as the store passes what it cannot read
		}
		d.stale = true
		if v, err := s.Verify(); err != nil || v.Broken == "" {
			t.Fatalf("%+v %v", v, err)
		}
		e, err := readEntry([]byte(key), nil)
		if err == nil && e.kind == kindRow && e.number == s.open.number {
			return
		}
		again := open(t, d, s.clock(), 3)
		if v, err := again.Verify(); err != nil || v.Broken == "" {
			t.Fatalf("after a restart: %+v %v", v, err)
		}
		stillCounts(t, again)
	})
}

// stillCounts says that a ledger that does not fit goes on, and goes on not to fit, also when what does not was folded.
func stillCounts(t *rapid.T, s *site) {
	before := events(t, s)
	for i := range 6 {
		s.set(s.clock().Add(time.Duration(i) * time.Hour))
		s.use(Subject{"c", ""}, Usage{Events: 1})
		if err := s.Sample(); err != nil {
			t.Fatal(err)
		}
	}
	if after := events(t, s); after["c"] != before["c"]+6 {
		t.Fatalf("%v events, before %v", after, before)
	}
	if v, err := s.Verify(); err != nil || v.Broken == "" {
		t.Fatalf("folded away: %+v %v", v, err)
	}
}

func events(t *rapid.T, s *site) map[string]uint64 {
	rows, err := s.Rows(Query{By: function.PerMonth})
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]uint64{}
	for _, r := range rows {
		all[r.Function] += r.Events
	}
	return all
}

// [L6] Rows merge in any order, however often, also when some are older than others.
func TestMergeIsAGrowOnlyCounter(t *testing.T) {
	t.Parallel()
	gen := rapid.Custom(func(t *rapid.T) Row {
		return Row{
			Node: rapid.SampledFrom([]string{"n", "m"}).Draw(t, "node"), From: timeOf(rapid.Uint64Range(1, 3).Draw(t, "from")), Folded: rapid.Bool().Draw(t, "folded"),
			Subject: Subject{rapid.SampledFrom([]string{"a", "b"}).Draw(t, "function"), rapid.SampledFrom([]string{"", "x"}).Draw(t, "tenant")},
			Usage:   Usage{Events: rapid.Uint64().Draw(t, "events"), State: rapid.Uint64().Draw(t, "state")},
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		rows := rapid.SliceOf(gen)
		a, b, c := rows.Draw(t, "a"), rows.Draw(t, "b"), rows.Draw(t, "c")
		same := func(x, y []Row, law string) {
			if len(x) != len(y) {
				t.Fatalf("%s: %v, %v", law, x, y)
			}
			for i := range x {
				if x[i] != y[i] {
					t.Fatalf("%s: %v, %v", law, x, y)
				}
			}
		}
		same(Merge(a, b), Merge(b, a), "order")
		same(Merge(a, a), Merge(a), "repetition")
		same(Merge(Merge(a, b), c), Merge(a, Merge(b, c)), "grouping")
	})
}
