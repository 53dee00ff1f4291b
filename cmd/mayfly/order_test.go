package main

import (
	"encoding/json"
	"strings"
	"testing"

	"mayfly/admin"
	"mayfly/function"
)

// What the command line signs is what was asked for: a node that proposes anything else, whatever it is, gets no signature.
func TestWhatIsSignedIsLookedAt(t *testing.T) {
	const text = "manifest = 1\nname = \"f\"\n[module]\npath = \"a.wasm\"\n[config]\nx = 1\n"
	req := admin.DeployRequest{Manifest: text, Set: map[string]string{"x": "2"}}
	m, err := req.Parsed()
	if err != nil {
		t.Fatal(err)
	}
	order := func(change func(b map[string]any)) admin.Order {
		body := map[string]any{"manifest": m, "module": function.DigestOf([]byte("wasm")).String(), "deployed": "2026-05-01T00:00:00Z"}
		change(body)
		b, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		return admin.Order{Cluster: "site", Kind: "function", Key: "f", Body: b}
	}
	same := func(map[string]any) {}
	look := about("function", "f", deploys(req, []byte("wasm")))
	for _, c := range []struct {
		what string
		o    admin.Order
		want string
	}{
		{"what was asked for", order(same), ""},
		{"the history before it", admin.Order{Kind: "history", Key: "f"}, ""},
		{"another module", order(func(b map[string]any) { b["module"] = function.DigestOf([]byte("other")).String() }), "not that of this folder"},
		{"another manifest", order(func(b map[string]any) {
			other := m
			other.Permissions.Publish = []string{"#"}
			b["manifest"] = other
		}), "manifest is not"},
		{"another function", admin.Order{Kind: "function", Key: "g", Body: order(same).Body}, "not asked"},
		{"the history of another", admin.Order{Kind: "history", Key: "g"}, "not asked"},
		{"a removal", admin.Order{Kind: "function", Key: "f", Deleted: true}, "not asked"},
		{"something else", admin.Order{Kind: "config", Key: "f"}, "not asked"},
		{"no function at all", admin.Order{Kind: "function", Key: "f", Body: []byte("[")}, "unexpected end"},
	} {
		if err := look(c.o); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.what, err, c.want)
		}
	}
	if err := about("function", "f", nil)(order(same)); err == nil {
		t.Error("a deployment passes for a removal")
	}
	if err := about("function", "f", paused(true))(order(same)); err == nil {
		t.Error("one that runs passes for a pause")
	}
	if err := about("function", "f", paused(true))(order(func(b map[string]any) { b["paused"] = true })); err != nil {
		t.Error(err)
	}
}
