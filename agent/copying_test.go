package agent

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"mayfly/admin"
	"mayfly/agent/meter"
)

// [L6] What a node used counts on every other node when it is away, as it was last copied, and when that was is said; when it is back it is asked
// itself. Who keeps whose copies follows from the ids alone.
func TestUsageOfWhoIsAway(t *testing.T) {
	one, two := newDevice(t, "one"), newDevice(t, "two")
	if _, err := one.Init(t.Context(), admin.InitRequest{Name: "site"}); err != nil {
		t.Fatal(err)
	}
	one.restart()
	two.joins(one)
	three := newDevice(t, "three")
	three.joins(one)
	one.until("it sees the others", func() bool { return len(one.pool.others()) == 2 })
	three.until("it sees the others", func() bool { return len(three.pool.others()) == 2 })
	two.uses(5)
	report := func(d *device) (string, admin.UsageReport) {
		t.Helper()
		r, err := metering{d.Agent}.Usage(t.Context(), admin.UsageQuery{By: "day", Cluster: true})
		if err != nil {
			t.Fatal(err)
		}
		events := uint64(0)
		for _, row := range r.Rows {
			events += row.Events
		}
		return fmt.Sprintf("%d events, %d away, %d missing", events, len(r.Away), len(r.Missing)), r
	}
	if got, _ := report(one); got != "5 events, 0 away, 0 missing" {
		t.Error(got)
	}
	if !one.keepsUsageOf(two.node.ID) || !three.keepsUsageOf(two.node.ID) {
		t.Error("of three nodes two keep copies of the third")
	}
	before := time.Now()
	three.copyUsageOf(t.Context(), two.node.ID) // one has no copy of its own
	two.end()
	for _, d := range []*device{one, three} {
		d.until("it sees that two is away", func() bool { return !slices.Contains(d.pool.names(), two.node.ID) })
		got, r := report(d)
		if got != "5 events, 1 away, 0 missing" || r.Away[0].Node != "two" || r.Away[0].AsOf.Before(before.Add(-time.Second)) {
			t.Errorf("%s: %s: %+v", d.cfg.Node.Name, got, r.Away)
		}
	}
	three.restart() // it is on disk
	three.until("it sees one", func() bool { return len(three.pool.others()) == 1 })
	if got, _ := report(three); got != "5 events, 1 away, 0 missing" {
		t.Errorf("after a restart: %s", got)
	}
	two.start()
	one.until("it sees two again", func() bool { return slices.Contains(one.pool.names(), two.node.ID) })
	two.uses(2)
	if got, _ := report(one); got != "7 events, 0 away, 0 missing" {
		t.Errorf("when it is back: %s", got)
	}
}

// uses is that many events of a function.
func (d *device) uses(events uint64) {
	d.usage.mu.Lock()
	defer d.usage.mu.Unlock()
	d.usage.add(meter.Subject{Function: "f", Tenant: "acme"}, meter.Usage{Events: events, CPU: 1000})
}
