package admin_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mayfly/admin"
	"mayfly/admin/admintest"
	"mayfly/event"
	"mayfly/function"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// door runs a server before backend and returns a client; both end with the test.
func door(t *testing.T, cfg admin.Config, backend admin.Backend, prepare func(*admin.Server)) (c *admin.Client, socket string, stop func()) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "s")
	srv, err := admin.NewServer(cfg, backend, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if prepare != nil {
		prepare(srv)
	}
	ln, err := admin.Listen(socket, "")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- srv.Run(ctx, ln) }()
	c = admin.NewClient(socket)
	done := false
	stop = func() {
		if done {
			return
		}
		done = true
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
		c.Close()
	}
	t.Cleanup(stop)
	return c, socket, stop
}

func fake() *admintest.Agent { return admintest.New(func() time.Time { return noon }) }

func kind(err error) string { return function.KindOf(err) }

const manifest = `manifest = 1
name = "overheat"
version = "1.0.0"
[module]
path = "overheat.wasm"
[[trigger.mqtt]]
topic = "plant/{line}/temp"
[permissions]
publish = ["plant/+/alarm"]
[config]
limit_c = 70
`

func TestFunctionLife(t *testing.T) {
	c, _, _ := door(t, admin.Config{}, fake().Backend(), nil)
	ctx := t.Context()
	var stages []string
	req := admin.DeployRequest{File: "function.toml", Manifest: manifest, Set: map[string]string{"limit_c": "80"}}
	module := admintest.Module("log info hot", "publish plant/7/alarm", "respond ok {payload}")
	f, err := c.Deploy(ctx, req, module, func(p admin.Progress) { stages = append(stages, p.Stage) })
	if err != nil {
		t.Fatal(err)
	}
	if f.Name != "overheat" || f.State != admin.StateReady || f.Digest != function.DigestOf(module).String() {
		t.Fatalf("deployed %+v", f)
	}
	if got := strings.Join(stages, " "); got != "upload compile store ready" {
		t.Fatalf("progress %q", got)
	}
	if f, err = c.SetPaused(ctx, "overheat", true); err != nil || f.State != admin.StatePaused || f.Hint == "" {
		t.Fatalf("%+v, %v", f, err)
	}
	list, err := c.Functions(ctx)
	if err != nil || len(list) != 1 || list[0].Manifest != "" {
		t.Fatalf("%+v, %v", list, err)
	}
	ran, err := c.Invoke(ctx, "overheat", admin.InvokeRequest{Topic: "plant/7/temp", Body: admin.NewBody([]byte("91"))})
	if err != nil || ran.Outcome != "done" || len(ran.Publishes) != 1 || string(ran.Publishes[0].Body.Bytes()) != "91" ||
		ran.Response == nil || string(ran.Response.Body.Bytes()) != "ok 91" || len(ran.Log) != 1 {
		t.Fatalf("%+v, %v", ran, err)
	}
	if err := c.Remove(ctx, "overheat"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Function(ctx, "overheat"); kind(err) != admin.KindNotFound {
		t.Fatalf("after removal: %v", err)
	}
}

func TestDeployRefusals(t *testing.T) {
	c, _, _ := door(t, admin.Config{MaxModule: 1000}, fake().Backend(), nil)
	good := admintest.Module("log info hi")
	for name, d := range map[string]struct {
		req    admin.DeployRequest
		module []byte
		kind   string
		text   string
	}{
		"manifest with a fault": {admin.DeployRequest{File: "dir/function.toml", Manifest: "manifest = 1\nnam = \"x\"\n"}, good, admin.KindInvalid, "dir/function.toml:2:1"},
		"setting it lacks":      {admin.DeployRequest{Manifest: manifest, Set: map[string]string{"limit_f": "9"}}, good, admin.KindInvalid, "only limit_c"},
		"no module":             {admin.DeployRequest{Manifest: manifest}, nil, admin.KindInvalid, "module is empty"},
		"not Wasm":              {admin.DeployRequest{Manifest: manifest}, []byte("ELF"), admin.KindInvalid, "not a Wasm file"},
		"module over the limit": {admin.DeployRequest{Manifest: manifest}, make([]byte, 1001), admin.KindTooLarge, "1000 bytes"},
		"body over the limit":   {admin.DeployRequest{Manifest: manifest}, make([]byte, 10<<20), admin.KindTooLarge, "more than"},
		"huge manifest":         {admin.DeployRequest{Manifest: strings.Repeat("#", 3<<20)}, good, admin.KindTooLarge, "more than"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := c.Deploy(t.Context(), d.req, d.module, nil)
			if err == nil || kind(err) != d.kind || !strings.Contains(err.Error(), d.text) {
				t.Fatalf("got %v (%s), want kind %s with %q", err, kind(err), d.kind, d.text)
			}
		})
	}
}

func TestDryRun(t *testing.T) {
	a := fake()
	c, _, _ := door(t, admin.Config{}, a.Backend(), nil)
	req := admin.DryRunRequest{
		DeployRequest: admin.DeployRequest{Manifest: manifest},
		Events:        []admin.InvokeRequest{{Topic: "plant/7/temp", Body: admin.NewBody([]byte{0xff})}, {}},
	}
	runs, err := c.DryRun(t.Context(), req, admintest.Module("publish plant/7/alarm", "put last"))
	if err != nil || len(runs) != 2 || runs[0].Publishes[0].PayloadBase64 == nil || len(runs[0].Writes) != 1 {
		t.Fatalf("%+v, %v", runs, err)
	}
	if list, _ := a.List(t.Context()); len(list) != 0 || len(a.Published()) != 0 {
		t.Fatal("a dry run left something behind")
	}
}

func TestDeadLetters(t *testing.T) {
	a := fake()
	c, _, _ := door(t, admin.Config{}, a.Backend(), nil)
	ctx := t.Context()
	cause := &function.Error{Op: "run", Subject: "gone", Class: function.ClassRetry, Kind: "trap", Err: errors.New("unreachable")}
	for i := range 3 {
		a.AddLetter("gone", &event.Event{ID: fmt.Sprint(i), Topic: "t", Data: []byte{byte(i), 0xff}, Time: noon}, cause)
	}
	list, err := c.DeadLetters(ctx, admin.DeadLetterQuery{})
	if err != nil || len(list) != 3 || list[0].Body != nil || list[0].Bytes != 2 {
		t.Fatalf("%+v, %v", list, err)
	}
	one, err := c.DeadLetter(ctx, "gone-2")
	if err != nil || one.Body == nil || string(one.Body.Bytes()) != "\x01\xff" || one.Error.Message != "unreachable" {
		t.Fatalf("%+v, %v", one, err)
	}
	if _, err := c.Drop(ctx, admin.DeadLetterQuery{}); kind(err) != admin.KindInvalid {
		t.Fatalf("dropping without saying which: %v", err)
	}
	if _, err := c.Replay(ctx, admin.DeadLetterQuery{Function: "gone"}); kind(err) != admin.KindConflict {
		t.Fatalf("replaying to a function that is gone: %v", err)
	}
	if n, err := c.Drop(ctx, admin.DeadLetterQuery{IDs: []string{"gone-1"}}); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	if n, err := c.Drop(ctx, admin.DeadLetterQuery{All: true}); n != 2 || err != nil {
		t.Fatal(n, err)
	}
}

func TestRefusedPeer(t *testing.T) {
	for name, prepare := range map[string]func(*admin.Server){
		"another user": func(s *admin.Server) { s.As(admin.Peer{UID: 4242, GID: 4242}, nil) },
		"nobody knows": func(s *admin.Server) { s.As(admin.Peer{}, errors.New("no credentials")) },
	} {
		t.Run(name, func(t *testing.T) {
			c, _, _ := door(t, admin.Config{}, fake().Backend(), prepare)
			if os.Geteuid() == 4242 {
				t.Fatal("this test needs another user id than 4242")
			}
			if _, err := c.Status(t.Context()); kind(err) != admin.KindDenied {
				t.Errorf("status: %v", err)
			}
			_, err := c.Deploy(t.Context(), admin.DeployRequest{Manifest: manifest}, make([]byte, 4<<20), nil)
			if kind(err) != admin.KindDenied {
				t.Errorf("deploy of 4 MiB: %v", err)
			}
		})
	}
}

func TestAgentWithoutParts(t *testing.T) {
	c, _, _ := door(t, admin.Config{}, admin.Backend{}, nil)
	ctx := t.Context()
	calls := map[string]func() error{
		"status":    func() error { _, err := c.Status(ctx); return err },
		"settings":  func() error { _, err := c.Settings(ctx); return err },
		"functions": func() error { _, err := c.Functions(ctx); return err },
		"function":  func() error { _, err := c.Function(ctx, "x"); return err },
		"deploy":    func() error { _, err := c.Deploy(ctx, admin.DeployRequest{}, nil, nil); return err },
		"remove":    func() error { return c.Remove(ctx, "x") },
		"pause":     func() error { _, err := c.SetPaused(ctx, "x", true); return err },
		"invoke":    func() error { _, err := c.Invoke(ctx, "x", admin.InvokeRequest{}); return err },
		"dry run":   func() error { _, err := c.DryRun(ctx, admin.DryRunRequest{}, nil); return err },
		"dlq ls":    func() error { _, err := c.DeadLetters(ctx, admin.DeadLetterQuery{}); return err },
		"dlq show":  func() error { _, err := c.DeadLetter(ctx, "x"); return err },
		"replay":    func() error { _, err := c.Replay(ctx, admin.DeadLetterQuery{All: true}); return err },
		"publish":   func() error { return c.Publish(ctx, admin.Message{Topic: "t"}) },
		"subscribe": func() error { return c.Subscribe(ctx, admin.SubscribeQuery{Filter: "#"}, nil) },
		"logs":      func() error { return c.Logs(ctx, admin.LogQuery{}, nil) },
		"events":    func() error { return c.Events(ctx, admin.EventQuery{}, nil) },
	}
	for name, f := range calls {
		if err := f(); kind(err) != admin.KindUnsupported {
			t.Errorf("%s: %v, want unsupported", name, err)
		}
	}
}

// Lists that are empty are [] for programs, never null.
func TestEmptyLists(t *testing.T) {
	a := fake()
	a.Stat = admin.Status{}
	c, _, _ := door(t, admin.Config{}, a.Backend(), nil)
	st, err := c.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(st)
	if err != nil || bytes.Contains(text, []byte("null")) {
		t.Errorf("%s, %v", text, err)
	}
	if list, err := c.Functions(t.Context()); list == nil || err != nil {
		t.Errorf("functions: %v, %v", list, err)
	}
	if list, err := c.DeadLetters(t.Context(), admin.DeadLetterQuery{}); list == nil || err != nil {
		t.Errorf("dead letters: %v, %v", list, err)
	}
}

func TestBadRequests(t *testing.T) {
	_, socket, _ := door(t, admin.Config{}, fake().Backend(), nil)
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}
	defer tr.CloseIdleConnections()
	for _, c := range []struct {
		method, path, body string
		status             int
	}{
		{"POST", "/v1/publish", "", 400},
		{"POST", "/v1/publish", "null garbage", 400},
		{"POST", "/v1/publish", `{"topic":"a","payload":"x","payload_base64":"eA=="}`, 400},
		{"POST", "/v1/publish", `{"topic":"a","paylod":"x"}`, 400},
		{"POST", "/v1/publish", `{"topic":"a","qos":-1}`, 400},
		{"POST", "/v1/publish", `{"topic":"a","payload":"` + strings.Repeat("x", 3<<20) + `"}`, 413},
		{"POST", "/v1/functions", `{}`, 400},
		{"POST", "/v1/functions/x/invoke", `{"attrs":[{"name":"time","value":"noon"}]}`, 400},
		{"POST", "/v1/functions/x/invoke", `{"attrs":[{"name":"qos","value":"2"}]}`, 400},
		{"POST", "/v1/functions/x/invoke", `{}`, 404},
		{"GET", "/v1/functions/..%2fx", "", 404},
		{"GET", "/v2/status", "", 501},
		{"PATCH", "/v1/status", "", 501},
	} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, "http://x"+c.path, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatalf("%s %s: %v", c.method, c.path, err)
		}
		var e admin.Error
		err = json.NewDecoder(resp.Body).Decode(&e)
		resp.Body.Close()
		if resp.StatusCode != c.status || err != nil || e.Op == "" || e.Message == "" {
			t.Errorf("%s %s %.60s: %d %+v %v, want %d", c.method, c.path, c.body, resp.StatusCode, e, err, c.status)
		}
	}
}

func TestNoAgent(t *testing.T) {
	dir := t.TempDir()
	_, err := admin.NewClient(filepath.Join(dir, "a"), filepath.Join(dir, "b")).Status(t.Context())
	fe, ok := errors.AsType[*function.Error](err)
	if !ok || fe.Kind != admin.KindNotRunning || !strings.Contains(err.Error(), filepath.Join(dir, "b")) || !strings.Contains(fe.Hint, "systemctl start") {
		t.Fatalf("%v", err)
	}
}
