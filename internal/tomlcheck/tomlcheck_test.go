package tomlcheck

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2"
	"pgregory.net/rapid"
)

type inner struct {
	URL  string        `json:"url" required:"true" doc:"Where it is."`
	Wait time.Duration `json:"wait" default:"5s" min:"1s" max:"1h"`
}

func (i *inner) Validate() map[string]error {
	if strings.HasSuffix(i.URL, "!") {
		return map[string]error{"url": &Issue{"it shouts", "speak softly"}}
	}
	return nil
}

type sample struct {
	Word   string            `json:"word" default:"a" words:"a|b"`
	On     bool              `json:"on"`
	Count  int               `json:"count" min:"-5" max:"5"`
	Small  byte              `json:"small"`
	Ratio  float64           `json:"ratio"`
	Size   int64             `json:"size" unit:"bytes" default:"1MiB"`
	Names  []string          `json:"names"`
	Level  *int              `json:"level"`
	Labels map[string]string `json:"labels"`
	Free   map[string]Scalar `json:"free"`
	Inner  inner             `json:"inner"`
	List   []inner           `json:"list"`
	Map    map[string]inner  `json:"map"`
	Hidden func()
}

func read(texts ...string) (sample, *Reader, Faults) {
	var s sample
	r := New(&s)
	for i, text := range texts {
		r.Read(string(rune('a'+i))+".toml", []byte(text))
	}
	r.Finish()
	return s, r, r.Err()
}

func TestReadEverything(t *testing.T) {
	s, r, faults := read(`
word = "b"
on = true
count = 0x3
small = 255
ratio = 1
size = "2KiB"
names = ["x", "y"]
level = 0
labels.site = "north"
free = { a = 1_000, b = 1.5, c = true, d = "x" }
[inner]
url = "one"
[[list]]
url = "two"
wait = "1m"
[map.site]
url = "three"
`, `
names = []
[map.site]
wait = "2s"
[map.other]
url = "four"
[labels]
floor = "2"
`)
	if faults != nil {
		t.Fatal(faults)
	}
	zero := 0
	want := sample{
		Word: "b", On: true, Count: 3, Small: 255, Ratio: 1, Size: 2048, Names: []string{}, Level: &zero,
		Labels: map[string]string{"site": "north", "floor": "2"},
		Free:   map[string]Scalar{"a": "1000", "b": "1.5", "c": "true", "d": "x"},
		Inner:  inner{"one", 5 * time.Second},
		List:   []inner{{"two", time.Minute}},
		Map:    map[string]inner{"site": {"three", 2 * time.Second}, "other": {"four", 5 * time.Second}},
	}
	if !reflect.DeepEqual(s, want) {
		t.Errorf("got  %+v\nwant %+v", s, want)
	}
	for path, want := range map[string]string{"word": "a.toml:2:8", "map.site.wait": "b.toml:4:8", "map.site.url": "a.toml:18:7", "names": "b.toml:2:1"} {
		if got, ok := r.Origin(path); got != want || !ok {
			t.Errorf("Origin(%s) = %s, %v; want %s", path, got, ok, want)
		}
	}
	if got, ok := r.Origin("size.nothing"); ok {
		t.Error(got)
	}
}

func TestFaults(t *testing.T) {
	for text, want := range map[string]string{
		`word = "c"`:                         `a.toml:1:8: word: "c" is not allowed here`,
		`count = 6`:                          `count: the most is 5`,
		`count = -6`:                         `count: the least is -5`,
		`count = 99999999999999999999`:       `does not fit`,
		`small = 256`:                        `256 does not fit`,
		`small = -1`:                         `-1 does not fit`,
		`ratio = nan`:                        `not a number`,
		`ratio = "1"`:                        `without the quotes`,
		`on = 1`:                             `it must be true or false, not a whole number`,
		`size = "1XB"`:                       `is not a size`,
		`size = 1.5`:                         `it must be a size`,
		`names = "x"`:                        `in brackets: ["x"]`,
		`names = [1]`:                        `names[0]: it must be a string`,
		`labels = 1`:                         `labels: it must be a table`,
		`inner.wait = "0s"`:                  `inner.wait: the least is 1s`,
		`inner.wait = "-1s"`:                 `cannot be negative`,
		`inner = 2026-01-02`:                 `not a date or time`,
		`list = [{}]`:                        `list[0].url: it is missing`,
		`Hidden = 1`:                         `unknown key`,
		`wait = "1s"`:                        `"wait" belongs in [inner]`,
		`inner.url = "x!"`:                   "inner.url: it shouts\n    1 | inner.url = \"x!\"\n      |             ^^^^\n      = speak softly",
		"inner.url = \"x\"\n\"\\u001b\" = 1": `unknown key`,
		"word = \"\x1b[31m\"":                `| word = "?[31m"`,
	} {
		_, _, faults := read(text)
		if faults == nil || !strings.Contains(faults.Error(), want) {
			t.Errorf("%s gives\n%v\nwant %s", text, faults, want)
		}
	}
	if _, _, faults := read(strings.Repeat("x = 1\n", MaxText/6+1)); faults == nil || !strings.Contains(faults.Error(), "the most is 262144") {
		t.Error(faults)
	}
	for _, text := range []string{strings.Repeat("x = 1\n", MaxText/6), manyKeys(), strings.Repeat("[[list]]\n", MaxText/9)} {
		start := time.Now()
		if _, _, faults := read(text); len(faults) < maxFaults {
			t.Errorf("%.20s: %d faults", text, len(faults))
		}
		if d := time.Since(start); d > 20*time.Second {
			t.Errorf("%.20s: it took %v", text, d)
		}
	}
	if _, _, faults := read("[free]\n" + manyKeys()); faults == nil || !strings.Contains(faults.Error(), "more than 2000 keys") {
		t.Error(faults)
	}
	_, _, faults := read(strings.Repeat("x", 300) + "=1")
	for _, line := range strings.Split(faults.Error(), "\n")[1:] {
		if len(line) > maxExcerpt+20 {
			t.Errorf("a line of %d bytes", len(line))
		}
	}
}

func manyKeys() string {
	var b strings.Builder
	for i := 0; b.Len() < MaxText-30; i++ {
		fmt.Fprintf(&b, "k%d=1\n", i)
	}
	return b.String()
}

func TestSet(t *testing.T) {
	var s sample
	r := New(&s)
	r.Read("a.toml", []byte("[inner]\nurl = \"x\"\n"))
	for path, text := range map[string]string{
		"inner.url": "y", "count": "3", "names": "p, q,", "map.site.url": "z", "size": "1KiB", "labels.a": "b", "on": "true",
	} {
		r.Set(path, text, "--"+path)
	}
	r.Finish()
	if err := r.Err(); err != nil {
		t.Fatal(err)
	}
	if s.Inner.URL != "y" || s.Count != 3 || !reflect.DeepEqual(s.Names, []string{"p", "q"}) || s.Map["site"] != (inner{"z", 5 * time.Second}) ||
		s.Size != 1024 || s.Labels["a"] != "b" || !s.On {
		t.Errorf("%+v", s)
	}
	if o, _ := r.Origin("inner.url"); o != "--inner.url" {
		t.Error(o)
	}
	for path, want := range map[string]string{
		"wrod": `--wrod: wrod: unknown key`, "inner.urll": `did you mean "url"`, "count": `"x" is not a whole number`, "list": "cannot be set from here",
		"inner": "cannot be set", "word.x": "cannot be set", "map.a.b": "map.a.b: unknown key", "on": "neither true nor false",
	} {
		r := New(&sample{})
		r.Set(path, "x", "--"+path)
		if err := r.Err(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", path, err, want)
		}
	}
}

func TestUnits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64Range(0, math.MaxInt64).Draw(t, "n")
		if got, err := ParseSize(FormatSize(n)); err != nil || got != n {
			t.Fatalf("%d: %s: %d, %v", n, FormatSize(n), got, err)
		}
		d := time.Duration(n)
		if got, err := ParseDuration(FormatDuration(d)); err != nil || got != d {
			t.Fatalf("%d: %s: %d, %v", d, FormatDuration(d), got, err)
		}
	})
	for text, want := range map[string]int64{"0": 0, "512": 512, "1B": 1, "1KiB": 1024, "1 MiB": 1 << 20, "2GB": 2e9, "1TiB": 1 << 40, "1kB": 1000} {
		if got, err := ParseSize(text); err != nil || got != want {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
	for _, bad := range []string{"", "-1", "MiB", "1.5MiB", "1mib", "9999999999GiB", "1 0", "1BB", "+1"} {
		if got, err := ParseSize(bad); err == nil && bad != "+1" {
			t.Errorf("%q: %d", bad, got)
		}
	}
	if d, err := ParseDuration("7d"); err != nil || d != 7*24*time.Hour {
		t.Error(d, err)
	}
}

func TestSchema(t *testing.T) {
	var got map[string]any
	if err := json.Unmarshal(Schema("x", &sample{}), &got); err != nil {
		t.Fatal(err)
	}
	properties, _ := got["properties"].(map[string]any)
	word, _ := properties["word"].(map[string]any)
	count, _ := properties["count"].(map[string]any)
	if len(properties) != 13 || !reflect.DeepEqual(word["enum"], []any{"a", "b"}) || word["default"] != "a" || count["maximum"] != 5.0 {
		t.Errorf("%v", got)
	}
}

// FuzzParse: the tree accepts what the TOML library accepts, no more and no less, and every fault is inside the file.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"a = 1\n[b.c]\nd = [1, {e = 2}]\n[[f]]\n[[f]]\ng.h = 'x'\n", "a.b = 1\na.c = 2\n[a]\n", "a = {b = 1}\na.c = 2", "[a]\n[a]\n", "[[a]]\n[a.b]\n[a]\n",
		"a = 2026-13-01", "a = 1_", "'' = 1", "a = \"\\u00\"", "\xff", "a = [", "[a", "x = +inf", "a = 07:32:00.1", "a = \"\"\"\nx\\\n  y\"\"\"", "\r", "a = 1\r\nb = 2",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		d := parse("f", text)
		if len(d.faults) == 0 {
			d.strict()
		}
		var all map[string]any
		err := toml.Unmarshal(text, &all)
		if (err == nil) != (len(d.faults) == 0) {
			t.Fatalf("the library says %v, the tree %v", err, d.faults)
		}
		lines := strings.Split(string(text), "\n")
		for _, fault := range d.faults {
			if fault.Line < 1 || fault.Line > len(lines) || fault.Col > utf8.RuneCountInString(lines[fault.Line-1])+1 {
				t.Fatalf("%v is not inside the file", fault)
			}
		}
		if err == nil && !reflect.DeepEqual(keysOf(d.root), keysOfMap(all)) {
			t.Fatalf("keys %v, want %v", keysOf(d.root), keysOfMap(all))
		}
	})
}

func keysOf(n *node) any {
	if !n.isTable() {
		return nil
	}
	out := map[string]any{}
	for _, e := range n.keys {
		out[e.name] = keysOf(e.value)
	}
	return out
}

func keysOfMap(v any) any {
	m, ok := v.(map[string]any)
	if !ok {
		return nil
	}
	out := map[string]any{}
	for k, v := range m {
		out[k] = keysOfMap(v)
	}
	return out
}
