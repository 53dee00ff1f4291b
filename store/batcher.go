package store

import (
	"errors"
	"time"

	"mayfly/function"
	"mayfly/internal/crashpoint"
)

// batcher turns the queue into groups until the store is closed and the queue is empty, or the disk fails.
func (s *Store) batcher() error {
	sweep := sweeper{store: s}
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	last := 0 // submissions in the last group
	for {
		s.mu.RLock()
		ready, closed, failed := len(s.queue), s.closed, s.failed
		s.mu.RUnlock()
		switch {
		case failed != nil:
			return failed
		case ready == 0 && closed:
			return nil
		case ready == 0:
			last = 0
			if sweep.running {
				sweep.step()
				continue
			}
			select {
			case <-s.wake:
			case <-ticker.C:
				sweep.start()
			}
			continue
		case !closed:
			s.gather(ready, last)
		}
		group := s.take()
		last = len(group)
		if err := s.commit(group); err != nil {
			s.fail(err, group)
			continue
		}
		s.settle(group)
		if s.stats.groups.Load()%sweepShare == 0 { // under constant load too
			select {
			case <-ticker.C:
				sweep.start()
			default:
			}
			sweep.step()
		}
	}
}

// gather waits for company when the last sync had company: those whose batches were in it are likely about to come back,
// and one sync for all costs the flash a fraction of one each. A lone writer never waits.
func (s *Store) gather(ready, last int) {
	if s.cfg.Window < 0 || last < 2 || ready >= last {
		return
	}
	timer := time.NewTimer(s.cfg.Window)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			return
		case <-s.wake:
		}
		s.mu.RLock()
		enough := len(s.queue) >= last || s.closed
		s.mu.RUnlock()
		if enough {
			return
		}
	}
}

// take removes what fits into one transaction from the queue.
func (s *Store) take() []*batch {
	s.mu.Lock()
	defer s.mu.Unlock()
	size, count, n := int64(0), 0, 0
	for _, b := range s.queue {
		size += b.size
		count += len(b.changes)
		if n > 0 && (size > s.limits.batchBytes || count > s.limits.batchCount) {
			break
		}
		n++
	}
	group := s.queue[:n:n]
	s.queue = s.queue[n:]
	return group
}

// newest calls do with the changes of group that no later change of the same group makes void.
func (s *Store) newest(group []*batch, do func(*change) error) error {
	last := group[len(group)-1].seq
	s.mu.RLock() // later is written by Submit
	var keep []*change
	for _, b := range group {
		for i := range b.changes {
			if c := &b.changes[i]; c.later == 0 || c.later > last {
				keep = append(keep, c)
			}
		}
	}
	s.mu.RUnlock()
	for _, c := range keep {
		if err := do(c); err != nil {
			return err
		}
	}
	return nil
}

// commit writes group as one transaction and syncs it. On error nothing in memory has changed but the database may hold
// any part of it.
func (s *Store) commit(group []*batch) error {
	seq := group[len(group)-1].seq
	sum := s.live
	tx := s.db.begin(seq)
	defer tx.discard()
	bytes := 0
	err := s.newest(group, func(c *change) error {
		old, err := tx.holds(c.key)
		if err != nil {
			return err
		}
		if old != 0 {
			sum.remove(c.key, old)
		}
		bytes += len(c.key) + len(c.value)
		switch {
		case !c.delete:
			sum.add(c.key, seq)
			return tx.put(c.key, sealRecord(c.key, c.value, c.version, seq, c.expires))
		case old != 0:
			return tx.delete(c.key)
		}
		return nil // written and deleted before it ever reached the disk
	})
	if err != nil {
		return err
	}
	sum.seq, sum.clock, sum.wall = seq, s.clock.now(), time.Now().UnixMilli()
	if err := tx.put(liveKey(), sealRecord(liveKey(), sum.encode(), seq, seq, 0)); err != nil {
		return err
	}
	if err := tx.commit(); err != nil {
		return err
	}
	crashpoint.Here(crashpoint.Marked)
	if err := s.mark.write(seq); err != nil {
		return err
	}
	crashpoint.Here(crashpoint.Synced)
	s.live = sum
	s.stats.records.Store(sum.count)
	s.stats.groups.Add(1)
	s.stats.bytes.Add(uint64(bytes))
	return nil
}

// settle takes a synced group out of the overlay, where reads find it in the database from now on, and tells everybody.
func (s *Store) settle(group []*batch) {
	s.mu.Lock()
	for _, b := range group {
		for i := range b.changes {
			if c := &b.changes[i]; s.overlay[string(c.key)] == c {
				delete(s.overlay, string(c.key))
			}
		}
		s.queued -= b.size
		s.waiting -= len(b.changes)
	}
	s.mu.Unlock()
	for _, b := range group {
		s.stats.batches.Add(1)
		s.stats.changes.Add(uint64(len(b.changes)))
		b.finish(nil)
	}
}

// fail stops the store for good: what the disk holds now is only known after a restart.
func (s *Store) fail(cause error, group []*batch) {
	e := failure("sync", s.cfg.Dir, function.ClassFatal, "disk", errors.Join(ErrFailed, cause))
	e.Hint = "check the disk (dmesg); the agent must be restarted and will check the store when it starts"
	s.mu.Lock()
	s.failed = e
	left := append(group, s.queue...)
	s.queue, s.queued, s.waiting, s.overlay = nil, 0, 0, map[string]*change{}
	s.mu.Unlock()
	for _, b := range left {
		b.finish(e)
	}
}
