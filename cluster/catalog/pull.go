package catalog

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"mayfly/store"
)

func pick(names []string) string { return names[rand.IntN(len(names))] }

// saving is an alteration that changes nothing but this node's own state.
func (c *Catalog) saving(op store.Op, then func()) *alteration {
	return &alteration{ops: []store.Op{op}, then: then}
}

// ask makes one call and reads the greeting of its answer.
func (r *Replica) ask(ctx context.Context, node string, op byte, body []byte) (*reader, greeting, error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	b, err := r.options.Peers.Pull(ctx, node, append(appendGreeting(nil, op, r.greeting()), body...))
	if err != nil {
		return nil, greeting{}, err
	}
	in := &reader{b: b}
	said, g := in.greeting()
	if in.err != nil || said != op || g.cluster != r.cluster {
		r.catalog.counts.add(RefusedMalformed)
		return nil, g, fmt.Errorf("catalog: answer of %s: %w", node, errWire)
	}
	r.met(node, g)
	return in, g, nil
}

// call does what there is to do with a peer.
func (r *Replica) call(ctx context.Context, node string) (c called, err error) {
	ids, patience, compare := r.reasons(node)
	if len(ids) > 0 {
		hurried, cancel := context.WithTimeout(ctx, patience)
		a, err := r.fetch(hurried, node, ids)
		c.late = hurried.Err() != nil && patience < callTime
		cancel()
		c.asked, c.changed = true, len(a.changed)
		if err != nil {
			return c, err
		}
		r.fetched(node, ids)
	}
	if !compare {
		return c, nil
	}
	a, root, err := r.exchange(ctx, node)
	r.retell(a.changed)
	c.changed += len(a.changed)
	c.compared, c.root = err == nil, root
	return c, err
}

// reasons returns why a peer is to be called: records that were announced and are still lacking, and whether to compare all.
func (r *Replica) reasons(node string) (ids []ident, patience time.Duration, compare bool) {
	now := r.catalog.Snapshot()
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.peers[node]
	if p == nil {
		return nil, 0, false
	}
	for id, w := range p.wants {
		patience = max(patience, w.patience())
		if e := now.entry(id); e != nil && (e.Ver > w.header.ver || e.hash == w.header.hash) {
			delete(p.wants, id)
			r.wanted--
		} else if ids = append(ids, id); len(ids) == pageIdents {
			break
		}
	}
	if len(ids) > maxStep {
		patience = callTime
	}
	return ids, patience, p.urgent || p.compare && p.root != now.Root()
}

// fetched takes off the list what was asked for. What the peer did not have is asked for elsewhere.
func (r *Replica) fetched(node string, ids []ident) {
	now := r.catalog.Snapshot()
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.peers[node]
	if p == nil {
		return
	}
	rest := &peer{wants: map[ident]want{}}
	for _, id := range ids {
		w, ok := p.wants[id]
		if !ok {
			continue
		}
		delete(p.wants, id)
		if e := now.entry(id); e == nil || e.Ver < w.header.ver {
			rest.wants[id] = w
			continue
		}
		r.wanted--
	}
	r.elsewhere(node, rest)
}

// fetch takes over records of a peer.
func (r *Replica) fetch(ctx context.Context, node string, ids []ident) (all applied, err error) {
	for len(ids) > 0 {
		page := ids[:min(len(ids), pageIdents)]
		in, _, err := r.ask(ctx, node, opFetch, encodeIdents(page))
		if err != nil {
			return all, err
		}
		records := in.records()
		if err := in.end(); err != nil {
			r.catalog.counts.add(RefusedMalformed)
			return all, fmt.Errorf("catalog: answer of %s: %w", node, err)
		}
		if len(records) == 0 {
			return all, nil // the peer has none of them any more
		}
		for len(records) > 0 {
			n := portion(records)
			a, err := r.catalog.apply(ctx, records[:n], node)
			if err != nil {
				return all, err
			}
			all.changed = append(all.changed, a.changed...)
			all.refused += a.refused
			all.zombies = append(all.zombies, a.zombies...)
			ids = after(ids, records[:n])
			records = records[n:]
		}
	}
	return all, nil
}

// portion returns how many of the records may be taken in one step.
func portion(records []Record) int {
	size := 0
	for i := range records {
		if size += len(records[i].Body); i > 0 && size > maxApply || i == maxStep {
			return i
		}
	}
	return len(records)
}

// after returns the part of ids behind those that were answered; answers come in the order asked, and some may be left out. An answer to something
// else ends it.
func after(ids []ident, answered []Record) []ident {
	for _, a := range answered {
		i := 0
		for i < len(ids) && ids[i] != (ident{a.Kind, a.Key}) {
			i++
		}
		if i == len(ids) {
			return nil
		}
		ids = ids[i+1:]
	}
	return ids
}

var errMoving = errors.New("what it holds changes while we compare")

// exchange makes this catalog hold what a peer holds, where that is newer. When it is through, and nothing was refused, this node knows of
// deletions what the peer knows.
func (r *Replica) exchange(ctx context.Context, node string) (all applied, root [hashSize]byte, err error) {
	before := r.catalog.Snapshot()
	mine := before.digest()
	var theirs []header
	var last compared
	var g greeting
	for cursor := (ident{}); ; {
		body := make([]byte, 0, buckets*bucketSize+64)
		for _, b := range mine.buckets {
			body = append(body, b[:]...)
		}
		in, greeted, err := r.ask(ctx, node, opCompare, appendIdent(body, cursor))
		if err != nil {
			return all, root, err
		}
		page := in.compared()
		if err := in.end(); err != nil || len(theirs) > 2*maxRecords {
			r.catalog.counts.add(RefusedMalformed)
			return all, root, fmt.Errorf("catalog: answer of %s: %w", node, errWire)
		}
		if len(theirs) > 0 && page.root != last.root {
			return all, root, fmt.Errorf("catalog: %s: %w", node, errMoving)
		}
		last, g = page, greeted
		theirs = append(theirs, page.headers...)
		if !page.more || len(page.headers) == 0 {
			break
		}
		cursor = page.headers[len(page.headers)-1].ident
	}
	r.holds(node, last.root, spreadCalls)
	var lack []ident
	for _, h := range theirs {
		if r.lacks(h, &all) {
			lack = append(lack, h.ident)
		}
	}
	got, err := r.fetch(ctx, node, lack)
	got.zombies = append(got.zombies, all.zombies...)
	if err != nil {
		return got, last.root, err
	}
	c := comparison{node: node, before: before, theirs: theirs, last: last, told: g.marks, applied: got}
	return got, last.root, r.conclude(ctx, &c)
}

// lacks says whether a copy of a record is to be fetched, and notes those that are older than what we know of.
func (r *Replica) lacks(h header, all *applied) bool {
	now := r.catalog.Snapshot()
	if e := now.entry(h.ident); e != nil {
		return h.ver > e.Ver || h.ver == e.Ver && h.hash != e.hash
	}
	floor, _ := r.catalog.horizon.marks()
	_, broken := now.broken[h.ident]
	switch {
	case h.deleted:
		return h.ver > floor
	case h.ver < floor && h.kind != KindNode && !broken:
		all.zombies = append(all.zombies, h.ident)
		return false
	}
	return true
}

// retell tells the others what came by an exchange: they may lack it as well.
func (r *Replica) retell(changed []Record) {
	if len(changed) == 0 {
		return
	}
	const few = 16
	if len(changed) > few {
		root := r.catalog.Snapshot().Root()
		r.say(append([]byte{wireVersion, saidRoot}, root[:]...))
		return
	}
	for _, record := range changed {
		r.say(announcement(newEntry(record), r.catalog.options.Verify != nil))
	}
}
