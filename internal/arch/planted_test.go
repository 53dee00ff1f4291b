package arch

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Every rule finds what was planted for it, and nothing beside it.
func TestPlantedFaultsAreFound(t *testing.T) {
	long := "package a\n" + strings.Repeat("\n", 400)
	body := func(lines int) string {
		return "package a\n\nfunc f() {\n" + strings.Repeat("\t_ = 1\n", lines) + "}\n"
	}
	for name, c := range map[string]struct {
		file, text string
		want       string // part of the only finding; "" = none
	}{
		"a file at the budget":            {"a/x.go", long[:len(long)-1], ""},
		"a file over the budget":          {"a/x.go", long, "401 lines"},
		"a test over 400 lines":           {"a/x_test.go", long, ""},
		"a file over the hard limit":      {"a/x_test.go", long + long[9:], "No file has more than 600"},
		"a function at the budget":        {"a/x.go", body(60), ""},
		"a function over the budget":      {"a/x.go", body(61), "func f has 61 lines"},
		"a test over 60 lines":            {"a/x_test.go", body(61), ""},
		"six parameters":                  {"a/x.go", "package a\n\nfunc f(a, b, c int, d, e, f string) {}\n", "6 parameters"},
		"six methods":                     {"a/x.go", "package a\n\ntype i interface{ a(); b(); c(); d(); e(); f() }\n", "6 methods"},
		"a constraint":                    {"a/x.go", "package a\n\ntype i interface{ ~int | ~int8 | ~int16 | ~int32 | ~int64 | ~uint | ~uint8 }\n", ""},
		"init":                            {"a/x.go", "package a\n\nfunc init() {}\n", "No init"},
		"a method called init":            {"a/x.go", "package a\n\ntype s int\n\nfunc (s) init() {}\n", ""},
		"no package comment":              {"internal/b/x.go", "package b\n", "Every package says"},
		"a test that sleeps":              {"a/x_test.go", "package a\n\nimport \"time\"\n\nfunc f() { time.Sleep(1) }\n", "time.Sleep"},
		"a test that sleeps in a bubble":  {"a/x_test.go", "package a\n\nimport (\n\t_ \"testing/synctest\"\n\t\"time\"\n)\n\nfunc f() { time.Sleep(1) }\n", ""},
		"a bare suppression":              {"a/x.go", "package a\n\nvar _ = 1 //nolint\n", "//nolint"},
		"a suppression without reason":    {"a/x.go", "package a\n\nvar _ = 1 //nolint:revive\n", "//nolint"},
		"a suppression":                   {"a/x.go", "package a\n\nvar _ = 1 //nolint:revive // it is generated\n", ""},
		"something for later":             {"a/x.go", "package a\n\n// TO" + "DO: this\n", "Nothing is left for later"},
		"somebody's machine":              {"a/x.md", "see /ro" + "ot/notes\n", "no paths of somebody's machine"},
		"the old log":                     {"a/x.go", "package a\n\nimport _ \"log\"\n", "imports log"},
		"a promise nobody made":           {"a/x.go", "package a\n\n// It keeps [D" + "7].\n", "cites D7"},
		"a promise that was made":         {"a/x.go", "package a\n\n// It keeps [D1], as promise D1 says.\n", ""},
		"a test that does not exist":      {"docs/x.md", "see `TestNothing`\n", "names TestNothing"},
		"a test that exists":              {"docs/x.md", "see `TestLimit`\n", ""},
		"an edge upwards":                 {"a/x.go", "package a\n\nimport _ \"planted/top\"\n", "imports top"},
		"an edge downwards":               {"top/x.go", "package top\n\nimport _ \"planted/a\"\n", ""},
		"test support in the product":     {"a/x.go", "package a\n\nimport _ \"planted/toptest\"\n", "imports toptest"},
		"test support in a test":          {"a/x_test.go", "package a\n\nimport _ \"planted/toptest\"\n", ""},
		"a dependency without a row":      {"a/x.go", "package a\n\nimport _ \"example.org/x/y\"\n", "A dependency has a row"},
		"a dependency in the wrong place": {"a/x.go", "package a\n\nimport _ \"example.org/db/v4/z\"\n", "is imported by top alone"},
		"a dependency in its place":       {"top/x.go", "package top\n\nimport _ \"example.org/db/v4\"\n", ""},
		"a dependency in a test":          {"a/x_test.go", "package a\n\nimport _ \"example.org/db/v4\"\n", ""},
		"cgo":                             {"a/x.go", "package a\n\nimport \"C\"\n", "C is called in one place"},
		"a package without a row":         {"stray/x.go", "// Package stray is new.\npackage stray\n", "a package without a row"},
		"a package that has no name":      {"internal/util/x.go", "// Package util is a drawer.\npackage util\n", "the name says nothing"},
		"mechanics":                       {"internal/backoff/x.go", "// Package backoff waits.\npackage backoff\n", ""},
		"mechanics that know too much":    {"internal/backoff/x.go", "// Package backoff waits.\npackage backoff\n\nimport _ \"planted/a\"\n", "imports a"},
		"an error":                        {"a/x.go", "package a\n\nimport \"errors\"\n\nvar errGone = errors.New(\"gone\")\n", ""},
		"a table":                         {"a/x.go", "package a\n\nvar table = map[string]int{\"a\": 1}\n\nfunc f() int { return table[\"a\"] }\n", ""},
		"a table looked at by address":    {"a/x.go", "package a\n\nvar table = [...]int{1}\n\nfunc f() *int { return &table[0] }\n", ""},
		"a table that is written":         {"a/x.go", "package a\n\nvar table = map[string]int{}\n\nfunc f() { table[\"a\"]++ }\n", "var table is assigned to"},
		"a table that a test writes":      {"a/x_test.go", "package a\n\nfunc f() { limit = 2 }\n", "var limit is assigned to"},
		"a table that is deleted from":    {"a/x.go", "package a\n\nvar table = map[string]int{}\n\nfunc f() { delete(table, \"a\") }\n", "changed by delete"},
		"a local of the same name":        {"a/x.go", "package a\n\nfunc f() { limit := 1; limit = 2; _ = limit }\n", ""},
		"a counter":                       {"a/x.go", "package a\n\nvar n int\n\nfunc f() { n++ }\n", "var n is assigned to"},
		"a variable somebody must set":    {"a/x.go", "package a\n\nvar n int\n", "has no value"},
		"a lock":                          {"a/x.go", "package a\n\nimport \"sync\"\n\nvar mu = sync.Mutex{}\n", "holds sync.Mutex"},
		"a value computed once":           {"a/x.go", "package a\n\nimport \"sync\"\n\nvar v = sync.OnceValue(func() int { return 1 })\n", "holds sync.OnceValue"},
		"a channel":                       {"a/x.go", "package a\n\nvar c = make(chan int)\n", "holds a channel"},
		"a method that may change":        {"a/x.go", "package a\n\ntype s struct{ n int }\n\nfunc (x *s) inc() { x.n++ }\n\nvar v = s{}\n\nfunc f() { v.inc() }\n", "may change it"},
		"an assertion that types fit":     {"a/x.go", "package a\n\nvar _ interface{ m() } = (*s)(nil)\n\ntype s struct{}\n\nfunc (*s) m() {}\n", ""},
		"an address":                      {"a/x.go", "package a\n\nvar v = 1\n\nfunc f() *int { return &v }\n", "address taken"},
	} {
		t.Run(name, func(t *testing.T) {
			found := check(t, map[string]string{c.file: c.text})
			switch {
			case c.want == "" && len(found) > 0:
				t.Errorf("found %v, want nothing", found)
			case c.want != "" && (len(found) != 1 || !strings.Contains(found[0].String(), c.want)):
				t.Errorf("found %v, want one finding with %q", found, c.want)
			}
		})
	}
}

func TestAnAllowanceExcusesOneThingAndMustBeUsed(t *testing.T) {
	planted := map[string]string{"a/x.go": "package a\n\nfunc init() {}\n\nfunc f(a, b, c, d, e, f int) {}\n"}
	excuse := Allowance{"a/x.go", "", ruleInit, "it cannot be avoided"}
	if found := check(t, planted, excuse); len(found) != 1 || found[0].Rule != ruleParams {
		t.Errorf("found %v, want only the parameters", found)
	}
	if found := check(t, nil, excuse); len(found) != 1 || found[0].Rule != ruleAllowance {
		t.Errorf("found %v, want the allowance itself", found)
	}
	huge := map[string]string{"a/x.go": "package a\n" + strings.Repeat("\n", 700)}
	if found := check(t, huge, Allowance{"a/x.go", "", ruleHard, "never"}); len(found) != 2 {
		t.Errorf("found %v, want the hard limit and the useless allowance", found)
	}
}

func TestTheTableItselfHasNoCycle(t *testing.T) {
	if found := Layout().cycles(); len(found) > 0 {
		t.Error(found)
	}
	knot := Table{Rows: []Row{{"a", []string{"b"}, ""}, {"b", []string{"c"}, ""}, {"c", []string{"a"}, ""}}}
	if len(knot.cycles()) == 0 {
		t.Error("a knot was not found")
	}
}

// check runs the rules on a small module with a fault planted in it.
func check(t *testing.T, planted map[string]string, allowed ...Allowance) []Finding {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("go.mod", "module planted\n\ngo 1.26\n")
	write("a/a.go", "// Package a is at the bottom.\npackage a\n\nvar limit = 1\n\nfunc get() int { return limit }\n")
	write("top/top.go", "// Package top is above it.\npackage top\n")
	write("toptest/toptest.go", "// Package toptest helps tests of top.\npackage toptest\n")
	write("a/a_test.go", "package a\n\nimport \"testing\"\n\nfunc TestLimit(t *testing.T) {}\n")
	write("docs/INVARIANTS.md", "**[D1] Nothing is lost.** `TestLimit`\n")
	for name, text := range planted {
		write(name, text)
	}
	tree, err := Load(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	table := Table{
		Rows:    []Row{{"a", nil, "the bottom"}, {"top", []string{"a"}, "the top"}},
		Modules: []ThirdParty{{"example.org/db", []string{"top"}, "go through package top"}},
	}
	return Check(tree, table, allowed)
}
