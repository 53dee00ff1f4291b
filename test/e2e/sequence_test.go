package e2e_test

import (
	"fmt"
	"strings"
	"testing"

	"mayfly/admin"
	"mayfly/internal/guests"
)

const tellerManifest = `[state]
scope = "node"
[limits]
timeout = "10s"
[permissions]
publish = ["told/#"]
[[trigger.mqtt]]
topic = "ask/{key}"
%s`

// teller deploys the function of testdata/teller.c: what it says shows what was lost, turned around or counted twice. More is
// added to its trigger.
func (n *node) teller(version, more string) {
	n.t.Helper()
	manifest := fmt.Sprintf(tellerManifest, more)
	dir := n.project("teller", manifest, guests.C(n.t, "test/e2e/testdata/teller.c"))
	text := fmt.Sprintf("manifest = 1\nname = \"teller\"\nversion = %q\n[module]\npath = \"module.wasm\"\n%s", version, manifest)
	n.file("teller/function.toml", text)
	n.must("deploy", dir)
}

// number is an event's payload: its place in the sequence of its key, from 1.
func number(i int) string { return fmt.Sprintf("%06d", i) }

// invoke calls the teller for the numbers from first to last of a key, one after the other.
func (n *node) invoke(key string, first, last int) {
	n.t.Helper()
	for i := first; i <= last; i++ {
		payload := number(i)
		ran, err := n.client.Invoke(n.t.Context(), "teller", admin.InvokeRequest{Topic: "ask/" + key, Body: admin.Body{Payload: &payload}})
		if err != nil || ran.Outcome != "done" {
			n.t.Fatalf("invoke %s %s: %v %+v", key, payload, err, ran)
		}
	}
}

// told waits until the numbers 1 to last of a key have come out, and checks that each was counted once and that they came in
// order; a publish may come twice, after its time. It returns how many did.
func told(t testing.TB, d *device, key string, last int) (twice int) {
	t.Helper()
	var all []string
	until(t, fmt.Sprintf("%d of key %s come out", last, key), func() (bool, string) {
		all = d.heard("told/" + key)
		end := ""
		if len(all) > 0 {
			end = all[len(all)-1]
		}
		return strings.HasPrefix(end, number(last)+" "), fmt.Sprintf("%d came, the last is %q", len(all), end)
	})
	next := 1
	for _, text := range all {
		var i, count int
		if _, err := fmt.Sscanf(text, "%d %d", &i, &count); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		switch {
		case count != i:
			t.Fatalf("number %d of key %s was counted as the %dth: its state is wrong", i, key, count)
		case i == next:
			next++
		case i < next:
			twice++
		default:
			t.Fatalf("number %d of key %s came where %d was to come: lost or turned around", i, key, next)
		}
	}
	return twice
}
