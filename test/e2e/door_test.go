package e2e_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"mayfly/internal/guests"
	"mayfly/triggers/gateway"
)

// mirror answers with the attributes of its event, and publishes them on "seen".
func mirror(t testing.TB) []byte {
	t.Helper()
	return guests.WAT(t, `(module
		(import "mayfly_v1" "event_json" (func $json (param i32 i32) (result i32)))
		(import "mayfly_v1" "publish" (func $publish (param i32 i32 i32 i32 i32) (result i32)))
		(import "mayfly_v1" "respond" (func $respond (param i32 i32) (result i32)))
		(memory (export "memory") 1)
		(data (i32.const 0) "seen")
		(func (export "mayfly_handle") (result i32) (local $n i32)
			(local.set $n (call $json (i32.const 64) (i32.const 60000)))
			(drop (call $respond (i32.const 64) (local.get $n)))
			(drop (call $publish (i32.const 0) (i32.const 4) (i32.const 64) (local.get $n) (i32.const 1)))
			i32.const 0))`)
}

const maySee = "[permissions]\npublish = [\"seen\"]\n"

// door is an agent with a gateway, and who calls it.
type door struct {
	*node
	url    string
	token  string
	client *http.Client // nil = the default one
}

func withDoor(t testing.TB) *door {
	t.Helper()
	n := newNode(t, "")
	token, hash := gateway.NewToken()
	tokens := n.file("tokens", "tester "+hash+"\n")
	address := freeAddress(t)
	n.broker = freeAddress(t)
	n.configure(fmt.Sprintf("[embedded]\nlisten = [%q]\n\n[gateway]\nlisten = %q\ntokens = %q\n", n.broker, address, tokens))
	n.start()
	return &door{node: n, url: "http://" + address, token: token}
}

type reply struct {
	status int
	header http.Header
	body   string
	attrs  map[string]any // when the body is JSON
}

func (d *door) call(method, path string, header ...string) reply {
	d.t.Helper()
	r, err := http.NewRequestWithContext(d.t.Context(), method, d.url+path, strings.NewReader("{}"))
	if err != nil {
		d.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	client := d.client
	if client == nil {
		client = http.DefaultClient
	}
	res, err := client.Do(r)
	if err != nil {
		d.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	out := reply{res.StatusCode, res.Header, string(body), nil}
	_ = json.Unmarshal(body, &out.attrs) // not every answer is JSON
	return out
}

func TestRoutes(t *testing.T) {
	t.Parallel()
	d := withDoor(t)
	d.deploy("overheat", "[[trigger.http]]\nroute = \"POST /overheat/{line}\"\nauth = \"public\"\n"+
		"[[trigger.http]]\nroute = \"GET /closed\"\nauth = \"token\"\n"+maySee, mirror(t))
	d.must("fn", "show", "overheat").want(t, 0, "POST /overheat/{line}, public, ready", "GET /closed, token, ready")

	got := d.call("POST", "/overheat/a%20line?unit=c&unit=f")
	for name, want := range map[string]string{
		"topic.line": "a line", "user.query.unit": "c,f", "user.http.method": "POST", "type": "mayfly.http.request", "source": "/overheat/a line",
	} {
		if got.status != 200 || got.attrs[name] != want {
			t.Errorf("%s is %v, want %q: %d %s", name, got.attrs[name], want, got.status, got.body)
		}
	}
	bearer := []string{"Authorization", "Bearer " + d.token}
	for _, c := range []struct {
		method, path string
		header       []string
		status       int
		says         string
	}{
		{"GET", "/closed", nil, 401, "A token is required"},
		{"GET", "/closed", bearer, 200, "mayfly.http.request"},
		{"DELETE", "/closed", nil, 405, "takes GET, HEAD"},
		{"POST", "/overhaet/7", bearer, 404, "did you mean POST /overheat/{line}?"},
		{"POST", "/overhaet/7", nil, 404, "POST /fn/"},
		{"GET", "/openapi.json", bearer, 200, `"/overheat/{line}"`},
		{"POST", "/fn/overheat", bearer, 200, "mayfly.http.request"},
	} {
		if r := d.call(c.method, c.path, c.header...); r.status != c.status || !strings.Contains(r.body, c.says) {
			t.Errorf("%s %s: %d %s; want %d %q", c.method, c.path, r.status, r.body, c.status, c.says)
		}
	}
	d.must("fn", "rm", "overheat", "--yes")
	if r := d.call("POST", "/overheat/7"); r.status != 404 {
		t.Errorf("removed, but %d %s", r.status, r.body)
	}
}

// What cannot be served, or would never end, is refused at deploy with what to do.
func TestTriggersThatAreRefused(t *testing.T) {
	t.Parallel()
	d := withDoor(t)
	route := func(s, auth string) string { return fmt.Sprintf("[[trigger.http]]\nroute = %q\nauth = %q\n", s, auth) }
	listen := func(topic, more string) string { return fmt.Sprintf("[[trigger.mqtt]]\ntopic = %q\n%s", topic, more) }
	d.deploy("first", route("POST /x/{line}", "public")+listen("one", maySee), mirror(t))
	for _, c := range []refused{
		{"twin", route("POST /x/{row}", "token"), mirror(t), 1, `"POST /x/{line}" of function "first"`, "mayfly fn rm first"},
		{"never", "[[trigger.cron]]\nschedule = \"0 0 31 2 *\"\n", mirror(t), 2, "never comes", "five fields"},
		{"nowhere", "[[trigger.cron]]\nschedule = \"CRON_TZ=Nowhere/Land 0 0 * * *\"\n", mirror(t), 1, "unknown time zone", "timedatectl"},
		{"loop", listen("{any}", maySee), mirror(t), 1, `loop may publish on "seen", which loop is triggered by ("{any}")`, "loop = true"},
		{"round", listen("seen", "[permissions]\npublish = [\"one\"]\n"), mirror(t), 1, `first may publish on "seen", which round is triggered by`, "loop = true"},
	} {
		r := d.mayfly("deploy", d.project(c.name, c.manifest, c.module))
		r.want(t, c.code, "error: ", c.why, c.next)
	}
	d.deploy("knows", listen("{any}", maySee+"loop = true\n"), mirror(t))
	if all := d.status().Functions; len(all) != 2 {
		t.Errorf("deployed are %v", all)
	}
}

// Who does not wait is told 202 when the event is on disk: power cuts do not matter any more [D1].
func TestRespondAsyncSurvivesAPowerCut(t *testing.T) {
	t.Parallel()
	d := withDoor(t)
	d.deploy("late", "[[trigger.http]]\nroute = \"POST /late/{what}\"\nauth = \"public\"\n"+maySee, mirror(t))
	d.must("fn", "pause", "late")
	if r := d.call("POST", "/late/now"); r.status != 503 {
		t.Errorf("a paused function answers %d %s", r.status, r.body)
	}
	ids := map[string]bool{}
	for i := range 5 {
		r := d.call("POST", fmt.Sprintf("/late/%d?n=%d", i, i), "Prefer", "respond-async")
		if r.status != 202 || r.header.Get("Preference-Applied") != "respond-async" {
			t.Fatalf("%d %s", r.status, r.body)
		}
		ids[r.header.Get("Mayfly-Event")] = true
	}
	d.kill()
	d.start()
	listener := connect(t, d.broker, "listener")
	listener.subscribe(t, "seen")
	d.must("fn", "resume", "late")
	until(t, "all five ran", func() (bool, string) {
		left := len(ids)
		for _, text := range listener.heard("seen") {
			var ev map[string]any
			if err := json.Unmarshal([]byte(text), &ev); err != nil {
				t.Fatal(err)
			}
			if id, _ := ev["id"].(string); ids[id] && ev["topic.what"] == ev["user.query.n"] {
				left--
			}
		}
		return left == 0, fmt.Sprintf("%d are missing", left)
	})
}

// A schedule goes on by itself after a power cut, and no tick is two events.
func TestScheduleSurvivesAPowerCut(t *testing.T) {
	t.Parallel()
	d := withDoor(t)
	d.deploy("clock", "[[trigger.cron]]\nschedule = \"@every 1s\"\n"+maySee, mirror(t))
	d.must("fn", "show", "clock").want(t, 0, "@every 1s, next ")
	ids := map[string]int{}
	for range 2 {
		listener := connect(t, d.broker, "listener")
		listener.subscribe(t, "seen")
		until(t, "two ticks", func() (bool, string) { n := len(listener.heard("seen")); return n >= 2, fmt.Sprint(n) })
		for _, text := range listener.heard("seen") {
			var ev struct{ ID, Type, Source, Trigger, Time string }
			if err := json.Unmarshal([]byte(text), &ev); err != nil || ev.Type != "mayfly.cron.tick" || ev.Source != "cron://clock" || ev.Trigger != "cron[0]" {
				t.Fatalf("%v %s", err, text)
			}
			if want := "clock/cron[0]/" + ev.Time; ev.ID != want {
				t.Errorf("id %q, want %q", ev.ID, want)
			}
			ids[ev.ID]++
		}
		d.kill()
		d.start()
	}
	again := 0
	for _, n := range ids {
		again += n - 1
	}
	if len(ids) < 4 || again > 2 { // one in flight at each cut may be published twice
		t.Errorf("ticks %v", ids)
	}
	d.must("fn", "pause", "clock")
}

// A function with a route is tried out as others are: the test says what the route would have captured.
func TestRouteIsTriedOut(t *testing.T) {
	t.Parallel()
	d := withDoor(t)
	module := d.program("copy", "#include <stdio.h>\nint main(void) { puts(\"on\"); return 0; }\n")
	const manifest = "[[trigger.http]]\nroute = \"POST /lamp/{line}\"\nauth = \"public\"\n[output]\ntopic = \"lamp/{line}/set\"\n" +
		"[[test]]\nname = \"a lamp\"\nattrs = { \"topic.line\" = \"7\" }\nexpect.publish = [{ topic = \"lamp/7/set\" }]\n"
	project := d.project("lamp", manifest, module)
	d.must("test", project)
	d.must("deploy", "--wait", project)
	listener := connect(t, d.broker, "listener")
	listener.subscribe(t, "lamp/#")
	if r := d.call("POST", "/lamp/9"); r.status != 204 {
		t.Errorf("%d %s", r.status, r.body)
	}
	listener.hears(t, "lamp/9/set", "on\n")
	if r := d.call("POST", "/lamp/a%2Fb"); r.status != 422 || !strings.Contains(r.body, "no topic of") {
		t.Errorf("led astray: %d %s", r.status, r.body)
	}
}
