package function

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// [R3] The share is what was asked for, whatever the hashes look like, and grows with the percentage: a key that met the new version at ten
// percent meets it at twenty.
func TestCanaryShare(t *testing.T) {
	for _, stride := range []uint64{1, 10_000, 1 << 40, math.MaxUint64 / 10_000} {
		for _, percent := range []int{1, 10, 50, 99, 100} {
			c := Canary{Rules: CanaryRules{Percent: percent}}
			n := 0
			for i := range uint64(10_000) {
				if c.Takes(i * stride) {
					n++
				}
			}
			if want := percent * 100; n < want-200 || n > want+200 {
				t.Errorf("%d %% of keys %d apart is %d of 10,000", percent, stride, n)
			}
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		hash := rapid.Uint64().Draw(t, "hash")
		a, b := rapid.IntRange(1, 100).Draw(t, "less"), rapid.IntRange(1, 100).Draw(t, "more")
		less, more := Canary{Rules: CanaryRules{Percent: min(a, b)}}, Canary{Rules: CanaryRules{Percent: max(a, b)}}
		if less.Takes(hash) && !more.Takes(hash) {
			t.Fatalf("a key left the new version when its share grew")
		}
	})
}

func TestCanaryRules(t *testing.T) {
	if err := DefaultCanary().Check(); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*CanaryRules){
		"nothing": func(r *CanaryRules) { *r = CanaryRules{} }, "too much": func(r *CanaryRules) { r.Percent = 101 }, "backwards": func(r *CanaryRules) { r.For = -1 },
		"for ever": func(r *CanaryRules) { r.For = 31 * 24 * time.Hour }, "no events": func(r *CanaryRules) { r.MinEvents = 0 },
		"better": func(r *CanaryRules) { r.ErrorFactor = 0.9 }, "no number": func(r *CanaryRules) { r.LatencyFactor = math.NaN() },
	} {
		r := DefaultCanary()
		change(&r)
		if r.Check() == nil {
			t.Errorf("%s: %+v is accepted", name, r)
		}
	}
}

func TestComparable(t *testing.T) {
	parse := func(more string) *Manifest {
		m, err := ParseManifest("f", []byte("manifest = 1\nname = \"a\"\n[module]\npath = \"a.wasm\"\n"+more))
		if err != nil {
			t.Fatal(err)
		}
		return &m
	}
	const trigger = "[[trigger.mqtt]]\ntopic = \"in/{x}\"\n"
	old := parse(trigger)
	if err := Comparable(old, parse(trigger+"[limits]\ntimeout = \"2s\"\n[config]\na = 1\n")); err != nil {
		t.Error(err)
	}
	for _, more := range []string{"", trigger + "order = \"none\"\n", trigger + "[state]\nscope = \"node\"\n", trigger + "[placement]\nrequire = [\"label:x\"]\n", trigger + "[[trigger.cron]]\nschedule = \"@hourly\"\n"} {
		if Comparable(old, parse(more)) == nil {
			t.Errorf("comparable: %q", more)
		}
	}
}
