package store

import (
	"encoding/binary"

	"github.com/cespare/xxhash/v2"
)

// live sums up which records exist: how many, and the sum of a hash of each one's key and group. It is written with every
// group, so comparing it with what a scan finds at Open shows whether anything is missing, or came back. Adding and
// removing commute; two sets differ unnoticed with a chance of 2^-64.
type live struct {
	seq   uint64 // last submission contained
	count uint64
	sum   uint64
	clock int64  // store time, ms
	wall  int64  // wall clock at that time, ms since 1970
	lost  uint64 // records found missing since the store was made
}

const liveForm = 1

// liveKey holds the live record; it is not part of its own sum.
func liveKey() []byte { return internal.Key("", []byte("live")) }

func (l *live) add(key []byte, group uint64)    { l.count++; l.sum += liveHash(key, group) }
func (l *live) remove(key []byte, group uint64) { l.count--; l.sum -= liveHash(key, group) }

func liveHash(key []byte, group uint64) uint64 {
	var d xxhash.Digest
	d.ResetWithSeed(group)
	_, _ = d.Write(key) // never fails
	return d.Sum64()
}

func (l *live) encode() []byte {
	b := []byte{liveForm}
	for _, v := range []uint64{l.seq, l.count, l.sum, uint64(l.clock), uint64(l.wall), l.lost} {
		b = binary.AppendUvarint(b, v)
	}
	return b
}

func decodeLive(b []byte) (l live, ok bool) {
	if len(b) == 0 || b[0] != liveForm {
		return live{}, false
	}
	b = b[1:]
	var v [6]uint64
	for i := range v {
		n := 0
		if v[i], n = binary.Uvarint(b); n <= 0 {
			return live{}, false
		}
		b = b[n:]
	}
	return live{seq: v[0], count: v[1], sum: v[2], clock: int64(v[3]), wall: int64(v[4]), lost: v[5]}, len(b) == 0
}
