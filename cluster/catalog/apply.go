package catalog

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"mayfly/function"
)

// Bounds of a catalog and of one step.
const (
	maxRecords = 10_000
	maxBytes   = 32 << 20
	maxApply   = 128 << 10 // bytes of bodies in one step; one record always fits
)

// Reasons for which a record that came from elsewhere was not taken over.
const (
	RefusedMalformed = "malformed"
	RefusedUnsigned  = "unsigned" // nobody whom this cluster trusts has signed it
	RefusedFuture    = "future"   // its version is more than 48 h ahead
	RefusedFull      = "full"     // no room for more records
	IgnoredCollected = "collected"
	IgnoredZombie    = "zombie" // deleted so long ago that its tombstone is gone
)

// counts is what became of records that came from elsewhere. Safe for concurrent use.
type counts struct {
	mu       sync.Mutex
	byReason map[string]int64
}

func (c *counts) add(reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byReason == nil {
		c.byReason = map[string]int64{}
	}
	c.byReason[reason]++
}

// Refused returns how many records that came from elsewhere were not taken over since the start, by reason.
func (c *Catalog) Refused() map[string]int64 {
	c.counts.mu.Lock()
	defer c.counts.mu.Unlock()
	return maps.Clone(c.counts.byReason)
}

// Apply takes over what is newer among records that a member sent, and returns how many those were, after they are synced to disk. from is the
// member, known by its certificate. At most 16 records and 128 KiB (or one record) are taken at once, in one
// batch.
//
// What must not be taken over is left out and counted (Refused); that is no error. Errors are those of the disk and of ctx.
func (c *Catalog) Apply(ctx context.Context, records []Record, from string) (changed int, err error) {
	a, err := c.apply(ctx, records, from)
	return len(a.changed), err
}

// applied is what became of records.
type applied struct {
	changed []Record
	refused int // taken over by others perhaps, not by us: we are not equal to who sent them
	zombies []ident
}

func (c *Catalog) apply(ctx context.Context, records []Record, from string) (out applied, err error) {
	if err := fits(records); err != nil {
		return out, err
	}
	now := c.options.Now()
	var good []*entry
	for _, r := range records {
		if reason := c.admit(r, now); reason != "" {
			c.counts.add(reason)
			out.refused++
			continue
		}
		good = append(good, newEntry(r))
	}
	if len(good) == 0 {
		return out, nil
	}
	err = c.alter(ctx, func(s *Snapshot) (*alteration, error) {
		p := &applying{Catalog: c, now: s, at: now, out: &out, put: map[ident]*entry{}}
		p.floor, _ = c.horizon.marks()
		for _, e := range good {
			p.take(e)
		}
		return p.alteration(), nil
	})
	if err != nil {
		out.changed = nil
		return out, &function.Error{
			Op: "apply", Subject: fmt.Sprintf("%d records of %q", len(good), from), Class: function.ClassOf(err), Kind: function.KindOf(err), Err: err,
		}
	}
	return out, nil
}

func fits(records []Record) error {
	size := 0
	for i := range records {
		size += len(records[i].Body)
	}
	if len(records) > maxStep || size > maxApply && len(records) > 1 {
		return refused("apply", fmt.Sprintf("%d records", len(records)), "too-many",
			fmt.Errorf("%d bytes; at most %d records and %d bytes at once", size, maxStep, maxApply), "")
	}
	return nil
}

// admit says why a record from elsewhere must not be held at all; empty = it may be.
func (c *Catalog) admit(r Record, now time.Time) string {
	if r.check() != nil {
		return RefusedMalformed
	}
	if r.Ver > versionAt(now.Add(maxFuture)) && c.clocks.trust(now).good() {
		return RefusedFuture
	}
	if c.options.Verify != nil && c.options.Verify(r) != nil {
		return RefusedUnsigned
	}
	return ""
}

// applying is one step of taking records over, while it is this step's turn.
type applying struct {
	*Catalog
	now   *Snapshot
	at    time.Time
	floor uint64
	out   *applied

	put       map[ident]*entry
	order     []ident
	conflicts []Conflict
	resolved  []ident
	count     int
	bytes     int
}

func (p *applying) take(e *entry) {
	id := e.ident()
	old := p.put[id]
	if old == nil {
		old = p.now.entry(id)
	}
	if old == nil {
		if why := p.stranger(e); why != "" {
			p.counts.add(why)
			return
		}
	} else {
		switch c := old.compare(e.Record); {
		case c == 0:
			return
		default:
			p.note(old.Record, e.Record)
			if c > 0 {
				return
			}
		}
	}
	if e.Deleted {
		e.held = p.horizon.running()
	}
	if p.put[id] == nil {
		p.order = append(p.order, id)
	}
	p.put[id] = e
	p.count++
	p.bytes += e.size()
}

// stranger says why a record is not taken over that we hold nothing in place of: it may be one of which we have forgotten that it was
// deleted, whoever brings it [C4]. One that we know to be damaged here is none, and what a node says about itself has versions of its own.
func (p *applying) stranger(e *entry) string {
	_, broken := p.now.broken[e.ident()]
	switch {
	case e.Deleted && e.Ver <= p.floor:
		return IgnoredCollected
	case e.Ver < p.floor && e.Kind != KindNode && !broken:
		p.out.zombies = append(p.out.zombies, e.ident())
		return IgnoredZombie
	case p.now.count+p.count >= maxRecords || p.now.bytes+p.bytes+e.size() > maxBytes:
		p.out.refused++
		return RefusedFull
	}
	return ""
}

func (p *applying) note(old, came Record) {
	if why, ok := conflict(old, came); ok {
		lost, winner := old, came
		if old.compare(came) > 0 {
			lost, winner = came, old
		}
		if !p.known(lost, winner) {
			p.conflicts = append(p.conflicts, newConflict(lost, winner, why, p.at))
		}
	} else if old.compare(came) < 0 {
		p.resolved = append(p.resolved, ident{old.Kind, old.Key})
	}
}

// known says whether this very conflict is on the list: it comes again with every copy of the loser.
func (p *applying) known(lost, winner Record) bool {
	for i := range p.now.conflicts {
		if c := &p.now.conflicts[i]; c.Lost.Kind == lost.Kind && c.Lost.Key == lost.Key && c.Lost.Ver == lost.Ver &&
			c.Lost.Writer == lost.Writer && c.Winner.Ver == winner.Ver {
			return true
		}
	}
	return false
}

// alteration returns nil when nothing is to be done.
func (p *applying) alteration() *alteration {
	a := &alteration{conflicts: p.conflicts, resolved: p.resolved}
	for _, id := range p.order {
		a.put = append(a.put, p.put[id])
		p.out.changed = append(p.out.changed, p.put[id].Record)
	}
	if len(a.put)+len(a.conflicts) == 0 {
		return nil
	}
	return a
}
