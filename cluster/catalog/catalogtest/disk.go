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

// Disk is a store in memory that syncs a few milliseconds after it was written to, in order, as a real one does.
type Disk struct {
	mu     sync.Mutex
	synced map[string][]byte
	queue  []queued
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
	time.AfterFunc(syncTime, d.sync)
	return nil
}

// sync makes the oldest batch durable.
func (d *Disk) sync() {
	d.mu.Lock()
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

// Copy returns a disk with what is synced: what a power cut would leave.
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
