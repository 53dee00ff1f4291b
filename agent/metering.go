package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"mayfly/admin"
	"mayfly/agent/meter"
	"mayfly/function"
)

// usageState is under which name nodes ask each other for usage.
const usageState = "usage"

// Bounds of what one node asks another.
const (
	usagePage  = 1000             // rows of one answer: some 300 KB
	usagePages = 1000             // answers of one node
	usageTime  = 10 * time.Second // for all of a node's
	usageAsked = 8                // nodes at once
)

// usageRequest asks for the rows after some row.
type usageRequest struct {
	meter.Query
	Skip *meter.Row `json:"skip,omitempty"` // up to and including this one they are known
}

type usageAnswer struct {
	Rows []meter.Row `json:"rows"`
	More bool        `json:"more,omitempty"`
}

// answerUsage tells another node of the cluster what was used here.
func (a *Agent) answerUsage(_ context.Context, _ string, request []byte) ([]byte, error) {
	var q usageRequest
	if err := json.Unmarshal(request, &q); err != nil {
		return nil, &function.Error{Op: "usage", Subject: "request", Class: function.ClassReject, Kind: admin.KindInvalid, Err: err}
	}
	rows, err := a.meter.Rows(q.Query)
	if err != nil {
		return nil, err
	}
	if q.Skip != nil {
		rows = meter.After(rows, q.Skip)
	}
	n := min(len(rows), usagePage)
	return json.Marshal(usageAnswer{Rows: rows[:n], More: n < len(rows)})
}

// metering implements admin.Meter.
type metering struct{ agent *Agent }

// Usage implements admin.Meter.
func (m metering) Usage(ctx context.Context, q admin.UsageQuery) (admin.UsageReport, error) {
	a := m.agent
	query := meter.Query{From: q.From, To: q.To, By: function.Period(q.By), Function: q.Function}
	rows, err := a.meter.Rows(query)
	if err != nil {
		return admin.UsageReport{}, err
	}
	names := map[string]string{a.node.ID: a.cfg.Node.Name}
	for i := range rows {
		rows[i].Node = a.node.ID // who it is by its key: names may be the same
	}
	var report admin.UsageReport
	if q.Cluster {
		if a.pool == nil {
			return report, admin.Alone("usage")
		}
		rows = meter.Merge(rows, m.others(ctx, query, names, &report))
	}
	for i := range rows {
		id := rows[i].Node
		rows[i].Node = names[id]
		report.Rows = append(report.Rows, usageRow(&rows[i], id))
	}
	return report, nil
}

// others asks every other live node for its rows, and notes who did not answer, or is away.
func (m metering) others(ctx context.Context, q meter.Query, names map[string]string, report *admin.UsageReport) []meter.Row {
	p := m.agent.pool
	said, live := p.described(), p.names()
	var mu sync.Mutex
	var rows []meter.Row
	miss := func(id, reason string) {
		report.Missing = append(report.Missing, admin.UsageMissing{Node: names[id], NodeID: id, Reason: reason})
	}
	for id := range p.known.copy() {
		names[id] = cmp.Or(said[id].Name, id)
		if id != m.agent.node.ID && !slices.Contains(live, id) && !p.member.Revoked(id) {
			miss(id, "it is away")
		}
	}
	room := make(chan struct{}, usageAsked)
	var wg sync.WaitGroup
	for _, id := range live {
		names[id] = cmp.Or(said[id].Name, id)
		wg.Go(func() {
			room <- struct{}{}
			defer func() { <-room }()
			theirs, err := m.ask(ctx, id, q)
			mu.Lock()
			defer mu.Unlock()
			rows = append(rows, theirs...)
			if err != nil {
				miss(id, err.Error())
			}
		})
	}
	wg.Wait()
	slices.SortFunc(report.Missing, func(a, b admin.UsageMissing) int { return strings.Compare(a.NodeID, b.NodeID) })
	return rows
}

// ask gets all rows of one node. They are its own, whatever they say.
func (m metering) ask(ctx context.Context, node string, q meter.Query) (rows []meter.Row, err error) {
	ctx, cancel := context.WithTimeout(ctx, usageTime)
	defer cancel()
	request := usageRequest{Query: q}
	for range usagePages {
		text, err := json.Marshal(request)
		if err != nil {
			return nil, err
		}
		reply, err := m.agent.pool.peers.Pull(ctx, node, usageState, text)
		if err != nil {
			return nil, err
		}
		var answer usageAnswer
		if err := json.Unmarshal(reply, &answer); err != nil {
			return nil, fmt.Errorf("its answer cannot be read: %w", err)
		}
		if len(answer.Rows) > 0 {
			last := answer.Rows[len(answer.Rows)-1]
			request.Skip = &last
		}
		for _, r := range answer.Rows {
			r.Node = node
			rows = append(rows, r)
		}
		if !answer.More || len(answer.Rows) == 0 {
			return rows, nil
		}
	}
	return nil, errors.New("its answer has no end")
}

// VerifyUsage implements admin.Meter.
func (m metering) VerifyUsage(context.Context) (admin.UsageVerification, error) {
	v, err := m.agent.meter.Verify()
	return admin.UsageVerification{Node: m.agent.cfg.Node.Name, Segments: v.Segments, Months: v.Months, Head: v.Head, Broken: v.Broken}, err
}
