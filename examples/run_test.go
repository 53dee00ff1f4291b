package examples_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"mayfly/event"
	"mayfly/function"
	"mayfly/wasm"
)

// TestMain is also the compiler: the engine compiles in a child process of the same program.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "compile-module" {
		os.Exit(wasm.CompileMain(os.Args[2:], os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// shelf is the modules by their digest.
type shelf map[function.Digest][]byte

func (s shelf) Module(_ context.Context, d function.Digest) ([]byte, error) {
	if module := s[d]; module != nil {
		return module, nil
	}
	return nil, os.ErrNotExist
}

// state is a function's state in memory.
type state struct{ values map[string]string }

func (s *state) Get(key []byte) ([]byte, uint64, error) {
	v, ok := s.values[string(key)]
	if !ok {
		return nil, 0, nil
	}
	return []byte(v), 1, nil
}

func (s *state) List(_, _ []byte, _ func([]byte) bool) error { return nil } // no example lists keys

func (s *state) Usage() (int64, error) { return 0, nil }

// commit makes a result's writes true.
func (s *state) commit(r *function.Result) {
	for _, w := range r.Writes {
		if w.Delete {
			delete(s.values, string(w.Key))
		} else {
			s.values[string(w.Key)] = string(w.Value)
		}
	}
}

// bench is an engine with all examples, each with a state of its own.
type bench struct {
	*testing.T // of the test that runs now
	engine     *wasm.Engine
	functions  map[string]*function.Function
	states     map[string]*state
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{T: t, functions: map[string]*function.Function{}, states: map[string]*state{}}
	modules := shelf{}
	for name, e := range load(t) {
		f := &function.Function{Manifest: e.manifest, Module: function.DigestOf(e.module)}
		f.Manifest.Limits.Timeout, f.Manifest.Limits.CPU = time.Minute, time.Minute // a busy machine is no fault
		b.functions[name], modules[f.Module] = f, e.module
	}
	var err error
	cfg := wasm.Config{
		CacheDir: t.TempDir(), Modules: modules, Slots: 2, CompileCPU: time.Minute, CompileWall: 5 * time.Minute,
		CompileMemory: 1 << 46, // the race detector's shadow memory counts
	}
	if b.engine, err = wasm.New(cfg, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.engine.Close)
	for _, f := range b.functions {
		if err := b.engine.Load(t.Context(), f); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// fresh forgets all state.
func (b *bench) fresh() { clear(b.states) }

// send runs one event and commits its writes when it is done.
func (b *bench) send(name, topic, payload string) (*function.Result, error) {
	b.Helper()
	f := b.functions[name]
	call := &function.Call{
		Function: f, Attempt: 1, Trigger: "mqtt[0]", Node: "bench", Deadline: time.Now().Add(time.Minute),
		Event: &event.Event{ID: "1", Source: "mqtt://bench/" + topic, Type: event.TypeMQTT, Time: time.Now(), Topic: topic, QoS: 1, Data: []byte(payload)},
	}
	if len(f.Manifest.MQTT) > 0 {
		call.Pattern = f.Manifest.MQTT[0].Topic
	}
	if b.states[name] == nil {
		b.states[name] = &state{map[string]string{}}
	}
	if f.Manifest.State.Scope != function.ScopeNone {
		call.State = b.states[name]
	}
	var result function.Result
	err := b.engine.Invoke(context.Background(), call, &result)
	if err == nil && result.Outcome == function.Done {
		b.states[name].commit(&result)
	}
	return &result, err
}

// The examples on the real engine, which compiles each of them once for all of this.
func TestExamplesRun(t *testing.T) {
	b := newBench(t)
	for name, test := range map[string]func(*testing.T, *bench){
		"the manifests' tests hold": manifestsTestsHold, "stories": stories, "enrich adds what it knows": enrichAddsWhatItKnows,
		"overheat survives broken readings": overheatSurvivesBrokenReadings,
	} {
		t.Run(name, func(t *testing.T) {
			b.T = t
			b.fresh()
			test(t, b)
		})
	}
}

// Every [[test]] of every manifest.
func manifestsTestsHold(t *testing.T, b *bench) {
	for name, f := range b.functions {
		for _, c := range f.Manifest.Tests {
			t.Run(name+"/"+c.Name, func(t *testing.T) {
				b.fresh()
				result, err := b.send(name, c.Topic, string(c.Payload))
				judge(t, c.Expect, result, err, b.states[name])
			})
		}
	}
}

// judge compares a result with what a test expects; what it does not mention is not compared.
func judge(t *testing.T, want function.Expectation, got *function.Result, err error, s *state) {
	t.Helper()
	failure := got.Failure
	if err != nil {
		failure += err.Error()
	}
	if want.Outcome != nil && got.Outcome != *want.Outcome {
		t.Errorf("outcome %v (%s), want %v", got.Outcome, failure, *want.Outcome)
	}
	if want.Outcome == nil && got.Outcome != function.Done {
		t.Errorf("outcome %v: %s", got.Outcome, failure)
	}
	if !strings.Contains(failure, want.Error) {
		t.Errorf("failed with %q, want %q in it", failure, want.Error)
	}
	if want.Publish != nil && len(got.Publishes) != len(want.Publish) {
		t.Fatalf("published %v, want %d messages", got.Publishes, len(want.Publish))
	}
	for i, w := range want.Publish {
		if m := got.Publishes[i]; !matches(w, m) {
			t.Errorf("published %s %s at QoS %d, want %+v", m.Topic, m.Data, m.QoS, w)
		}
	}
	if want.Response != nil && (got.Response == nil || string(got.Response.Data) != *want.Response) {
		t.Errorf("responded %+v, want %q", got.Response, *want.Response)
	}
	for _, w := range want.State {
		if v := s.values[w.Key]; v != w.Value {
			t.Errorf("state %q is %q, want %q", w.Key, v, w.Value)
		}
	}
	for _, w := range want.Log {
		if !slices.ContainsFunc(got.Log, func(l function.LogLine) bool { return strings.Contains(l.Text, w) }) {
			t.Errorf("logged %v, want %q", got.Log, w)
		}
	}
}

func matches(want function.ExpectMessage, m event.Message) bool {
	same := want.Topic == "" || want.Topic == m.Topic
	same = same && (want.Payload == nil || *want.Payload == string(m.Data))
	same = same && (want.QoS == nil || *want.QoS == m.QoS)
	same = same && (want.Retain == nil || *want.Retain == m.Retain)
	if same && want.JSON != "" {
		var a, b any
		same = json.Unmarshal([]byte(want.JSON), &a) == nil && json.Unmarshal(m.Data, &b) == nil && reflect.DeepEqual(a, b)
	}
	return same
}

// story is what goes in, one after the other, and what comes out of each: the payload of the one publish, or "" for none.
type story struct{ in, out string }

func (b *bench) tell(name, topic string, story []story) {
	b.Helper()
	b.fresh()
	for i, s := range story {
		result, err := b.send(name, topic, s.in)
		if err != nil || result.Outcome != function.Done {
			b.Fatalf("%s, event %d: %v, %s, %v", name, i, result.Outcome, result.Failure, err)
		}
		var out []byte
		if len(result.Publishes) > 0 {
			out = result.Publishes[0].Data
		} else if result.Response != nil {
			out = result.Response.Data
		}
		if string(out) != s.out {
			b.Errorf("%s, event %d: %q came out of %q, want %q", name, i, out, s.in, s.out)
		}
	}
}

// What a function does with several events, one after the other.
func stories(_ *testing.T, b *bench) {
	b.tell("counter", "bench/count/a", []story{{"x", "1"}, {"y", "2"}, {"z", "3"}})
	b.tell("deadband", "plant/7/pressure", []story{{"1000", "1000"}, {"1000.4", ""}, {"1000.6", "1000.6"}, {"1000.2", ""}, {"999.9", "999.9"}})
	b.tell("moving-average", "plant/7/celsius", []story{
		{`{"c":1}`, `{"avg":1.000,"n":1}`},
		{`{"c":2}`, `{"avg":1.500,"n":2}`},
		{`{"c":-4.5}`, `{"avg":-0.500,"n":3}`},
		{`{"c":1}`, `{"avg":-0.125,"n":4}`},
		{`{"c":0}`, `{"avg":-0.100,"n":5}`},
		{`{"c":0}`, `{"avg":-0.083,"n":6}`},
		{`{"c":0}`, `{"avg":-0.071,"n":7}`},
		{`{"c":0.5}`, `{"avg":0.000,"n":8}`},
		{`{"c":1}`, `{"avg":0.000,"n":8}`},
	})
	large := strings.Repeat("0123456789abcdef", 16<<10) // 256 KiB: more than its small buffer
	b.tell("echo", "bench/in/1", []story{{"", ""}, {"hello", "hello"}, {large, large}})
}

func enrichAddsWhatItKnows(t *testing.T, b *bench) {
	result, err := b.send("enrich", "plant/7/raw", `{"machine":"press-3","t":91.2}`)
	if err != nil || len(result.Publishes) != 1 {
		t.Fatalf("published %v, %s, %v", result.Publishes, result.Failure, err)
	}
	var got map[string]any
	if err := json.Unmarshal(result.Publishes[0].Data, &got); err != nil {
		t.Fatal(err)
	}
	received, _ := got["received"].(string)
	if at, err := time.Parse(time.RFC3339Nano, received); err != nil || time.Since(at) > time.Minute {
		t.Errorf("received %q: %v", received, err)
	}
	delete(got, "received")
	want := map[string]any{"machine": "press-3", "t": 91.2, "line": "7", "site": "north", "level": "high"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// The JSON reader of the C SDK gets every broken reading, and ends: it is the first code that meets what a sensor sends.
func overheatSurvivesBrokenReadings(t *testing.T, b *bench) {
	whole := []byte(`{"a":[1,{"t":2}],"s":"q\"}","n":null,"t":-4.0e1}`)
	result, err := b.send("overheat", "plant/7/temp", string(whole))
	if err != nil || len(result.Publishes) != 1 || string(result.Publishes[0].Data) != `{"c":-40.0}` {
		t.Fatalf("published %v, %s, %v", result.Publishes, result.Failure, err)
	}
	readings := [][]byte{nil, []byte(`{"t"`), []byte(`{"t":`), []byte(`{"t":-}`), []byte(`{"t":1e999}`), []byte("[[[[\x01"), []byte(`{"a":[` + "\x01"), []byte(`{"\`)}
	for i := range whole {
		readings = append(readings, whole[:i], slices.Concat(whole[:i], []byte{0}, whole[i+1:]))
	}
	outcomes := map[function.Outcome]int{}
	for _, r := range readings {
		result, err := b.send("overheat", "plant/7/temp", string(r))
		if err != nil && result.Outcome == function.Done {
			t.Errorf("%q: %v", r, err)
		}
		if result.Outcome == function.Done && !bytes.Contains(r, []byte(`"t":`)) {
			t.Errorf("%q gave %v", r, result.Publishes)
		}
		outcomes[result.Outcome]++
	}
	if outcomes[function.Retry] > 0 || outcomes[function.Reject] < 60 {
		t.Errorf("outcomes %v: want most rejected and none tried again", outcomes)
	}
}
