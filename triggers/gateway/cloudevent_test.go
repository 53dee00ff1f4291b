package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"mayfly/event"
	"mayfly/function"
	"mayfly/triggers"
)

// cloud posts a structured event and returns what the function saw.
func cloud(t *testing.T, body string) (*event.Event, int) {
	t.Helper()
	rec := &recorder{}
	w := call(gateway(t, rec, nil), post("f", body, "Content-Type", cloudJSON+"; charset=utf-8"))
	if w.Code >= 300 {
		return nil, w.Code
	}
	return rec.invoked[0].Event, w.Code
}

func TestStructuredEvents(t *testing.T) {
	const required = `"specversion":"1.0","id":"7","source":"/s","type":"t"`
	for _, c := range []struct{ more, kind, data string }{
		{`,"data":{"a": [1]}`, "application/json", `{"a": [1]}`},
		{`,"data":"x"`, "application/json", `"x"`},
		{`,"datacontenttype":"text/plain","data":"x\ny"`, "text/plain", "x\ny"},
		{`,"datacontenttype":"text/plain","data":5`, "text/plain", "5"},
		{`,"datacontenttype":"application/vnd.a+json","data":"x"`, "application/vnd.a+json", `"x"`},
		{`,"datacontenttype":"image/png","data_base64":"AAH/"`, "image/png", "\x00\x01\xff"},
		{``, "application/json", ""},
		{`,"data":null`, "application/json", "null"},
	} {
		ev, code := cloud(t, "{"+required+c.more+"}")
		if code != 200 || ev.ContentType != c.kind || string(ev.Data) != c.data || ev.ID != "7" || ev.Source != "/s" || ev.Type != "t" {
			t.Errorf("%s: %d %+v", c.more, code, ev)
		}
	}
	ev, _ := cloud(t, "{"+required+`,"time":"2026-01-02T03:04:05Z","subject":"s","dataschema":"urn:x","zone":"north","n":5,"ok":true,"gone":null}`)
	want := []event.Attr{{Name: "n", Value: "5"}, {Name: "ok", Value: "true"}, {Name: "zone", Value: "north"}}
	if ev.Time.Year() != 2026 || ev.Subject != "s" || ev.DataSchema != "urn:x" || fmt.Sprint(ev.User) != fmt.Sprint(want) {
		t.Errorf("%+v", ev)
	}
	for _, bad := range []string{
		"", "[]", "{", `{"id":"7","source":"/s","type":"t"}`, `{"specversion":"0.3","id":"7","source":"/s","type":"t"}`, `{"specversion":"1.0","id":"","source":"/s","type":"t"}`,
		"{" + required + `,"data":1,"data_base64":"AA=="}`, "{" + required + `,"data_base64":"%"}`, "{" + required + `,"data_base64":5}`, "{" + required + `,"time":"now"}`,
		"{" + required + `,"x":{}}`, "{" + required + `,"a_b":"1"}`, "{" + required + `,"":"1"}`,
	} {
		if _, code := cloud(t, bad); code != 400 {
			t.Errorf("%s: %d", bad, code)
		}
	}
}

// responding answers with what the test says.
type responding struct{ res *function.Response }

func (f responding) Invoke(_ context.Context, _ Call, r triggers.Receipt) error {
	r.Settle(triggers.Settlement{Response: f.res})
	return nil
}

func (f responding) Post(Call, triggers.Receipt) error { return nil }

// Who sends an event gets one; who accepts nothing else gets it as JSON; who does neither sees no difference.
func TestAnswersAreEvents(t *testing.T) {
	res := &function.Response{Status: 201, ContentType: "application/json", Data: []byte(`{"a": 1}`), Header: []event.Attr{{Name: "ce-type", Value: "my type%"}, {Name: "x-a", Value: "1"}}}
	g := gateway(t, responding{res}, nil)
	if w := call(g, post("f", "")); w.Header().Get("Ce-Id") != "" || w.Body.String() != `{"a": 1}` || w.Header().Get("Ce-Type") != "my type%" {
		t.Errorf("plain: %v %s", w.Header(), w.Body)
	}
	binary := []string{"ce-specversion", "1.0", "ce-id", "7", "ce-source", "/s", "ce-type", "t"}
	w := call(g, post("f", "", binary...))
	for name, want := range map[string]string{
		"Ce-Specversion": "1.0", "Ce-Id": "7/response", "Ce-Source": "/fn/f", "Ce-Type": "my%20type%25", "X-A": "1", "Content-Type": "application/json",
	} {
		if got := w.Header().Get(name); got != want {
			t.Errorf("binary: %s is %q, want %q", name, got, want)
		}
	}
	for _, c := range []struct{ kind, data, member, want string }{
		{"application/json", `{"a": 1}`, "data", `{"a":1}`},
		{"application/json", `{"a"`, "data_base64", `"eyJhIg=="`},
		{"text/plain", "x\ny", "data", `"x\ny"`},
		{"image/png", "\x00\xff", "data_base64", `"AP8="`},
		{"", "", "data", ""},
	} {
		g := gateway(t, responding{&function.Response{ContentType: c.kind, Data: []byte(c.data)}}, nil)
		w := call(g, post("f", "", append(binary, "Accept", cloudJSON)...))
		var got map[string]json.RawMessage
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != 200 || w.Header().Get("Content-Type") != cloudJSON {
			t.Fatalf("%d %v %s", w.Code, err, w.Body)
		}
		if string(got[c.member]) != c.want || string(got["type"]) != `"`+typeReply+`"` || string(got["id"]) != `"7/response"` || string(got["specversion"]) != `"1.0"` {
			t.Errorf("%q: %s", c.data, w.Body)
		}
		ev, code := cloud(t, w.Body.String()) // it is one that we take ourselves
		if code != 200 || c.kind == "text/plain" && string(ev.Data) != c.data {
			t.Errorf("taken back: %d %+v", code, ev)
		}
	}
}

func TestOpenAPIShowsWhatCallersShow(t *testing.T) {
	tokens := &Tokens{grants: func() []grant { return nil }}
	g := gateway(t, &recorder{}, func(c *Config) { c.Tokens, c.Callers = tokens, true })
	routes := parsed(t, "f", function.AuthJWT, "GET /jwt", "GET /site")
	routes[1].Require = function.Requirement{Issuer: "site", Scopes: []string{"read"}}
	routes = append(append(routes, parsed(t, "f", function.AuthMTLS, "GET /mtls")...), parsed(t, "f", function.AuthToken, "GET /token")...)
	routes = append(routes, parsed(t, "f", function.AuthPublic, "GET /open")...)
	text, err := json.Marshal(g.describe(routes))
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Paths map[string]map[string]struct {
			Security []map[string][]string
		}
		Components struct {
			Schemes map[string]struct{ Type, Scheme, BearerFormat string } `json:"securitySchemes"`
		}
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"/jwt": "[map[jwt:[]]]", "/site": "[map[jwt-site:[read]]]", "/mtls": "[map[mtls:[]]]", "/token": "[map[token:[]]]", "/open": "[]"} {
		if got := fmt.Sprint(doc.Paths[path]["get"].Security); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
	if got := fmt.Sprint(doc.Components.Schemes); got != "map[jwt:{http bearer JWT} jwt-site:{http bearer JWT} mtls:{mutualTLS  } token:{http bearer }]" {
		t.Errorf("schemes %s", got)
	}
}

// A body that is an event may be anything.
func FuzzStructured(f *testing.F) {
	f.Add(`{"specversion":"1.0","id":"7","source":"/s","type":"t","time":"2026-01-02T03:04:05Z","data":{"a":1},"x":true}`)
	f.Add(`{"specversion":"1.0","id":"7","source":"/s","type":"t","data_base64":"AA=="}`)
	f.Fuzz(func(t *testing.T, body string) {
		ev := &event.Event{Time: time.Now()}
		if err := fromJSON(ev, []byte(body)); err != nil {
			return
		}
		if ev.ID == "" || ev.Source == "" || ev.Type == "" || len(ev.Data) > len(body) {
			t.Errorf("%q: %+v", body, ev)
		}
		for _, a := range ev.User {
			if strings.HasPrefix(a.Name, event.AuthPrefix) {
				t.Errorf("%q says who it is of", body)
			}
		}
	})
}
