// Package store keeps what must survive a power cut, in one embedded database, in atomic batches that are synced before
// anybody is told they are safe. It is the only package that knows which database that is.
//
// What is promised: done(nil) means synced; what was lost or damaged is found at Open (or when read) and counted, never
// hidden; a full disk refuses writes and never crashes; the first disk error stops everything. DESIGN.md walks the failures.
package store

import (
	"context"
	"log/slog"
	"time"
)

// Config says where the store is and how much it may take. Zero fields get the defaults named.
type Config struct {
	Dir       string        // created if missing
	MemTable  int64         // bytes of one memory table, default 4 MiB, 2 to 64 MiB; a batch may hold 15 % of it
	Window    time.Duration // longest wait for company before a sync when there is company, default 2 ms, negative = never
	QueueSize int64         // bytes that may wait for the disk, default 4 MiB
	QueueOps  int           // changes that may wait for the disk, default 16,384
	Floor     int64         // bytes of disk that stay free, default 8 x MemTable
	Ballast   int64         // bytes held back and given up when the disk is full, default 2 x MemTable, negative = none
}

// MaxBatch returns the bytes of keys and values (and some 64 for each record) one Submit may hold.
func (s *Store) MaxBatch() int64 { return s.limits.batchBytes }

// Open opens the store in cfg.Dir, repairing what can be repaired. It starts nothing of its own: Run does. What was found,
// repaired or lost is in the Report, which is worth a log line whenever it is not Clean.
func Open(cfg Config, log *slog.Logger) (*Store, Report, error) { panic("in the making") }

// Run writes what is submitted until ctx ends, then refuses further submissions, syncs what was accepted, and returns. It
// returns the error that made the store fail, if one did. It may be called once.
func (s *Store) Run(ctx context.Context) error { panic("in the making") }

// Close closes the files. Run must have returned (or never been called). What was submitted and not synced gets ErrClosed.
func (s *Store) Close() error { panic("in the making") }

// Submit queues ops as one atomic batch. The changes are visible to Get and Scan when it returns nil; done is called
// exactly once, with nil when they are synced to disk and not before: effects outside the node wait for it. Batches
// become durable in the order of the calls. done is called from the store's goroutine and must not block; it may
// call Submit. When Submit returns an error nothing was applied and done is not called. Later ops of a key win over
// earlier ones. Submit does not block on the disk (a Checked key may be read from it).
func (s *Store) Submit(ops []Op, done func(error)) error { panic("in the making") }

// Get returns the value of key and its version. Version 0 means absent, which is no error. Versions of one key only ever
// grow, also across deletion. The caller must not write to value.
func (s *Store) Get(key []byte) (value []byte, version uint64, err error) { panic("in the making") }

// Scan calls yield with the records whose key starts with prefix and sorts after `after` (nil = from the start), ascending,
// until it returns false. It sees everything submitted before it began. key and value are the callee's only until yield
// returns. A damaged record is passed with a nil value and version 0.
func (s *Store) Scan(prefix, after []byte, yield func(key, value []byte, version uint64) bool) error {
	panic("in the making")
}

// Keys is Scan without values: it reads less from disk. Damage to values is not noticed.
func (s *Store) Keys(prefix, after []byte, yield func(key []byte, version uint64) bool) error {
	panic("in the making")
}

// Stats returns the counters since Open.
func (s *Store) Stats() Stats { panic("in the making") }

// Store is safe for concurrent use.
type Store struct{ limits limits }

type limits struct {
	batchBytes int64
	batchCount int
}

const perRecord = 64
