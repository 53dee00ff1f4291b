package catalog

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// OrderLasts is for how long an order may be on its way from who proposed it over those who sign it.
const OrderLasts = 24 * time.Hour

// Obey makes an order true that operators have signed, after it is synced to disk. It refuses, with class reject, what is not signed by enough of
// them (kind "unsigned"), what is older than OrderLasts or replaces something else than what is there (kind "conflict"), and what Check refuses.
func (c *Catalog) Obey(ctx context.Context, r Record) error {
	const op = "order"
	if err := r.check(); err != nil || r.Kind == KindNode {
		return refused(op, r.Key, "record", errors.Join(err, errors.New("it is no order")), "")
	}
	if c.options.Verify != nil {
		if err := c.options.Verify(r); err != nil {
			return refused(op, r.Key, "unsigned", err, "")
		}
	}
	err := c.alter(ctx, func(now *Snapshot) (*alteration, error) {
		e := newEntry(r)
		e.held = c.horizon.running()
		if err := c.timely(now, e); err != nil {
			return nil, err
		}
		if e.fault != nil {
			return nil, refused(op, r.Key, "manifest", e.fault, "")
		}
		if e.function != nil {
			if err := now.Check(e.function); err != nil {
				return nil, err
			}
		}
		return &alteration{put: []*entry{e}, resolved: []ident{e.ident()}, then: func() { c.written(r) }}, nil
	})
	if err != nil {
		return failed(op, r.Key, err)
	}
	return nil
}

// timely says why an order is not one about what is there.
func (c *Catalog) timely(now *Snapshot, e *entry) error {
	clock, again := c.options.Now(), "give the command again: it proposes a new one"
	floor, _ := c.horizon.marks()
	old := now.entry(e.ident())
	var before uint64
	if old != nil {
		before = old.Ver
	}
	saw, says := e.replaces()
	switch {
	case e.Ver <= before || says && saw != before:
		return refused("order", e.Key, "conflict", errors.New("what it changes was changed since it was proposed"), again)
	case e.Ver <= floor || e.Ver < versionAt(clock.Add(-OrderLasts)):
		return refused("order", e.Key, "conflict", fmt.Errorf("it is of %s, and orders last %v", timeOf(e.Ver).UTC().Format(time.DateTime), OrderLasts), again)
	case e.Ver > versionAt(clock.Add(maxFuture)):
		return refused("order", e.Key, "conflict", fmt.Errorf("it is of %s, and it is %s", timeOf(e.Ver).UTC().Format(time.DateTime), clock.UTC().Format(time.DateTime)), again)
	}
	return nil
}
