package catalog

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"

	"mayfly/function"
)

// Serve answers a request that another replica's Pull carried; from is that node, known by its certificate. Answers have at most 1.3 MB, and eight
// are made at once; the others wait.
func (r *Replica) Serve(ctx context.Context, from string, request []byte) ([]byte, error) {
	select {
	case r.serving <- struct{}{}:
		defer func() { <-r.serving }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	in := &reader{b: request}
	op, g := in.greeting()
	if in.err != nil || g.cluster != r.cluster {
		r.catalog.counts.add(RefusedMalformed)
		return nil, r.unfit(from, errWire)
	}
	now := r.catalog.Snapshot()
	out := appendGreeting(nil, op, r.greeting())
	var err error
	switch op {
	case opCompare:
		out, err = serveCompare(now, in, out)
	case opFetch:
		out, err = serveFetch(now, in, out)
	case opVersions:
		ids := in.idents()
		if err = in.end(); err == nil {
			var all []header
			for _, id := range ids {
				if e := now.entry(id); e != nil {
					all = append(all, e.header())
				}
			}
			out = appendHeaders(out, all)
		}
	default:
		err = fmt.Errorf("%w: operation %d", errWire, op)
	}
	if err != nil {
		r.catalog.counts.add(RefusedMalformed)
		return nil, r.unfit(from, err)
	}
	r.met(from, g)
	return out, nil
}

func (r *Replica) unfit(from string, err error) error {
	return &function.Error{Op: "catalog: serve", Subject: from, Class: function.ClassReject, Kind: "malformed", Err: err}
}

// compared is the answer to opCompare.
type compared struct {
	root    [hashSize]byte
	parts   [buckets / 8]byte // which parts of the catalog differ, one bit each
	more    bool              // the last header is not the last
	headers []header
}

func (c *compared) differs(bucket byte) bool { return c.parts[bucket/8]&(1<<(bucket%8)) != 0 }

func serveCompare(now *Snapshot, in *reader, out []byte) ([]byte, error) {
	theirs := in.take(buckets * bucketSize)
	after := ident{Kind(in.word()), in.word()}
	if err := in.end(); err != nil {
		return nil, err
	}
	mine := now.digest()
	c := compared{root: mine.root}
	for i, b := range mine.buckets {
		if string(theirs[i*bucketSize:][:bucketSize]) != string(b[:]) {
			c.parts[i/8] |= 1 << (i % 8)
		}
	}
	now.all(func(e *entry) bool {
		id := e.ident()
		if id.compare(after) <= 0 || !c.differs(id.bucket()) {
			return true
		}
		if c.more = len(c.headers) == pageHeaders; c.more {
			return false
		}
		c.headers = append(c.headers, e.header())
		return true
	})
	more := byte(0)
	if c.more {
		more = 1
	}
	out = append(append(append(out, more), c.root[:]...), c.parts[:]...)
	return appendHeaders(out, c.headers), nil
}

func (in *reader) compared() (c compared) {
	c.more = in.byte() == 1
	c.root = in.hash()
	copy(c.parts[:], in.take(len(c.parts)))
	c.headers = in.headers()
	if !slices.IsSortedFunc(c.headers, func(a, b header) int { return a.ident.compare(b.ident) }) {
		in.err = errWire
	}
	return c
}

// serveFetch answers with as many of the records as fit, in the order asked for; who asked asks again for the rest.
func serveFetch(now *Snapshot, in *reader, out []byte) ([]byte, error) {
	ids := in.idents()
	if err := in.end(); err != nil {
		return nil, err
	}
	at := len(out)
	out = append(out, 0, 0)
	n := uint16(0)
	for _, id := range ids {
		e := now.entry(id)
		if e == nil {
			continue
		}
		encoded := e.Encode()
		if n > 0 && len(out)+len(encoded) > pageBytes {
			break
		}
		out = appendPart(out, encoded)
		n++
	}
	binary.BigEndian.PutUint16(out[at:], n)
	return out, nil
}

func (in *reader) records() []Record {
	n := in.uint16()
	if n > pageIdents {
		in.err = errWire
	}
	var all []Record
	for range n {
		size := in.take(4)
		if in.err != nil {
			return nil
		}
		r, err := Decode(in.take(int(binary.BigEndian.Uint32(size))))
		if err != nil {
			in.err = err
			return nil
		}
		all = append(all, r)
	}
	return all
}
