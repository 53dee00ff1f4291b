package journal

import (
	"encoding/binary"
	"errors"
	"time"

	"mayfly/event"
)

// Records. Function and sequence are in the key. Text is length (uvarint) and bytes; times are a flag byte (0 = zero
// time), seconds since 1970 (varint) and nanoseconds (uvarint).
//
//	event   form 1 | trigger | lane (8) | retry | received | event | data (the rest)
//	retry   attempt (uvarint) | not before | delay in ms it was written with (uvarint) | last error
//	event:  id source type subject contenttype dataschema broker topic traceparent | time | flags | delivery, fence (if flagged) | attributes
//	        | captures (if flagged)
//
// A rescheduled entry gets a second, small record (form 2 | retry) beside the first: an attempt does not rewrite the event.
const (
	formEvent = 1
	formRetry = 2
	formGrave = 3
)

const (
	flagFence    = 1 << 4
	flagCaptures = 1 << 5
	flagRetained = 1 << 6
	flagDup      = 1 << 7
)

var errRecord = errors.New("the journal cannot read this record")

// maxAttrs bounds what a decoder allocates for attributes.
const maxAttrs = 4096

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendTime(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return append(b, 0)
	}
	b = binary.AppendVarint(append(b, 1), t.Unix())
	return binary.AppendUvarint(b, uint64(t.Nanosecond()))
}

// appendRetry encodes when to try next, and how long that was to wait when it was decided.
func appendRetry(b []byte, e *Entry, now time.Time) []byte {
	b = binary.AppendUvarint(b, uint64(max(e.Attempt, 0)))
	b = appendTime(b, e.NotBefore)
	delay := time.Duration(0)
	if !e.NotBefore.IsZero() {
		delay = min(max(e.NotBefore.Sub(now), 0), maxDelay)
	}
	b = binary.AppendUvarint(b, uint64(delay.Milliseconds()))
	return appendText(b, e.LastError[:min(len(e.LastError), MaxError)])
}

func encodeRetry(e *Entry, now time.Time) []byte { return appendRetry([]byte{formRetry}, e, now) }

func encodeEvent(b []byte, e *Entry, now time.Time) []byte {
	ev := e.Event
	b = appendText(append(b, formEvent), e.Trigger)
	b = binary.LittleEndian.AppendUint64(b, e.Lane)
	b = appendRetry(b, e, now)
	b = appendTime(b, e.Received)
	for _, s := range []string{ev.ID, ev.Source, ev.Type, ev.Subject, ev.ContentType, ev.DataSchema, ev.Broker, ev.Topic, ev.TraceParent} {
		b = appendText(b, s)
	}
	b = appendTime(b, ev.Time)
	flags := ev.QoS & 3
	if ev.Retained {
		flags |= flagRetained
	}
	if ev.Dup {
		flags |= flagDup
	}
	if len(ev.Captures) > 0 {
		flags |= flagCaptures
	}
	if ev.Delivery.Fence != 0 {
		flags |= flagFence
	}
	b = appendText(append(b, flags), ev.Delivery.Session)
	b = binary.AppendUvarint(b, ev.Delivery.Epoch)
	b = binary.AppendUvarint(b, uint64(ev.Delivery.PacketID))
	if ev.Delivery.Fence != 0 {
		b = binary.AppendUvarint(b, ev.Delivery.Fence)
	}
	b = appendAttrs(b, ev.User)
	if len(ev.Captures) > 0 {
		b = appendAttrs(b, ev.Captures)
	}
	return append(b, ev.Data...)
}

func appendAttrs(b []byte, attrs []event.Attr) []byte {
	b = binary.AppendUvarint(b, uint64(len(attrs)))
	for _, a := range attrs {
		b = appendText(appendText(b, a.Name), a.Value)
	}
	return b
}

// decoder takes a record apart. After the first thing that is missing or impossible everything is zero and bad is set.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) fail() { d.b, d.bad = nil, true }

func (d *decoder) take(n uint64) []byte {
	if d.bad || n > uint64(len(d.b)) {
		d.fail()
		return nil
	}
	part := d.b[:n]
	d.b = d.b[n:]
	return part
}

func (d *decoder) byte() byte {
	if p := d.take(1); p != nil {
		return p[0]
	}
	return 0
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) text() string { return string(d.take(d.uvarint())) }

func (d *decoder) time() time.Time {
	switch d.byte() {
	case 0:
		return time.Time{}
	case 1:
	default:
		d.fail()
		return time.Time{}
	}
	sec, n := binary.Varint(d.b)
	if n <= 0 || sec > 1<<40 || sec < -1<<40 {
		d.fail()
		return time.Time{}
	}
	d.b = d.b[n:]
	nsec := d.uvarint()
	if nsec >= 1e9 {
		d.fail()
		return time.Time{}
	}
	return time.Unix(sec, int64(nsec)).UTC()
}

// retry reads when to try next. However the clock was set meanwhile, the wait is never longer than it was to be.
func (d *decoder) retry(e *Entry, now time.Time) {
	attempt, at, delay := d.uvarint(), d.time(), d.uvarint()
	e.LastError = d.text()
	if attempt > 1<<31 || delay > uint64(maxDelay.Milliseconds()) {
		d.fail()
		return
	}
	e.Attempt, e.NotBefore = int(attempt), at
	if latest := now.Add(time.Duration(delay) * time.Millisecond); at.After(latest) {
		e.NotBefore = latest
	}
}

func (d *decoder) attrs() (all []event.Attr) {
	n := d.uvarint()
	if n > maxAttrs {
		d.fail()
	}
	for i := uint64(0); i < n && !d.bad; i++ {
		all = append(all, event.Attr{Name: d.text(), Value: d.text()})
	}
	return all
}

func (d *decoder) error() error {
	if d.bad {
		return errRecord
	}
	return nil
}

// decodeHead reads what comes before the event.
func decodeHead(d *decoder, e *Entry, now time.Time) {
	if d.byte() != formEvent {
		d.fail()
	}
	e.Trigger = d.text()
	if p := d.take(8); p != nil {
		e.Lane = binary.LittleEndian.Uint64(p)
	}
	d.retry(e, now)
	e.Received = d.time()
}

// decodeEvent reads an event record into e and returns the length of the event's data, which is a copy, or left out.
func decodeEvent(b []byte, e *Entry, now time.Time, withData bool) (int, error) {
	d := &decoder{b: b}
	decodeHead(d, e, now)
	ev := &event.Event{}
	for _, s := range []*string{&ev.ID, &ev.Source, &ev.Type, &ev.Subject, &ev.ContentType, &ev.DataSchema, &ev.Broker, &ev.Topic, &ev.TraceParent} {
		*s = d.text()
	}
	ev.Time = d.time()
	flags := d.byte()
	ev.QoS, ev.Retained, ev.Dup = flags&3, flags&flagRetained != 0, flags&flagDup != 0
	ev.Delivery.Session, ev.Delivery.Epoch = d.text(), d.uvarint()
	packet := d.uvarint()
	ev.Delivery.PacketID = uint16(packet)
	if flags&flagFence != 0 {
		ev.Delivery.Fence = d.uvarint()
	}
	if packet > 0xffff || flags&^(3|flagFence|flagCaptures|flagRetained|flagDup) != 0 {
		d.fail()
	}
	ev.User = d.attrs()
	if flags&flagCaptures != 0 {
		ev.Captures = d.attrs()
	}
	if withData && len(d.b) > 0 {
		ev.Data = append([]byte(nil), d.b...)
	}
	e.Event = ev
	return len(d.b), d.error()
}

// decodeRetry reads a retry record into e.
func decodeRetry(b []byte, e *Entry, now time.Time) error {
	d := &decoder{b: b}
	if d.byte() != formRetry {
		d.fail()
	}
	d.retry(e, now)
	if len(d.b) != 0 {
		d.fail()
	}
	return d.error()
}
