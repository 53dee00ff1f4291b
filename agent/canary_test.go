package agent

import (
	"testing"
	"time"

	"mayfly/agent/release"
	"mayfly/function"
)

// A call of another node is of the version it names, and of the deployed one when it names none that is on trial [R3].
func TestVersionThatIsMeant(t *testing.T) {
	trial := &function.Function{Version: 7 | 1<<63, Trial: true}
	both := &function.Function{Version: 7, Canary: &function.Canary{Function: trial}}
	alone := &function.Function{Version: 7}
	for _, c := range []struct {
		f       *function.Function
		version uint64
		want    *function.Function
	}{{both, 7 | 1<<63, trial}, {both, 7, both}, {both, 8, both}, {alone, 7 | 1<<63, alone}, {nil, 7, nil}} {
		if got := meant(c.f, c.version); got != c.want {
			t.Errorf("version %d is %+v, want %+v", c.version, got, c.want)
		}
	}
}

// What a node says changes with its verdicts, not with every event, and only verdicts are told: a record of the catalog is not written for
// each second of a trial.
func TestReportsChangeWithVerdicts(t *testing.T) {
	var c canaries
	since := time.Unix(1, 0)
	say := func(v release.Verdict, reason string) bool {
		return c.say([]release.Report{{Function: "f", Since: since, Verdict: v, Reason: reason}})
	}
	if !say(release.Open, "1 of 50 events") || say(release.Open, "2 of 50 events") || len(c.told()) != 0 {
		t.Errorf("too few events are told: %v", c.told())
	}
	if !say(release.Worse, "slow") || say(release.Worse, "slower") || len(c.told()) != 1 {
		t.Errorf("told are %v", c.told())
	}
	if r, ok := c.of("f", since); !ok || r.Verdict != release.Worse {
		t.Error("its own verdict is gone")
	}
	if _, ok := c.of("f", since.Add(1)); ok {
		t.Error("the verdict is about another trial")
	}
	if !c.say(nil) || len(c.told()) != 0 {
		t.Error("a trial that is over is told")
	}
}
