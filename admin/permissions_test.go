package admin

import (
	"fmt"
	"strings"
	"testing"

	"mayfly/function"
)

// may is a manifest with what the lines of [permissions] say.
func may(t *testing.T, lines ...string) *function.Manifest {
	t.Helper()
	var text strings.Builder
	text.WriteString("manifest = 1\nname = \"f\"\nversion = \"1\"\n[module]\npath = \"f.wasm\"\n[[trigger.mqtt]]\ntopic = \"a\"\n")
	var permissions []string
	for _, l := range lines {
		if route, ok := strings.CutPrefix(l, "route "); ok {
			fmt.Fprintf(&text, "[[trigger.http]]\nroute = %q\nauth = \"public\"\n", route)
			continue
		}
		permissions = append(permissions, l)
	}
	m, err := function.ParseManifest("function.toml", []byte(text.String()+"[permissions]\n"+strings.Join(permissions, "\n")))
	if err != nil {
		t.Fatal(err)
	}
	return &m
}

// What one permission covers is not new under another ([O4]).
func TestCoveredIsNotNew(t *testing.T) {
	for _, c := range []struct {
		name      string
		old, next []string
		added     string
		given     string
	}{
		{"nothing", nil, nil, "", ""},
		{"the same", []string{`publish = ["a/b"]`}, []string{`publish = ["a/b"]`}, "", ""},
		{"a narrower topic", []string{`publish = ["a/#"]`}, []string{`publish = ["a/+/c"]`}, "", "publish a/#"},
		{"a wider topic", []string{`publish = ["a/+"]`}, []string{`publish = ["a/#"]`}, "publish a/#", ""},
		{"another topic", []string{`publish = ["a"]`}, []string{`publish = ["a", "b"]`}, "publish b", ""},
		{"a path below", []string{`http = ["https://h.local/*"]`}, []string{`http = ["https://h.local/x/*"]`}, "", "http https://h.local/*"},
		{"another host", []string{`http = ["https://h.local/*"]`}, []string{`http = ["https://h.local.evil/*"]`}, "http https://h.local.evil/*", "http https://h.local/*"},
		{"another scheme", []string{`http = ["https://h.local/*"]`}, []string{`http = ["http://h.local/*"]`}, "http http://h.local/*", "http https://h.local/*"},
		{"a whole path is no beginning", []string{`http = ["https://h.local/x"]`}, []string{`http = ["https://h.local/xy"]`}, "http https://h.local/xy", "http https://h.local/x"},
		{"a secret", nil, []string{`secrets = ["k"]`}, "secret k", ""},
		{"loops", nil, []string{`loop = true`}, "loop what it publishes may come back to it", ""},
		{"a public route", nil, []string{"route POST /x"}, "public POST /x", ""},
		{"no permissions any more", []string{`secrets = ["k"]`, "route POST /x"}, nil, "", "secret k; public POST /x"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var added, given []string
			for _, p := range DiffPermissions(may(t, c.old...), may(t, c.next...)) {
				if p.Added {
					added = append(added, p.String())
				} else {
					given = append(given, p.String())
				}
			}
			if a, g := strings.Join(added, "; "), strings.Join(given, "; "); a != c.added || g != c.given {
				t.Errorf("added %q, given up %q; want %q and %q", a, g, c.added, c.given)
			}
		})
	}
}

func TestCompareNamesEveryValue(t *testing.T) {
	text := func(limits, rest string) *function.Manifest {
		m, err := function.ParseManifest("function.toml", []byte("manifest = 1\nname = \"f\"\nversion = \"1\"\n[module]\npath = \"f.wasm\"\n"+
			"[[trigger.mqtt]]\ntopic = \"a/{b}\"\n[limits]\n"+limits+"\n[permissions]\n"+rest))
		if err != nil {
			t.Fatal(err)
		}
		return &m
	}
	old := text("memory = \"8MiB\"\ntimeout = \"500ms\"", "loop = true\n[config]\nx = 1\ny = 2")
	next := text("memory = \"100KiB\"\npublishes = 0", "publish = [\"a\", \"b\"]\n[config]\nx = 3\n[[trigger.cron]]\nschedule = \"@hourly\"")
	var got []string
	for _, c := range compare(old, next) {
		got = append(got, fmt.Sprintf("%s: %s -> %s", c.Field, c.From, c.To))
	}
	want := `trigger.cron[0].schedule:  -> @hourly
trigger.cron[0].scope:  -> cluster
trigger.cron[0].misfire:  -> once
limits.memory: 8MiB -> 100KiB
limits.timeout: 500ms -> 1s
limits.cpu: 500ms -> 1s
limits.publishes: 64 -> 0
permissions.publish:  -> a, b
config.x: 1 -> 3
permissions.loop: true -> 
config.y: 2 -> `
	if s := strings.Join(got, "\n"); s != want {
		t.Errorf("got\n%s\nwant\n%s", s, want)
	}
	if same := compare(next, next); len(same) > 0 {
		t.Errorf("against itself: %v", same)
	}
	for _, a := range flat(next) {
		if a.Name == "" || strings.Contains(a.Name, "..") || strings.HasSuffix(a.Name, ".") || strings.HasPrefix(a.Value, "{") || strings.HasPrefix(a.Value, "[") {
			t.Errorf("%q = %q is not how a manifest says it", a.Name, a.Value)
		}
	}
}
