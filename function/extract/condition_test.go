package extract

import (
	"strings"
	"sync"
	"testing"
	"time"

	"mayfly/event"
)

func TestHolds(t *testing.T) {
	p := mustPattern(t, "plant/{line}/{rest...}")
	for _, c := range []struct {
		when, payload string
		want          bool
	}{
		{`json.t > 70`, `{"t": 71}`, true},
		{`json.t > 70`, `{"t": 70}`, false},
		{`json.t > 70`, ` {"x": [1, 2], "t": 70.5} `, true},
		{`json["t"] >= 1 && json.u == "C"`, `{"t": 1, "u": "C"}`, true},
		{`json?.a?.b == nil`, `{}`, true},
		{`(json.a ?? 5) == 5`, `{}`, true},
		{`json.a.b[1] == 2`, `{"a": {"b": [1, 2]}}`, true},
		{`"t" in json`, `{"t": null}`, true},
		{`json > 3`, `4`, true},
		{`json[0] == "x"`, `["x"]`, true},
		{`json == nil`, `null`, true},
		{`line == "7" && topic startsWith "plant/"`, `not JSON`, true},
		{`line in ["1", "2"]`, ``, false},
		{`rest == "temp/a"`, ``, true},
		{`qos == 1 && retained`, ``, true},
		{`qos in [0, 1]`, ``, true},
		{`topic matches "^plant/[0-9]+/"`, ``, true},
		{`len(json.name) > 3 && lower(json.name) == "pump"`, `{"name": "PUMP"}`, true},
		{`retained ? false : true`, ``, false},
		{`json.on`, `{"on": true}`, true},
		{`json.t > 1`, `{"t": 0, "t": 2}`, true},
	} {
		cond, err := ParseCondition(c.when, p.Names())
		if err != nil {
			t.Errorf("%s: %v", c.when, err)
			continue
		}
		got, err := cond.Holds(&event.Event{Topic: "plant/7/temp/a", QoS: 1, Retained: true, Data: []byte(c.payload)}, p)
		if err != nil || got != c.want {
			t.Errorf("%s of %s = %v, %v", c.when, c.payload, got, err)
		}
	}
}

func TestHoldsHasNoAnswer(t *testing.T) {
	for _, c := range []struct{ when, payload, want string }{
		{`json.t > 70`, `{"t": `, "malformed JSON"},
		{`json.t > 70`, ``, "malformed JSON: unexpected end at byte 0"},
		{`json.t > 70`, `{"t": 71} x`, "malformed JSON"},
		{`json > 70`, `nope`, "malformed JSON"},
		{`json.t > 70`, `{"t": 1e999}`, "out of range"},
		{`json.t > 70`, `{}`, "when json.t > 70: "},
		{`json.t > 70`, `{"t": "hot"}`, "when json.t > 70: "},
		{`json.t > 70`, `[1]`, "when json.t > 70: "},
		{`json.a.b.c == 1`, `{"a": {}}`, "cannot fetch c from"},
		{`json.on`, `{"on": "yes"}`, "bool"},
		{`int(json.n) > 1`, `{"n": "x"}`, "when "},
	} {
		cond, err := ParseCondition(c.when, nil)
		if err != nil {
			t.Errorf("%s: %v", c.when, err)
			continue
		}
		got, err := cond.Holds(&event.Event{Data: []byte(c.payload)}, event.Pattern{})
		if got || err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s of %q = %v, %v; want %q", c.when, c.payload, got, err, c.want)
		}
	}
}

func TestParseConditionRefuses(t *testing.T) {
	for text, want := range map[string]string{
		``:                                       "",
		`json.t >`:                               "unexpected token",
		`line == "7"`:                            "line",
		`topic > 3`:                              "",
		`topic`:                                  "bool",
		`1`:                                      "bool",
		`any(json.a, # > 1)`:                     "loops",
		`json.a | filter(# > 1) | len() > 1`:     "loops",
		`repeat(topic, 100000) == ""`:            "repeat()",
		`toJSON(json) == ""`:                     "toJSON()",
		`now().Unix() > 1`:                       "now()",
		`1 in 1..1000000000`:                     "ranges",
		`let a = json.s + json.s; a == ""`:       "variables",
		`true; false`:                            "",
		`topic matches json.pattern`:             "matches",
		`$env.json.a == 1`:                       "$env",
		`json.f() == 1`:                          "calls",
		`nobody()`:                               "",
		`{"a": 1}.a == 1`:                        "cannot use",
		strings.Repeat("true && ", 200) + "true": "",
		strings.Repeat(" ", maxSource) + "true":  "the most is 1024",
	} {
		if c, err := ParseCondition(text, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseCondition(%.40q) = %v, %v; want %q", text, c, err, want)
		} else if strings.Contains(err.Error(), "\n") {
			t.Errorf("%.40q: several lines: %v", text, err)
		}
	}
}

func TestACaptureDoesNotHideTheVariables(t *testing.T) {
	p := mustPattern(t, "{json}/{topic}")
	c, err := ParseCondition(`json.a == 1 && topic == "x/y"`, p.Names())
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := c.Holds(&event.Event{Topic: "x/y", Data: []byte(`{"a": 1}`)}, p); !ok || err != nil {
		t.Error(ok, err)
	}
}

// The worst conditions that are accepted, on the largest payload that is by default, end quickly.
func TestCostIsBounded(t *testing.T) {
	long := strings.Repeat("a", 250_000)
	for _, when := range []string{
		`json.s matches "^(a|a|a|a|a)*(a+)+$"`,
		strings.Repeat(`json.s + `, 25) + `json.s == ""`,
		strings.Repeat(`upper(lower(`, 15) + `json.s` + strings.Repeat(`))`, 15) + ` == ""`,
		`json == json`,
	} {
		c, err := ParseCondition(when, nil)
		if err != nil {
			t.Errorf("%.30s: %v", when, err)
			continue
		}
		start := time.Now()
		if _, err := c.Holds(&event.Event{Data: []byte(`{"s": "` + long + `"}`)}, event.Pattern{}); err != nil {
			t.Logf("%.30s: %v", when, err)
		}
		if d := time.Since(start); d > 5*time.Second {
			t.Errorf("%.30s took %v", when, d)
		}
	}
}

func TestConcurrentUse(t *testing.T) {
	c, err := ParseCondition(`json.t > 70 && topic != ""`, nil)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			data := []byte(`{"t": 69}`)
			if i%2 == 0 {
				data = []byte(`{"t": 71}`)
			}
			for range 500 {
				if ok, err := c.Holds(&event.Event{Topic: "a", Data: data}, event.Pattern{}); err != nil || ok != (i%2 == 0) {
					t.Errorf("%s: %v, %v", data, ok, err)
				}
			}
		})
	}
	wg.Wait()
}

func FuzzCondition(f *testing.F) {
	for _, s := range []string{`json.t > 70`, `json?.a[0] ?? topic == "x"`, `qos in [0, 1]`, `not retained and line contains "a"`, `json.a[1:2] == nil`} {
		f.Add(s, []byte(`{"t": 1, "a": [1, 2]}`))
	}
	p := mustPattern(f, "plant/{line}")
	f.Fuzz(func(t *testing.T, when string, data []byte) {
		start := time.Now()
		if c, err := ParseCondition(when, p.Names()); err == nil {
			if ok, err := c.Holds(&event.Event{Topic: "plant/7", Data: data}, p); ok && err != nil {
				t.Error("both an answer and an error")
			}
		}
		if d := time.Since(start); d > 2*time.Second {
			t.Errorf("it took %v", d)
		}
	})
}

func BenchmarkWhenJSON(b *testing.B)  { benchmarkWhen(b, `json.t > 70`) }
func BenchmarkWhenTopic(b *testing.B) { benchmarkWhen(b, `line == "7"`) }
func BenchmarkWhenWhole(b *testing.B) { benchmarkWhen(b, `"t" in json`) }

func benchmarkWhen(b *testing.B, when string) {
	p := mustPattern(b, "plant/{line}/temp")
	c, err := ParseCondition(when, p.Names())
	if err != nil {
		b.Fatal(err)
	}
	ev := &event.Event{Topic: "plant/7/temp", Data: reading}
	b.ReportAllocs()
	for b.Loop() {
		if ok, err := c.Holds(ev, p); !ok || err != nil {
			b.Fatal(ok, err)
		}
	}
}
