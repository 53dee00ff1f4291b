package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mayfly/event"
	"mayfly/function"
	"mayfly/triggers"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 10 * time.Second

// functions is an agent of one function: what it is given, it does.
type functions func(name string, ev *event.Event, r triggers.Receipt) error

func (f functions) Invoke(_ context.Context, c Call, r triggers.Receipt) error {
	return f(c.Function, c.Event, r)
}

// Post implements Functions: what is kept runs when nobody looks.
func (f functions) Post(_ Call, r triggers.Receipt) error {
	r.Settle(triggers.Settlement{Journaled: true})
	return nil
}

// settle answers every call at once.
func settle(s triggers.Settlement) functions {
	return func(_ string, _ *event.Event, r triggers.Receipt) error { r.Settle(s); return nil }
}

func gateway(t *testing.T, f Functions, edit func(*Config)) *Gateway {
	t.Helper()
	c := Config{Address: "127.0.0.1:0", Functions: f, Names: func() []string { return []string{"overheat", "average"} }}
	if edit != nil {
		edit(&c)
	}
	g, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// call does one request without a network.
func call(g *Gateway, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	g.handler().ServeHTTP(w, r)
	return w
}

func post(name, body string, header ...string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "http://127.0.0.1/fn/"+name, strings.NewReader(body))
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	return r
}

func problemOf(t *testing.T, w *httptest.ResponseRecorder) problem {
	t.Helper()
	var p problem
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
		t.Fatalf("%d %q: %v", w.Code, w.Body, err)
	}
	if w.Header().Get("Content-Type") != "application/problem+json" || p.Status != w.Code || p.Title == "" || p.Type != "urn:mayfly:problem:"+p.Kind {
		t.Errorf("problem %+v, header %v", p, w.Header())
	}
	return p
}

func get[T any](t *testing.T, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("never: %s", what)
		panic("unreachable")
	}
}

func TestAnswer(t *testing.T) {
	for _, c := range []struct {
		name   string
		res    *function.Response
		status int
		header map[string]string
		body   string
	}{
		{"nothing", nil, 204, nil, ""},
		{"data", &function.Response{Data: []byte("hi")}, 200, map[string]string{"Content-Type": "application/octet-stream"}, "hi"},
		{
			"all", &function.Response{Status: 201, ContentType: "text/plain", Data: []byte("x"), Header: []event.Attr{
				{Name: "x-a", Value: "1"}, {Name: "x-a", Value: "2"}, {Name: "content-length", Value: "900"}, {Name: "transfer-encoding", Value: "chunked"},
			}},
			201,
			map[string]string{"Content-Type": "text/plain", "X-A": "1", "Content-Length": "", "Transfer-Encoding": "", "X-Content-Type-Options": "nosniff"},
			"x",
		},
		{"no content", &function.Response{Status: 204, Data: []byte("x")}, 204, nil, ""},
		{"switching", &function.Response{Status: 101}, 502, nil, ""},
		{"nonsense", &function.Response{Status: 9000}, 502, nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := gateway(t, settle(triggers.Settlement{Response: c.res}), nil)
			w := call(g, post("f", ""))
			if w.Code != c.status {
				t.Errorf("status %d", w.Code)
			}
			for k, v := range c.header {
				if w.Header().Get(k) != v {
					t.Errorf("%s: %q, want %q", k, w.Header().Get(k), v)
				}
			}
			if c.status < 500 && w.Body.String() != c.body {
				t.Errorf("body %q", w.Body)
			}
			if g.Status().Answered[c.status] != 1 || g.Status().Running != 0 {
				t.Errorf("status %+v", g.Status())
			}
		})
	}
}

func TestFailures(t *testing.T) {
	fail := func(class function.Class, kind string, after time.Duration) triggers.Settlement {
		return triggers.Settlement{Err: &function.Error{Op: "invoke", Subject: "f", Class: class, Kind: kind, Err: errors.New("why"), After: after}}
	}
	for _, c := range []struct {
		s      triggers.Settlement
		status int
		after  string
	}{
		{fail(function.ClassReject, "rejected", 0), 422, ""},
		{fail(function.ClassReject, "payload-limit", 0), 413, ""},
		{fail(function.ClassRetry, "timeout", 0), 504, ""},
		{fail(function.ClassRetry, "cpu", 0), 504, ""},
		{fail(function.ClassRetry, "trap", 0), 502, ""},
		{fail(function.ClassRetry, "asked", 2500*time.Millisecond), 503, "3"},
		{fail(function.ClassOverload, "no-slot", 0), 503, "1"},
		{fail(function.ClassNotHere, "no-module", 0), 503, "1"},
		{fail(function.ClassConflict, "conflict", 0), 503, "1"},
		{fail(function.ClassFatal, "disk", 0), 503, "1"},
		{triggers.Settlement{Err: errors.New("plain")}, 502, ""},
		{triggers.Settlement{Outcome: function.Reject}, 422, ""},
		{triggers.Settlement{Outcome: function.Retry}, 503, "1"},
	} {
		w := call(gateway(t, settle(c.s), nil), post("f", ""))
		if w.Code != c.status || w.Header().Get("Retry-After") != c.after {
			t.Errorf("%+v: status %d, Retry-After %q", c.s, w.Code, w.Header().Get("Retry-After"))
		}
		problemOf(t, w)
	}
	if w := call(gateway(t, settle(triggers.Settlement{Journaled: true}), nil), post("f", "")); w.Code != 202 {
		t.Errorf("journaled: %d", w.Code)
	}
}

func TestNoSuchFunctionAndPaused(t *testing.T) {
	refuse := functions(func(name string, _ *event.Event, _ triggers.Receipt) error {
		if name == "sleepy" {
			return &function.Error{Op: "invoke", Subject: name, Class: function.ClassOverload, Kind: "paused", Hint: "mayfly fn resume sleepy"}
		}
		return &function.Error{Op: "invoke", Subject: name, Class: function.ClassReject, Kind: "not-found", Hint: "mayfly fn ls"}
	})
	g := gateway(t, refuse, nil)
	for _, c := range []struct {
		name   string
		status int
		next   string
	}{
		{"overhaet", 404, "did you mean overheat?"},
		{"avrage", 404, "did you mean average?"},
		{"zzz", 404, "mayfly fn ls"},
		{"sleepy", 503, "mayfly fn resume sleepy"},
	} {
		w := call(g, post(c.name, "x"))
		if p := problemOf(t, w); w.Code != c.status || p.Next != c.next {
			t.Errorf("%s: %d %+v", c.name, w.Code, p)
		}
	}
	if n := g.Status().Running; n != 0 {
		t.Errorf("%d places taken", n)
	}
}

func TestEvent(t *testing.T) {
	const trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	var got *event.Event
	g := gateway(t, functions(func(name string, ev *event.Event, r triggers.Receipt) error {
		if name != "f" {
			t.Errorf("function %q", name)
		}
		got = ev
		r.Settle(triggers.Settlement{})
		return nil
	}), nil)
	w := call(g, post("f", "body", "Content-Type", "text/csv", "Traceparent", trace))
	if w.Code != 204 || string(got.Data) != "body" || got.ContentType != "text/csv" || got.TraceParent != trace || got.Type != event.TypeHTTP ||
		got.Source != "/fn/f" || got.ID == "" || got.Time.IsZero() || w.Header().Get("Mayfly-Event") != got.ID {
		t.Errorf("%d %+v", w.Code, got)
	}
	w = call(g, post("f", "{}", "ce-specversion", "1.0", "ce-id", "7", "ce-source", "/s%20x", "ce-type", "t", "ce-time", "2026-01-02T03:04:05Z",
		"ce-subject", "sub", "ce-dataschema", "urn:x", "ce-zone", "north", "ce-alpha", "1", "Content-Type", "application/json", "Traceparent", "junk"))
	want := event.Event{
		ID: "7", Source: "/s x", Type: "t", Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Subject: "sub", DataSchema: "urn:x",
		ContentType: "application/json", User: []event.Attr{{Name: "alpha", Value: "1"}, {Name: "zone", Value: "north"}}, Data: []byte("{}"),
	}
	if w.Code != 204 || fmt.Sprintf("%+v", *got) != fmt.Sprintf("%+v", want) {
		t.Errorf("%d\n got %+v\nwant %+v", w.Code, *got, want)
	}
}

func TestBadRequests(t *testing.T) {
	g := gateway(t, functions(func(string, *event.Event, triggers.Receipt) error { t.Error("ran"); return nil }), func(c *Config) { c.Limits.Body = 10 })
	ce := []string{"ce-specversion", "1.0", "ce-id", "1", "ce-source", "s", "ce-type", "t"}
	chunked := post("f", strings.Repeat("x", 11))
	chunked.ContentLength = -1
	for name, c := range map[string]struct {
		r      *http.Request
		status int
	}{
		"method":           {httptest.NewRequest("GET", "http://127.0.0.1/fn/f", nil), 405},
		"route":            {httptest.NewRequest("POST", "http://127.0.0.1/other", nil), 404},
		"declared length":  {post("f", strings.Repeat("x", 11)), 413},
		"undeclared":       {chunked, 413},
		"ce version":       {post("f", "", "ce-specversion", "0.3", "ce-id", "1"), 400},
		"no ce version":    {post("f", "", "ce-id", "1"), 400},
		"ce required":      {post("f", "", ce[:6]...), 400},
		"ce time":          {post("f", "", append(ce[:8:8], "ce-time", "yesterday")...), 400},
		"ce encoding":      {post("f", "", append(ce[:8:8], "ce-x", "%zz")...), 400},
		"ce name":          {post("f", "", append(ce[:8:8], "ce-a_b", "1")...), 400},
		"ce twice":         {post("f", "", append(ce[:8:8], "ce-id", "2")...), 400},
		"structured":       {post("f", "{}", "Content-Type", "application/cloudevents+json"), 400},
		"batch":            {post("f", "[]", "Content-Type", "application/cloudevents-batch+json"), 415},
		"web socket":       {post("f", "", "Upgrade", "websocket", "Connection", "Upgrade"), 501},
		"server's events":  {post("f", "", "Accept", "text/event-stream"), 501},
		"gRPC":             {post("f", "", "Content-Type", "application/grpc+proto"), 501},
		"foreign page":     {post("f", "", "Origin", "https://evil.example"), 403},
		"fetched by one":   {post("f", "", "Sec-Fetch-Site", "cross-site"), 403},
		"name of our own":  {httptest.NewRequest("POST", "http://rebound.example/fn/f", nil), 403},
		"other loopback":   {httptest.NewRequest("GET", "http://[::1]:80/fn/f", nil), 405},
		"localhost passes": {httptest.NewRequest("GET", "http://localhost:80/fn/f", nil), 405},
	} {
		w := call(g, c.r)
		if w.Code != c.status {
			t.Errorf("%s: status %d, want %d", name, w.Code, c.status)
		}
		problemOf(t, w)
	}
	if n := g.Status().Running; n != 0 {
		t.Errorf("%d places taken", n)
	}
}

func TestTokens(t *testing.T) {
	token, hash := NewToken()
	other, _ := NewToken()
	tokens, err := ParseTokens(strings.NewReader("# who\nci " + hash + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	g := gateway(t, settle(triggers.Settlement{}), func(c *Config) { c.Tokens = tokens })
	for authorization, want := range map[string]int{
		"": 401, "Bearer " + token: 204, "bearer " + token: 204, "Bearer " + other: 401, "Bearer": 401,
		"Basic " + token: 401, "Bearer " + hash: 401, token: 401,
	} {
		r := post("f", "", "Authorization", authorization)
		r.Host = "device.example" // tokens guard by themselves
		w := call(g, r)
		if w.Code != want || (want == 401) != (w.Header().Get("WWW-Authenticate") != "") {
			t.Errorf("%q: status %d", authorization, w.Code)
		}
	}
	if w := call(g, httptest.NewRequest("GET", "http://device.example/healthz", nil)); w.Code != 200 {
		t.Errorf("healthz: %d", w.Code)
	}
	for text, want := range map[string]string{
		"":                               "no token",
		"ci":                             "line 1",
		"\nci sha256:00":                 "line 2",
		"ci " + token:                    "line 1",
		"a " + hash + "\n" + "a " + hash: "line 2: token \"a\" is there twice",
	} {
		if _, err := ParseTokens(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
	path := filepath.Join(t.TempDir(), "tokens")
	for mode, ok := range map[os.FileMode]bool{0o600: true, 0o644: false} {
		if err := errors.Join(os.WriteFile(path, []byte("ci "+hash), 0o600), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadTokens(path); (err == nil) != ok {
			t.Errorf("mode %v: %v", mode, err)
		}
	}
}

func TestRefusesToListenOpenly(t *testing.T) {
	tokens := &Tokens{}
	cert := testTLS(t)
	for _, c := range []struct {
		edit Config
		want string
	}{
		{Config{Address: "127.0.0.1:0"}, ""},
		{Config{Address: "[::1]:0"}, ""},
		{Config{Address: ":0"}, "clear text"},
		{Config{Address: "0.0.0.0:0", TLS: cert}, ""}, // who may call is a matter of the routes
		{Config{Address: "0.0.0.0:0", Tokens: tokens}, "clear text"},
		{Config{Address: "0.0.0.0:0", Tokens: tokens, PlainHTTP: true}, ""},
		{Config{Address: "0.0.0.0:0", Tokens: tokens, TLS: cert}, ""},
		{Config{Address: "nowhere"}, "missing port"},
	} {
		c.edit.Functions = settle(triggers.Settlement{})
		_, err := New(c.edit)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v: %v", c.edit, err)
		}
	}
}

func TestBusyAndTimeout(t *testing.T) {
	running := make(chan triggers.Receipt, 1)
	g := gateway(t, functions(func(_ string, _ *event.Event, r triggers.Receipt) error { running <- r; return nil }),
		func(c *Config) { c.Limits.Concurrency = 1; c.Limits.Timeout = 20 * time.Millisecond })
	if p := problemOf(t, call(g, post("f", ""))); p.Status != 504 || p.Kind != "timeout" {
		t.Errorf("%+v", p)
	}
	w := call(g, post("f", "")) // the first still runs
	if p := problemOf(t, w); p.Status != 503 || p.Kind != "busy" || w.Header().Get("Retry-After") != "1" {
		t.Errorf("%+v", p)
	}
	r := get(t, "receipt", running)
	r.Settle(triggers.Settlement{})
	if n := g.Status().Running; n != 0 {
		t.Errorf("%d places taken", n)
	}
}

func TestPanicFreesItsPlace(t *testing.T) {
	g := gateway(t, functions(func(string, *event.Event, triggers.Receipt) error { panic("bug") }), nil)
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed: net/http should log it")
			}
		}()
		call(g, post("f", ""))
	}()
	if n := g.Status().Running; n != 0 {
		t.Errorf("%d places taken", n)
	}
}

func TestReadiness(t *testing.T) {
	var broken error
	g := gateway(t, settle(triggers.Settlement{}), func(c *Config) { c.Ready = func() error { return broken } })
	ask := func(path string) int { return call(g, httptest.NewRequest("GET", "http://x"+path, nil)).Code }
	if ask("/healthz") != 200 || ask("/readyz") != 200 {
		t.Error("healthy and ready")
	}
	broken = errors.New("no disk")
	if ask("/healthz") != 200 || ask("/readyz") != 503 {
		t.Error("healthy, not ready")
	}
}
