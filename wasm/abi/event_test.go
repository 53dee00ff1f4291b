package abi

import (
	"encoding/json"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"mayfly/event"
	"mayfly/function"
)

func TestEventData(t *testing.T) {
	g := newGuest(t, function.ABIMayfly)
	g.want(8, "event_data", 0, 0)
	g.want(8, "event_data", room(7))
	if g.mem[g.out] != 0 {
		t.Error("something was written to a buffer that is too small")
	}
	if got := g.text("event_data"); got != `{"t":91}` {
		t.Errorf("data = %q", got)
	}
}

func TestEventAttr(t *testing.T) {
	g := newGuest(t, function.ABIMayfly, func(c *function.Call) { c.Captures = []event.Attr{{Name: "id", Value: "x"}} })
	for name, want := range map[string]string{
		"id": "e1", "source": "mqtt://b/plant/7/temp", "type": event.TypeMQTT, "time": "2026-01-02T03:04:05Z", "topic": "plant/7/temp",
		"qos": "1", "retained": "false", "dup": "false", "trigger": "mqtt[0]", "function": "f", "attempt": "2", "node": "n1",
		"user.unit": "C", "topic.line": "7", "topic.id": "x",
	} {
		if got := g.text("event_attr", name); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
	for _, name := range []string{"", "nope", "user.nope", "topic.nope", "subject", "\xff"} {
		g.want(codeAbsent, "event_attr", name, room(10))
	}
}

func TestEventJSON(t *testing.T) {
	g := newGuest(t, function.ABIMayfly, func(c *function.Call) {
		c.Captures = []event.Attr{{Name: "line", Value: "twice"}, {Name: "route", Value: "r"}}
	})
	var got map[string]any
	if err := json.Unmarshal([]byte(g.text("event_json")), &got); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]any{
		"specversion": "1.0", "id": "e1", "qos": 1.0, "retained": false, "dup": false, "attempt": 2.0, "user.unit": "C",
		"topic.route": "r", "topic.line": "twice", "trigger": "mqtt[0]",
	} {
		if got[name] != want {
			t.Errorf("%s = %v, want %v", name, got[name], want)
		}
	}
	if _, ok := got["data"]; ok {
		t.Error("event_json holds the data")
	}
	g.call.Event = &event.Event{ID: "second"}
	g.begin()
	if got := g.text("event_json"); !strings.Contains(got, `"id":"second"`) {
		t.Errorf("the second event got the first one's JSON: %s", got)
	}
}

func TestStringsAreJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.OneOf(rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) })).Draw(t, "s")
		var got string
		if err := json.Unmarshal(appendString(nil, s), &got); err != nil {
			t.Fatal(err)
		}
		if want := strings.ToValidUTF8(s, "\uFFFD"); got != want && !strings.Contains(got, "\uFFFD") {
			t.Fatalf("%q became %q", s, got)
		}
	})
}

func TestConfigAndSecrets(t *testing.T) {
	g := newGuest(t, function.ABIMayfly)
	if got := g.text("config_get", "limit_c"); got != "70" {
		t.Errorf("limit_c = %q", got)
	}
	g.want(codeAbsent, "config_get", "nope", room(8))
	if got := g.text("secret_get", "webhook"); got != "s3cret" {
		t.Errorf("webhook = %q", got)
	}
	g.want(codeDenied, "secret_get", "other", room(8))
	g.want(codeAbsent, "secret_get", "gone", room(8))
	g.want(codeUnavailable, "secret_get", "later", room(8))
	g.call.Secrets = nil
	g.begin()
	g.want(codeUnavailable, "secret_get", "webhook", room(8))
}

func TestTimeAndRandom(t *testing.T) {
	g := newGuest(t, function.ABIMayfly)
	if now := g.do("now_ms"); now < 1.7e12 {
		t.Errorf("now_ms = %d", now)
	}
	if left := g.do("left_ms"); left <= 0 || left > 60_000 {
		t.Errorf("left_ms = %d", left)
	}
	g.do("random", room(64))
	if string(g.mem[g.out:g.out+64]) == string(make([]byte, 64)) {
		t.Error("64 random bytes are all zero")
	}
	g.call.Deadline = g.call.Deadline.AddDate(-1, 0, 0)
	g.begin()
	g.want(0, "left_ms")
	if _, err := g.s.Host(idRandom, []uint64{0, 1 << 18}, make([]byte, 1<<18)); function.KindOf(err) != "timeout" {
		t.Errorf("filling 256 KiB past the deadline: %v", err)
	}
}
