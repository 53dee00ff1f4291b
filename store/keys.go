package store

import (
	"bytes"
	"encoding/binary"
)

// Space is one of the key spaces. Everything the node keeps lives in one of them, and this file is the only place that
// says how keys look:
//
//	<space byte> '/' <function> 0x00 <rest>
//
// so that all that belongs to one function in one space is one contiguous range. Spaces that are not divided by function
// use "" for it.
type Space byte

// Key spaces.
const (
	State      Space = 's' // state of functions; rest = the function's own key
	Journal    Space = 'j' // events nobody else holds; rest = the journal's index key
	DeadLetter Space = 'x' // events given up; rest = sequence
	Outbox     Space = 'o' // publishes waiting for the broker's confirmation
	Done       Space = 'd' // done marks: events whose effects are committed
	Catalog    Space = 'c' // replicated desired state
	Meter      Space = 'm' // usage ledger
	Trigger    Space = 't' // what this node has subscribed to, and in which session
	internal   Space = '!' // this package's own records; refused from outside
)

// MaxKey is the longest key in bytes, all parts included.
const MaxKey = 4096

// Prefix returns the prefix of all keys of a function in a space. The function's name must not contain a NUL byte.
func (s Space) Prefix(function string) []byte {
	return append(append([]byte{byte(s), '/'}, function...), 0)
}

// All returns the prefix of all keys of a space.
func (s Space) All() []byte { return []byte{byte(s), '/'} }

// Key returns the key of rest in the function's part of the space.
func (s Space) Key(function string, rest []byte) []byte {
	k := make([]byte, 0, 3+len(function)+len(rest))
	k = append(append(k, byte(s), '/'), function...)
	return append(append(k, 0), rest...)
}

// SeqKey returns the key of a sequence number in the function's part of the space; such keys sort by number.
func (s Space) SeqKey(function string, seq uint64) []byte {
	return s.Key(function, binary.BigEndian.AppendUint64(nil, seq))
}

// SplitKey takes a key apart. It reports false when k is not a key of this form. The parts alias k.
func SplitKey(k []byte) (space Space, function string, rest []byte, ok bool) {
	if len(k) < 3 || k[1] != '/' {
		return 0, "", nil, false
	}
	name, rest, found := bytes.Cut(k[2:], []byte{0})
	return Space(k[0]), string(name), rest, found
}
