package store

import (
	"bytes"
	"fmt"
	"sort"

	"mayfly/function"
)

// Get returns the value of key and its version. Version 0 means absent, which is no error. Versions of one key only ever
// grow, also across deletion. The caller must not write to value.
func (s *Store) Get(key []byte) (value []byte, version uint64, err error) {
	s.mu.RLock()
	err = s.usableForReads()
	c := s.overlay[string(key)]
	s.mu.RUnlock()
	if err != nil {
		return nil, 0, err
	}
	now := s.clock.now()
	if c != nil {
		if c.delete || c.expires != 0 && c.expires <= now {
			return nil, 0, nil
		}
		return c.value, c.version, nil
	}
	group, raw, err := s.db.get(key)
	if err != nil {
		return nil, 0, failure("get", fmt.Sprintf("%q", key), function.ClassRetry, "read", err)
	}
	if group == 0 {
		return nil, 0, nil
	}
	r, ok := openRecord(key, group, raw)
	if !ok {
		s.stats.corrupt.Add(1)
		return nil, 0, failure("get", fmt.Sprintf("%q", key), function.ClassReject, "corrupt", ErrCorrupt)
	}
	if r.expires != 0 && r.expires <= now {
		return nil, 0, nil
	}
	return r.value, r.version, nil
}

// usableForReads: a closing store may still be read; a failed one may not, for it holds what was never synced.
func (s *Store) usableForReads() error {
	if s.failed != nil {
		return s.failed
	}
	if s.shut {
		return errClosed("get")
	}
	return nil
}

// Scan calls yield with the records whose key starts with prefix and sorts after `after` (nil = from the start), ascending,
// until it returns false. It sees everything submitted before it began. key and value are the callee's only until yield
// returns. A damaged record is passed with a nil value and version 0.
func (s *Store) Scan(prefix, after []byte, yield func(key, value []byte, version uint64) bool) error {
	return s.walk(prefix, after, func(key []byte, c *change, it *item) bool {
		if c != nil {
			return yield(key, c.value, c.version)
		}
		r, ok := openRecord(key, it.group, it.value())
		switch {
		case !ok:
			s.stats.corrupt.Add(1)
			return yield(key, nil, 0)
		case r.expires != 0 && r.expires <= s.clock.now():
			return true
		}
		return yield(key, r.value, r.version)
	})
}

// Keys is Scan without values, whose checksums are not verified: it is cheaper, and damage to a value is not noticed. A
// version that cannot be told is passed as 0.
func (s *Store) Keys(prefix, after []byte, yield func(key []byte, version uint64) bool) error {
	return s.walk(prefix, after, func(key []byte, c *change, it *item) bool {
		switch {
		case c != nil:
			return yield(key, c.version)
		case it.ttl:
			if r, ok := openRecord(key, it.group, it.value()); ok && r.expires != 0 && r.expires <= s.clock.now() {
				return true
			}
		}
		return yield(key, recordVersion(it.group, it.value()))
	})
}

// walk merges the overlay as it is now with the database: do gets either the change or the item. A key in both is the
// overlay's, unless the database has meanwhile got something newer.
func (s *Store) walk(prefix, after []byte, do func(key []byte, c *change, it *item) bool) error {
	pending, err := s.pending(prefix, after)
	if err != nil {
		return err
	}
	more := true
	emit := func(c *change) {
		if !c.delete && (c.expires == 0 || c.expires > s.clock.now()) {
			more = do(c.key, c, nil)
		}
	}
	err = s.db.scan(prefix, after, func(it item) bool {
		for more && len(pending) > 0 && bytes.Compare(pending[0].key, it.key) < 0 {
			emit(pending[0])
			pending = pending[1:]
		}
		if !more {
			return false
		}
		if len(pending) > 0 && bytes.Equal(pending[0].key, it.key) {
			c := pending[0]
			pending = pending[1:]
			if it.group < c.version { // else the change, or a newer one, has arrived
				emit(c)
				return more
			}
		}
		if it.key[0] != byte(internal) {
			more = do(it.key, nil, &it)
		}
		return more
	})
	for ; err == nil && more && len(pending) > 0; pending = pending[1:] {
		emit(pending[0])
	}
	if err != nil {
		return failure("scan", fmt.Sprintf("%q", prefix), function.ClassRetry, "read", err)
	}
	return nil
}

// pending returns the changes of the overlay within the range, sorted by key.
func (s *Store) pending(prefix, after []byte) ([]*change, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if err := s.usableForReads(); err != nil {
		return nil, err
	}
	var found []*change
	for _, c := range s.overlay {
		if bytes.HasPrefix(c.key, prefix) && bytes.Compare(c.key, after) > 0 {
			found = append(found, c)
		}
	}
	sort.Slice(found, func(i, j int) bool { return bytes.Compare(found[i].key, found[j].key) < 0 })
	return found, nil
}
