package e2e_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mayfly/admin"
	"mayfly/internal/guests"
	"mayfly/internal/mosquitto"
)

// used is what the ledger says of a function.
func (n *node) used(function string) (sum admin.UsageSum) {
	n.t.Helper()
	var rows []admin.UsageRow
	if err := json.Unmarshal([]byte(n.must("usage", "--by", "month", "--function", function, "-o", "json").out), &rows); err != nil {
		n.t.Fatal(err)
	}
	for _, r := range rows {
		sum.Add(r.UsageSum)
	}
	return sum
}

// What ran is in the ledger at once, over an orderly stop exactly, and over kill -9 as it was last written; the chain fits ([L1]).
func TestUsageSurvivesAKill(t *testing.T) {
	t.Parallel()
	n := withBroker(t, "")
	n.must("deploy", n.copied("counter", guests.C(t, "examples/counter/counter.c")))
	invoke := func(times int) {
		t.Helper()
		for range times {
			n.must("invoke", "counter", "--topic", "bench/count/1", "-d", "1")
		}
	}
	invoke(3)
	u := n.used("counter")
	if u.Events != 3 || u.CPUNS == 0 || u.MemoryByteMS == 0 || u.BytesIn == 0 || u.StoredBytes == 0 {
		t.Fatalf("%+v", u)
	}
	n.stop()
	n.start()
	if after := n.used("counter"); after.Events != 3 || after.CPUNS != u.CPUNS || after.StateBytes == 0 {
		t.Fatalf("after a restart: %+v, before %+v", after, u)
	}
	invoke(2)
	n.kill()
	n.start()
	if after := n.used("counter"); after.Events < 3 || after.Events > 5 {
		t.Errorf("after kill -9: %+v", after)
	}
	prices := filepath.Join(n.dir, "prices.toml")
	if err := os.WriteFile(prices, []byte("currency = \"EUR\"\nper_million_events = 1000000\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	n.mayfly("usage", "--prices", prices).want(t, 0, "counter", fmt.Sprintf("%d.00 EUR", n.used("counter").Events))
	n.mayfly("usage", "verify").want(t, 0, "head")
}

// A function that used up its budget rests, says why, keeps what comes, and goes on when its budget is raised; a restart does not give it a
// second one ([L5]).
func TestBudgetStopsAFunction(t *testing.T) {
	t.Parallel()
	n := withBroker(t, "")
	dir := n.copied("echo", guests.C(t, "examples/echo/echo.c"))
	text, err := os.ReadFile(filepath.Join(dir, "function.toml"))
	if err != nil {
		t.Fatal(err)
	}
	budget := func(events int) {
		t.Helper()
		with := fmt.Sprintf("%s\n[budget]\nper = \"month\"\nevents = %d\nthen = \"stop\"\n", text, events)
		if err := os.WriteFile(filepath.Join(dir, "function.toml"), []byte(with), 0o600); err != nil {
			t.Fatal(err)
		}
		n.must("deploy", dir)
	}
	budget(3)
	d := connect(t, n.broker, "device")
	d.subscribe(t, "out/#")
	for i := range 3 {
		d.say(t, "bench/in/1", fmt.Sprint(i))
		d.hears(t, "out/bench/in/1", fmt.Sprint(i))
	}
	rests := func() bool { return n.function("echo").State == admin.StatePaused }
	until(t, "the function rests", func() (bool, string) { return rests(), n.function("echo").Reason })
	n.mayfly("fn", "show", "echo").want(t, 0, "its budget is used up on this node: 3 of 3 events per month", "raise [budget]")
	n.mayfly("invoke", "echo", "-d", "x").want(t, 1, "paused", "next:  mayfly fn show echo")
	if out := n.must("status").out; !strings.Contains(out, "function echo has used 3 of 3 events per month") {
		t.Error(out)
	}
	n.stop()
	n.start()
	if !rests() {
		t.Error("a restart gave it another budget")
	}
	d = connect(t, n.broker, "device")
	d.subscribe(t, "out/#")
	if err := d.publish("bench/in/1", "meanwhile"); err != nil {
		t.Fatal(err)
	}
	budget(100)
	d.hears(t, "out/bench/in/1", "meanwhile")
	if rests() {
		t.Error("it rests although its budget was raised")
	}
}

// [L6] Each node counts what arrived at it, whatever it is called, and one command shows all; who does not answer is named, and what the others used
// is there all the same.
func TestUsageOfACluster(t *testing.T) {
	t.Parallel()
	broker := mosquitto.Run(t, mosquitto.Options{})
	first, far := pairOf(t, broker.URL())
	first.mayfly("usage", "--cluster").want(t, 0)
	first.must("deploy", "--nodes-timeout", "1m", first.copied("counter", guests.C(t, "examples/counter/counter.c")))
	for i, n := range []*node{first, far} {
		for range i + 2 {
			n.must("invoke", "counter", "--topic", "bench/count/1", "-d", "1")
		}
	}
	report := func() (r admin.UsageReport, by map[string]uint64) {
		t.Helper()
		r, err := first.client.Usage(t.Context(), admin.UsageQuery{By: "month", Cluster: true})
		if err != nil {
			t.Fatal(err)
		}
		by = map[string]uint64{}
		for _, row := range r.Rows {
			by[row.NodeID] += row.Events
		}
		return r, by
	}
	here, there := first.status().Node.ID, far.status().Node.ID
	until(t, "both nodes answer", func() (bool, string) {
		r, by := report()
		return by[here] == 2 && by[there] == 3 && len(r.Missing) == 0, fmt.Sprintf("%+v", r)
	})
	far.mayfly("usage", "--cluster").want(t, 0, "in all: 5 events")
	far.kill()
	r, by := report()
	missing := len(r.Missing) == 1 && r.Missing[0].NodeID == there && r.Missing[0].Reason != "" && by[there] == 0
	away := len(r.Away) == 1 && r.Away[0].NodeID == there && !r.Away[0].AsOf.IsZero() // the first node has copied what it used by then, or not
	if by[here] != 2 || missing == away {
		t.Errorf("%+v", r)
	}
}
