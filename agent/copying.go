package agent

import (
	"cmp"
	"context"
	"errors"
	"hash/fnv"
	"slices"
	"strings"
	"time"

	"mayfly/admin"
	"mayfly/agent/meter"
	"mayfly/function"
)

// How usage of other nodes is copied, so that it counts when they are away.
const (
	copyFirst   = 15 * time.Second // after the start
	copyEvery   = 10 * time.Minute // what was used since the day before
	copyWhole   = 24 * time.Hour   // all of it: what was folded meanwhile is in other rows
	copyKeepers = 3                // nodes that keep a copy of each
)

// copyUsage keeps copies of what the nodes used that fall to this one, until ctx ends.
func (a *Agent) copyUsage(ctx context.Context) error {
	next := time.NewTimer(copyFirst)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-next.C:
		}
		next.Reset(copyEvery)
		for _, node := range a.pool.names() {
			if a.keepsUsageOf(node) && ctx.Err() == nil {
				a.copyUsageOf(ctx, node)
			}
		}
		if err := a.copies.Forget(func(node string) bool { return !a.pool.member.Revoked(node) && a.keepsUsageOf(node) }); err != nil {
			a.log.Warn("copies of other nodes' usage could not be deleted", "err", err)
		}
	}
}

func (a *Agent) copyUsageOf(ctx context.Context, node string) {
	at, ok, err := a.copies.When(node)
	now := time.Now()
	q := meter.Query{By: function.PerDay}
	if age := now.Sub(at.Full); ok && age >= 0 && age < copyWhole {
		q.From = function.PerDay.Start(at.At.Add(-time.Hour))
	}
	var answer usageAnswer
	if err == nil {
		answer, err = metering{a}.ask(ctx, node, usageRequest{Query: q})
	}
	if err == nil {
		err = a.copies.Put(node, q.From, answer.Rows, now)
	}
	if err != nil && ctx.Err() == nil {
		a.log.Debug("what another node used could not be copied; tried again later", "node", node, "err", err)
	}
}

// keepsUsageOf says whether this node is one of those that keep a copy of what node used.
func (a *Agent) keepsUsageOf(node string) bool {
	return slices.Index(a.keepersOf(node), a.node.ID) < copyKeepers
}

// keepersOf are all known nodes but one in the order in which they keep its copies, by a hash of both. Nodes that know other nodes differ in
// it a little, which costs a copy more.
func (a *Agent) keepersOf(node string) []string {
	keepers := []string{a.node.ID}
	for id := range a.pool.known.copy() {
		if id != node && id != a.node.ID && !a.pool.member.Revoked(id) {
			keepers = append(keepers, id)
		}
	}
	slices.SortFunc(keepers, func(x, y string) int {
		return cmp.Or(cmp.Compare(keeps(y, node), keeps(x, node)), strings.Compare(x, y))
	})
	return keepers
}

func keeps(keeper, node string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(node + "\x00" + keeper)) // it never fails
	return h.Sum64()
}

var errNoCopy = errors.New("there is no copy of that node's usage here")

// usageOf returns what was used here, or what another node had used when its copy was made.
func (a *Agent) usageOf(node string, q meter.Query) (rows []meter.Row, asOf time.Time, err error) {
	if node == "" {
		rows, err = a.meter.Rows(q)
		return rows, asOf, err
	}
	rows, at, ok, err := a.copies.Rows(node, q)
	if err == nil && !ok {
		err = &function.Error{Op: "usage", Subject: node, Class: function.ClassNotHere, Kind: admin.KindNotFound, Err: errNoCopy}
	}
	return rows, at.At, err
}

// copied returns the newest copy of a node's usage of those that the first keepers have that answer.
func (m metering) copied(ctx context.Context, node string, q meter.Query) (newest usageAnswer, ok bool) {
	a := m.agent
	if rows, at, err := a.usageOf(node, q); err == nil {
		newest, ok = usageAnswer{Rows: rows, AsOf: at}, true
	}
	live, left := a.pool.names(), 2*copyKeepers
	for _, other := range a.keepersOf(node) {
		if !slices.Contains(live, other) {
			continue
		}
		if left--; left < 0 {
			break
		}
		if theirs, err := m.ask(ctx, other, usageRequest{Query: q, Of: node}); err == nil && (!ok || theirs.AsOf.After(newest.AsOf)) {
			newest, ok = theirs, true
		}
	}
	return newest, ok
}
