package catalogtest

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"mayfly/store"
)

// Disk is a store in memory that syncs a few milliseconds after it was written to, in order, as a real one does. What was not synced when Cut is
// called is gone.
type Disk struct {
	mu     sync.Mutex
	synced map[string][]byte
	queue  []queued
	cuts   int
}

type queued struct {
	ops  []store.Op
	done func(error)
}

const syncTime = 5 * time.Millisecond

// NewDisk returns an empty disk.
func NewDisk() *Disk { return &Disk{synced: map[string][]byte{}} }

// Submit implements catalog.Store.
func (d *Disk) Submit(ops []store.Op, done func(error)) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.queue = append(d.queue, queued{ops, done})
	life := d.cuts
	time.AfterFunc(syncTime, func() { d.sync(life) })
	return nil
}

// sync makes the oldest batch durable.
func (d *Disk) sync(life int) {
	d.mu.Lock()
	if d.cuts != life || len(d.queue) == 0 {
		d.mu.Unlock()
		return
	}
	q := d.queue[0]
	d.queue = d.queue[1:]
	for _, op := range q.ops {
		if op.Delete {
			delete(d.synced, string(op.Key))
		} else {
			d.synced[string(op.Key)] = bytes.Clone(op.Value)
		}
	}
	d.mu.Unlock()
	q.done(nil)
}

// Cut takes the power away: what is not synced never was, and nobody is told.
func (d *Disk) Cut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.queue = nil
	d.cuts++
}

// Copy returns a disk with what is synced.
func (d *Disk) Copy() *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	return &Disk{synced: maps.Clone(d.synced)}
}

// Scan implements catalog.Store.
func (d *Disk) Scan(prefix, _ []byte, yield func(key, value []byte, version uint64) bool) error {
	d.mu.Lock()
	held := maps.Clone(d.synced)
	d.mu.Unlock()
	for _, k := range slices.Sorted(maps.Keys(held)) {
		if strings.HasPrefix(k, string(prefix)) && !yield([]byte(k), held[k], 1) {
			break
		}
	}
	return nil
}
