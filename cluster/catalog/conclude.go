package catalog

import (
	"context"
	"slices"
	"time"
)

// comparison is a whole exchange with a peer.
type comparison struct {
	node    string
	before  *Snapshot // ours when it began
	theirs  []header  // in the parts that differed, sorted
	last    compared  // the last page of them
	told    marks     // by the peer
	applied applied
}

// lacked calls yield with what we held before, in the parts that differed, and the peer did not.
func (c *comparison) lacked(yield func(*entry) bool) {
	c.before.all(func(e *entry) bool {
		if !c.last.differs(e.ident().bucket()) {
			return true
		}
		_, found := slices.BinarySearchFunc(c.theirs, e.ident(), func(h header, id ident) int { return h.compare(id) })
		return found || yield(e)
	})
}

// conclude draws the conclusions from an exchange: what this node knows of deletions now [C4].
//
// Who was away for longer than tombstones are kept, and says so, is believed nothing. Who knows of deletions that this node cannot know of is
// believed everything. Of two who were both on all the time and did not see each other, neither knows better: that is a split.
func (r *Replica) conclude(ctx context.Context, c *comparison) error {
	h := &r.catalog.horizon
	if r.catalog.Snapshot().Root() == c.last.root {
		h.equal(c.node)
	}
	r.note(c)
	floor, synced := h.marks()
	behind, away := c.told.synced < floor, synced < c.told.floor
	if behind || !away && h.estranged(c.node) || c.applied.refused > 0 {
		return nil
	}
	return r.drop(ctx, c, r.learned(c))
}

// learned returns what the marks may be after a whole exchange with a peer in good standing. A node whose clock is good believes what is plausible;
// one whose clock is not has nothing to judge by, and what it may have missed is worse than a member that lies.
func (r *Replica) learned(c *comparison) marks {
	now := r.catalog.options.Now()
	m := c.told
	if !r.catalog.clocks.trust(now).good() {
		m.synced = max(m.floor, min(m.synced, r.catalog.Snapshot().newest))
		return m
	}
	m.floor = min(m.floor, versionAt(now.Add(-r.catalog.options.Horizon/2)))
	m.synced = max(m.floor, min(m.synced, versionAt(now)))
	if r.catalog.horizon.sure(c.node, now) {
		m.synced = max(m.synced, versionAt(now.Add(-contactFirst)))
	}
	return m
}

// drop gives up what the peer has forgotten: tombstones that are old enough, and, when this node was away for so long that it cannot know what was
// deleted, everything it did not write itself since. It does so in steps; the marks come with the last one, so that a power cut in between
// makes it compare again.
func (r *Replica) drop(ctx context.Context, c *comparison, next marks) error {
	floor, synced := r.catalog.horizon.marks()
	away := synced < next.floor
	running := r.catalog.horizon.running()
	half := r.catalog.options.Horizon.Milliseconds() / 2
	var gone []*entry
	for e := range c.lacked {
		switch {
		case e.Ver > next.floor || e.Kind == KindNode && e.Key == r.catalog.options.Node:
		case e.Deleted && running-e.held > half, away && (e.Writer != r.catalog.options.Node || e.Ver <= synced):
			gone = append(gone, e)
		}
	}
	if len(gone) == 0 && next.floor <= floor && next.synced < synced+uint64(contactFirst.Milliseconds())<<16 {
		return nil // not worth a write
	}
	for batch := range slices.Chunk(gone, maxStep) {
		if err := r.catalog.forget(ctx, batch, c.node); err != nil {
			return err
		}
	}
	return r.save(ctx, next)
}

// forget drops records unless they changed meanwhile. Functions among them are kept as conflicts, for an operator to see.
func (c *Catalog) forget(ctx context.Context, entries []*entry, peer string) error {
	return c.alter(ctx, func(now *Snapshot) (*alteration, error) {
		a := &alteration{}
		for _, e := range entries {
			if now.entry(e.ident()) != e {
				continue
			}
			a.drop = append(a.drop, e.ident())
			if e.Kind == KindFunction && !e.Deleted {
				reason := "this node was away for so long that it may have been removed meanwhile; " + peer + " does not have it"
				a.conflicts = append(a.conflicts, newConflict(e.Record, Record{}, reason, c.options.Now()))
			}
		}
		if len(a.drop) == 0 {
			return nil, nil
		}
		c.options.Log.Warn("records were dropped that the other nodes have forgotten", "count", len(a.drop), "node", peer)
		return a, nil
	})
}

// split is what two nodes will not take over from each other: both were on for longer than tombstones are kept, and did not see each other.
type split struct {
	since time.Time
	here  []ident // held here and not there
	there []ident // held there and not here
	told  bool
}

// asking says whether it is too early to ask a person.
func (s *split) asking() bool { return len(s.here)+len(s.there) > 0 && !s.told }

// splitPatience is how long a node may take to find out that it was away for too long, before a person is asked.
const splitPatience = 10 * time.Minute

// note remembers what stays different after an exchange, and tells an operator once.
func (r *Replica) note(c *comparison) {
	s := split{there: c.applied.zombies}
	for e := range c.lacked {
		if e.Ver < c.told.floor && !e.Deleted && e.Kind != KindNode {
			s.here = append(s.here, e.ident())
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.peers[c.node]
	switch {
	case p == nil:
		return
	case len(s.here)+len(s.there) == 0:
		p.split = split{}
		return
	}
	s.since, s.told = p.split.since, p.split.told
	if s.since.IsZero() {
		s.since = time.Now()
	}
	if !s.told && time.Since(s.since) >= splitPatience {
		s.told = true
		r.options.Log.Error("catalog-split: two parts of the cluster were apart for longer than deletions are remembered; deploy again what should stay, remove what should go",
			"node", c.node, "only_here", names(s.here), "only_there", names(s.there))
	}
	p.split = s
}

func names(ids []ident) []string {
	var all []string
	for _, id := range ids[:min(len(ids), 20)] {
		all = append(all, string(id.kind)+"/"+id.key)
	}
	return all
}
