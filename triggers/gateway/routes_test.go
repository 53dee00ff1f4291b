package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"mayfly/function"
	"mayfly/triggers"
)

// recorder is an agent that writes down what it was asked.
type recorder struct {
	invoked, posted []Call
	full            error
}

func (c *recorder) Invoke(_ context.Context, call Call, r triggers.Receipt) error {
	c.invoked = append(c.invoked, call)
	r.Settle(triggers.Settlement{Response: &function.Response{Data: []byte(call.Function)}})
	return nil
}

func (c *recorder) Post(call Call, r triggers.Receipt) error {
	if c.full != nil {
		return c.full
	}
	c.posted = append(c.posted, call)
	r.Settle(triggers.Settlement{Journaled: true})
	return nil
}

func parsed(t *testing.T, name string, auth function.Auth, routes ...string) []Route {
	t.Helper()
	var all []Route
	for i, text := range routes {
		r, err := function.ParseRoute(text)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, Route{Function: name, Trigger: fmt.Sprintf("http[%d]", i), Route: r, Auth: auth, Summary: "does it"})
	}
	return all
}

func ask(method, url string) *http.Request {
	return httptest.NewRequest(method, "http://127.0.0.1"+url, strings.NewReader("body"))
}

func TestRoutesAreFoundByLongestMatch(t *testing.T) {
	rec := &recorder{}
	g := gateway(t, rec, nil)
	if w := call(g, ask("POST", "/overheat/7")); w.Code != 404 {
		t.Errorf("before there are routes: %d", w.Code)
	}
	faults := g.SetRoutes(slices.Concat(
		parsed(t, "line", "public", "POST /overheat/{line}", "GET /overheat/{line}", "/any"),
		parsed(t, "special", "public", "POST /overheat/special"),
		parsed(t, "files", "public", "PUT /files/{rest...}", "GET /dir/"),
	))
	if len(faults) != 0 {
		t.Fatal(faults)
	}
	for _, c := range []struct {
		method, url string
		status      int
		fn, trigger string
		captures    string
	}{
		{"POST", "/overheat/7", 200, "line", "http[0]", "[{line 7}]"},
		{"GET", "/overheat/a%20b%2Fc", 200, "line", "http[1]", "[{line a b/c}]"},
		{"HEAD", "/overheat/7", 200, "line", "http[1]", "[{line 7}]"},
		{"POST", "/overheat/special", 200, "special", "http[0]", "[]"},
		{"DELETE", "/any", 200, "line", "http[2]", "[]"},
		{"PUT", "/files/a/b/c", 200, "files", "http[0]", "[{rest a/b/c}]"},
		{"PUT", "/files/", 200, "files", "http[0]", "[{rest }]"},
		{"GET", "/dir/below", 200, "files", "http[1]", "[]"},
		{"DELETE", "/overheat/7", 405, "", "", ""},
		{"POST", "/overheat/7/8", 404, "", "", ""},
		{"POST", "/overheat/", 404, "", "", ""},
		{"POST", "/fn/line", 200, "line", "", "[]"},
		{"GET", "/healthz", 200, "", "", ""},
		{"POST", "/overheat/%ff", 400, "", "", ""},
	} {
		rec.invoked = nil
		w := call(g, ask(c.method, c.url))
		if w.Code != c.status {
			t.Errorf("%s %s: status %d, want %d", c.method, c.url, w.Code, c.status)
			continue
		}
		if c.fn == "" {
			if len(rec.invoked) != 0 {
				t.Errorf("%s %s ran %v", c.method, c.url, rec.invoked)
			}
			continue
		}
		got := rec.invoked[0]
		if got.Function != c.fn || got.Trigger != c.trigger || fmt.Sprint(got.Event.Captures) != c.captures {
			t.Errorf("%s %s: %s %s %v, want %+v", c.method, c.url, got.Function, got.Trigger, got.Event.Captures, c)
		}
	}
	w := call(g, ask("DELETE", "/overheat/7"))
	if p := problemOf(t, w); p.Kind != "method" || w.Header().Get("Allow") != "GET, HEAD, POST" {
		t.Errorf("405: %+v, Allow %q", p, w.Header().Get("Allow"))
	}
	for url, want := range map[string]string{"/overhaet/7": "did you mean POST /overheat/{line}", "/overheat/7/": "POST /overheat/{line}", "/nothing/like/it": "POST /fn/<name>"} {
		if p := problemOf(t, call(g, ask("POST", url))); p.Status != 404 || !strings.Contains(p.Next, want) {
			t.Errorf("%s: %+v, want %q", url, p, want)
		}
	}
	g.SetRoutes(nil)
	if w := call(g, ask("POST", "/overheat/7")); w.Code != 404 {
		t.Errorf("after they are gone: %d", w.Code)
	}
}

func TestQueryAndMethodAreAttributes(t *testing.T) {
	rec := &recorder{}
	g := gateway(t, rec, nil)
	g.SetRoutes(parsed(t, "f", "public", "/x"))
	call(g, ask("PATCH", "/x?b=2&a=1&a=3&c=%C3%BC"))
	ev := rec.invoked[0].Event
	for name, want := range map[string]string{"user.query.a": "1,3", "user.query.b": "2", "user.query.c": "ü", "user.http.method": "PATCH", "source": "/x"} {
		if got, _ := ev.Attr(name); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
	for _, bad := range []string{"/x?a=%zz", "/x?a=%ff", "/x?a;b", "/x?" + many(101)} {
		if p := problemOf(t, call(g, ask("GET", bad))); p.Status != 400 {
			t.Errorf("%.20s: %+v", bad, p)
		}
	}
	if len(rec.invoked) != 1 || g.Status().Running != 0 {
		t.Errorf("bad requests ran: %d, %+v", len(rec.invoked), g.Status())
	}
}

func many(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "p%d=1&", i)
	}
	return strings.TrimSuffix(b.String(), "&")
}

func TestAuthOfRoutes(t *testing.T) {
	token, hash := NewToken()
	tokens, err := ParseTokens(strings.NewReader("ci " + hash))
	if err != nil {
		t.Fatal(err)
	}
	routes := slices.Concat(parsed(t, "open", "public", "/open"), parsed(t, "closed", "token", "/closed"), parsed(t, "later", "jwt", "/later"))
	with := gateway(t, &recorder{}, func(c *Config) { c.Tokens = tokens })
	if faults := with.SetRoutes(routes); len(faults) != 1 || faults[0].Route.Function != "later" || !strings.Contains(faults[0].Why, "issuer") {
		t.Errorf("faults %+v", faults)
	}
	without := gateway(t, &recorder{}, nil)
	if faults := without.SetRoutes(routes); len(faults) != 2 || faults[0].Route.Function != "closed" {
		t.Errorf("without tokens: faults %+v", faults)
	}
	for _, c := range []struct {
		g      *Gateway
		url    string
		header []string
		status int
	}{
		{with, "/open", nil, 200},
		{with, "/open", []string{"Origin", "https://elsewhere.example"}, 200}, // public is public
		{with, "/closed", nil, 401},
		{with, "/closed", []string{"Authorization", "Bearer " + token}, 200},
		{with, "/later", []string{"Authorization", "Bearer " + token}, 403},
		{with, "/openapi.json", nil, 401},
		{without, "/open", nil, 200},
		{without, "/closed", []string{"Authorization", "Bearer " + token}, 403},
	} {
		r := ask("GET", c.url)
		for i := 0; i < len(c.header); i += 2 {
			r.Header.Set(c.header[i], c.header[i+1])
		}
		if w := call(c.g, r); w.Code != c.status {
			t.Errorf("%s %v: %d, want %d", c.url, c.header, w.Code, c.status)
		}
	}
	stranger := ask("GET", "/clsed")
	if p := problemOf(t, call(with, stranger)); strings.Contains(p.Next, "closed") {
		t.Errorf("a stranger learns routes: %+v", p)
	}
}

// 202 is said when the event is safe, and not before; where there is no room it is not said [D1].
func TestRespondAsync(t *testing.T) {
	rec := &recorder{}
	g := gateway(t, rec, nil)
	g.SetRoutes(parsed(t, "f", "public", "POST /x/{id}"))
	for _, c := range []struct {
		prefer string
		later  bool
	}{
		{"respond-async", true}, {"wait=10, Respond-Async", true}, {"respond-async; wait=1", true}, {"return=minimal", false}, {"", false},
	} {
		rec.invoked, rec.posted = nil, nil
		r := ask("POST", "/x/1")
		r.Header.Set("Prefer", c.prefer)
		w := call(g, r)
		if c.later != (w.Code == 202) || c.later != (len(rec.posted) == 1) || c.later == (len(rec.invoked) == 1) ||
			c.later != (w.Header().Get("Preference-Applied") == "respond-async") || w.Header().Get("Mayfly-Event") == "" {
			t.Errorf("%q: %d, header %v", c.prefer, w.Code, w.Header())
		}
	}
	byName := func() *http.Request { return post("f", "x", "Prefer", "respond-async") }
	if w := call(g, byName()); w.Code != 202 || rec.posted[0].Trigger != "" {
		t.Errorf("by name: %d", w.Code)
	}
	rec.full = &function.Error{Op: "journal: append", Subject: "f", Class: function.ClassOverload, Kind: "journal-full", Err: errors.New("full")}
	if p := problemOf(t, call(g, byName())); p.Status != 503 {
		t.Errorf("without room: %+v", p)
	}
	if n := g.Status().Running; n != 0 {
		t.Errorf("%d places taken", n)
	}
}

func TestConflictingRoutesAreToldAndTheFirstIsServed(t *testing.T) {
	rec := &recorder{}
	g := gateway(t, rec, nil)
	faults := g.SetRoutes(slices.Concat(parsed(t, "a", "public", "GET /x/{y}"), parsed(t, "b", "public", "GET /x/{z}", "GET /other")))
	if len(faults) != 1 || faults[0].Route.Function != "b" || !strings.Contains(faults[0].Why, "function a") {
		t.Errorf("faults %+v", faults)
	}
	if w := call(g, ask("GET", "/x/1")); w.Body.String() != "a" {
		t.Errorf("answered by %q", w.Body)
	}
	for _, pair := range [][2]string{{"/{a}/x", "/x/{b}"}, {"/x/{b}", "/{a}/x"}, {"/", "/{rest...}"}, {"/x/", "/x/{rest...}"}} {
		if faults := g.SetRoutes(slices.Concat(parsed(t, "a", "public", pair[0]), parsed(t, "b", "public", pair[1]))); len(faults) != 1 {
			t.Errorf("%v: %v", pair, faults)
		}
	}
	g.SetRoutes(parsed(t, "b", "public", "GET /other"))
	if w := call(g, ask("GET", "/other")); w.Body.String() != "b" {
		t.Errorf("answered by %q", w.Body)
	}
}

func TestOpenAPI(t *testing.T) {
	g := gateway(t, settle(triggers.Settlement{}), nil)
	g.SetRoutes(slices.Concat(parsed(t, "a", "token", "GET /x/{y}", "/any"), parsed(t, "b", "public", "POST /x/{z}", "PUT /files/{rest...}", "POST /any")))
	w := call(g, ask("GET", "/openapi.json"))
	var doc struct {
		OpenAPI string
		Paths   map[string]map[string]struct {
			OperationID string
			Summary     string
			Parameters  []struct{ Name, In string }
			Security    []map[string][]string
		}
	}
	if err := json.Unmarshal(w.Body.Bytes(), &doc); w.Code != 200 || err != nil || doc.OpenAPI != "3.1.0" {
		t.Fatalf("%d %v %+v", w.Code, err, doc)
	}
	x := doc.Paths["/x/{y}"]
	if len(doc.Paths) != 3 || len(x) != 2 || x["get"].Parameters[0].Name != "y" || x["post"].Parameters[0].Name != "y" || x["get"].Security == nil || x["post"].Security != nil {
		t.Errorf("paths %+v", doc.Paths)
	}
	if p := doc.Paths["/files/{rest}"]["put"]; len(p.Parameters) != 1 || p.Parameters[0].Name != "rest" || p.Summary != "does it" {
		t.Errorf("files %+v", doc.Paths)
	}
	if any := doc.Paths["/any"]; len(any) != 5 || any["post"].OperationID != "b-http[2]-post" {
		t.Errorf("any %+v", any)
	}
	ids := map[string]bool{}
	for _, item := range doc.Paths {
		for _, op := range item {
			if ids[op.OperationID] {
				t.Errorf("operation %s is there twice", op.OperationID)
			}
			ids[op.OperationID] = true
		}
	}
}

// What finding one of 1,000 routes costs, answer included.
func BenchmarkRoutes(b *testing.B) {
	g, err := New(Config{Address: "127.0.0.1:0", Functions: settle(triggers.Settlement{})})
	if err != nil {
		b.Fatal(err)
	}
	var routes []Route
	for i := range 1000 {
		r, err := function.ParseRoute(fmt.Sprintf("POST /site%d/{line}/temp", i))
		if err != nil {
			b.Fatal(err)
		}
		routes = append(routes, Route{Function: "f", Trigger: "http[0]", Route: r, Auth: "public"})
	}
	if faults := g.SetRoutes(routes); len(faults) > 0 {
		b.Fatal(faults)
	}
	h := g.handler()
	for _, path := range []string{"/site500/7/temp", "/fn/f"} {
		b.Run(strings.ReplaceAll(path[1:], "/", "-"), func(b *testing.B) {
			for b.Loop() {
				h.ServeHTTP(httptest.NewRecorder(), ask("POST", path))
			}
		})
	}
}
