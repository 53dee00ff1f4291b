package extract

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"mayfly/event"
)

func mustPattern(t testing.TB, s string) event.Pattern {
	t.Helper()
	p, err := event.ParsePattern(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestKey(t *testing.T) {
	p := mustPattern(t, "plant/{line}/temp")
	ev := &event.Event{
		ID: "17", Topic: "plant/7/temp", User: []event.Attr{{Name: "x", Value: "y"}},
		Data: []byte(` {"machine": {"id": "m\u0031", "n": 1.50, "on": true, "none": null}, "a": [[1], {"b": "c"}], "d": 1, "d": 2, "e": {"f": 1}, "e": 3, "": ""}`),
	}
	for _, c := range []struct {
		text, want string
		ok         bool
	}{
		{"topic", "plant/7/temp", true},
		{"none", "", false},
		{"topic.line", "7", true},
		{"attr.id", "17", true},
		{"attr.user.x", "y", true},
		{"attr.user.z", "", false},
		{"json.machine.id", "m1", true},
		{"json.machine.n", "1.50", true},
		{"json.machine.on", "true", true},
		{"json.machine.none", "", false},
		{"json.machine", "", false},
		{"json.nobody", "", false},
		{"json.a[1].b", "c", true},
		{"json.a[0][0]", "1", true},
		{"json.a[0][1]", "", false},
		{"json.a.b", "", false},
		{"json[0]", "", false},
		{"json.d", "2", true},   // the last one counts
		{"json.e.f", "", false}, // here too
	} {
		e, err := Parse(c.text, p.Names())
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		if got, ok := e.Key(ev, p); got != c.want || ok != c.ok {
			t.Errorf("%s = %q, %v; want %q, %v", c.text, got, ok, c.want, c.ok)
		}
		if e.String() != c.text || e.None() != (c.text == "none") {
			t.Errorf("%s: %s, %v", c.text, e, e.None())
		}
	}
	if got, ok := (Extractor{}).Key(ev, p); ok {
		t.Errorf("the zero extractor found %q", got)
	}
}

func TestKeyOfMalformedJSON(t *testing.T) {
	e, err := Parse("json.a", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, data := range []string{"", "{", `{"a": 1`, `{"a": 1}}`, `{"a": 01}`, `{"a": "x}`, `{"a": 1,}`, `nonsense`, "\x00", `{"a": "\x"}`, `{"b": tru, "a": 1}`} {
		if got, ok := e.Key(&event.Event{Data: []byte(data)}, event.Pattern{}); ok {
			t.Errorf("%q gives %q", data, got)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":             "is not topic",
		"topics":       "is not topic",
		"topic.":       "no capture {}",
		"topic.floor":  "no capture {floor}",
		"json":         "is not topic",
		"json.":        "name is missing",
		"json.a..b":    "name is missing",
		"json.a[x]":    "index is a number",
		"json.a[1":     "index is a number",
		"json.a[-1]":   "index is a number",
		"json.a[1]b":   "expected . or [",
		"attr.":        "is not topic",
		"attr.nobody":  "no attribute",
		"attr.user.":   "no attribute",
		"none.of.this": "is not topic",
	} {
		if _, err := Parse(text, []string{"line"}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Parse(%q) = %v, want %q", text, err, want)
		}
	}
}

// FuzzFind: the scanner accepts what encoding/json accepts, and finds what it finds.
func FuzzFind(f *testing.F) {
	for _, s := range []string{
		`{"a":{"b":1}}`, `{"a":[1,{"b":"\u00e9\ud800"}]}`, `[]`, ` true `, `1e5`, `-0.1E-2`, `{"a":1,"a":{"b":null}}`, "{\"\xff\":1}",
		`{"\u0061":"x"}`, `"`, `{"a":1e999}`, `[[[[`, `01`, `{"a" 1}`, "\"\x01\"", `nul`,
	} {
		f.Add([]byte(s), "a", 0)
	}
	f.Fuzz(func(t *testing.T, data []byte, name string, index int) {
		path := []step{{name: name}, {index: max(index, 0), isIdx: true}}
		raw, err := find(data, path[:1])
		if valid := json.Valid(data); (err == nil) != valid {
			t.Fatalf("find says %v, encoding/json says valid = %v", err, valid)
		}
		deep, err2 := find(data, path)
		if (err2 == nil) != (err == nil) {
			t.Fatalf("the path changes whether it is JSON: %v, %v", err, err2)
		}
		var whole any
		if err != nil || json.Unmarshal(data, &whole) != nil {
			return
		}
		var want any
		object, _ := whole.(map[string]any)
		want, there := object[name]
		compare(t, raw, want, there)
		list, _ := want.([]any)
		if path[1].index < len(list) {
			compare(t, deep, list[path[1].index], true)
		} else if deep != nil {
			t.Fatalf("found %s, which is not there", deep)
		}
	})
}

func compare(t *testing.T, raw []byte, want any, there bool) {
	if (raw != nil) != there {
		t.Fatalf("found %q, want it there: %v", raw, there)
	}
	if !there {
		return
	}
	got, err := decode(raw)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("found %s = %v, %v; want %v", raw, got, err, want)
	}
}

func TestDepthIsBounded(t *testing.T) {
	deep := bytes.Repeat([]byte("["), 1<<20)
	if _, err := find(deep, nil); err == nil || !strings.Contains(err.Error(), "too deep") {
		t.Error(err)
	}
}

var reading = []byte(`{"machine":{"id":"press-7","line":"north","serial":"A-1234-5678"},"t":71.25,"unit":"C","seq":123456,"ok":true,` +
	`"values":[1.5,2.25,3.125,4.0625],"note":"nothing unusual today","time":"2026-01-02T03:04:05Z"}`)

func BenchmarkKeyJSON(b *testing.B) {
	e, err := Parse("json.machine.id", nil)
	if err != nil {
		b.Fatal(err)
	}
	ev := &event.Event{Data: reading}
	b.SetBytes(int64(len(reading)))
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := e.Key(ev, event.Pattern{}); !ok {
			b.Fatal("not found")
		}
	}
}

// BenchmarkKeyBaseline is the same through encoding/json.
func BenchmarkKeyBaseline(b *testing.B) {
	b.SetBytes(int64(len(reading)))
	b.ReportAllocs()
	for b.Loop() {
		var v struct {
			Machine struct {
				ID string `json:"id"`
			} `json:"machine"`
		}
		if err := json.Unmarshal(reading, &v); err != nil || v.Machine.ID == "" {
			b.Fatal("not found")
		}
	}
}
