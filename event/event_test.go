package event

import (
	"testing"
	"time"
)

func TestAttr(t *testing.T) {
	e := &Event{
		ID: "1", Source: "mqtt://site/a", Type: TypeMQTT, Time: time.Date(2026, 1, 2, 3, 4, 5, 6, time.FixedZone("x", 3600)),
		Subject: "s", ContentType: "application/json", DataSchema: "d", Topic: "a/b", QoS: 1, Retained: true, TraceParent: "00-1",
		User: []Attr{{"site", "north"}, {"", "nameless"}, {"auth.sub", "ada"}},
	}
	for name, want := range map[string]string{
		"id": "1", "source": "mqtt://site/a", "type": "mayfly.mqtt.message", "time": "2026-01-02T02:04:05.000000006Z", "subject": "s",
		"datacontenttype": "application/json", "dataschema": "d", "topic": "a/b", "qos": "1", "retained": "true", "dup": "false",
		"traceparent": "00-1", "user.site": "north", "auth.sub": "ada",
	} {
		if got, ok := e.Attr(name); !ok || got != want {
			t.Errorf("Attr(%q) = %q, %v; want %q", name, got, ok, want)
		}
	}
	for _, name := range []string{"", "nobody", "user.", "user.nobody", "broker", "user.auth.sub", "auth.", "auth.iss", "auth", "site"} {
		if got, ok := e.Attr(name); ok {
			t.Errorf("Attr(%q) = %q", name, got)
		}
	}
	for _, name := range []string{"id", "source", "type", "time", "subject", "datacontenttype", "dataschema", "topic", "traceparent", "user.x"} {
		if got, ok := (&Event{}).Attr(name); ok {
			t.Errorf("zero event: Attr(%q) = %q", name, got)
		}
	}
}

func TestShown(t *testing.T) {
	for name, want := range map[string]string{"site": "user.site", "auth.sub": "auth.sub", "auth": "user.auth", "query.auth.sub": "user.query.auth.sub"} {
		if got := (Attr{Name: name}).Shown(); got != want {
			t.Errorf("%s is shown as %s, want %s", name, got, want)
		}
	}
}
