package catalog

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// What replicas say to each other. Every message begins with a version byte; numbers are big endian, words have their length in one byte
// before them. Nothing is allocated in proportion to a number in a message before the bytes it promises are there.
const (
	wireVersion = 1

	opCompare  = 1 // digest, cursor: headers of what is in the buckets that differ
	opFetch    = 2 // idents: records
	opVersions = 3 // idents: headers of those that are there

	saidHeader = 1 // an announcement: a header
	saidRecord = 2 // an announcement: a whole record
	saidRoot   = 3 // an announcement: the root of what its origin holds

	pageIdents  = 512     // idents in one request
	pageHeaders = 1500    // headers in one answer, about 130 KiB
	pageBytes   = 1 << 20 // of records in one answer; one record always fits
	inlineMax   = 512     // a record of at most so many bytes is announced whole
)

var errWire = errors.New("not a message between catalogs")

// header says which version of a record somebody holds.
type header struct {
	ident
	ver     uint64
	writer  string
	deleted bool
	hash    [hashSize]byte
}

func (e *entry) header() header { return header{e.ident(), e.Ver, e.Writer, e.Deleted, e.hash} }

// greeting is what both sides of a call say first.
type greeting struct {
	cluster [8]byte
	marks
	clock time.Time
}

func clusterID(name string) (id [8]byte) {
	sum := sha256.Sum256([]byte(name))
	copy(id[:], sum[:])
	return id
}

func appendWord(b []byte, s string) []byte { return append(append(b, byte(len(s))), s...) }

func appendIdent(b []byte, id ident) []byte {
	return appendWord(appendWord(b, string(id.kind)), id.key)
}

func appendHeader(b []byte, h header) []byte {
	b = appendIdent(b, h.ident)
	b = binary.BigEndian.AppendUint64(b, h.ver)
	b = appendWord(b, h.writer)
	deleted := byte(0)
	if h.deleted {
		deleted = 1
	}
	return append(append(b, deleted), h.hash[:]...)
}

func appendGreeting(b []byte, op byte, g greeting) []byte {
	b = append(b, wireVersion, op)
	b = append(b, g.cluster[:]...)
	b = binary.BigEndian.AppendUint64(b, g.floor)
	b = binary.BigEndian.AppendUint64(b, g.synced)
	return binary.BigEndian.AppendUint64(b, uint64(max(0, g.clock.UnixMilli())))
}

// reader takes a message apart. After the first thing that is not there everything is zero, and err says so.
type reader struct {
	b   []byte
	err error
}

func (r *reader) take(n int) []byte {
	if r.err != nil || n < 0 || n > len(r.b) {
		r.err, r.b = errWire, nil
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uint64() uint64 {
	if b := r.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (r *reader) uint16() int {
	if b := r.take(2); b != nil {
		return int(binary.BigEndian.Uint16(b))
	}
	return 0
}

func (r *reader) word() string { return string(r.take(int(r.byte()))) }

func (r *reader) ident() ident {
	id := ident{Kind(r.word()), r.word()}
	if r.err == nil && (!id.kind.valid() || id.key == "" || len(id.key) > MaxKey) {
		r.err = errWire
	}
	return id
}

func (r *reader) hash() (h [hashSize]byte) {
	copy(h[:], r.take(hashSize))
	return h
}

func (r *reader) header() header {
	h := header{ident: r.ident(), ver: r.uint64(), writer: r.word()}
	h.deleted = r.byte() == 1
	h.hash = r.hash()
	if r.err == nil && (h.ver == 0 || h.writer == "" || len(h.writer) > maxName) {
		r.err = errWire
	}
	return h
}

func (r *reader) greeting() (op byte, g greeting) {
	if r.byte() != wireVersion {
		r.err = errWire
	}
	op = r.byte()
	copy(g.cluster[:], r.take(8))
	g.floor, g.synced = r.uint64(), r.uint64()
	g.clock = time.UnixMilli(int64(min(r.uint64(), 1<<48)))
	return op, g
}

// end says whether the message was understood to its end.
func (r *reader) end() error {
	if r.err == nil && len(r.b) > 0 {
		return fmt.Errorf("%w: %d bytes too many", errWire, len(r.b))
	}
	return r.err
}

// idents reads a number and that many idents, at most a page.
func (r *reader) idents() []ident {
	n := r.uint16()
	if n > pageIdents {
		r.err = errWire
	}
	var ids []ident
	for range n {
		id := r.ident()
		if r.err != nil {
			return nil
		}
		ids = append(ids, id)
	}
	return ids
}

// headers reads a number and that many headers, at most a page.
func (r *reader) headers() []header {
	n := r.uint16()
	if n > pageHeaders {
		r.err = errWire
	}
	var all []header
	for range n {
		h := r.header()
		if r.err != nil {
			return nil
		}
		all = append(all, h)
	}
	return all
}

func encodeIdents(ids []ident) []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(len(ids)))
	for _, id := range ids {
		b = appendIdent(b, id)
	}
	return b
}

func appendHeaders(b []byte, all []header) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(all)))
	for _, h := range all {
		b = appendHeader(b, h)
	}
	return b
}

// said is an announcement.
type said struct {
	record *Record // whole, or
	header header  // which one, or
	root   []byte  // all
}

func announcement(e *entry, inline bool) []byte {
	if encoded := e.Encode(); inline && len(encoded) <= inlineMax {
		return append([]byte{wireVersion, saidRecord}, encoded...)
	}
	return appendHeader([]byte{wireVersion, saidHeader}, e.header())
}

func decodeSaid(b []byte) (s said, err error) {
	r := &reader{b: b}
	if r.byte() != wireVersion {
		return s, errWire
	}
	switch r.byte() {
	case saidRecord:
		if len(r.b) > inlineMax {
			return s, errWire
		}
		record, err := Decode(r.b)
		if err == nil {
			err = record.check()
		}
		if err != nil {
			return s, err
		}
		s.record, s.header = &record, newEntry(record).header()
		return s, nil
	case saidHeader:
		s.header = r.header()
	case saidRoot:
		s.root = bytes.Clone(r.take(hashSize))
	default:
		return s, errWire
	}
	return s, r.end()
}
