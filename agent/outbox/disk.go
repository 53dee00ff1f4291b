package outbox

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"mayfly/internal/crashpoint"
	"mayfly/store"
)

// eraseAtOnce bounds one batch of deletions.
const eraseAtOnce = 512

// erase deletes confirmed messages from the disk, many in one batch, one batch at a time.
func (p *pipe) erase() error {
	p.mu.Lock()
	if p.erasing || len(p.done) == 0 {
		p.mu.Unlock()
		return nil
	}
	n := min(len(p.done), eraseAtOnce)
	batch := slices.Clone(p.done[:n])
	p.done = slices.Delete(p.done, 0, n)
	p.erasing = true
	p.mu.Unlock()
	ops := make([]store.Op, n)
	for i, e := range batch {
		ops[i] = store.Op{Key: store.Outbox.SeqKey(p.name, e.seq), Delete: true}
	}
	crashpoint.Here(crashpoint.Erase)
	err := p.box.store.Submit(ops, func(err error) { p.erasedBatch(batch, err) })
	if err != nil {
		p.erasedBatch(batch, err)
	}
	return err
}

// erasedBatch takes note of an erased batch, or puts it back.
func (p *pipe) erasedBatch(batch []*entry, err error) {
	p.mu.Lock()
	p.erasing = false
	if err != nil {
		p.done = append(batch, p.done...)
		p.mu.Unlock()
		return // run asks again
	}
	crashpoint.Here(crashpoint.Erased)
	for _, e := range batch {
		if p.reading { // the reading may have seen it before it was erased
			p.erased = append(p.erased, e.seq)
		} else {
			delete(p.held, e.seq)
		}
	}
	p.mu.Unlock()
	for _, e := range batch {
		if e.function != "" {
			p.box.charge(e.function, -e.size)
		}
	}
	signal(p.work)
	signal(p.quiet)
}

// page reads the next durable messages in when there is a backlog and memory has room.
func (p *pipe) page() error {
	p.mu.Lock()
	limit := p.box.config.MemoryBytes / 2
	if !p.backlog || p.durable > limit || p.stopped {
		p.mu.Unlock()
		return nil
	}
	p.reading = true
	cursor := p.cursor
	p.mu.Unlock()
	found, size, end := []*entry(nil), int64(0), true
	last := cursor
	err := p.box.store.Scan(store.Outbox.Prefix(p.name), store.Outbox.SeqKey(p.name, cursor), func(key, value []byte, _ uint64) bool {
		_, seq, ok := splitKey(key)
		if !ok {
			return true
		}
		if size >= limit {
			end = false
			return false
		}
		found, last = append(found, p.entryOf(seq, value)), seq
		size += int64(len(value))
		return true
	})
	p.mu.Lock()
	if err != nil {
		end, found, last = false, nil, cursor
	}
	p.arrange(found, last, end)
	p.pumpAndUnlock(nil)
	if err == nil && !end {
		signal(p.work)
	}
	return err
}

// entryOf makes an entry of a record. One that cannot be read is kept without a topic, to be erased.
func (p *pipe) entryOf(seq uint64, value []byte) *entry {
	r, err := decode(value)
	if err != nil {
		return &entry{pipe: p, seq: seq}
	}
	return &entry{pipe: p, seq: seq, msg: r.msg, function: r.function, size: int64(len(value))}
}

// arrange queues what a reading up to last has found, together with what was released meanwhile and with the volatile
// messages whose place is between. end: there was nothing behind last.
func (p *pipe) arrange(found []*entry, last uint64, end bool) {
	p.reading = false
	p.cursor = last
	known := map[uint64]bool{}
	var add []*entry
	for _, e := range found {
		_, uncommitted := p.pending[e.seq] // it is visible before it is synced; its release will queue it
		_, here := p.held[e.seq]
		if !uncommitted && !here {
			known[e.seq] = true
			add = append(add, e)
		}
	}
	for _, e := range p.during {
		if !known[e.seq] && (end || e.seq <= last) {
			add = append(add, e)
		}
	}
	p.during = nil
	for _, seq := range p.erased {
		delete(p.held, seq)
	}
	p.erased = nil
	slices.SortFunc(add, func(a, b *entry) int { return cmp.Compare(a.seq, b.seq) })
	for _, e := range add {
		p.admitTail(e.seq)
		if e.msg.Topic == "" {
			p.corrupt(e)
			continue
		}
		p.hold(e)
	}
	if end {
		p.backlog = false
		p.admitTail(^uint64(0))
	}
}

// admitTail queues the volatile messages that were sent before the durable message of that number.
func (p *pipe) admitTail(before uint64) {
	for len(p.tail) > 0 && p.tail[0].seq < before {
		p.q.add(p.tail[0])
		p.tail = p.tail[1:]
	}
}

// corrupt gives up a record that cannot be read: it would block the pipe for ever.
func (p *pipe) corrupt(e *entry) {
	p.stats.Corrupt++
	p.held[e.seq] = e
	p.done = append(p.done, e)
	p.box.log.Error("a message that was to be published is damaged on disk and lost", "broker", p.name, "number", e.seq)
	signal(p.work)
}

// Drain waits until every message that can leave has left and is confirmed, or ctx ends; then it returns ctx's error.
// Durable messages for a broker that is not connected stay on disk. Nothing new should be sent meanwhile.
func (o *Outbox) Drain(ctx context.Context) error {
	for _, p := range o.pipes {
		for !p.idle() {
			select {
			case <-p.quiet:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	return nil
}

// Stats returns the state of every pipe, by name of the broker, and the bytes every function has on disk.
func (o *Outbox) Stats() (pipes []Stats, bytes map[string]int64) {
	for _, p := range o.pipes {
		pipes = append(pipes, p.snapshot())
	}
	slices.SortFunc(pipes, func(a, b Stats) int { return cmp.Compare(a.Broker, b.Broker) })
	o.mu.Lock()
	defer o.mu.Unlock()
	return pipes, maps.Clone(o.bytes)
}
