package store

import (
	"errors"
	"fmt"

	"mayfly/function"
)

// change is one op on its way to the disk. The newest one of a key is in the overlay, where reads find it.
type change struct {
	key     []byte
	value   []byte
	version uint64
	expires int64 // store time, 0 = never
	delete  bool
	later   uint64 // version of a newer change of the same key, 0 = this is the newest
}

type batch struct {
	changes []change
	seq     uint64
	size    int64
	done    func(error)
}

func (b *batch) finish(err error) {
	if b.done != nil {
		b.done(err)
	}
}

// Submit queues ops as one atomic batch. The changes are visible to Get and Scan when it returns nil; done is called
// exactly once, with nil when they are synced to disk and not before: effects outside the node wait for it. Batches
// become durable in the order of the calls. done is called from the store's goroutine and must not block; it may
// call Submit. When Submit returns an error nothing was applied and done is not called. Later ops of a key win over
// earlier ones; Checked looks at the state before the batch. Submit does not wait for the disk (but a Checked key may have
// to be read from it). done may be nil.
func (s *Store) Submit(ops []Op, done func(error)) error {
	if err := s.check(ops); err != nil {
		return err
	}
	s.submit.Lock()
	defer s.submit.Unlock()
	b := &batch{done: done, changes: make([]change, len(ops))}
	onlyDeletes := true
	for i := range ops {
		b.size += ops[i].size()
		onlyDeletes = onlyDeletes && ops[i].Delete
	}
	if err := s.admit(b, onlyDeletes); err != nil {
		return err
	}
	for i := range ops {
		if err := s.verify(&ops[i]); err != nil {
			return err
		}
	}
	return s.enqueue(b, ops)
}

// admit says whether there is room for b, in the queue and on the disk.
func (s *Store) admit(b *batch, onlyDeletes bool) error {
	s.mu.RLock()
	err := s.usable("submit")
	busy := s.queued > 0 && (s.queued+b.size > s.cfg.QueueSize || s.waiting+len(b.changes) > s.cfg.QueueOps)
	s.mu.RUnlock()
	switch {
	case err != nil:
		return err
	case busy:
		s.stats.busy.Add(1)
		return failure("submit", s.cfg.Dir, function.ClassOverload, "busy", ErrBusy)
	case !s.space.allows(onlyDeletes):
		s.stats.full.Add(1)
		e := failure("submit", s.cfg.Dir, function.ClassOverload, "disk-full", ErrFull)
		e.Hint = fmt.Sprintf("free some space on this disk: %d bytes are to stay free, %d are", s.space.floor, s.space.freeNow())
		return e
	}
	return nil
}

// verify compares the version of a checked key.
func (s *Store) verify(op *Op) error {
	if !op.Checked {
		return nil
	}
	_, version, err := s.Get(op.Key)
	if err != nil && !errors.Is(err, ErrCorrupt) { // a damaged record conflicts with every expectation
		return err
	}
	if err != nil || version != op.Expect {
		s.stats.conflicts.Add(1)
		return failure("submit", fmt.Sprintf("%q", op.Key), function.ClassConflict, "conflict", ErrConflict)
	}
	return nil
}

// enqueue makes b visible and leaves it to the batcher.
func (s *Store) enqueue(b *batch, ops []Op) error {
	now := s.clock.now()
	s.mu.Lock()
	if err := s.usable("submit"); err != nil {
		s.mu.Unlock()
		return err
	}
	s.seq++
	b.seq = s.seq
	for i := range ops {
		op, c := &ops[i], &b.changes[i]
		*c = change{key: op.Key, value: op.Value, version: b.seq, delete: op.Delete}
		if op.Delete {
			c.value = nil
		} else if op.TTL > 0 {
			c.expires = now + max(op.TTL.Milliseconds(), 1)
			s.expireAt(c.expires)
		}
		if old := s.overlay[string(op.Key)]; old != nil {
			old.later = b.seq
		}
		s.overlay[string(op.Key)] = c
	}
	s.queue = append(s.queue, b)
	s.queued += b.size
	s.waiting += len(b.changes)
	s.mu.Unlock()
	s.nudge()
	return nil
}

// usable says why nothing can be done any more. The caller holds mu.
func (s *Store) usable(op string) error {
	switch {
	case s.failed != nil:
		return s.failed
	case s.closed:
		return errClosed(op)
	}
	return nil
}

func errClosed(op string) error {
	return failure(op, "store", function.ClassOverload, "closed", ErrClosed)
}

// expireAt lowers the time of the next expiry.
func (s *Store) expireAt(t int64) {
	for {
		old := s.expires.Load()
		if old != 0 && old <= t || s.expires.CompareAndSwap(old, t) {
			return
		}
	}
}

func (s *Store) nudge() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}
