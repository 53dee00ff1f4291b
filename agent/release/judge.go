package release

import (
	"fmt"
	"time"

	"mayfly/function"
)

// Arm is what one version of a trial did.
type Arm struct {
	Events uint64
	Failed uint64
	P90    time.Duration // nine tenths of the runs took no longer
}

func (a Arm) rate() float64 {
	if a.Events == 0 {
		return 0
	}
	return float64(a.Failed) / float64(a.Events)
}

// Verdict is what is to be said of a version on trial.
type Verdict string

// Verdicts.
const (
	Open  Verdict = "open"  // too few events
	Good  Verdict = "good"  // no worse than the other
	Worse Verdict = "worse" // to be ended at once
)

// What is smaller than these is chance, whatever the factor.
const (
	slackErrors  = 0.01
	slackLatency = time.Millisecond
	leastFailed  = 2
)

// Judge compares the new version with the old one, and says why.
func Judge(r function.CanaryRules, older, newer Arm) (Verdict, string) {
	if newer.Events < uint64(r.MinEvents) {
		return Open, fmt.Sprintf("%d of %d events", newer.Events, r.MinEvents)
	}
	if limit := older.rate()*r.ErrorFactor + slackErrors; newer.Failed >= leastFailed && newer.rate() > limit {
		return Worse, fmt.Sprintf("%.1f %% of %d events failed, of the deployed version's %d it is %.1f %%",
			100*newer.rate(), newer.Events, older.Events, 100*older.rate())
	}
	limit := time.Duration(float64(older.P90)*r.LatencyFactor) + slackLatency
	if older.Events >= uint64(r.MinEvents) && older.P90 > 0 && newer.P90 > limit {
		return Worse, fmt.Sprintf("nine tenths of its runs take up to %v, the deployed version's %v", newer.P90, older.P90)
	}
	return Good, fmt.Sprintf("%d events, %.1f %% failed", newer.Events, 100*newer.rate())
}

// Report is what a node says of a trial to the others, in its own record of the catalog: it is the node's word about itself, so it needs no
// operator's key.
type Report struct {
	Function string    `json:"function"`
	Since    time.Time `json:"since"` // which trial
	Verdict  Verdict   `json:"verdict"`
	Reason   string    `json:"reason,omitempty"`
}

// About says whether r is about that trial.
func (r Report) About(name string, since time.Time) bool {
	return r.Function == name && r.Since.Equal(since)
}

// Decide says what is to be done with a trial that has run for that long, by what all nodes report: end it when one says that it is worse,
// promote it when its time is over and at least one saw enough of it.
func Decide(r function.CanaryRules, ran time.Duration, reports []Report) (Verdict, string) {
	good := false
	for _, report := range reports {
		switch report.Verdict {
		case Worse:
			return Worse, report.Reason
		case Good:
			good = true
		case Open:
		}
	}
	if good && r.For > 0 && ran >= r.For {
		return Good, fmt.Sprintf("it did no worse for %v", r.For)
	}
	return Open, ""
}
