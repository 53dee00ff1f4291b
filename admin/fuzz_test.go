package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"mime/multipart"
	"reflect"
	"strings"
	"testing"
	"time"

	"mayfly/event"
	"mayfly/function"
)

// Whatever comes in, a decoder returns a value that says the same when it is sent again, or an error with a kind.
func FuzzRequests(f *testing.F) {
	for _, seed := range []string{
		``, `null`, `{}`, `{"topic":"a/b","payload":"x","qos":1}`, `{"payload_base64":"/w=="}`, `{"filter":"a/+/#"}`,
		`{"ids":["a"],"all":true}`, `{"attrs":[{"name":"time","value":"2026-11-22T12:00:00Z"}],"topic":"t"}`,
		`{"level":"warn","since":"2026-11-22T12:00:00Z","follow":true}`, `{"file":"f","manifest":"manifest = 1","set":{"a":"b"}}`,
		`{"topic":"a","payload":"x","payload_base64":"eA=="}`, `[`, `{"events":[{}]}`,
		`{"name":"plant"}`, `{"token":"t","via":"h:1"}`, `{"ttl_ms":1000,"uses":1,"labels":["a"]}`, `{"add":["a"],"remove":["b"]}`, `{"kill":["n"]}`,
	} {
		for which := range byte(17) {
			f.Add(which, []byte(seed))
		}
	}
	f.Fuzz(func(t *testing.T, which byte, body []byte) {
		values := []any{
			&Message{}, &SubscribeQuery{}, &LogQuery{}, &EventQuery{}, &DeadLetterQuery{}, &InvokeRequest{}, &Pause{},
			&DeployRequest{}, &DryRunRequest{}, &InitRequest{}, &JoinRequest{}, &TokenRequest{}, &LabelRequest{}, &DrainRequest{}, &ExplainQuery{},
			&DrillRequest{}, &AccessRequest{},
		}
		v := values[int(which)%len(values)]
		if err := decode(bytes.NewReader(body), v); err != nil {
			if k := function.KindOf(err); k != KindInvalid && k != KindTooLarge {
				t.Fatalf("kind %q of %v", k, err)
			}
			return
		}
		again := reflect.New(reflect.TypeOf(v).Elem()).Interface()
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatalf("%+v came in and cannot go out: %v", v, err)
		}
		if err := decode(bytes.NewReader(text), again); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		checkMeaning(t, v)
	})
}

// checkMeaning runs what the server does with a request before the agent sees it.
func checkMeaning(t *testing.T, v any) {
	switch v := v.(type) {
	case *LabelRequest:
		if v.check() == nil && (CheckLabels(v.Add) != nil || CheckLabels(v.Remove) != nil) {
			t.Fatalf("%+v reaches the cluster", v)
		}
	case *TokenRequest:
		if v.check() == nil && (v.TTLMS <= 0 || v.Uses <= 0) {
			t.Fatalf("%+v reaches the cluster", v)
		}
	case *Message:
		if m, err := v.message(); err == nil && (event.CheckTopic(m.Topic) != nil || m.QoS > 1) {
			t.Fatalf("%+v reaches the broker", m)
		}
	case *SubscribeQuery:
		if v.check() == nil && event.CheckFilter(v.Filter) != nil {
			t.Fatalf("%+v reaches the broker", v)
		}
	case *InvokeRequest:
		ev, err := v.event("id", time.Unix(0, 0))
		if err == nil && (ev.QoS > 1 || ev.Topic != "" && event.CheckTopic(ev.Topic) != nil) {
			t.Fatalf("%+v reaches the agent", ev)
		}
	case *DeployRequest:
		if d, err := v.deployment([]byte("x")); err == nil && d.Manifest.Name == "" {
			t.Fatalf("%+v is deployed without a name", d)
		}
	case *DryRunRequest:
		if _, events, err := v.trial([]byte("x"), time.Unix(0, 0)); err == nil && len(events) != len(v.Events) {
			t.Fatalf("%d of %d events", len(events), len(v.Events))
		}
	}
}

func FuzzParts(f *testing.F) {
	for _, module := range []string{"", "\x00asm", strings.Repeat("x", 200)} {
		var b bytes.Buffer
		w := multipart.NewWriter(&b)
		if err := w.SetBoundary("b"); err != nil {
			f.Fatal(err)
		}
		if err := writeParts(w, DeployRequest{File: "f", Manifest: "manifest = 1"}, []byte(module)); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
		f.Add(b.Bytes()[:b.Len()/2])
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var req DeployRequest
		module, err := decodeParts(multipart.NewReader(bytes.NewReader(body), "b"), &req, 100)
		if err == nil && (len(module) == 0 || len(module) > 100) {
			t.Fatalf("a module of %d bytes passed", len(module))
		}
		if _, ok := errors.AsType[*function.Error](err); err != nil && !ok {
			t.Fatalf("%T: %v", err, err)
		}
	})
}
