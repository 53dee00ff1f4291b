package store

import (
	"bytes"
	"time"
)

// Expired records are never shown to readers; the sweep only reclaims their space. It walks all keys in steps, between
// groups, and not at all while nothing can have expired.
const (
	sweepEvery = 5 * time.Minute
	sweepStep  = 1024 // records looked at in one step
	sweepShare = 16   // under load, one step for so many groups
)

type sweeper struct {
	store   *Store
	running bool
	after   []byte // last key looked at
	next    int64  // first expiry met that is still to come
}

// start begins a walk when something has expired.
func (w *sweeper) start() {
	if at := w.store.expires.Load(); w.running || at == 0 || at > w.store.clock.now() {
		return
	}
	*w = sweeper{store: w.store, running: true}
	w.store.expires.Store(0) // submissions lower it again themselves from here on
}

// step looks at the next records and deletes the expired ones.
func (w *sweeper) step() {
	if !w.running {
		return
	}
	s, now, seen := w.store, w.store.clock.now(), 0
	var dead []Op
	err := s.db.scan(nil, w.after, func(it item) bool {
		seen++
		w.after = append(w.after[:0], it.key...)
		if it.ttl {
			if r, ok := openRecord(it.key, it.group, it.value()); ok && r.expires <= now {
				dead = append(dead, Op{Key: bytes.Clone(it.key), Delete: true})
			} else if ok && (w.next == 0 || r.expires < w.next) {
				w.next = r.expires
			}
		}
		return seen < sweepStep
	})
	if err == nil {
		err = w.bury(dead)
	}
	if err != nil {
		w.next = now // full, busy or closing: the next walk does it
	}
	if err != nil || seen < sweepStep {
		w.running = false
		if w.next != 0 {
			s.expireAt(w.next)
		}
	}
}

// bury submits the deletions, but not of keys that were written again: the overlay knows them, and nothing else can change
// the database while the batcher is here.
func (w *sweeper) bury(dead []Op) error {
	s := w.store
	s.submit.Lock()
	defer s.submit.Unlock()
	b := &batch{}
	var ops []Op
	s.mu.RLock()
	for _, op := range dead {
		if s.overlay[string(op.Key)] == nil {
			ops = append(ops, op)
			b.size += op.size()
		}
	}
	s.mu.RUnlock()
	if len(ops) == 0 {
		return nil
	}
	b.changes = make([]change, len(ops))
	if err := s.admit(b, true); err != nil {
		return err
	}
	return s.enqueue(b, ops)
}
