// Package store keeps what must survive a power cut, in one embedded database, in atomic batches that are synced before
// anybody is told they are safe. It is the only package that knows which database that is.
//
// What is promised: done(nil) means synced; what was lost or damaged is found at Open (or when read) and counted, never
// hidden; a full disk refuses writes and never crashes; the first disk error stops everything. DESIGN.md walks the failures.
package store

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// Config says where the store is and how much it may take. Zero fields get the defaults named.
type Config struct {
	Dir       string        // created if missing
	MemTable  int64         // bytes of one memory table, default 8 MiB, 2 to 64 MiB; a batch may hold 15 % of it
	Window    time.Duration // longest wait for company before a sync when there is company, default 2 ms, negative = never
	QueueSize int64         // bytes that may wait for the disk, default 4 MiB
	QueueOps  int           // changes that may wait for the disk, default 16,384
	Floor     int64         // bytes of disk that stay free, default 8 x MemTable + 32 MiB
	Ballast   int64         // bytes held back and given up when the disk is full, default 2 x MemTable, negative = none

	seam seam
}

// seam is where tests break things. The zero seam breaks nothing.
type seam struct {
	free func(dir string) (int64, error) // instead of statfs
	sync func(*os.File) error            // instead of fdatasync of the log
	now  func() time.Time                // wall clock at Open
}

func (c Config) withDefaults() Config {
	if c.MemTable == 0 {
		c.MemTable = 8 << 20
	}
	c.MemTable = min(max(c.MemTable, 2<<20), 64<<20)
	if c.Window == 0 {
		c.Window = 2 * time.Millisecond
	}
	if c.QueueSize == 0 {
		c.QueueSize = 4 << 20
	}
	if c.QueueOps == 0 {
		c.QueueOps = 16384
	}
	if c.Floor == 0 {
		c.Floor = 8*c.MemTable + 32<<20
	}
	if c.Ballast == 0 {
		c.Ballast = 2 * c.MemTable
	}
	c.Ballast = max(c.Ballast, 0)
	if c.seam.free == nil {
		c.seam.free = statfs
	}
	if c.seam.sync == nil {
		c.seam.sync = fdatasync
	}
	if c.seam.now == nil {
		c.seam.now = time.Now
	}
	return c
}

// Store is safe for concurrent use.
type Store struct {
	cfg    Config
	log    *slog.Logger
	db     *database
	mark   *mark
	space  *space
	clock  clock
	lock   *os.File
	limits limits

	submit sync.Mutex // one submission at a time: checks and sequence

	mu      sync.RWMutex // guards what follows
	seq     uint64       // last submission
	overlay map[string]*change
	queue   []*batch
	queued  int64 // bytes of queue
	waiting int   // changes in queue
	closed  bool  // nothing is accepted any more
	shut    bool  // the files are closed
	failed  error

	wake chan struct{} // capacity 1

	live    live         // owned by the batcher
	expires atomic.Int64 // store time at which the next record expires, 0 = none has a TTL
	stats   counters
	report  Report
	closing sync.Once
}

type limits struct {
	batchBytes int64 // of one submission and of one group
	batchCount int
}

type counters struct {
	records, batches, groups, changes, bytes, busy, full, conflicts, corrupt atomic.Uint64
}

// MaxBatch returns the bytes of keys and values one Submit may hold; each change adds some 64 bytes of its own.
func (s *Store) MaxBatch() int64 { return s.limits.batchBytes }

// Run writes what is submitted until ctx ends, then refuses further submissions, syncs what was accepted, and returns. It
// returns the error that made the store fail, if one did. It may be called once.
func (s *Store) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		s.mu.Lock()
		s.closed = true
		s.mu.Unlock()
		s.nudge()
	})
	defer stop()
	return s.batcher()
}

// Close closes the files. Run must have returned (or never been called). What was submitted and not synced gets ErrClosed.
// A second call does nothing.
func (s *Store) Close() error {
	var err error
	s.closing.Do(func() { err = s.close() })
	return err
}

func (s *Store) close() error {
	s.mu.Lock()
	s.closed, s.shut = true, true
	left := s.queue
	s.queue, s.queued, s.waiting, s.overlay = nil, 0, 0, map[string]*change{}
	s.mu.Unlock()
	for _, b := range left {
		b.finish(errClosed("close"))
	}
	return errors.Join(s.db.close(), s.mark.close(), s.lock.Close())
}

// Stats returns the counters since Open.
func (s *Store) Stats() Stats {
	s.mu.RLock()
	queued, failed := s.queued, s.failed
	s.mu.RUnlock()
	c := &s.stats
	return Stats{
		Records: c.records.Load(), Batches: c.batches.Load(), Groups: c.groups.Load(), Changes: c.changes.Load(),
		Bytes: c.bytes.Load(), Queued: queued, Busy: c.busy.Load(), Full: c.full.Load(), Conflicts: c.conflicts.Load(),
		Corrupt: c.corrupt.Load(), Lost: s.report.Lost, LostWrites: s.report.LostWrites,
		Free: s.space.freeNow(), DiskBytes: diskBytes(s.cfg.Dir), Failed: failed,
	}
}

// Report returns what Open found.
func (s *Store) Report() Report { return s.report }

func (s *Store) path(name string) string { return filepath.Join(s.cfg.Dir, name) }
