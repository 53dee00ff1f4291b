package function

import (
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"time"

	"mayfly/internal/tomlcheck"
)

// Schedule says at which minutes something is due, by the rules of crontab(5), or every so often. It is a value: what it says
// depends on nothing but the time it is asked about and the zone it is asked in.
type Schedule struct {
	Zone  string        // from CRON_TZ=; "" = the device's own
	Every time.Duration // from @every, whole seconds; 0 = the fields count

	minute, hour, day, month, weekday uint64 // bit n is set: n fits
	eitherDay                         bool   // neither day field began with *: one of them is enough
	fixed                             bool   // neither minute nor hour began with *: it is due at certain times of the day
}

// MinEvery is the shortest interval of @every.
const MinEvery = time.Second

// cronField is one of the five fields of a schedule.
type cronField struct {
	name     string
	min, max int
	words    []string // the first stands for min
}

func cronFields() []cronField {
	return []cronField{
		{"minute", 0, 59, nil},
		{"hour", 0, 23, nil},
		{"day of the month", 1, 31, nil},
		{"month", 1, 12, []string{"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"}},
		{"day of the week", 0, 7, []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}},
	}
}

const cronHint = `five fields: minute hour day month weekday, such as "*/5 * * * *"`

// ParseSchedule reads five fields of numbers, names, *, ranges, lists and steps, or @hourly and the like, or @every with a
// duration, after an optional CRON_TZ=Area/City. It refuses a day that never comes. Which time zones a device knows it
// does not know.
func ParseSchedule(s string) (Schedule, error) {
	var out Schedule
	fields := strings.Fields(s)
	if len(fields) > 0 {
		if zone, ok := strings.CutPrefix(fields[0], "CRON_TZ="); ok {
			if !isZone(zone) {
				return out, &tomlcheck.Issue{Problem: fmt.Sprintf("%q is not a time zone", zone), Hint: `write it like "CRON_TZ=Europe/Berlin 0 6 * * *"`}
			}
			out.Zone, fields = zone, fields[1:]
		}
	}
	if len(fields) > 0 && strings.HasPrefix(fields[0], "@") {
		if fields[0] == "@every" {
			return out.every(fields[1:])
		}
		short := shorthands()
		i := slices.IndexFunc(short, func(w [2]string) bool { return w[0] == fields[0] })
		if len(fields) > 1 || i < 0 {
			var words []string
			for _, w := range short {
				words = append(words, w[0])
			}
			return out, &tomlcheck.Issue{
				Problem: fmt.Sprintf("%q is not a schedule", strings.Join(fields, " ")),
				Hint:    "one of " + strings.Join(words, ", ") + ", @every 90s, or " + cronHint,
			}
		}
		fields = strings.Fields(short[i][1])
	}
	if len(fields) != 5 {
		return out, &tomlcheck.Issue{Problem: fmt.Sprintf("a schedule has 5 fields, this has %d", len(fields)), Hint: cronHint}
	}
	return out.fields([5]string(fields))
}

func shorthands() [][2]string {
	return [][2]string{
		{"@yearly", "0 0 1 1 *"},
		{"@annually", "0 0 1 1 *"},
		{"@monthly", "0 0 1 * *"},
		{"@weekly", "0 0 * * 0"},
		{"@daily", "0 0 * * *"},
		{"@midnight", "0 0 * * *"},
		{"@hourly", "0 * * * *"},
	}
}

func (s Schedule) every(rest []string) (Schedule, error) {
	fault := func(problem string) error {
		return &tomlcheck.Issue{Problem: problem, Hint: `write it like "@every 90s" or "@every 1h30m": whole seconds, at least one`}
	}
	if len(rest) != 1 {
		return s, fault("@every needs one duration")
	}
	d, err := tomlcheck.ParseDuration(rest[0])
	switch {
	case err != nil:
		return s, fault(fmt.Sprintf("%q is not a duration", rest[0]))
	case d < MinEvery || d%time.Second != 0:
		return s, fault(fmt.Sprintf("@every %s is too fine", rest[0]))
	case s.Zone != "":
		return s, fault("an interval has no time zone")
	}
	s.Every = d
	return s, nil
}

func (s Schedule) fields(texts [5]string) (Schedule, error) {
	into := [5]*uint64{&s.minute, &s.hour, &s.day, &s.month, &s.weekday}
	for i, f := range cronFields() {
		set, problem := f.parse(texts[i])
		if problem != "" {
			return s, &tomlcheck.Issue{Problem: fmt.Sprintf("%s %q: %s", f.name, texts[i], problem), Hint: cronHint}
		}
		*into[i] = set
	}
	if s.weekday&(1<<7) != 0 { // 7 is Sunday too
		s.weekday |= 1
	}
	star := func(i int) bool { return strings.HasPrefix(texts[i], "*") }
	s.fixed, s.eitherDay = !star(0) && !star(1), !star(2) && !star(4)
	if s.Next(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC), time.UTC).IsZero() {
		return s, &tomlcheck.Issue{Problem: fmt.Sprintf("day %s of month %s never comes", texts[2], texts[3]), Hint: cronHint}
	}
	return s, nil
}

func isZone(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(c rune) bool {
		return c > '~' || !strings.ContainsRune("/_+-", c) && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z')
	})
}

// parse returns the set of numbers that fit, or what is wrong.
func (f cronField) parse(s string) (set uint64, problem string) {
	for part := range strings.SplitSeq(s, ",") {
		span, stepText, stepped := strings.Cut(part, "/")
		step, err := strconv.ParseUint(stepText, 10, 16)
		if stepped && (err != nil || step == 0 || int(step) > f.max) {
			return 0, fmt.Sprintf("a step is a number from 1 to %d", f.max)
		}
		low, high, ok := f.min, f.max, true
		from, to, ranged := strings.Cut(span, "-")
		if span != "*" {
			low, ok = f.number(from)
			high = low
			if ok && ranged {
				high, ok = f.number(to)
			}
		} else if f.max == 7 {
			high = 6 // "*/2" is not Sunday twice
		}
		switch {
		case !ok:
			return 0, fmt.Sprintf("it must be * or from %d to %d", f.min, f.max)
		case low > high:
			return 0, "the range runs backwards"
		case stepped && !ranged && span != "*":
			return 0, "a step needs * or a range before the /"
		}
		for n := low; n <= high; n += max(1, int(step)) {
			set |= 1 << n
		}
	}
	return set, ""
}

func (f cronField) number(s string) (int, bool) {
	if i := slices.Index(f.words, strings.ToLower(s)); i >= 0 {
		return f.min + i, true
	}
	n, err := strconv.ParseUint(s, 10, 16)
	return int(n), err == nil && int(n) >= f.min && int(n) <= f.max
}

// horizon is how far Next looks: the 29th of February meets every weekday in 40 years, the missing one of 2100 included.
const horizon = 41 * 366 * 24 * time.Hour

// Next returns the first time after after at which s is due in zone, or zero when there is none within 40 years. Intervals are
// counted from 1970, so that every device, and the same device after a restart, means the same times.
//
// Where a day has no such time because clocks are put forward, what is due at certain times of the day is due at once
// afterwards, once; where clocks are put back and a time comes twice, only the first counts. What is due every hour or minute (a field
// that begins with *) follows the clock: crontab(5) has the same rules.
func (s Schedule) Next(after time.Time, zone *time.Location) time.Time {
	if s.Every > 0 {
		step := int64(s.Every / time.Second)
		seconds := after.Unix()
		return time.Unix(seconds-((seconds%step)+step)%step+step, 0).In(zone)
	}
	t := after.In(zone).Truncate(time.Minute).Add(time.Minute)
	for limit := t.Add(horizon); t.Before(limit); {
		wait, due := s.look(t)
		if due {
			return t
		}
		t = t.Add(wait)
	}
	return time.Time{}
}

// look says whether t, a whole minute, is due, and if not, how far the next minute is that may be.
func (s Schedule) look(t time.Time) (wait time.Duration, due bool) {
	begin, end := t.ZoneBounds()
	wall := wallClock(t)
	if s.fixed && !begin.IsZero() {
		before := wallClock(begin.Add(-time.Second)).Add(time.Second) // what the clock would have shown at begin
		shift := wallClock(begin).Sub(before)
		switch since := t.Sub(begin); {
		case shift > 0 && since < time.Minute && s.within(wall.Add(-shift-since), wall):
			return 0, true
		case shift < 0 && since < -shift: // the clock has shown this before
			return roundUp(-shift - since), false
		}
	}
	if s.dueAt(wall) {
		return 0, true
	}
	wait = s.skip(wall)
	if !end.IsZero() {
		wait = min(wait, roundUp(end.Sub(t)))
	}
	return wait, false
}

// wallClock is what a clock on the wall shows at t, as if there were no time zones.
func wallClock(t time.Time) time.Time {
	_, offset := t.Zone()
	return t.UTC().Add(time.Duration(offset) * time.Second)
}

func roundUp(d time.Duration) time.Duration {
	return max(time.Minute, (d + time.Minute - 1).Truncate(time.Minute))
}

// within says whether a minute from from on and before to is due.
func (s Schedule) within(from, to time.Time) bool {
	for w := from; w.Before(to); w = w.Add(time.Minute) {
		if s.dueAt(w) {
			return true
		}
	}
	return false
}

func (s Schedule) dueAt(wall time.Time) bool {
	return s.minute>>wall.Minute()&1 == 1 && s.hour>>wall.Hour()&1 == 1 && s.onDay(wall)
}

func (s Schedule) onDay(wall time.Time) bool {
	day, weekday := s.day>>wall.Day()&1 == 1, s.weekday>>wall.Weekday()&1 == 1
	if s.eitherDay {
		day = day || weekday
	} else {
		day = day && weekday
	}
	return day && s.month>>int(wall.Month())&1 == 1
}

// skip returns how far it is from wall, which is not due, to the next minute that may be.
func (s Schedule) skip(wall time.Time) time.Duration {
	switch hour, minute := wall.Hour(), wall.Minute(); {
	case !s.onDay(wall):
		return 24*time.Hour - time.Duration(hour)*time.Hour - time.Duration(minute)*time.Minute
	case s.hour>>hour&1 == 0:
		return time.Duration(60-minute) * time.Minute
	default:
		later := s.minute >> (minute + 1) << (minute + 1)
		if later == 0 {
			return time.Duration(60-minute) * time.Minute
		}
		return time.Duration(bits.TrailingZeros64(later)-minute) * time.Minute
	}
}
