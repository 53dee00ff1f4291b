package admintest

import (
	"context"
	"time"

	"mayfly/admin"
)

// Usage is a ledger in which every deployed function ran for an hour of yesterday and one of today. It implements admin.Meter.
type Usage struct{ agent *Agent }

var _ admin.Meter = Usage{}

// Usage implements admin.Meter. In a cluster there are two more nodes: one does not answer, one is away.
func (u Usage) Usage(ctx context.Context, q admin.UsageQuery) (r admin.UsageReport, err error) {
	functions, err := u.agent.List(ctx)
	for back := 1; back >= 0; back-- {
		at := u.agent.Now().UTC().AddDate(0, 0, -back).Truncate(time.Hour)
		if q.By == "day" {
			at = at.Truncate(24 * time.Hour)
		}
		for _, f := range functions {
			if at.Before(q.From) || q.Function != "" && q.Function != f.Name {
				continue
			}
			r.Rows = append(r.Rows, admin.UsageRow{Node: "bench", From: at, Function: f.Name, Tenant: "acme", UsageSum: admin.UsageSum{
				Events: 2_000_000, Failed: 3, CPUNS: 36e11, WallNS: 72e11, MemoryByteMS: 1 << 30 * 3_600_000, BytesIn: 2 << 30, BytesOut: 1 << 30,
				Published: 1000, StoredBytes: 5 << 20, StateBytes: 4096,
			}})
		}
	}
	if q.Cluster {
		r.Away = []admin.UsageAway{{Node: "hall", NodeID: "n3", AsOf: u.agent.Now().Add(-12 * time.Minute)}}
		r.Missing = []admin.UsageMissing{{Node: "gate", NodeID: "n2", Reason: "it did not answer in time"}}
	}
	return r, err
}

// VerifyUsage implements admin.Meter.
func (u Usage) VerifyUsage(context.Context) (admin.UsageVerification, error) {
	v := admin.UsageVerification{Node: "bench", Segments: 2, Head: "2:0123456789abcdef"}
	if !u.agent.Stat.Ready {
		v.Segments, v.Broken = 1, "segment 2, of 2026-11-22 11:00 UTC, is not what was written"
	}
	return v, nil
}
