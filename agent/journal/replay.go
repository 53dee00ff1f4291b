package journal

import (
	"errors"
	"time"

	"mayfly/internal/crashpoint"
	"mayfly/store"
)

// batchLetters and batchBytes bound one batch of Drop and Replay.
const (
	batchLetters = 200
	batchBytes   = 256 << 10
)

// Drop deletes what matches and returns how many, synced. Limit is ignored.
func (j *Journal) Drop(q Query) (int, error) {
	return j.each(q, func(l *Letter) ([]store.Op, error) { return nil, nil }, func([]Letter) {})
}

// Replay moves what matches back into the journal, each as a new first attempt, oldest first, and returns what is now waiting
// there, for the dispatcher. Letter and entry change places in one batch. Letters that cannot be read stay. may, which can be
// nil, says why an event of a function cannot be replayed; the first that may not, and ErrFull, end it, with what was done
// until then.
func (j *Journal) Replay(q Query, may func(function string) error) ([]Waiting, error) {
	var moved []Waiting
	pending := map[uint64]*Entry{} // by number of the letter
	_, err := j.each(q, func(l *Letter) ([]store.Op, error) {
		if l.Kind == "corrupt" {
			return nil, errSkip
		}
		if may != nil {
			if err := may(l.Function); err != nil {
				return nil, err
			}
		}
		full, err := j.Letter(l.ID)
		if err != nil {
			return nil, err
		}
		e := full.Entry
		e.Attempt, e.NotBefore, e.LastError = 1, time.Time{}, ""
		ops, err := j.AppendOps([]*Entry{&e})
		if err == nil {
			pending[l.Seq] = &e
			j.Appended([]*Entry{&e}) // counts against the quota at once
		}
		return ops, err
	}, func(done []Letter) {
		for _, l := range done {
			e := pending[l.Seq]
			delete(pending, l.Seq)
			moved = append(moved, Waiting{e.Function, e.Trigger, e.Seq, e.Lane, e.Attempt, e.NotBefore})
		}
	})
	for _, e := range pending { // refused or not synced
		j.Removed(e.Function, e.Seq)
	}
	return moved, err
}

var errSkip = errors.New("not this one")

// each removes what matches in synced batches, oldest first; further says what to commit together with the removal of one,
// and committed is told of those whose batch is synced.
func (j *Journal) each(q Query, further func(*Letter) ([]store.Op, error), committed func([]Letter)) (int, error) {
	total := 0
	q.Limit = batchLetters
	for {
		page, next, err := j.Letters(q)
		if err != nil {
			return total, err
		}
		for len(page) > 0 {
			n, err := j.removeSome(page, further, committed)
			total += n.removed
			if err != nil {
				return total, err
			}
			page = page[n.seen:]
		}
		if next == 0 {
			return total, nil
		}
		q.After = next
	}
}

type progress struct{ seen, removed int }

// removeSome removes as many from the start of page as fit into one batch.
func (j *Journal) removeSome(page []Letter, further func(*Letter) ([]store.Op, error), committed func([]Letter)) (progress, error) {
	var ops []store.Op
	var gone []Letter
	var stop error
	seen, bytes := 0, 0
	for i := range page {
		l := &page[i]
		if bytes >= batchBytes {
			break
		}
		more, err := further(l)
		if errors.Is(err, errSkip) {
			seen++
			continue
		}
		if err != nil {
			stop = err
			break
		}
		seen++
		for _, op := range more {
			bytes += len(op.Value)
		}
		ops = append(append(ops, more...), store.Op{Key: graveKey(l.Function, l.Seq), Delete: true})
		gone = append(gone, *l)
	}
	if len(gone) == 0 {
		return progress{seen, 0}, stop
	}
	crashpoint.Here(crashpoint.Replay)
	synced := make(chan error, 1)
	if err := j.store.Submit(ops, func(err error) { synced <- err }); err != nil {
		return progress{}, err
	}
	if err := <-synced; err != nil {
		return progress{}, err
	}
	j.mu.Lock()
	for _, l := range gone {
		j.of(l.Function).lose(l.size)
	}
	j.mu.Unlock()
	crashpoint.Here(crashpoint.Replayed)
	committed(gone)
	return progress{seen, len(gone)}, stop
}
