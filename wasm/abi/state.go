package abi

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"time"

	"mayfly/function"
)

// state returns the function's committed state, or a negative code.
func (s *Session) state() (function.State, int32) {
	if s.call.State != nil {
		return s.call.State, 0
	}
	if scope := s.policy.fn.Manifest.State.Scope; scope == function.ScopeNone || scope == "" {
		return nil, codeDenied
	}
	return nil, codeUnavailable
}

// keyed is the start of every kv function: it finds the key in memory, checks it and looks it up. A code that is not 0 is the
// answer to the guest.
func (s *Session) keyed(m memory, ptr, n uint64) (key []byte, v view, code int32, err error) {
	key, ok := m.at(ptr, n)
	if !ok {
		return nil, v, 0, errOutside
	}
	state, code := s.state()
	switch {
	case code != 0:
		return nil, v, code, nil
	case len(key) == 0:
		return nil, v, codeInvalid, nil
	case len(key) > MaxKey:
		return nil, v, codeTooLarge, nil
	}
	v, err = s.kv.look(state, key)
	return key, v, 0, s.broken("read state", err)
}

// broken gives a failure of the store a class. It ends the event: a guest could not do anything about it.
func (s *Session) broken(op string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*function.Error](err); ok {
		return err
	}
	return &function.Error{Op: op, Subject: s.policy.fn.Name(), Class: function.ClassRetry, Kind: "state", Err: err}
}

func (s *Session) kvGet(m memory, a []uint64) (uint64, error) {
	if _, ok := m.at(a[2], a[3]); !ok {
		return 0, errOutside
	}
	_, v, code, err := s.keyed(m, a[0], a[1])
	switch {
	case err != nil || code != 0:
		return i32(code), err
	case v.version == 0:
		return i32(codeAbsent), nil
	}
	return m.give(a[2], a[3], text(v.value))
}

func (s *Session) kvPut(m memory, a []uint64) (uint64, error) {
	value, ok := m.at(a[2], a[3])
	if !ok {
		return 0, errOutside
	}
	key, v, code, err := s.keyed(m, a[0], a[1])
	if err != nil || code != 0 {
		return i32(code), err
	}
	ttl := int64(a[4])
	if ttl < 0 || ttl > math.MaxInt64/int64(time.Millisecond) {
		return i32(codeInvalid), nil
	}
	c := change{key: key, value: value}
	c.TTL = time.Duration(ttl) * time.Millisecond
	_, code, err = s.write(v, c)
	return i32(code), err
}

func (s *Session) kvDel(m memory, a []uint64) (uint64, error) {
	key, v, code, err := s.keyed(m, a[0], a[1])
	switch {
	case err != nil || code != 0:
		return i32(code), err
	case v.version == 0:
		return i32(codeAbsent), nil
	}
	c := change{key: key}
	c.Delete = true
	_, code, err = s.write(v, c)
	return i32(code), err
}

func (s *Session) kvIncr(m memory, a []uint64) (uint64, error) {
	out, ok := m.at(a[3], 8)
	if !ok {
		return 0, errOutside
	}
	key, v, code, err := s.keyed(m, a[0], a[1])
	if err != nil || code != 0 {
		return i32(code), err
	}
	old := int64(0)
	if v.version != 0 {
		if len(v.value) != 8 {
			return i32(codeInvalid), nil
		}
		old = int64(binary.LittleEndian.Uint64(v.value))
	}
	delta := int64(a[2])
	sum := old + delta
	if (sum > old) != (delta > 0) && delta != 0 {
		return i32(codeInvalid), nil // it would overflow
	}
	var value [8]byte
	binary.LittleEndian.PutUint64(value[:], uint64(sum))
	c := change{key: key, value: value[:]}
	c.Checked = true
	if _, code, err = s.write(v, c); code == 0 && err == nil {
		copy(out, value[:])
	}
	return i32(code), err
}

func (s *Session) kvCas(m memory, a []uint64) (uint64, error) {
	value, ok := m.at(a[3], a[4])
	if !ok {
		return 0, errOutside
	}
	key, v, code, err := s.keyed(m, a[0], a[1])
	switch {
	case err != nil || code != 0:
		return i64(int64(code)), err
	case a[2] != v.version:
		return i64(codeConflict), nil
	}
	c := change{key: key, value: value}
	c.Checked = true
	version, code, err := s.write(v, c)
	if code != 0 {
		return i64(int64(code)), err
	}
	return version, err
}

func (s *Session) kvVer(m memory, a []uint64) (uint64, error) {
	_, v, code, err := s.keyed(m, a[0], a[1])
	if code != 0 {
		return i64(int64(code)), err
	}
	return v.version, err
}

// write checks c against the bounds and the quota and applies it.
func (s *Session) write(v view, c change) (version uint64, code int32, err error) {
	o := &s.kv
	if len(c.value) > MaxValue {
		return 0, codeTooLarge, nil
	}
	size, more := int64(0), int64(len(c.value))
	if !c.Delete {
		size = int64(len(c.key) + len(c.value))
	}
	if v.at < 0 {
		more += int64(len(c.key))
	} else {
		more -= int64(len(o.writes[v.at].Value))
	}
	if v.at < 0 && len(o.writes) >= MaxWrites || o.bytes+more > MaxWriteBytes {
		return 0, codeOverLimit, nil
	}
	if o.used < 0 {
		if o.used, err = s.call.State.Usage(); err != nil {
			o.used = -1
			return 0, 0, s.broken("read state", err)
		}
	}
	if size > v.size && o.used+size-v.size > s.policy.quota {
		return 0, codeOverLimit, nil
	}
	o.used += size - v.size
	return o.apply(v, c), 0, nil
}

// kvList writes the keys with a prefix that come after the cursor, as many as fit, each as its length in two bytes, low
// byte first, and then its bytes.
func (s *Session) kvList(m memory, a []uint64) (uint64, error) {
	prefix, cursor, ok := m.at2(a[0], a[1], a[2], a[3])
	buf, ok2 := m.at(a[4], a[5])
	if !ok || !ok2 {
		return 0, errOutside
	}
	state, code := s.state()
	if code != 0 {
		return i32(code), nil
	}
	if len(prefix) > MaxKey || len(cursor) > MaxKey {
		return i32(codeTooLarge), nil
	}
	// The buffer may overlap the prefix and the cursor in the guest's memory.
	prefix, cursor = bytes.Clone(prefix), bytes.Clone(cursor)
	l := lister{out: buf}
	own := s.kv.order()
	err := state.List(prefix, cursor, func(key []byte) bool {
		for len(own) > 0 && bytes.Compare(s.kv.writes[own[0]].Key, key) < 0 {
			if !l.own(&s.kv.writes[own[0]], prefix, cursor) {
				return false
			}
			own = own[1:]
		}
		if _, written := s.kv.index[string(key)]; written {
			return true // it comes, or not, with the event's own keys
		}
		return l.add(key)
	})
	if err != nil {
		return 0, s.broken("list state", err)
	}
	for len(own) > 0 && l.own(&s.kv.writes[own[0]], prefix, cursor) {
		own = own[1:]
	}
	return uint64(l.n), nil
}

// lister fills a page with keys.
type lister struct {
	out  []byte
	n    int // bytes written, or the bytes the first key needs
	full bool
}

// own adds a key the event has written itself.
func (l *lister) own(w *write, prefix, cursor []byte) bool {
	if w.Delete || !bytes.HasPrefix(w.Key, prefix) || bytes.Compare(w.Key, cursor) <= 0 {
		return !l.full
	}
	return l.add(w.Key)
}

func (l *lister) add(key []byte) bool {
	need := 2 + len(key)
	switch {
	case l.full:
		return false
	case l.n+need > len(l.out):
		l.full = true
		if l.n == 0 {
			l.n = need
		}
		return false
	}
	binary.LittleEndian.PutUint16(l.out[l.n:], uint16(len(key)))
	l.n += 2 + copy(l.out[l.n+2:], key)
	return true
}
