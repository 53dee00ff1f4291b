package function

import (
	"errors"
	"fmt"
	"time"

	"mayfly/internal/tomlcheck"
)

// Period is a stretch of calendar time, in UTC on every node.
type Period string

// Periods.
const (
	PerHour  Period = "hour"
	PerDay   Period = "day"
	PerMonth Period = "month"
)

// Start returns when the period that t is in began. An unknown period is a day.
func (p Period) Start(t time.Time) time.Time {
	t = t.UTC()
	switch p {
	case PerHour:
		return t.Truncate(time.Hour)
	case PerMonth:
		return time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, time.UTC)
	case PerDay:
	}
	return time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, time.UTC)
}

// Next returns when the period after the one that t is in begins.
func (p Period) Next(t time.Time) time.Time {
	from := p.Start(t)
	switch p {
	case PerHour:
		return from.Add(time.Hour)
	case PerMonth:
		return from.AddDate(0, 1, 0)
	case PerDay:
	}
	return from.AddDate(0, 0, 1)
}

// Words for Budget.Then.
const (
	ThenWarn = "warn" // say so
	ThenStop = "stop" // pause the function until the next period; its events wait
)

// Budget is what a function may use in a period, on each node by itself. Zero bounds nothing; a zero Budget is none.
type Budget struct {
	Per      Period        `json:"per,omitempty" words:"hour|day|month" doc:"The period, in UTC: hour, day or month."`
	Events   int64         `json:"events,omitempty" min:"1" doc:"Runs, failed ones included."`
	CPU      time.Duration `json:"cpu,omitempty" min:"1ms" doc:"Processor time."`
	BytesOut int64         `json:"bytes_out,omitempty" unit:"bytes" min:"1" doc:"Bytes published and answered."`
	Warn     float64       `json:"warn,omitempty" min:"0.01" max:"1" doc:"Which part of it, once used, is worth a warning; default 0.8."`
	Then     string        `json:"then,omitempty" words:"warn|stop" doc:"When it is used up: warn, the default, or stop until the next period; events wait."`
}

// defaultWarn is which part of a budget is worth a warning.
const defaultWarn = 0.8

// Validate implements tomlcheck.Validator.
func (b *Budget) Validate() map[string]error {
	bounds := b.Events != 0 || b.CPU != 0 || b.BytesOut != 0
	switch {
	case *b == Budget{}:
		return nil
	case b.Per == "":
		return map[string]error{"": &tomlcheck.Issue{Problem: "the budget has no period", Hint: `add per = "day", or "hour" or "month"`}}
	case !bounds:
		return map[string]error{"": &tomlcheck.Issue{Problem: "the budget bounds nothing", Hint: `add events = 10000, cpu = "5m" or bytes_out = "100MiB"`}}
	}
	return nil
}

// complete fills in what a budget that is there leaves out.
func (b Budget) complete() Budget {
	if b.Per == "" {
		return b
	}
	if b.Warn == 0 {
		b.Warn = defaultWarn
	}
	if b.Then == "" {
		b.Then = ThenWarn
	}
	return b
}

// Spent is how much of a budget is gone.
type Spent struct {
	Events   int64
	CPU      time.Duration
	BytesOut int64
}

// Used returns which part of b is used, 1 = all of it, and the bound that is nearest, in words: "873 of 1000 events per day". It is 0
// where there is no budget.
func (b Budget) Used(s Spent) (part float64, words string) {
	take := func(used, bound int64, text string) {
		if bound > 0 && (words == "" || float64(used)/float64(bound) > part) {
			part, words = float64(used)/float64(bound), text+" per "+string(b.Per)
		}
	}
	take(s.Events, b.Events, fmt.Sprintf("%d of %d events", s.Events, b.Events))
	take(int64(s.CPU), int64(b.CPU), fmt.Sprintf("%v of %v of processor time", s.CPU.Round(time.Millisecond), b.CPU))
	take(s.BytesOut, b.BytesOut, fmt.Sprintf("%d of %d bytes out", s.BytesOut, b.BytesOut))
	return part, words
}

// checkTenant says what cannot be a tenant.
func checkTenant(s string) error {
	if s == "" {
		return nil
	}
	if len(s) > 63 || !isSettingName(s) {
		return errors.New("a tenant's name has at most 63 letters, digits, _ and -")
	}
	return nil
}
