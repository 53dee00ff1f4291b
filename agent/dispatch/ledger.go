package dispatch

import (
	"sync"
	"time"

	"mayfly/function"
	"mayfly/store"
)

// ledger knows how many bytes a function's state holds, so that an event does not have to count them. It counts once and then
// follows what is committed; what expired meanwhile is noticed when it counts again. Safe for concurrent use; the zero ledger
// knows nothing yet.
type ledger struct {
	mu      sync.Mutex
	known   bool
	bytes   int64
	counted time.Time
}

// recount is how old a count may become: keys that expired count against the quota for so much longer at most.
const recount = time.Minute

// forget makes the next usage count again: somebody else may have written.
func (l *ledger) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.known = false
}

// usage returns the bytes of all keys and values. Nothing is committed through the ledger while it counts.
func (l *ledger) usage(st Store, name string, now time.Time) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.known && now.Sub(l.counted) < recount {
		return l.bytes, nil
	}
	base, sum := store.State.Prefix(name), int64(0)
	err := st.Scan(base, nil, func(key, value []byte, _ uint64) bool {
		sum += int64(len(key) - len(base) + len(value))
		return true
	})
	l.known, l.bytes, l.counted = err == nil, sum, now
	return sum, err
}

// commit lets submit make writes true and follows what they change.
func (l *ledger) commit(st Store, name string, writes []function.StateWrite, submit func() error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	delta := int64(0)
	if l.known {
		for i := range writes {
			w := &writes[i]
			if !w.Delete {
				delta += int64(len(w.Key) + len(w.Value))
			}
			old, version, err := st.Get(store.State.Key(name, w.Key))
			switch {
			case err != nil:
				l.known = false // a damaged record: the next count tells
			case version != 0:
				delta -= int64(len(w.Key) + len(old))
			}
		}
	}
	if err := submit(); err != nil {
		return err
	}
	l.bytes += delta
	return nil
}
