package function

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"mayfly/event"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestParseManifest(t *testing.T) {
	text, err := os.ReadFile("testdata/manifest/good.toml")
	if err != nil {
		t.Fatal(err)
	}
	m, err := ParseManifest("good.toml", text)
	if err != nil {
		t.Fatal(err)
	}
	qos, done := byte(1), Done
	pattern, err := event.ParsePattern("plant/{line}/temp")
	if err != nil {
		t.Fatal(err)
	}
	want := Manifest{
		Name: "overheat", Version: "1.2.0",
		Module: Module{Path: "overheat.wasm", ABI: ABIAuto},
		Build:  Build{Command: "make", Watch: []string{"*.c"}},
		MQTT: []MQTTTrigger{{
			Topic: pattern, QoS: 1, Scope: ScopeCluster, Order: OrderTopic, Retained: RetainedSkip, MaxAge: 10 * time.Minute,
			When: "json.t > 70", Overflow: OverflowSpill,
		}},
		HTTP:   []HTTPTrigger{{Method: "POST", Path: "/overheat/{line}", Auth: "jwt"}},
		Cron:   []CronTrigger{{Schedule: "*/5 * * * *", Scope: ScopeCluster, Misfire: MisfireOnce}},
		Output: Output{Format: "raw", QoS: 1},
		Limits: Limits{
			Memory: 8 << 20, Timeout: 500 * time.Millisecond, CPU: 500 * time.Millisecond, Concurrency: 4, Payload: 256 << 10,
			Output: 1 << 20, Publishes: 64, Log: 16 << 10, Stack: 256 << 10, Table: 10000,
		},
		Retry:       RetryPolicy{MaxAttempts: 5, BackoffMin: 200 * time.Millisecond, BackoffMax: 30 * time.Second, DeadLetter: "mayfly/dlq/overheat"},
		State:       StatePolicy{Scope: ScopeNode, Quota: 2 << 20},
		Placement:   Placement{Require: []string{"arch:arm64|amd64", "label:gpio"}, Prefer: []string{"near-trigger", "label:mains"}},
		Permissions: Permissions{Publish: []string{"plant/+/alarm"}, HTTP: []string{"https://hooks.local/*"}, Secrets: []string{"webhook"}},
		Config:      []Setting{{"greeting", "hello"}, {"limit_c", "70"}, {"on", "true"}, {"ratio", "1.50"}},
		Tests: []Test{
			{
				Name: "hot reading raises an alarm", Topic: "plant/7/temp", Payload: []byte(`{"t": 91}`), Line: 53,
				Attrs:  []event.Attr{{Name: "retained", Value: "true"}, {Name: "user.site", Value: "north"}},
				Expect: Expectation{Publish: []ExpectMessage{{Topic: "plant/7/alarm", QoS: &qos}}},
			},
			{
				Name: "cold reading says nothing", Topic: "plant/7/temp", Payload: []byte(`{"t": 20}`), Line: 59,
				Expect: Expectation{Outcome: &done, Publish: []ExpectMessage{}, State: []Setting{{"last", "20"}}, Log: []string{"cold"}},
			},
		},
	}
	if !reflect.DeepEqual(m, want) {
		t.Errorf("got  %+v\nwant %+v", m, want)
	}
	roundTrip(t, m)
}

func TestManifestDefaults(t *testing.T) {
	m, err := ParseManifest("x", []byte("manifest = 1\nname = \"x\"\n[module]\npath = \"x.wasm\"\n[[trigger.mqtt]]\ntopic = \"a/{b}\"\n[output]\ntopic = \"out/{b}\"\n[state]\nscope = \"cluster\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	if m.Limits.Memory != 16<<20 || m.Limits.Timeout != time.Second || m.Limits.CPU != time.Second || m.Retry.MaxAttempts != 5 ||
		m.Retry.BackoffMin != 200*time.Millisecond || m.Retry.BackoffMax != 30*time.Second || m.State.Quota != 1<<20 {
		t.Errorf("%+v", m)
	}
	if got := m.MQTT[0]; got.QoS != 1 || got.Retained != RetainedOnce || got.Scope != ScopeCluster || got.Order != OrderTopic || got.Overflow != OverflowSpill {
		t.Errorf("%+v", got)
	}
	if !slices.Equal(m.Permissions.Publish, []string{"out/+"}) {
		t.Errorf("the output topic is not granted: %v", m.Permissions.Publish)
	}
	roundTrip(t, m)
}

// roundTrip checks that what is stored and sent is what was parsed, bit for bit.
func roundTrip(t *testing.T, m Manifest) {
	t.Helper()
	text, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var back Manifest
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(back, m) {
		t.Errorf("after JSON: %+v\nbefore:     %+v", back, m)
	}
	again, err := json.Marshal(back)
	if err != nil || !bytes.Equal(again, text) {
		t.Errorf("JSON differs: %s\n%s, %v", again, text, err)
	}
}

// What people see. go test ./function -run Messages -update writes them anew; read the diff.
func TestManifestMessages(t *testing.T) {
	files, err := filepath.Glob("testdata/manifest/*.toml")
	if err != nil || len(files) < 8 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		if filepath.Base(file) == "good.toml" {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, fault := ParseManifest(filepath.Base(file), text)
		if fault == nil {
			t.Errorf("%s has no faults", file)
			continue
		}
		golden := strings.TrimSuffix(file, ".toml") + ".txt"
		got := fault.Error() + "\n"
		if *update {
			if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil || got != string(want) {
			t.Errorf("%s: %v, got\n%s", golden, err, got)
		}
	}
}

func TestNumberOfTriggersIsBounded(t *testing.T) {
	const head = "manifest = 1\nname = \"a\"\n[module]\npath = \"a.wasm\"\n"
	for _, more := range []string{"[[trigger.http]]\nroute = \"/a\"\nauth = \"jwt\"\n", "[[trigger.mqtt]]\ntopic = \"a\"\n", "[[test]]\nname = \"a\"\n"} {
		_, err := ParseManifest("a.toml", []byte(head+strings.Repeat(more, 2000)))
		if err == nil || !strings.Contains(err.Error(), "there are 2000, the most is 100") {
			t.Errorf("%s: %v", more, err)
		}
	}
}

func TestSchemaIsUpToDate(t *testing.T) {
	const file = "function.schema.json"
	got := ManifestSchema()
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s is not what the manifest's types say (%v); write it with -update", file, err)
	}
	var schema struct {
		Properties map[string]any
		Required   []string
	}
	if err := json.Unmarshal(got, &schema); err != nil || len(schema.Properties) < 12 || !slices.Contains(schema.Required, "name") {
		t.Errorf("%v %v", err, schema)
	}
}

func FuzzParseManifest(f *testing.F) {
	files, err := filepath.Glob("testdata/manifest/*.toml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := ParseManifest("f.toml", text)
		if err == nil {
			roundTrip(t, m)
			return
		}
		faults, ok := errors.AsType[*ManifestError](err)
		if !ok || len(faults.Faults) == 0 {
			t.Fatalf("%T without faults", err)
		}
		lines := strings.Split(string(text), "\n")
		for _, fault := range faults.Faults {
			if fault.Line < 1 || fault.Line > len(lines) || fault.Col < 1 || fault.Col > utf8.RuneCountInString(lines[fault.Line-1])+1 {
				t.Fatalf("%q is not inside the file", fault.Error())
			}
			if !utf8.ValidString(fault.Source) || strings.ContainsAny(fault.Source, "\x1b\x00") {
				t.Fatalf("the excerpt %q could write on a terminal", fault.Source)
			}
		}
	})
}

func BenchmarkParseManifest(b *testing.B) {
	text, err := os.ReadFile("testdata/manifest/good.toml")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseManifest("good.toml", text); err != nil {
			b.Fatal(err)
		}
	}
}

// A test of a function with a route says what the route would have captured.
func TestAttributesOfTests(t *testing.T) {
	const text = "manifest = 1\nname = \"f\"\n[module]\npath = \"a\"\n[[trigger.http]]\nroute = \"/x/{line}/{rest...}\"\nauth = \"public\"\n[[test]]\nname = \"one\"\nattrs = { "
	for attr, ok := range map[string]bool{"topic.line": true, "topic.rest": true, "topic.row": false, "user.x": true, "color": false} {
		m, err := ParseManifest("f.toml", []byte(text+`"`+attr+`" = "7" }`))
		if (err == nil) != ok || ok && m.Tests[0].Attrs[0] != (event.Attr{Name: attr, Value: "7"}) {
			t.Errorf("%s: %v", attr, err)
		}
	}
}
