package catalog

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// Run tells the others what changes here and gets what changed there, until ctx ends; then it returns nil.
func (r *Replica) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { r.announce(ctx) })
	wg.Go(func() { r.takeInline(ctx) })
	for range workers {
		wg.Go(func() { r.work(ctx) })
	}
	r.tend(ctx)
	wg.Wait()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if err := r.save(last, marks{}); err != nil {
		r.options.Log.Warn("how long this node ran was not saved; tombstones are kept a little longer", "error", err)
	}
	return nil
}

func (r *Replica) announce(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case b := <-r.said:
			if err := r.options.Announce(b); err != nil {
				r.options.Log.Debug("an announcement was not taken; digests make up for it", "error", err)
			}
		}
	}
}

// takeInline takes over records that came whole by gossip and carry a good signature, as many as have come in one step.
func (r *Replica) takeInline(ctx context.Context) {
	for {
		var batch []Record
		select {
		case <-ctx.Done():
			return
		case first := <-r.inline:
			batch = append(batch, first)
		}
		for len(batch) < maxStep && len(r.inline) > 0 {
			batch = append(batch, <-r.inline)
		}
		if _, err := r.catalog.apply(ctx, batch, ""); err != nil && ctx.Err() == nil {
			r.options.Log.Warn("changes of other nodes cannot be stored; they will be asked for again", "error", err)
		}
	}
}

// tend does what time asks for.
func (r *Replica) tend(ctx context.Context) {
	save, touch := time.NewTicker(saveEvery), time.NewTicker(touchEvery)
	defer save.Stop()
	defer touch.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-save.C:
			if err := r.collect(ctx); err != nil && ctx.Err() == nil {
				r.options.Log.Warn("the catalog's state cannot be saved; trying again later", "error", err)
			}
		case <-touch.C:
			r.touch()
		}
	}
}

// touch lets a peer be called that was heard of lately.
func (r *Replica) touch() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.peers { // any: the order of maps is random
		if time.Since(p.heard) < offsetLasts {
			p.urgent = true
			p.schedule(spreadCalls)
			r.signal()
			return
		}
	}
}

func (r *Replica) save(ctx context.Context, m marks) error {
	return r.catalog.alter(ctx, func(*Snapshot) (*alteration, error) {
		op, then, err := r.catalog.horizon.saved(m)
		return r.catalog.saving(op, then), err
	})
}

// collect saves the state and drops tombstones that are older than the horizon [C4]. Only who has had company for an hour may: a site that
// was switched off for months must not lock its members out.
func (r *Replica) collect(ctx context.Context) error {
	r.mu.Lock()
	company := !r.met1st.IsZero() && time.Since(r.metLast) <= contactGap && r.metLast.Sub(r.met1st) >= contactFirst
	r.mu.Unlock()
	if !company {
		return r.save(ctx, marks{})
	}
	var ids []ident
	err := r.catalog.alter(ctx, func(now *Snapshot) (*alteration, error) {
		var floor uint64
		ids, floor = r.catalog.collectable(now, r.options.Keep)
		op, then, err := r.catalog.horizon.saved(marks{floor: floor})
		a := r.catalog.saving(op, then)
		a.drop = ids
		return a, err
	})
	if err == nil && len(ids) > 0 {
		r.options.Log.Info("deletions were forgotten; what a node that was away for longer brings back is ignored", "count", len(ids), "first", string(ids[0].kind)+"/"+ids[0].key)
	}
	return err
}

// met notes a call with a node, known by its certificate.
func (r *Replica) met(node string, g greeting) {
	r.catalog.horizon.tells(node, g.marks)
	r.catalog.clocks.heard(node, g.clock, r.catalog.options.Now())
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := time.Now(); r.metLast.IsZero() || now.Sub(r.metLast) > contactGap {
		r.met1st, r.metLast = now, now
	} else {
		r.metLast = now
	}
}

// work calls peers there is a reason to call, one at a time each.
func (r *Replica) work(ctx context.Context) {
	for {
		node, ok := r.next(ctx)
		if !ok {
			return
		}
		c, err := r.call(ctx, node)
		r.done(node, c, err)
	}
}

// next waits for a peer to call.
func (r *Replica) next(ctx context.Context) (node string, ok bool) {
	for {
		r.mu.Lock()
		name, soonest := r.choose()
		if name != "" {
			p := r.peers[name]
			p.busy, p.due = true, time.Time{}
			r.mu.Unlock()
			return name, true
		}
		wake := r.wake
		r.mu.Unlock()
		t := time.NewTimer(soonest)
		select {
		case <-ctx.Done():
			t.Stop()
			return "", false
		case <-wake:
		case <-t.C:
		}
		t.Stop()
	}
}

// choose returns a peer that is due, or in how long one is. Who did not answer last time gives way to the others, and at most half of the workers
// wait for such peers: when a part of the cluster is out of reach, the part that is not goes on. The caller holds mu.
func (r *Replica) choose() (node string, soonest time.Duration) {
	const doubtful = workers / 2
	waiting, doubted := 0, ""
	for _, p := range r.peers {
		if p.busy && p.failed {
			waiting++
		}
	}
	soonest = time.Hour
	for name, p := range r.peers {
		switch wait := time.Until(p.due); {
		case p.busy || p.due.IsZero() || p.failed && waiting >= doubtful: // whoever comes back wakes all
		case wait > 0:
			soonest = min(soonest, wait)
		case p.failed:
			doubted = name
		default:
			return name, 0
		}
	}
	return doubted, soonest
}

// called is what came of calling a peer.
type called struct {
	changed  int
	asked    bool // for records that were announced
	late     bool // it took longer than we wait for an announced record at first
	compared bool
	root     [hashSize]byte // of the peer when compared
}

// done notes what came of a call, and whether and when there is to be another.
func (r *Replica) done(node string, c called, err error) {
	mine := r.catalog.Snapshot().Root()
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.peers[node]
	if p == nil {
		return
	}
	p.busy, p.failed, p.called, p.urgent, p.due = false, err != nil, time.Now(), false, time.Time{}
	p.compare = p.root != mine
	switch {
	case err != nil && c.late:
		p.failed = false
		for id, w := range p.wants {
			w.tries++
			p.wants[id] = w
		}
	case err != nil:
		p.longer()
		r.options.Log.Debug("a replica cannot be asked", "node", node, "error", err, "again", p.pause)
		r.elsewhere(node, p)
	case c.changed > 0:
		p.pause = 0
	case c.asked:
		p.longer() // an announcement of what it does not have
	default:
		p.pause = 0
		if c.compared {
			p.fruitless = [2][hashSize]byte{mine, c.root}
		}
	}
	switch {
	case time.Since(p.heard) > offsetLasts: // it is gone
	case len(p.wants) > 0 && c.late: // a packet was lost; who asks again comes at no other's time
		p.schedule(0)
	case len(p.wants) > 0, p.compare && p.fruitless != [2][hashSize]byte{mine, p.root}:
		p.schedule(spreadCalls)
	case p.split.asking():
		p.urgent, p.due = true, time.Now().Add(splitPatience)
	}
	r.signal()
}

// longer doubles the pause, with a quarter of jitter.
func (p *peer) longer() {
	pause := min(max(2*p.pause, firstPause), lastPause)
	p.pause = pause + rand.N(pause/4)
}

// elsewhere asks another peer for what this one did not give. A few tries; then it is up to digests. The caller holds mu.
func (r *Replica) elsewhere(node string, p *peer) {
	var others []string
	for name, o := range r.peers {
		if name != node && o.pause == 0 && time.Since(o.heard) < offsetLasts {
			others = append(others, name)
		}
	}
	slices.Sort(others)
	for id, w := range p.wants {
		delete(p.wants, id)
		r.wanted--
		if w.tries = max(w.tries, 2) + 1; w.tries > 5 || len(others) == 0 {
			continue
		}
		o := r.peers[pick(others)]
		if _, asked := o.wants[id]; !asked {
			r.wanted++
		}
		o.wants[id] = w
		o.schedule(r.rush())
	}
}
