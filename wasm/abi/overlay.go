package abi

import (
	"slices"
	"strings"

	"mayfly/function"
)

// overlay holds the state writes of one event: one per key, however often the guest wrote it, so that the event sees its
// own writes and the commit sees each key once.
type overlay struct {
	index  map[string]int // key to entry
	writes []write
	sorted []int // entries by key; shorter than writes when out of date
	used   int64 // bytes the function's state will hold after the commit; -1 until asked for
	bytes  int64 // bytes of keys and values in writes
}

// write is what becomes of one key.
type write struct {
	function.StateWrite
	base uint64 // committed version the first write found; 0 = absent
	n    uint64 // how often this event wrote it
}

// size is what the key will take up.
func (w *write) size() int64 {
	if w.Delete {
		return 0
	}
	return int64(len(w.Key) + len(w.Value))
}

func (o *overlay) reset() {
	if len(o.writes) > 0 {
		clear(o.index)
		clear(o.writes) // drop the references: the result owns the bytes now
		o.writes = o.writes[:0]
		o.sorted = o.sorted[:0]
	}
	o.used, o.bytes = -1, 0
}

// view is a key as the event sees it.
type view struct {
	value   []byte
	version uint64 // 0 = absent
	base    uint64 // committed version
	size    int64  // what key and value take up
	at      int    // index of the write, -1 when this event has not written the key
}

// look reads key through the overlay.
func (o *overlay) look(state function.State, key []byte) (view, error) {
	if i, ok := o.index[string(key)]; ok {
		w := &o.writes[i]
		v := view{value: w.Value, version: w.base + w.n, base: w.base, size: w.size(), at: i}
		if w.Delete {
			v.value, v.version = nil, 0
		}
		return v, nil
	}
	value, version, err := state.Get(key)
	v := view{value: value, version: version, base: version, at: -1}
	if version != 0 {
		v.size = int64(len(key) + len(value))
	}
	return v, err
}

// change is a write that was asked for; key and value are the caller's memory.
type change struct {
	key   []byte
	value []byte
	function.StateWrite
}

// apply makes c the write of its key and returns the version the event sees from now on. It keeps copies.
func (o *overlay) apply(v view, c change) uint64 {
	if v.at < 0 {
		v.at = o.add(c.key, len(c.value), v.base)
	}
	w := &o.writes[v.at]
	o.bytes += int64(len(c.value) - len(w.Value))
	w.Value = append(w.Value[:0], c.value...)
	w.Delete, w.TTL = c.Delete, c.TTL
	if c.Checked { // and a later unchecked write may rest on it: it stays checked
		w.Checked, w.Expect = true, w.base
	}
	w.n++
	return w.base + w.n
}

// add appends a write with an empty value that has room for n bytes beside the key.
func (o *overlay) add(key []byte, n int, base uint64) int {
	b := make([]byte, len(key), len(key)+n)
	copy(b, key)
	if o.index == nil {
		o.index = make(map[string]int)
	}
	o.writes = append(o.writes, write{base: base})
	w := &o.writes[len(o.writes)-1]
	w.Key, w.Value = b[:len(key):len(key)], b[len(key):]
	o.index[text(w.Key)] = len(o.writes) - 1
	o.bytes += int64(len(key))
	return len(o.writes) - 1
}

// order returns the entries sorted by key.
func (o *overlay) order() []int {
	if len(o.sorted) != len(o.writes) {
		o.sorted = o.sorted[:0]
		for i := range o.writes {
			o.sorted = append(o.sorted, i)
		}
		slices.SortFunc(o.sorted, func(a, b int) int { return strings.Compare(text(o.writes[a].Key), text(o.writes[b].Key)) })
	}
	return o.sorted
}

// appendTo hands the writes to the result.
func (o *overlay) appendTo(out []function.StateWrite) []function.StateWrite {
	for i := range o.writes {
		out = append(out, o.writes[i].StateWrite)
	}
	return out
}
