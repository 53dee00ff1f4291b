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
	Of   string     `json:"of,omitempty"`   // the rows it has copied of that node, instead of its own
	Skip *meter.Row `json:"skip,omitempty"` // up to and including this one they are known
}

type usageAnswer struct {
	Rows []meter.Row `json:"rows"`
	More bool        `json:"more,omitempty"`
	AsOf time.Time   `json:"as_of,omitzero"` // of a copy
}

// answerUsage tells another node of the cluster what was used here.
func (a *Agent) answerUsage(_ context.Context, _ string, request []byte) ([]byte, error) {
	var q usageRequest
	if err := json.Unmarshal(request, &q); err != nil {
		return nil, &function.Error{Op: "usage", Subject: "request", Class: function.ClassReject, Kind: admin.KindInvalid, Err: err}
	}
	rows, asOf, err := a.usageOf(q.Of, q.Query)
	if err != nil {
		return nil, err
	}
	if q.Skip != nil {
		rows = meter.After(rows, q.Skip)
	}
	n := min(len(rows), usagePage)
	return json.Marshal(usageAnswer{Rows: rows[:n], More: n < len(rows), AsOf: asOf})
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

// others asks every other live node for its rows. Of who does not answer, or is away, there is what others last knew; and it notes of whom
// nobody knows anything.
func (m metering) others(ctx context.Context, q meter.Query, names map[string]string, report *admin.UsageReport) []meter.Row {
	p := m.agent.pool
	said, live := p.described(), p.names()
	var mu sync.Mutex
	var rows []meter.Row
	away := map[string]string{} // why
	for id := range p.known.copy() {
		names[id] = cmp.Or(said[id].Name, id)
		if id != m.agent.node.ID && !slices.Contains(live, id) && !p.member.Revoked(id) {
			away[id] = "it is away, and no node that answers has a copy of its usage"
		}
	}
	room := make(chan struct{}, usageAsked)
	var wg sync.WaitGroup
	for _, id := range live {
		names[id] = cmp.Or(said[id].Name, id)
		wg.Go(func() {
			room <- struct{}{}
			defer func() { <-room }()
			theirs, err := m.ask(ctx, id, usageRequest{Query: q})
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				away[id] = err.Error()
				return
			}
			rows = append(rows, theirs.Rows...)
		})
	}
	wg.Wait()
	for id, why := range away {
		copied, ok := m.copied(ctx, id, q)
		if !ok {
			report.Missing = append(report.Missing, admin.UsageMissing{Node: names[id], NodeID: id, Reason: why})
			continue
		}
		rows = append(rows, copied.Rows...)
		report.Away = append(report.Away, admin.UsageAway{Node: names[id], NodeID: id, AsOf: copied.AsOf})
	}
	slices.SortFunc(report.Missing, func(a, b admin.UsageMissing) int { return strings.Compare(a.NodeID, b.NodeID) })
	slices.SortFunc(report.Away, func(a, b admin.UsageAway) int { return strings.Compare(a.NodeID, b.NodeID) })
	return rows
}

// ask gets all rows of one node, or those it has copied of another. They are of that one, whatever they say.
func (m metering) ask(ctx context.Context, node string, request usageRequest) (all usageAnswer, err error) {
	ctx, cancel := context.WithTimeout(ctx, usageTime)
	defer cancel()
	for range usagePages {
		text, err := json.Marshal(request)
		if err != nil {
			return all, err
		}
		reply, err := m.agent.pool.peers.Pull(ctx, node, usageState, text)
		if err != nil {
			return all, err
		}
		var answer usageAnswer
		if err := json.Unmarshal(reply, &answer); err != nil {
			return all, fmt.Errorf("its answer cannot be read: %w", err)
		}
		all.AsOf = answer.AsOf
		if len(answer.Rows) > 0 {
			last := answer.Rows[len(answer.Rows)-1]
			request.Skip = &last
		}
		for _, r := range answer.Rows {
			r.Node = cmp.Or(request.Of, node)
			all.Rows = append(all.Rows, r)
		}
		if !answer.More || len(answer.Rows) == 0 {
			return all, nil
		}
	}
	return all, errors.New("its answer has no end")
}

// VerifyUsage implements admin.Meter.
func (m metering) VerifyUsage(context.Context) (admin.UsageVerification, error) {
	v, err := m.agent.meter.Verify()
	return admin.UsageVerification{Node: m.agent.cfg.Node.Name, Segments: v.Segments, Months: v.Months, Head: v.Head, Broken: v.Broken}, err
}
