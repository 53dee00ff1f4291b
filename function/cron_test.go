package function

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestParseSchedule(t *testing.T) {
	for _, s := range []string{
		"* * * * *", "*/5 * * * *", "0 6 1,15 * mon-fri", "0-30/10 0 31 DEC 7", "CRON_TZ=Europe/Berlin 0 6 * * *", "@hourly", "CRON_TZ=UTC @daily",
		"@every 1s", "@every 1h30m", "0 0 29 2 *", "0 0 29 2 */6", "0 0 30 2 mon",
	} {
		if _, err := ParseSchedule(s); err != nil {
			t.Errorf("%q: %v", s, err)
		}
	}
	for _, s := range []string{
		"", "*", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * 32 * *", "* * * 13 *", "* * * * 8", "*/0 * * * *", "5-1 * * * *",
		"5/2 * * * *", "a * * * *", "1,,2 * * * *", "-1 * * * *", "1- * * * *", "@never", "every day", "CRON_TZ= 0 6 * * *", "CRON_TZ=a;b 0 6 * * *", "* * * * mon,", "*/99999 * * * *",
		"@every", "@every 500ms", "@every 1.5s", "@every 0s", "@every soon", "@every 1s 2s", "CRON_TZ=UTC @every 1s", "@hourly now", "@reboot",
		"0 0 30 2 *", "0 0 31 4,6,9,11 *",
	} {
		if _, err := ParseSchedule(s); err == nil {
			t.Errorf("%q is accepted", s)
		}
	}
}

func schedule(t testing.TB, text string) (Schedule, *time.Location) {
	t.Helper()
	s, err := ParseSchedule(text)
	if err != nil {
		t.Fatal(err)
	}
	zone, err := time.LoadLocation(s.Zone)
	if err != nil {
		t.Fatal(err)
	}
	return s, zone
}

// What crontab(5) promises, where people expect something else, and where clocks change.
func TestNext(t *testing.T) {
	for _, c := range []struct{ schedule, after, want string }{
		{"*/15 * * * *", "2026-03-01T10:07:59Z", "10:15 10:30 10:45"},
		{"0 0 13 * fri", "2026-02-01T00:00:00Z", "02-06T00:00 02-13T00:00 02-20T00:00"},         // either day is enough
		{"0 0 */2 * fri", "2026-02-01T00:00:00Z", "02-13T00:00 02-27T00:00 03-13T00:00"},        // both, because of the *
		{"0 0 * * 7", "2026-02-01T00:00:00Z", "02-08T00:00 02-15T00:00"},                        // 7 is Sunday
		{"0 0 29 2 *", "2026-01-01T00:00:00Z", "2028-02-29T00:00 2032-02-29T00:00"},             // only in leap years
		{"0 0 29 2 *", "2097-01-01T00:00:00Z", "2104-02-29T00:00"},                              // and 2100 is none
		{"@every 90s", "2026-03-01T10:00:01Z", "10:01:30 10:03:00"},                             // counted from 1970
		{"@monthly", "2026-11-05T00:00:00Z", "2026-12-01T00:00 2027-01-01T00:00"},               //
		{"0 12 * * *", "1969-12-30T13:00:00Z", "1969-12-31T12:00 1970-01-01T12:00"},             //
		{"@every 7s", "1969-12-31T23:59:58Z", "1970-01-01T00:00:00 1970-01-01T00:00:07"},        //
		{"CRON_TZ=Europe/Berlin 30 2 * * *", "2026-03-28T12:00:00Z", "03-29T01:00 03-30T00:30"}, // 2:30 does not exist: at once at 3:00
		{"CRON_TZ=Europe/Berlin 0 3 * * *", "2026-03-28T12:00:00Z", "03-29T01:00 03-30T01:00"},
		{"CRON_TZ=Europe/Berlin 15,45 2 * * *", "2026-03-28T12:00:00Z", "03-29T01:00 03-30T00:15"},
		{"CRON_TZ=Europe/Berlin 30 2 * * *", "2026-10-24T12:00:00Z", "10-25T00:30 10-26T01:30"}, // 2:30 comes twice: the first
		{"CRON_TZ=Europe/Berlin 30 * * * *", "2026-10-24T23:45:00Z", "10-25T00:30 10-25T01:30 10-25T02:30"},
		{"CRON_TZ=Europe/Berlin 30 * * * *", "2026-03-28T23:45:00Z", "03-29T00:30 03-29T01:30"},              // follows the clock
		{"CRON_TZ=America/Sao_Paulo 0 0 * * *", "2018-11-03T12:00:00Z", "2018-11-04T03:00 2018-11-05T02:00"}, // no midnight
		{"CRON_TZ=Pacific/Apia 0 8 30 12 *", "2011-12-01T00:00:00Z", "2011-12-30T10:00 2012-12-29T18:00"},    // a day that was left out
		{"CRON_TZ=Australia/Lord_Howe 15 2 * * *", "2026-10-03T00:00:00Z", "2026-10-03T15:30 2026-10-04T15:15"},
	} {
		s, zone := schedule(t, c.schedule)
		at, err := time.Parse(time.RFC3339, c.after)
		if err != nil {
			t.Fatal(err)
		}
		for want := range strings.FieldsSeq(c.want) {
			at = s.Next(at, zone)
			if got := at.UTC().Format("2006-01-02T15:04:05"); !strings.Contains(got, want) {
				t.Errorf("%s after %s: %s, want %s", c.schedule, c.after, got, want)
			}
		}
	}
}

// byMinute goes from minute to minute and looks at the clock on the wall, as the classic daemon does.
func byMinute(s Schedule, after time.Time, zone *time.Location, days int) time.Time {
	shown := func(t time.Time) time.Time {
		l := t.In(zone)
		return time.Date(l.Year(), l.Month(), l.Day(), l.Hour(), l.Minute(), 0, 0, time.UTC)
	}
	fits := func(w time.Time) bool {
		dom, dow := s.day&(1<<w.Day()) != 0, s.weekday&(1<<w.Weekday()) != 0
		ok := dom && dow
		if s.eitherDay {
			ok = dom || dow
		}
		return ok && s.minute&(1<<w.Minute()) != 0 && s.hour&(1<<w.Hour()) != 0 && s.month&(1<<w.Month()) != 0
	}
	first := after.Truncate(time.Minute).Add(time.Minute)
	latest := shown(first.Add(-3 * time.Hour)) // the latest time ever shown
	for t := first.Add(-3 * time.Hour); t.Before(first); t = t.Add(time.Minute) {
		if w := shown(t); w.After(latest) {
			latest = w
		}
	}
	for t := first; t.Before(first.AddDate(0, 0, days)); t = t.Add(time.Minute) {
		w := shown(t)
		if !s.fixed {
			if fits(w) {
				return t
			}
			continue
		}
		for m := latest.Add(time.Minute); !m.After(w); m = m.Add(time.Minute) {
			if fits(m) {
				return t
			}
		}
		if w.After(latest) {
			latest = w
		}
	}
	return time.Time{}
}

func TestNextAgainstEveryMinute(t *testing.T) {
	field := func(rt *rapid.T, name string, f cronField) string {
		number := rapid.IntRange(f.min, f.max)
		switch rapid.IntRange(0, 4).Draw(rt, name) {
		case 0, 1:
			return "*"
		case 2:
			return fmt.Sprintf("*/%d", rapid.IntRange(1, f.max).Draw(rt, name+" step"))
		case 3:
			a, b := number.Draw(rt, name+" from"), number.Draw(rt, name+" to")
			return fmt.Sprintf("%d-%d", min(a, b), max(a, b))
		}
		return fmt.Sprintf("%d,%d", number.Draw(rt, name+" one"), number.Draw(rt, name+" other"))
	}
	zones := []string{"UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Sao_Paulo", "Asia/Kathmandu", "Africa/Casablanca"}
	found := 0
	rapid.Check(t, func(rt *rapid.T) {
		fields := cronFields()
		fields[2].max = 28
		var texts []string
		for _, f := range fields {
			texts = append(texts, field(rt, f.name, f))
		}
		s, err := ParseSchedule(strings.Join(texts, " "))
		if err != nil {
			rt.Skip(err)
		}
		zone, err := time.LoadLocation(rapid.SampledFrom(zones).Draw(rt, "zone"))
		if err != nil {
			rt.Fatal(err)
		}
		// Mostly around the changes of 2017 and 2026.
		begin := time.Date(rapid.SampledFrom([]int{2017, 2026}).Draw(rt, "year"), time.Month(rapid.IntRange(1, 12).Draw(rt, "month")), 1, 0, 0, 0, 0, time.UTC)
		after := begin.Add(time.Duration(rapid.IntRange(0, 31*24*3600).Draw(rt, "second")) * time.Second)
		want := byMinute(s, after, zone, 20)
		got := s.Next(after, zone)
		if want.IsZero() {
			if !got.IsZero() && got.Before(after.AddDate(0, 0, 20)) {
				rt.Fatalf("%v after %v: %v, want none in 20 days", texts, after, got)
			}
			return
		}
		found++
		if !got.Equal(want) {
			rt.Fatalf("%v in %v after %v: %v, want %v", texts, zone, after, got, want.In(zone))
		}
	})
	if found == 0 {
		t.Error("nothing was ever due; the test shows nothing")
	}
}

func BenchmarkNext(b *testing.B) {
	at := time.Date(2026, 3, 1, 10, 7, 0, 0, time.UTC)
	for _, text := range []string{"*/5 * * * *", "CRON_TZ=Europe/Berlin 30 2 * * mon", "0 0 29 2 *"} {
		s, zone := schedule(b, text)
		b.Run(text, func(b *testing.B) {
			for b.Loop() {
				s.Next(at, zone)
			}
		})
	}
}
