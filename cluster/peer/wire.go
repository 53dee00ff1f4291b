package peer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"mayfly/event"
)

// The bodies of exec are binary: numbers are varints, texts and bytes have their length before them. A decoder allocates in
// proportion to what arrived, never to a number in it.

var errWire = errors.New("malformed message")

type encoder struct{ b []byte }

func (e *encoder) uint(v uint64)        { e.b = binary.AppendUvarint(e.b, v) }
func (e *encoder) int(v int64)          { e.b = binary.AppendVarint(e.b, v) }
func (e *encoder) span(d time.Duration) { e.int(int64(d)) }
func (e *encoder) byte(v byte)          { e.b = append(e.b, v) }
func (e *encoder) text(s string)        { e.uint(uint64(len(s))); e.b = append(e.b, s...) }
func (e *encoder) bytes(b []byte)       { e.uint(uint64(len(b))); e.b = append(e.b, b...) }
func (e *encoder) attrs(as []event.Attr) {
	e.uint(uint64(len(as)))
	for _, a := range as {
		e.text(a.Name)
		e.text(a.Value)
	}
}

func (e *encoder) bool(v bool) {
	if v {
		e.byte(1)
	} else {
		e.byte(0)
	}
}

func (e *encoder) time(t time.Time) {
	e.int(t.Unix())
	e.uint(uint64(t.Nanosecond()))
}

// decoder reads what encoder wrote. After the first fault everything reads as zero and err says what was wrong.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) fail(what string) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: %s with %d bytes left", errWire, what, len(d.b))
	}
	d.b = nil
}

func (d *decoder) uint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail("number")
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) int() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail("number")
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) span() time.Duration { return time.Duration(d.int()) }

func (d *decoder) byte() byte {
	if len(d.b) == 0 {
		d.fail("byte")
		return 0
	}
	v := d.b[0]
	d.b = d.b[1:]
	return v
}

func (d *decoder) bool() bool {
	switch d.byte() {
	case 0:
	case 1:
		return true
	default:
		d.fail("truth")
	}
	return false
}

// bytes returns a part of what is decoded, not a copy; nil when it is empty.
func (d *decoder) bytes() []byte {
	n := d.uint()
	if n > uint64(len(d.b)) {
		d.fail("bytes")
		return nil
	}
	if n == 0 {
		return nil
	}
	v := d.b[:n:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) text() string { return string(d.bytes()) }

// count reads the length of a list whose elements have at least size bytes.
func (d *decoder) count(size int) int {
	n := d.uint()
	if n > uint64(len(d.b)/size) {
		d.fail("list")
		return 0
	}
	return int(n)
}

func (d *decoder) attrs() []event.Attr {
	n := d.count(2)
	if n == 0 {
		return nil
	}
	as := make([]event.Attr, n)
	for i := range as {
		as[i] = event.Attr{Name: d.text(), Value: d.text()}
	}
	return as
}

func (d *decoder) time() time.Time {
	sec, nsec := d.int(), d.uint()
	if nsec >= uint64(time.Second) || sec < -1<<40 || sec > 1<<40 {
		d.fail("time")
		return time.Time{}
	}
	return time.Unix(sec, int64(nsec)).UTC()
}

// end says what was wrong; bytes that are left over are wrong too.
func (d *decoder) end() error {
	if d.err == nil && len(d.b) > 0 {
		d.fail("end")
	}
	return d.err
}
