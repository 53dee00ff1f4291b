package meter

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"mayfly/function"
)

func day(n int) time.Time { return time.Date(2026, 11, 1+n, 0, 0, 0, 0, time.UTC) }

func daily(n int, name string, events uint64) Row {
	return Row{Node: "far", From: day(n), Subject: Subject{Function: name}, Usage: Usage{Events: events}}
}

func (c *Copies) must(t *testing.T, by function.Period, from time.Time) (rows []Row, at Copied) {
	t.Helper()
	rows, at, ok, err := c.Rows("far", Query{By: by, From: from})
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	return rows, at
}

// [L6] A copy is what was answered last: days that were told anew replace those from then on, what is told whole replaces all, also what the ledger has
// folded meanwhile; and it is there after a restart.
func TestCopiesAreWhatWasAnswered(t *testing.T) {
	d := newDisk()
	c := NewCopies(d)
	if _, _, ok, err := c.Rows("far", Query{By: function.PerDay}); ok || err != nil {
		t.Fatal(ok, err)
	}
	put := func(from time.Time, at time.Time, rows ...Row) {
		t.Helper()
		if err := c.Put("far", from, rows, at); err != nil {
			t.Fatal(err)
		}
	}
	put(time.Time{}, day(9), daily(1, "f", 10), daily(2, "f", 20), daily(2, "g", 1))
	put(day(2), day(10), daily(2, "f", 25), daily(3, "f", 5)) // g is gone from the ledger
	c = NewCopies(d)
	rows, at := c.must(t, function.PerDay, time.Time{})
	if want := []Row{daily(1, "f", 10), daily(2, "f", 25), daily(3, "f", 5)}; !slices.Equal(rows, want) || !at.At.Equal(day(10)) || !at.Full.Equal(day(9)) {
		t.Errorf("%+v of %+v", rows, at)
	}
	if rows, _ := c.must(t, function.PerMonth, time.Time{}); len(rows) != 1 || rows[0].Events != 40 || !rows[0].From.Equal(day(0)) {
		t.Errorf("by month %+v", rows)
	}
	if rows, _ := c.must(t, function.PerHour, day(3).Add(5*time.Hour)); len(rows) != 1 || rows[0].Events != 5 {
		t.Errorf("by hour %+v", rows)
	}
	folded := daily(0, "f", 10)
	folded.Folded = true
	put(time.Time{}, day(11), folded, daily(2, "f", 25), daily(3, "f", 5))
	if rows, _ := c.must(t, function.PerMonth, time.Time{}); len(rows) != 1 || rows[0].Events != 40 {
		t.Errorf("what was folded counts twice, or not at all: %+v", rows)
	}

	batches := d.batches
	put(day(3), day(11).Add(10*time.Minute), daily(3, "f", 5))
	if d.batches != batches {
		t.Error("nothing changed, and it is written")
	}
	put(day(3), day(11).Add(2*time.Hour), daily(3, "f", 5))
	if _, at := c.must(t, function.PerDay, day(3)); !at.At.Equal(day(11).Add(2 * time.Hour)) {
		t.Errorf("as of %v", at.At)
	}
	if err := c.Forget(func(string) bool { return false }); err != nil || len(d.records) > 0 {
		t.Errorf("%d records are left, %v", len(d.records), err)
	}
}

// Whatever is told in whatever order, and however often: a copy is what it would be if it had been told the last of it at once.
func TestCopiesConverge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := NewCopies(newDisk())
		ledger := map[int]uint64{}
		for step := range rapid.IntRange(1, 12).Draw(t, "steps") {
			today := step / 2
			ledger[today] += rapid.Uint64Range(1, 9).Draw(t, "events")
			from := 0
			if step > 0 {
				from = rapid.IntRange(0, max(0, today-1)).Draw(t, "from")
			}
			var rows []Row
			for n := from; n <= today; n++ {
				rows = append(rows, daily(n, "f", ledger[n]))
			}
			since := day(from)
			if from == 0 {
				since = time.Time{}
			}
			if err := c.Put("far", since, rows, day(20)); err != nil {
				t.Fatal(err)
			}
		}
		rows, _, ok, err := c.Rows("far", Query{By: function.PerDay})
		if err != nil || !ok || len(rows) != len(ledger) {
			t.Fatal(rows, ok, err)
		}
		for n, r := range rows {
			if r.Events != ledger[n] {
				t.Fatalf("day %d: %d, not %d", n, r.Events, ledger[n])
			}
		}
	})
}

// Of a node that says too much the newest is kept, and a disk that refuses costs the copy and nothing else.
func TestCopiesAreBounded(t *testing.T) {
	d := newDisk()
	c := NewCopies(d)
	rows := make([]Row, MaxCopy+10)
	for i := range rows {
		rows[i] = Row{Node: "far", From: day(0).Add(time.Duration(i) * time.Hour), Subject: Subject{Function: "f"}, Usage: Usage{Events: 1}}
	}
	if err := c.Put("far", time.Time{}, rows, day(1)); err != nil {
		t.Fatal(err)
	}
	got, _ := c.must(t, function.PerDay, time.Time{})
	if len(got) != MaxCopy || !got[0].From.Equal(rows[10].From) {
		t.Errorf("%d rows from %v", len(got), got[0].From)
	}
	d.accept = 0
	if err := c.Put("far", day(1), nil, day(2)); err == nil {
		t.Error("nothing was written, and nobody is told")
	}
}
