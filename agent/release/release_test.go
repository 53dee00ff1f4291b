package release_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"mayfly/agent/release"
	"mayfly/function"
)

func version(n int, failed string) release.Version {
	return release.Version{
		Revision: uint64(n), Deployed: time.Unix(int64(n), 0).UTC(), Module: function.DigestOf([]byte{byte(n)}).String(), Failed: failed,
		Manifest: function.Manifest{Name: "f", Version: fmt.Sprintf("1.%d", n), Source: strings.Repeat("# a manifest of some length\n", 100)},
	}
}

// [R2] Ten versions are kept, newest first, each once, and come back from the catalog as they were.
func TestHistory(t *testing.T) {
	var h release.History
	for n := range 15 {
		h = h.With(version(n, ""))
	}
	h = h.With(version(12, "")) // gone back to, and left again
	if len(h) != release.Keep || h[0].Revision != 12 || h[1].Revision != 14 || h[9].Revision != 5 {
		t.Errorf("kept are %v", revisions(h))
	}
	body, err := h.Encode()
	if err != nil {
		t.Fatal(err)
	}
	again, err := release.Decode(body)
	if err != nil || fmt.Sprint(again) != fmt.Sprint(h) {
		t.Errorf("%v came back as %v, %v", revisions(h), revisions(again), err)
	}
	if len(body) > 2500 {
		t.Errorf("ten versions take %d bytes", len(body))
	}
}

func revisions(h release.History) (all []uint64) {
	for _, v := range h {
		all = append(all, v.Revision)
	}
	return all
}

// A history of manifests that cannot be compressed stays within its bound.
func TestHistoryIsBounded(t *testing.T) {
	var h release.History
	for n := range 10 {
		v := version(n, "")
		noise := make([]byte, 20<<10)
		for i := range noise {
			noise[i] = ' ' + byte(rand.IntN(90))
		}
		v.Manifest.Source = string(noise)
		h = h.With(v)
	}
	body, err := h.Encode()
	if err != nil || len(body) > release.MaxBytes {
		t.Fatalf("it takes %d bytes, %v", len(body), err)
	}
	if kept, err := release.Decode(body); err != nil || len(kept) == 0 || kept[0].Revision != 9 {
		t.Errorf("kept are %v, %v", revisions(kept), err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	good, err := release.History{version(1, "")}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for name, body := range map[string][]byte{"nothing": nil, "text": []byte("oops"), "cut": good[:len(good)/2]} {
		if h, err := release.Decode(body); err == nil {
			t.Errorf("%s is %v", name, h)
		}
	}
}

func TestFind(t *testing.T) {
	h := release.History{version(5, "its canary failed"), version(4, ""), version(3, "")}
	for word, want := range map[string]uint64{"": 3, "5": 5, "1.4": 4, h[2].Module: 3, h[2].Module[7:15]: 3, "9": 0, "sha256:": 0, "1.": 0} {
		v, err := h.Find(word, version(4, ""))
		if v.Revision != want || (err != nil) != (want == 0) {
			t.Errorf("%q is revision %d, %v; want %d", word, v.Revision, err, want)
		}
	}
	if _, err := (release.History{version(5, "bad"), version(4, "")}).Find("", version(4, "")); err == nil {
		t.Error("it goes back to what failed, or nowhere")
	}
}

func TestJudge(t *testing.T) {
	r := function.DefaultCanary()
	ms := time.Millisecond
	for _, c := range []struct {
		name         string
		older, newer release.Arm
		want         release.Verdict
	}{
		{"nothing yet", release.Arm{}, release.Arm{}, release.Open},
		{"too few", release.Arm{Events: 1000}, release.Arm{Events: 49, Failed: 49}, release.Open},
		{"all well", release.Arm{Events: 1000, P90: 5 * ms}, release.Arm{Events: 50, P90: 5 * ms}, release.Good},
		{"all fail", release.Arm{Events: 1000}, release.Arm{Events: 50, Failed: 50}, release.Worse},
		{"one failure is chance", release.Arm{Events: 1000}, release.Arm{Events: 50, Failed: 1}, release.Good},
		{"both fail alike", release.Arm{Events: 1000, Failed: 300}, release.Arm{Events: 50, Failed: 18}, release.Good},
		{"twice the failures and more", release.Arm{Events: 1000, Failed: 100}, release.Arm{Events: 100, Failed: 22}, release.Worse},
		{"slower", release.Arm{Events: 1000, P90: 5 * ms}, release.Arm{Events: 50, P90: 12 * ms}, release.Worse},
		{"slower by microseconds", release.Arm{Events: 1000, P90: ms / 100}, release.Arm{Events: 50, P90: ms / 10}, release.Good},
		{"nothing to compare the time with", release.Arm{}, release.Arm{Events: 50, P90: time.Second}, release.Good},
		{"fails, with nothing beside it", release.Arm{}, release.Arm{Events: 50, Failed: 5}, release.Worse},
	} {
		if got, why := release.Judge(r, c.older, c.newer); got != c.want || why == "" {
			t.Errorf("%s: %s (%s), want %s", c.name, got, why, c.want)
		}
	}
}

// [R4] More failures or slower runs never make a verdict better.
func TestJudgeIsMonotonous(t *testing.T) {
	rank := map[release.Verdict]int{release.Open: 0, release.Good: 0, release.Worse: 1}
	rapid.Check(t, func(t *rapid.T) {
		arm := func(name string) release.Arm {
			events := rapid.Uint64Range(0, 1000).Draw(t, name)
			return release.Arm{Events: events, Failed: rapid.Uint64Range(0, events).Draw(t, name+" failed"), P90: time.Duration(rapid.IntRange(0, 1e9).Draw(t, name+" p90"))}
		}
		older, newer := arm("old"), arm("new")
		before, _ := release.Judge(function.DefaultCanary(), older, newer)
		newer.Failed = min(newer.Events, newer.Failed+rapid.Uint64Range(0, 100).Draw(t, "more failed"))
		newer.P90 += time.Duration(rapid.IntRange(0, 1e9).Draw(t, "slower"))
		if after, _ := release.Judge(function.DefaultCanary(), older, newer); rank[after] < rank[before] {
			t.Fatalf("%s became %s", before, after)
		}
	})
}

func TestDecide(t *testing.T) {
	r := function.CanaryRules{For: time.Minute}
	say := func(all ...release.Verdict) (out []release.Report) {
		for _, v := range all {
			out = append(out, release.Report{Verdict: v, Reason: string(v)})
		}
		return out
	}
	for _, c := range []struct {
		ran     time.Duration
		reports []release.Report
		want    release.Verdict
	}{
		{0, nil, release.Open},
		{time.Hour, nil, release.Open},
		{time.Hour, say(release.Open, release.Open), release.Open},
		{30 * time.Second, say(release.Good), release.Open},
		{time.Minute, say(release.Open, release.Good), release.Good},
		{0, say(release.Good, release.Worse), release.Worse},
		{time.Hour, say(release.Good, release.Worse), release.Worse},
	} {
		if got, _ := release.Decide(r, c.ran, c.reports); got != c.want {
			t.Errorf("after %v %v: %s, want %s", c.ran, c.reports, got, c.want)
		}
	}
	if got, _ := release.Decide(function.CanaryRules{}, time.Hour, say(release.Good)); got != release.Open {
		t.Errorf("without a time it ends by itself: %s", got)
	}
}
