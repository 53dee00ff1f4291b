package function

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"mayfly/internal/tomlcheck"
)

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

// checkSchedule says what is wrong with a schedule: five fields of numbers, names, *, ranges, lists and steps, or @hourly
// and the like, after an optional CRON_TZ=Area/City. It does not know whether such a day ever comes, nor which time zones
// a device knows.
func checkSchedule(s string) error {
	hint := `five fields: minute hour day month weekday, such as "*/5 * * * *"`
	fields := strings.Fields(s)
	if len(fields) > 0 {
		if zone, ok := strings.CutPrefix(fields[0], "CRON_TZ="); ok {
			if !isZone(zone) {
				return &tomlcheck.Issue{Problem: fmt.Sprintf("%q is not a time zone", zone), Hint: `write it like "CRON_TZ=Europe/Berlin 0 6 * * *"`}
			}
			fields = fields[1:]
		}
	}
	if len(fields) == 1 && strings.HasPrefix(fields[0], "@") {
		words := []string{"@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"}
		if slices.Contains(words, fields[0]) {
			return nil
		}
		return &tomlcheck.Issue{Problem: fmt.Sprintf("%q is not a schedule", fields[0]), Hint: "one of " + strings.Join(words, ", ") + ", or " + hint}
	}
	if len(fields) != 5 {
		return &tomlcheck.Issue{Problem: fmt.Sprintf("a schedule has 5 fields, this has %d", len(fields)), Hint: hint}
	}
	for i, f := range cronFields() {
		if problem := f.check(fields[i]); problem != "" {
			return &tomlcheck.Issue{Problem: fmt.Sprintf("%s %q: %s", f.name, fields[i], problem), Hint: hint}
		}
	}
	return nil
}

func isZone(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(c rune) bool {
		return c > '~' || !strings.ContainsRune("/_+-", c) && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z')
	})
}

func (f cronField) check(s string) string {
	for part := range strings.SplitSeq(s, ",") {
		span, step, stepped := strings.Cut(part, "/")
		if n, err := strconv.ParseUint(step, 10, 16); stepped && (err != nil || n == 0 || int(n) > f.max) {
			return fmt.Sprintf("a step is a number from 1 to %d", f.max)
		}
		if span == "*" {
			continue
		}
		from, to, ranged := strings.Cut(span, "-")
		low, ok := f.number(from)
		high := low
		if ok && ranged {
			high, ok = f.number(to)
		}
		switch {
		case !ok:
			return fmt.Sprintf("it must be * or from %d to %d", f.min, f.max)
		case low > high:
			return "the range runs backwards"
		case stepped && !ranged:
			return "a step needs * or a range before the /"
		}
	}
	return ""
}

func (f cronField) number(s string) (int, bool) {
	if i := slices.Index(f.words, strings.ToLower(s)); i >= 0 {
		return f.min + i, true
	}
	n, err := strconv.ParseUint(s, 10, 16)
	return int(n), err == nil && int(n) >= f.min && int(n) <= f.max
}
