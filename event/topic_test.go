package event

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// naiveMatch follows the wording of MQTT 3.1.1 section 4.7 on whole lists of levels.
func naiveMatch(filter, topic string) bool {
	f, t := strings.Split(filter, "/"), strings.Split(topic, "/")
	if strings.HasPrefix(topic, "$") && (f[0] == "+" || f[0] == "#") {
		return false
	}
	for i, level := range f {
		if level == "#" {
			return len(t) >= i // the parent level, or anything below
		}
		if i >= len(t) || level != "+" && level != t[i] {
			return false
		}
	}
	return len(f) == len(t)
}

var (
	names     = []string{"a", "b", "", "$x"}
	topicGen  = rapid.Map(rapid.SliceOfN(rapid.SampledFrom(names), 1, 5), joinLevels)
	filterGen = rapid.Custom(func(t *rapid.T) string {
		levels := rapid.SliceOfN(rapid.SampledFrom(append([]string{"+", "+"}, names...)), 0, 4).Draw(t, "levels")
		if len(levels) == 0 || rapid.IntRange(0, 2).Draw(t, "tail") == 0 {
			levels = append(levels, "#")
		}
		return joinLevels(levels)
	})
)

func joinLevels(levels []string) string {
	if s := strings.Join(levels, "/"); s != "" {
		return s
	}
	return "a"
}

func TestMatchFilterExamplesOfTheStandard(t *testing.T) {
	for _, c := range []struct {
		filter, topic string
		want          bool
	}{
		{"sport/tennis/player1/#", "sport/tennis/player1", true},
		{"sport/tennis/player1/#", "sport/tennis/player1/ranking", true},
		{"sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true},
		{"sport/#", "sport", true},
		{"#", "sport", true},
		{"sport/tennis/+", "sport/tennis/player1", true},
		{"sport/tennis/+", "sport/tennis/player1/ranking", false},
		{"sport/+", "sport", false},
		{"sport/+", "sport/", true},
		{"+/+", "/finance", true},
		{"/+", "/finance", true},
		{"+", "/finance", false},
		{"#", "$SYS/x", false},
		{"+/monitor/Clients", "$SYS/monitor/Clients", false},
		{"$SYS/#", "$SYS/monitor", true},
		{"$SYS/monitor/+", "$SYS/monitor/Clients", true},
		{"ACCOUNTS", "Accounts", false},
		{"a/+/#", "a", false},
		{"a/$x", "a/$x", true},
		{"a/+", "a/$x", true},
	} {
		if got := MatchFilter(c.filter, c.topic); got != c.want {
			t.Errorf("MatchFilter(%q, %q) = %v", c.filter, c.topic, got)
		}
		if naiveMatch(c.filter, c.topic) != c.want {
			t.Errorf("the naive matcher is wrong on %q, %q", c.filter, c.topic)
		}
	}
}

func TestCheck(t *testing.T) {
	for _, s := range []string{"+", "#", "a/#", "+/tennis/#", "/", "a//b", "$SYS/#", "sport/+/player1", " "} {
		if err := CheckFilter(s); err != nil {
			t.Errorf("CheckFilter(%q): %v", s, err)
		}
	}
	for _, s := range []string{"", "sport/tennis#", "sport/tennis/#/ranking", "sport+", "a/+b", "##", "a\x00", "\xff", strings.Repeat("a", MaxTopic+1)} {
		if err := CheckFilter(s); !errors.Is(err, ErrTopic) {
			t.Errorf("CheckFilter(%.20q) = %v", s, err)
		}
	}
	for _, s := range []string{"", "a/+", "#", "a\x00b", "\xc3\x28"} {
		if err := CheckTopic(s); !errors.Is(err, ErrTopic) {
			t.Errorf("CheckTopic(%q) = %v", s, err)
		}
	}
	if err := CheckTopic("/a b/ü"); err != nil {
		t.Error(err)
	}
}

func TestMatchFilterAgainstNaive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		filter, topic := filterGen.Draw(t, "filter"), topicGen.Draw(t, "topic")
		if err := errors.Join(CheckFilter(filter), CheckTopic(topic)); err != nil {
			t.Fatal(err)
		}
		if got, want := MatchFilter(filter, topic), naiveMatch(filter, topic); got != want {
			t.Fatalf("MatchFilter(%q, %q) = %v, want %v", filter, topic, got, want)
		}
	})
}

// allTopics is every topic of up to five levels over the names that filterGen uses and one it does not: enough to tell any
// two such filters apart.
func allTopics() []string {
	var all []string
	level := []string{""}
	for depth := range 5 {
		var next []string
		for _, prefix := range level {
			for _, name := range []string{"a", "b", "", "$x", "z"} {
				s := prefix + "/" + name
				if depth == 0 {
					s = name
				}
				next = append(next, s)
				if s != "" {
					all = append(all, s)
				}
			}
		}
		level = next
	}
	return all
}

func TestCoversIsExact(t *testing.T) {
	topics := allTopics()
	covered := 0
	rapid.Check(t, func(t *rapid.T) {
		filter, other := filterGen.Draw(t, "filter"), filterGen.Draw(t, "other")
		want, witness := true, ""
		for _, topic := range topics {
			if naiveMatch(other, topic) && !naiveMatch(filter, topic) {
				want, witness = false, topic
				break
			}
		}
		if got := Covers(filter, other); got != want {
			t.Fatalf("Covers(%q, %q) = %v, want %v (%q)", filter, other, got, want, witness)
		}
		if want {
			covered++
		}
		if !Covers(filter, filter) {
			t.Fatalf("%q does not cover itself", filter)
		}
	})
	if covered == 0 {
		t.Error("no pair of filters covered the other; the test shows nothing")
	}
}

// All pairs of all filters of up to three levels, against all topics that could tell them apart.
func TestCoversAndOverlapsExhaustively(t *testing.T) {
	var filters []string
	levels := []string{"a", "", "$x", "+"}
	for _, x := range levels {
		filters = append(filters, x, x+"/#")
		for _, y := range levels {
			filters = append(filters, x+"/"+y, x+"/"+y+"/#")
			for _, z := range levels {
				filters = append(filters, x+"/"+y+"/"+z, x+"/"+y+"/"+z+"/#")
			}
		}
	}
	filters = slices.DeleteFunc(append(filters, "#"), func(s string) bool { return s == "" })
	topics := allTopics()
	matched := make([][]bool, len(filters))
	for i, f := range filters {
		for _, topic := range topics {
			matched[i] = append(matched[i], naiveMatch(f, topic))
		}
	}
	for i, a := range filters {
		for j, b := range filters {
			covers, overlaps := true, false
			for k, yes := range matched[j] {
				covers = covers && (!yes || matched[i][k])
				overlaps = overlaps || yes && matched[i][k]
			}
			if Covers(a, b) != covers || Overlaps(a, b) != overlaps {
				t.Errorf("%q and %q: covers %v, want %v; overlaps %v, want %v", a, b, Covers(a, b), covers, Overlaps(a, b), overlaps)
			}
		}
	}
}

func TestCoversExamples(t *testing.T) {
	for _, c := range []struct {
		filter, other string
		want          bool
	}{
		{"plant/1", "plant/1/secret/x", false},
		{"plant/#", "plant/+/alarm", true},
		{"plant/+/alarm", "plant/7/alarm", true},
		{"plant/7/alarm", "plant/+/alarm", false},
		{"+/#", "#", true},
		{"a/+/#", "a/#", false},
		{"#", "$SYS/#", false},
		{"#", "+/x", true},
		{"a/#", "a", true},
	} {
		if got := Covers(c.filter, c.other); got != c.want {
			t.Errorf("Covers(%q, %q) = %v", c.filter, c.other, got)
		}
	}
}

func TestIndexAgainstScan(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		filters := rapid.SliceOfN(filterGen, 0, 40).Draw(t, "filters")
		entries := make([]Entry[int], len(filters))
		for i, f := range filters {
			entries[i] = Entry[int]{f, i}
		}
		index := NewIndex(entries)
		for range 5 {
			topic := topicGen.Draw(t, "topic")
			want := []int{-1}
			for i, f := range filters {
				if naiveMatch(f, topic) {
					want = append(want, i)
				}
			}
			got := index.Match(topic, []int{-1})
			again := index.Match(topic, nil)
			if !slices.Equal(got[1:], again) {
				t.Fatalf("two orders for %q: %v and %v", topic, got, again)
			}
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Fatalf("Match(%q) = %v, want %v of %q", topic, got, want, filters)
			}
		}
	})
}

func TestIndexEmpty(t *testing.T) {
	var none *Index[int]
	if got := none.Match("a", nil); got != nil {
		t.Error(got)
	}
	if got := NewIndex([]Entry[int]{{"", 1}}).Match("a", nil); got != nil {
		t.Error(got)
	}
}

func TestPattern(t *testing.T) {
	p, err := ParsePattern("plant/{line}/+/{rest...}")
	if err != nil {
		t.Fatal(err)
	}
	if p.Filter() != "plant/+/+/#" || p.String() != "plant/{line}/+/{rest...}" || !slices.Equal(p.Names(), []string{"line", "rest"}) {
		t.Errorf("%q %q %q", p.Filter(), p.String(), p.Names())
	}
	for _, c := range []struct{ topic, line, rest string }{
		{"plant/7/temp", "7", ""},
		{"plant/7/temp/", "7", ""},
		{"plant//temp/a/b", "", "a/b"},
	} {
		line, ok := p.Capture("line", c.topic)
		rest, ok2 := p.Capture("rest", c.topic)
		if !p.Match(c.topic) || line != c.line || rest != c.rest || !ok || !ok2 {
			t.Errorf("%q: %q %v, %q %v", c.topic, line, ok, rest, ok2)
		}
	}
	if _, ok := p.Capture("nobody", "plant/7/temp"); ok {
		t.Error("a capture that does not exist was found")
	}
	for _, bad := range []string{"", "a/{}", "a/{x}y", "a/x{y}", "{a}/{a}", "{r...}/x", "{1a}", "a/{b", "a/b}", "{a b}", "a#", "#/{x}", "{...}"} {
		if _, err := ParsePattern(bad); !errors.Is(err, ErrTopic) {
			t.Errorf("ParsePattern(%q) = %v", bad, err)
		}
	}
	if (Pattern{}).Match("a") {
		t.Error("the zero Pattern matches")
	}
}

// A pattern's captures, put back where they were, give the topic again.
func TestPatternCapturesRebuildTheTopic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		filter, topic := filterGen.Draw(t, "filter"), topicGen.Draw(t, "topic")
		levels := strings.Split(filter, "/")
		for i, level := range levels {
			switch level {
			case "+":
				levels[i] = fmt.Sprintf("{n%d}", i)
			case "#":
				levels[i] = "{rest...}"
			}
		}
		p, err := ParsePattern(strings.Join(levels, "/"))
		if err != nil {
			t.Fatal(err)
		}
		if p.Filter() != filter || p.Match(topic) != naiveMatch(filter, topic) {
			t.Fatalf("%v: filter %q, match %v", p, p.Filter(), p.Match(topic))
		}
		text, _ := p.MarshalText()
		var back Pattern
		if err := back.UnmarshalText(text); err != nil || !reflect.DeepEqual(back, p) {
			t.Fatalf("%v: %v", back, err)
		}
		if !p.Match(topic) {
			return
		}
		for i, level := range levels {
			if name, ok := strings.CutPrefix(level, "{"); ok {
				levels[i], ok = p.Capture(strings.TrimSuffix(strings.TrimSuffix(name, "}"), "..."), topic)
				if !ok {
					t.Fatalf("%v does not capture %s of %q", p, level, topic)
				}
			}
		}
		rebuilt := strings.Join(levels, "/")
		if rebuilt != topic && rebuilt != topic+"/" { // {rest...} may have matched the parent level
			t.Fatalf("%v of %q gives %q", p, topic, rebuilt)
		}
	})
}

func FuzzCheckFilter(f *testing.F) {
	for _, s := range []string{"a/#", "+", "a/+b", "$x/#", "\x00", "\xff", "//"} {
		f.Add(s, "a/b")
	}
	f.Fuzz(func(t *testing.T, filter, topic string) {
		if CheckFilter(filter) != nil || CheckTopic(topic) != nil {
			return
		}
		want := naiveMatch(filter, topic)
		if MatchFilter(filter, topic) != want || Covers(filter, topic) != want {
			t.Errorf("%q, %q: match %v, covers %v, want %v", filter, topic, MatchFilter(filter, topic), Covers(filter, topic), want)
		}
		if found := len(NewIndex([]Entry[int]{{filter, 1}}).Match(topic, nil)) == 1; found != want {
			t.Errorf("%q, %q: index %v, want %v", filter, topic, found, want)
		}
	})
}

func FuzzParsePattern(f *testing.F) {
	f.Add("plant/{line}/{rest...}", "plant/7/a/b")
	f.Add("{a}/+/#", "$SYS/x")
	f.Fuzz(func(t *testing.T, text, topic string) {
		p, err := ParsePattern(text)
		if err != nil {
			return
		}
		if err := CheckFilter(p.Filter()); err != nil {
			t.Errorf("%q gives a filter that is none: %v", text, err)
		}
		if CheckTopic(topic) != nil {
			return
		}
		for _, name := range p.Names() {
			if v, ok := p.Capture(name, topic); p.Match(topic) && (!ok || !strings.Contains(topic, v)) {
				t.Errorf("%q: {%s} of %q is %q, %v", text, name, topic, v, ok)
			}
		}
	})
}

func TestNoAllocations(t *testing.T) {
	p, err := ParsePattern("plant/{line}/{rest...}")
	if err != nil {
		t.Fatal(err)
	}
	index, topics := thousandFilters()
	into := make([]int, 0, 1000)
	n := testing.AllocsPerRun(100, func() {
		if !p.Match("plant/7/temp/x") || MatchFilter("a/+", "a") || !Covers("plant/#", "plant/+/x") {
			t.Error("wrong answer")
		}
		_, _ = p.Capture("rest", "plant/7/temp/x")
		into = index.Match(topics[0], into[:0])
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func thousandFilters() (*Index[int], []string) {
	var entries []Entry[int]
	var topics []string
	for i := range 1000 {
		line, machine := i%40, i/40
		topics = append(topics, fmt.Sprintf("plant/%d/machine/%d/temp", line, machine))
		filter := topics[i]
		switch i % 10 {
		case 0:
			filter = fmt.Sprintf("plant/+/machine/%d/temp", machine)
		case 1:
			filter = fmt.Sprintf("plant/%d/#", line)
		}
		entries = append(entries, Entry[int]{filter, i})
	}
	return NewIndex(entries), topics
}

func BenchmarkIndexMatch1000(b *testing.B) {
	index, topics := thousandFilters()
	into := make([]int, 0, 1000)
	found := 0
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		into = index.Match(topics[i%len(topics)], into[:0])
		found += len(into)
	}
	b.ReportMetric(float64(found)/float64(b.N), "found/op")
}

func BenchmarkMatchFilter(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if !MatchFilter("plant/+/machine/+/temp", "plant/17/machine/3/temp") {
			b.Fatal("no match")
		}
	}
}
