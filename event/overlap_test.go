package event

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// Two filters overlap exactly when one of the short topics over their own alphabet is matched by both.
func TestOverlapsAgreesWithSearch(t *testing.T) {
	t.Parallel()
	var topics []string
	var grow func(prefix []string)
	grow = func(prefix []string) {
		if len(prefix) > 0 {
			topics = append(topics, strings.Join(prefix, "/"))
		}
		if len(prefix) == 4 {
			return
		}
		for _, level := range []string{"a", "b", "", "$x"} {
			grow(append(slices.Clip(prefix), level))
		}
	}
	grow(nil)
	gen := rapid.Custom(func(t *rapid.T) string {
		levels := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "", "$x", "+"}), 1, 3).Draw(t, "levels")
		if rapid.Bool().Draw(t, "rest") {
			levels = append(levels, "#")
		}
		return strings.Join(levels, "/")
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b := gen.Draw(t, "a"), gen.Draw(t, "b")
		if CheckFilter(a) != nil || CheckFilter(b) != nil {
			return
		}
		want := false
		for _, topic := range topics {
			want = want || topic != "" && MatchFilter(a, topic) && MatchFilter(b, topic)
		}
		if got := Overlaps(a, b); got != want {
			t.Fatalf("Overlaps(%q, %q) = %v, want %v", a, b, got, want)
		}
	})
}
