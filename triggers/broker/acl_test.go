package broker

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"mayfly/event"
)

func TestCovers(t *testing.T) {
	for _, c := range []struct {
		allowed, asked string
		want           bool
	}{
		{"plant/1", "plant/1", true},
		{"plant/1", "plant/1/secret/x", false}, // what the library's own ledger lets through
		{"plant/1", "plant/+", false},
		{"plant/1", "plant/#", false},
		{"plant/+", "plant/1", true},
		{"plant/+", "plant/+", true},
		{"plant/+", "plant/#", false},
		{"plant/#", "plant/#", true},
		{"plant/#", "plant", true},
		{"plant/#", "plant/+/temp", true},
		{"plant/#", "plants", false},
		{"+/temp", "#", false},
		{"#", "a/+/#", true},
		{"#", "$SYS/broker/uptime", false},
		{"+/broker", "$SYS/broker", false},
		{"$SYS/#", "$SYS/broker/uptime", true},
		{"$SYS/#", "#", false},
		{"a//b", "a/+/b", false},
		{"a/+/b", "a//b", true},
	} {
		if got := covers(c.allowed, c.asked); got != c.want {
			t.Errorf("covers(%q, %q) = %v", c.allowed, c.asked, got)
		}
	}
}

// Nothing a user may not receive gets in through a filter that covers let pass.
func TestCoversIsSound(t *testing.T) {
	level := rapid.SampledFrom([]string{"a", "b", "", "$x", "+", "+"})
	filter := rapid.Custom(func(t *rapid.T) string {
		levels := rapid.SliceOfN(level, 1, 4).Draw(t, "levels")
		if rapid.Bool().Draw(t, "rest") {
			levels = append(levels, "#")
		}
		return strings.Join(levels, "/")
	}).Filter(func(s string) bool { return event.CheckFilter(s) == nil })
	topic := rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "", "$x"}), 1, 5).Draw(t, "levels"), "/")
	}).Filter(func(s string) bool { return s != "" })
	rapid.Check(t, func(t *rapid.T) {
		allowed, asked, on := filter.Draw(t, "allowed"), filter.Draw(t, "asked"), topic.Draw(t, "topic")
		if covers(allowed, asked) && event.MatchFilter(asked, on) && !event.MatchFilter(allowed, on) {
			t.Fatalf("covers(%q, %q), but %q matches only the second", allowed, asked, on)
		}
		if covers(allowed, on) != event.MatchFilter(allowed, on) {
			t.Fatalf("covers(%q, topic %q) = %v", allowed, on, covers(allowed, on))
		}
	})
}
