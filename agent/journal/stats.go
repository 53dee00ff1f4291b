package journal

import (
	"time"

	"mayfly/store"
)

// Counts only grow while the process lives.
type Counts struct {
	Corrupt uint64 // records that could not be read; a dead letter tells of each
	Dropped uint64 // dead letters that made room for newer ones
	Refused uint64 // batches refused with ErrFull
}

// Backlog is what waits, or lies, in the journal.
type Backlog struct {
	Count  int64
	Bytes  int64
	Quota  int64     // bytes, of one function; 0 over all functions
	Oldest time.Time // when the oldest was received, or given up; zero when there is none
}

// Counts returns the counters.
func (j *Journal) Counts() Counts {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.counts
}

// Stats returns what there is of all functions. It reads a record of each function from disk.
func (j *Journal) Stats() (waiting, dead Backlog) {
	j.mu.Lock()
	names := make([]string, 0, len(j.shelf))
	for name := range j.shelf {
		names = append(names, name)
	}
	j.mu.Unlock()
	for _, name := range names {
		w, d := j.Usage(name)
		waiting.add(w)
		dead.add(d)
	}
	return waiting, dead
}

func (b *Backlog) add(o Backlog) {
	b.Count += o.Count
	b.Bytes += o.Bytes
	if b.Oldest.IsZero() || !o.Oldest.IsZero() && o.Oldest.Before(b.Oldest) {
		b.Oldest = o.Oldest
	}
}

// Usage returns what there is of one function. It reads a record of each kind from disk.
func (j *Journal) Usage(function string) (waiting, dead Backlog) {
	waiting.Quota, dead.Quota = j.cfg.Quota, j.cfg.DeadQuota
	j.mu.Lock()
	if s := j.shelf[function]; s != nil {
		waiting.Count, waiting.Bytes = int64(len(s.sizes)), s.bytes
		dead.Count, dead.Bytes = int64(s.graves), s.buried
	}
	j.mu.Unlock()
	if waiting.Count > 0 {
		waiting.Oldest = j.first(store.Journal.Prefix(function), func(raw []byte) time.Time {
			var e Entry
			decodeHead(&decoder{b: raw}, &e, j.now())
			return e.Received
		})
	}
	if dead.Count > 0 {
		dead.Oldest = j.first(store.DeadLetter.Prefix(function), func(raw []byte) time.Time {
			d := &decoder{b: raw}
			d.byte()
			return d.time()
		})
	}
	return waiting, dead
}

// first returns the time in the first record with prefix; zero when it cannot be told.
func (j *Journal) first(prefix []byte, read func(raw []byte) time.Time) (at time.Time) {
	_ = j.store.Scan(prefix, nil, func(_, raw []byte, _ uint64) bool { // statistics only
		at = read(raw)
		return false
	})
	return at
}
