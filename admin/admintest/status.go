package admintest

import (
	"time"

	"mayfly/admin"
)

// Healthy is the status of an agent that has been up for a day and lost three events in it.
func Healthy(now time.Time) admin.Status {
	return admin.Status{
		Node: admin.Node{
			ID: "4f1c", Name: "bench", Version: "0.1.0", Arch: "amd64", PID: 4711,
			Started: now.Add(-24 * time.Hour), UptimeSeconds: 86400,
		},
		Ready:   true,
		Reasons: []admin.Reason{},
		Brokers: []admin.Broker{{
			Name: "default", URL: "tcp://127.0.0.1:1883", Connected: true, Since: now.Add(-23 * time.Hour),
			Reconnects: 1, Received: 12000, Published: 11990,
		}},
		Journal: admin.Backlog{Count: 2, Bytes: 2048, QuotaBytes: 64 << 20, OldestSeconds: 12},
		Losses:  []admin.Loss{{Reason: "shed-oldest", Function: "overheat", Count: 3, Last: now.Add(-time.Hour)}},
		Engine: admin.Engine{
			Name: "wasmtime 39.0.1", Slots: 64, Busy: 1, Modules: 2, ReservationBytes: 64 << 26,
			Note: "48-bit addresses",
		},
		Store:  admin.Store{Path: "/var/lib/mayfly/store", Bytes: 3 << 20, Writable: true, Findings: []admin.Finding{}},
		Disk:   admin.Disk{Path: "/var/lib/mayfly", TotalBytes: 32 << 30, FreeBytes: 20 << 30, FloorBytes: 256 << 20, WrittenBytes: 5 << 20},
		Memory: admin.Memory{RSSBytes: 28 << 20, HeapBytes: 6 << 20, Goroutines: 41},
	}
}
