package function

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Every moment is in exactly one period: it began then or before, the next one begins later, and is another one.
func TestPeriodsCoverTime(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := rapid.SampledFrom([]Period{PerHour, PerDay, PerMonth}).Draw(t, "period")
		zone := time.FixedZone("", rapid.IntRange(-12, 14).Draw(t, "zone")*1800)
		at := time.Unix(rapid.Int64Range(-1e10, 1e11).Draw(t, "at"), 0).In(zone)
		from, next := p.Start(at), p.Next(at)
		if from.After(at) || !next.After(at) || !p.Start(next).Equal(next) || !p.Next(from).Equal(next) || from.Location() != time.UTC {
			t.Fatalf("%s of %v: %v to %v", p, at, from, next)
		}
	})
	feb := time.Date(2028, 2, 29, 23, 59, 0, 0, time.UTC)
	if PerMonth.Next(feb) != time.Date(2028, 3, 1, 0, 0, 0, 0, time.UTC) || PerHour.Start(feb).Hour() != 23 || PerDay.Start(feb).Day() != 29 {
		t.Error("the 29th of February")
	}
}

func TestBudgetUsed(t *testing.T) {
	t.Parallel()
	b := Budget{Per: PerDay, Events: 100, CPU: time.Minute, BytesOut: 1000}
	for _, c := range []struct {
		spent Spent
		part  float64
		words string
	}{
		{Spent{}, 0, "0 of 100 events per day"},
		{Spent{Events: 80, CPU: time.Second}, 0.8, "80 of 100 events per day"},
		{Spent{Events: 80, CPU: 90 * time.Second}, 1.5, "1m30s of 1m0s of processor time per day"},
		{Spent{BytesOut: 1000}, 1, "1000 of 1000 bytes out per day"},
	} {
		if part, words := b.Used(c.spent); part != c.part || words != c.words {
			t.Errorf("%+v: %v, %q", c.spent, part, words)
		}
	}
	if part, words := (Budget{}).Used(Spent{Events: 1e9}); part != 0 || words != "" {
		t.Errorf("no budget: %v %q", part, words)
	}
}
