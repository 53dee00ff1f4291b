package changelog

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
)

// Version says when something was written: commits of a function are numbered over all its owners, and every owner has an epoch.
type Version struct{ Epoch, Seq uint64 }

// Before says whether v was written before other.
func (v Version) Before(other Version) bool {
	if v.Epoch != other.Epoch {
		return v.Epoch < other.Epoch
	}
	return v.Seq < other.Seq
}

// Stamp is the version of something and who wrote it: two nodes that do not know of each other may use one epoch.
type Stamp struct {
	Version
	Writer uint64 // drawn anew for every epoch
}

// Write is one change of one key.
type Write struct {
	Key, Value []byte
	Delete     bool
	Expires    int64 // Unix milliseconds by the clock of who wrote it; 0 = never
}

// Mark is a done mark: an event that was dealt with, so that the next owner recognises it. A record has those of its own event first.
type Mark struct{ Key, Value []byte }

// Record is one commit, whole. It lies in the slot of its number until Slots later ones have been made.
type Record struct {
	Stamp
	Keys   uint64 // keys that had an Entry when it was made
	Writes []Write
	Marks  []Mark
}

// Entry is the newest value of one key, published after the Record that wrote it. A key that was deleted has none.
type Entry struct {
	Stamp
	Write
}

// Head says whose records count.
type Head struct {
	Node    string // whose copy it is
	Claim   uint64 // the epoch of its claim on the trigger
	First   uint64 // records before it need not be there
	Keys    uint64 // keys that had an Entry when it was made
	Partial bool   // the copy is being made anew: what is there is neither the old one nor the new
	Spans   []Span // epochs, ascending
}

// Span is one owner's time.
type Span struct{ Epoch, Writer, Base uint64 } // Base: the last number of what it began with

// The messages begin with what they are and end with a CRC-32C of everything before it.
const (
	kindRecord = 'R'
	kindEntry  = 'K'
	kindHead   = 'H'
	format     = 1

	maxSpans  = 32
	maxWrites = 1 << 16
)

var errMessage = errors.New("not a message of a changelog")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func seal(b []byte) []byte { return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli)) }

func appendBytes(b, x []byte) []byte { return append(binary.AppendUvarint(b, uint64(len(x))), x...) }

func appendStamp(b []byte, s Stamp) []byte {
	b = binary.AppendUvarint(b, s.Epoch)
	b = binary.AppendUvarint(b, s.Seq)
	return binary.AppendUvarint(b, s.Writer)
}

func appendWrite(b []byte, w *Write) []byte {
	flags := byte(0)
	if w.Delete {
		flags = 1
	}
	b = appendBytes(append(b, flags), w.Key)
	b = binary.AppendVarint(b, w.Expires)
	return appendBytes(b, w.Value)
}

// Encode returns r as a message's payload.
func (r *Record) Encode() []byte {
	size := 64
	for i := range r.Writes {
		size += 32 + len(r.Writes[i].Key) + len(r.Writes[i].Value)
	}
	b := appendStamp(append(make([]byte, 0, size), kindRecord, format), r.Stamp)
	b = binary.AppendUvarint(b, r.Keys)
	b = binary.AppendUvarint(b, uint64(len(r.Writes)))
	for i := range r.Writes {
		b = appendWrite(b, &r.Writes[i])
	}
	b = binary.AppendUvarint(b, uint64(len(r.Marks)))
	for _, m := range r.Marks {
		b = appendBytes(appendBytes(b, m.Key), m.Value)
	}
	return seal(b)
}

// Encode returns e as a message's payload.
func (e *Entry) Encode() []byte {
	b := make([]byte, 0, 64+len(e.Key)+len(e.Value))
	return seal(appendWrite(appendStamp(append(b, kindEntry, format), e.Stamp), &e.Write))
}

// Encode returns h as a message's payload.
func (h *Head) Encode() []byte {
	flags := byte(0)
	if h.Partial {
		flags = 1
	}
	b := appendBytes([]byte{kindHead, format, flags}, []byte(h.Node))
	b = binary.AppendUvarint(b, h.Claim)
	b = binary.AppendUvarint(b, h.First)
	b = binary.AppendUvarint(b, h.Keys)
	b = binary.AppendUvarint(b, uint64(len(h.Spans)))
	for _, s := range h.Spans {
		b = binary.AppendUvarint(binary.AppendUvarint(binary.AppendUvarint(b, s.Epoch), s.Writer), s.Base)
	}
	return seal(b)
}

// DecodeRecord reads what Record.Encode wrote. The result aliases b. Whoever may publish at the broker can write such messages: nothing is
// allocated for a number that was not compared with what is there.
func DecodeRecord(b []byte) (Record, error) {
	p, ok := open(b, kindRecord)
	r := Record{Stamp: p.stamp(), Keys: p.number()}
	for range p.count(maxWrites, 4) {
		r.Writes = append(r.Writes, p.write())
	}
	for range p.count(maxWrites, 2) {
		r.Marks = append(r.Marks, Mark{p.bytes(), p.bytes()})
	}
	if !ok || !p.over() {
		return Record{}, errMessage
	}
	return r, nil
}

// DecodeEntry reads what Entry.Encode wrote. The result aliases b.
func DecodeEntry(b []byte) (Entry, error) {
	p, ok := open(b, kindEntry)
	e := Entry{Stamp: p.stamp(), Write: p.write()}
	if !ok || !p.over() || e.Delete {
		return Entry{}, errMessage
	}
	return e, nil
}

// DecodeHead reads what Head.Encode wrote.
func DecodeHead(b []byte) (Head, error) {
	p, ok := open(b, kindHead)
	h := Head{Partial: p.flag(), Node: string(p.bytes()), Claim: p.number(), First: p.number(), Keys: p.number()}
	for range p.count(maxSpans, 3) {
		h.Spans = append(h.Spans, Span{p.number(), p.number(), p.number()})
	}
	for i := 1; i < len(h.Spans); i++ {
		ok = ok && h.Spans[i-1].Epoch < h.Spans[i].Epoch
	}
	if !ok || !p.over() || len(h.Spans) == 0 {
		return Head{}, errMessage
	}
	return h, nil
}

// parser takes a payload apart. What is missing makes it bad, and everything after that zero.
type parser struct {
	b   []byte
	bad bool
}

func open(b []byte, kind byte) (*parser, bool) {
	if len(b) < 6 || b[0] != kind || b[1] != format {
		return &parser{bad: true}, false
	}
	end := len(b) - 4
	if crc32.Checksum(b[:end], castagnoli) != binary.BigEndian.Uint32(b[end:]) {
		return &parser{bad: true}, false
	}
	return &parser{b: b[2:end:end]}, true
}

func (p *parser) over() bool { return !p.bad && len(p.b) == 0 }

func (p *parser) fail() { p.bad, p.b = true, nil }

func (p *parser) number() uint64 {
	n, size := binary.Uvarint(p.b)
	if size <= 0 {
		p.fail()
		return 0
	}
	p.b = p.b[size:]
	return n
}

// count reads how many things of at least size bytes follow.
func (p *parser) count(most, size int) int {
	n := p.number()
	if n > uint64(most) || n > uint64(len(p.b)/size) {
		p.fail()
		return 0
	}
	return int(n)
}

func (p *parser) bytes() []byte {
	n := p.number()
	if n > uint64(len(p.b)) {
		p.fail()
		return nil
	}
	x := p.b[:n:n]
	p.b = p.b[n:]
	return x
}

func (p *parser) flag() bool {
	if len(p.b) == 0 || p.b[0] > 1 {
		p.fail()
		return false
	}
	set := p.b[0] == 1
	p.b = p.b[1:]
	return set
}

func (p *parser) stamp() Stamp {
	return Stamp{Version{p.number(), p.number()}, p.number()}
}

func (p *parser) write() Write {
	w := Write{Delete: p.flag(), Key: p.bytes()}
	at, size := binary.Varint(p.b)
	if size <= 0 {
		p.fail()
		return w
	}
	p.b = p.b[size:]
	w.Expires, w.Value = at, p.bytes()
	return w
}
