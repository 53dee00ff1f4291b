package function

import (
	"net/http"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestParseRoute(t *testing.T) {
	for _, s := range []string{"POST /overheat/{line}", "/a", "GET /", "/{rest...}", "PUT /a/b/", "/a.b-c~d", "DELETE /{a}/{b}"} {
		r, err := ParseRoute(s)
		if err != nil || r.String() != s {
			t.Errorf("ParseRoute(%q) = %v, %v", s, r, err)
		}
	}
	for s, want := range map[string]string{
		"": "start with /", "POST": "start with /", "post /a": "not a method", "GET  /a": "start with /", "GET a": "start with /",
		"/a//b": "empty segment", "/a/../b": "..", "/{a}/{a}": "twice", "/{a...}/b": "last", "/{}": "not a capture", "/{1}": "not a capture",
		"/a{b}": "characters", "/{a}b": "not a capture", "/a?b=c": "characters", "/a b": "characters", "/fn/x": "taken", "GET /results/{id}": "taken", "GET /healthz": "taken", "/openapi.json": "taken", "/fn": "taken", "/{$}": "not a capture",
		"example.org/a": "start with /", "/ü": "characters", "/%41": "characters",
	} {
		if r, err := ParseRoute(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseRoute(%q) = %v, %v; want %q", s, r, err, want)
		}
	}
}

// serveTogether asks the standard library.
func serveTogether(a, b string) (ok bool) {
	defer func() { ok = recover() == nil }()
	mux := http.NewServeMux()
	mux.Handle(a, http.NotFoundHandler())
	mux.Handle(b, http.NotFoundHandler())
	return true
}

func TestConflictsAgainstServeMux(t *testing.T) {
	draw := rapid.Custom(func(t *rapid.T) Route {
		segments := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "{x}"}), 0, 3).Draw(t, "segments")
		for i := range segments {
			if segments[i] == "{x}" {
				segments[i] = "{x" + string(rune('0'+i)) + "}"
			}
		}
		if last := rapid.SampledFrom([]string{"-", "", "{rest...}"}).Draw(t, "last"); last != "-" || len(segments) == 0 {
			segments = append(segments, strings.Trim(last, "-"))
		}
		return Route{rapid.SampledFrom([]string{"", "GET", "HEAD", "POST"}).Draw(t, "method"), "/" + strings.Join(segments, "/")}
	})
	conflicts := 0
	rapid.Check(t, func(t *rapid.T) {
		a, b := draw.Draw(t, "a"), draw.Draw(t, "b")
		if _, err := ParseRoute(a.String()); err != nil {
			t.Fatal(err)
		}
		got := a.Conflicts(b)
		if got != !serveTogether(a.String(), b.String()) || got != b.Conflicts(a) {
			t.Fatalf("%q and %q: conflict %v", a, b, got)
		}
		if got {
			conflicts++
		}
	})
	if conflicts == 0 {
		t.Error("no routes conflicted; the test shows nothing")
	}
}
