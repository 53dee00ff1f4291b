package nearest

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestTo(t *testing.T) {
	words := []string{"status", "deploy", "fn", "logs", "Memory", "timeout", "time"}
	for in, want := range map[string]string{
		"stauts": "status", "statsu": "status", "STATUS": "status", "depoy": "deploy", "dep": "deploy", "fm": "fn", "log": "logs",
		"memroy": "Memory", "memory": "Memory", "timout": "timeout", "tim": "timeout", // "time" is as near: the first
		"xyz": "", "": "", "statistics": "", "status": "", "timeout": "",
	} {
		if got := To(in, words); got != want {
			t.Errorf("To(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{
		{"", "", 0},
		{"", "abc", 3},
		{"abc", "", 3},
		{"abc", "abd", 1},
		{"abc", "acb", 1},
		{"kitten", "sitting", 3},
		{"ca", "abc", 3},
		{strings.Repeat("a", 65), "b", 65},
		{strings.Repeat("a", 1000), strings.Repeat("a", 1000), 0},
		{strings.Repeat("a", 64), strings.Repeat("a", 63), 1},
	} {
		if got := Distance(c.a, c.b); got != c.want {
			t.Errorf("Distance(%q, %q) = %d, want %d", c.a, c.b, got, c.want)
		}
	}
}

// What holds of any distance of this kind, against the definition written down as recursion.
func TestDistanceIsWhatItIsDefinedAs(t *testing.T) {
	word := rapid.StringMatching(`[abc]{0,6}`)
	rapid.Check(t, func(t *rapid.T) {
		a, b := word.Draw(t, "a"), word.Draw(t, "b")
		got := Distance(a, b)
		if want := defined(a, b); got != want {
			t.Fatalf("Distance(%q, %q) = %d, want %d", a, b, got, want)
		}
		if back := Distance(b, a); back != got {
			t.Fatalf("%d there, %d back", got, back)
		}
		if (got == 0) != (a == b) || got > max(len(a), len(b)) {
			t.Fatalf("Distance(%q, %q) = %d", a, b, got)
		}
	})
}

func defined(a, b string) int {
	if a == "" || b == "" {
		return len(a) + len(b)
	}
	change := 1
	if a[len(a)-1] == b[len(b)-1] {
		change = 0
	}
	d := min(defined(a[:len(a)-1], b)+1, defined(a, b[:len(b)-1])+1, defined(a[:len(a)-1], b[:len(b)-1])+change)
	if n, m := len(a), len(b); n > 1 && m > 1 && a[n-1] == b[m-2] && a[n-2] == b[m-1] {
		d = min(d, defined(a[:n-2], b[:m-2])+1)
	}
	return d
}
