package meter

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"mayfly/store"
)

// The ledger's records. A segment is an hour, or the part of it until the clock showed another one: segments are numbered in the order
// they were written, whatever the clock said, and only the last one changes.
//
//	a                          anchor: the last segment that was folded away, its link, and the sum of the months
//	l segment                  link of a closed segment
//	m hour subject             a month, folded: usage
//	r segment subject          hour and usage
//
// Segments and hours are 8 bytes, big endian; a subject is function, NUL, tenant.
const (
	kindAnchor = 'a'
	kindLink   = 'l'
	kindMonth  = 'm'
	kindRow    = 'r'
)

func recordKey(kind byte, number uint64) []byte {
	return store.Meter.Key("", binary.BigEndian.AppendUint64([]byte{kind}, number))
}

func anchorKey() []byte { return store.Meter.Key("", []byte{kindAnchor}) }

func kindPrefix(kind byte) []byte { return store.Meter.Key("", []byte{kind}) }

// entry is a record with a number and, where it is somebody's, a subject.
type entry struct {
	kind    byte
	number  uint64 // segment, or hour of a month
	subject Subject

	key, value []byte // as stored; value is nil when it is damaged on disk
}

func newEntry(kind byte, number uint64, s Subject, value []byte) entry {
	key := append(recordKey(kind, number), s.Function...)
	key = append(append(key, 0), s.Tenant...)
	return entry{kind, number, s, key, value}
}

// readEntry reads a key of the ledger that is not the anchor's.
func readEntry(key, value []byte) (e entry, err error) {
	_, name, rest, ok := store.SplitKey(key)
	if !ok || name != "" || len(rest) < 9 {
		return e, fmt.Errorf("%w: key %q", errRecord, key)
	}
	e = entry{kind: rest[0], number: binary.BigEndian.Uint64(rest[1:]), key: bytes.Clone(key), value: bytes.Clone(value)}
	switch function, tenant, found := bytes.Cut(rest[9:], []byte{0}); {
	case e.kind == kindLink && len(rest) == 9:
	case found && (e.kind == kindRow || e.kind == kindMonth):
		e.subject = Subject{string(function), string(tenant)}
	default:
		return e, fmt.Errorf("%w: key %q", errRecord, key)
	}
	return e, nil
}

// usage reads the value of a row or a month, and of which hour it is.
func (e *entry) usage() (hour uint64, u Usage, err error) {
	if e.value == nil {
		return 0, u, fmt.Errorf("%w: what %s used is damaged on disk", errRecord, e.subject.Function)
	}
	rest := e.value
	hour = e.number
	if e.kind == kindRow {
		n := 0
		if hour, n = binary.Uvarint(rest); n <= 0 {
			return 0, u, fmt.Errorf("%w: what %s used cannot be read", errRecord, e.subject.Function)
		}
		rest = rest[n:]
	}
	u, err = decodeUsage(rest)
	return hour, u, err
}

func rowEntry(segment, hour uint64, s Subject, u Usage) entry {
	return newEntry(kindRow, segment, s, u.append(binary.AppendUvarint(nil, hour)))
}

// hash is over the keys and values of records, in the order given.
func hash(before []byte, all []entry) link {
	h := sha256.New()
	h.Write(before)
	for i := range all {
		for _, part := range [][]byte{all[i].key, all[i].value} {
			h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(part))))
			h.Write(part)
		}
	}
	return link(h.Sum(nil))
}

// link is one link of the chain: a hash over the link before and every record of its segment. Whoever changes, adds or removes a record
// of a closed segment has to change all links after it.
type link [sha256.Size]byte

// anchor is where the chain begins.
type anchor struct {
	segment uint64 // the last one that is gone; 0 = none is
	link    link   // its own
	months  link   // hash of all months
	misfits uint64 // segments that did not fit their links when they were folded
}

func (a anchor) encode() []byte {
	b := binary.BigEndian.AppendUint64(nil, a.segment)
	b = append(append(b, a.link[:]...), a.months[:]...)
	return binary.BigEndian.AppendUint64(b, a.misfits)
}

func decodeAnchor(b []byte) (a anchor, err error) {
	if len(b) != 16+2*sha256.Size {
		return a, fmt.Errorf("%w: an anchor of %d bytes", errRecord, len(b))
	}
	a.segment, b = binary.BigEndian.Uint64(b), b[8:]
	a.link, b = link(b[:sha256.Size]), b[sha256.Size:]
	a.months, b = link(b[:sha256.Size]), b[sha256.Size:]
	a.misfits = binary.BigEndian.Uint64(b)
	return a, nil
}
