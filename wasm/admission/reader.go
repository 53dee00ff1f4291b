package admission

import (
	"fmt"
	"unicode/utf8"

	"mayfly/wasm/abi"
)

// reader reads the binary format. The first fault sticks: everything read after it is zero, and pos is at the end, so that
// loops over what is left stop.
type reader struct {
	b   []byte
	pos int
	err error
}

// fail records the first fault, at an offset in the file.
func (r *reader) fail(at int, kind, hint, format string, args ...any) {
	if r.err == nil {
		r.err = refuse(kind, fmt.Errorf("offset %#x: "+format, append([]any{at}, args...)...), hint)
		r.pos = len(r.b)
	}
}

const buildAgain = "build or copy the module again"

func (r *reader) truncated() {
	r.fail(r.pos, "malformed", buildAgain, "%w", errTruncated)
}

func (r *reader) byte() byte {
	if r.pos >= len(r.b) {
		r.truncated()
		return 0
	}
	r.pos++
	return r.b[r.pos-1]
}

func (r *reader) skip(n int) {
	if n > len(r.b)-r.pos {
		r.truncated()
		return
	}
	r.pos += n
}

// u64 reads an unsigned LEB128 number of at most that many bits.
func (r *reader) u64(bits uint) uint64 {
	at, v := r.pos, uint64(0)
	for shift := uint(0); ; shift += 7 {
		c := r.byte()
		if r.err != nil {
			return 0
		}
		if shift+7 > bits && uint64(c&0x7f)>>(bits-shift) != 0 || shift >= bits {
			r.fail(at, "malformed", buildAgain, "a number of more than %d bits", bits)
			return 0
		}
		v |= uint64(c&0x7f) << shift
		if c < 0x80 {
			return v
		}
	}
}

func (r *reader) u32() uint32 { return uint32(r.u64(32)) }

// number skips a LEB128 number, signed or not.
func (r *reader) number() {
	for i := 0; r.byte() >= 0x80; i++ {
		if i == 9 {
			r.fail(r.pos, "malformed", buildAgain, "a number of more than 64 bits")
		}
	}
}

// count reads the length of a vector and refuses one that is over the limit or longer than the bytes that are left.
func (r *reader) count(what string, limit int) int {
	at := r.pos
	n := r.u32()
	switch {
	case r.err != nil:
		return 0
	case uint64(n) > uint64(limit):
		r.fail(at, "too-large", "split the program, or leave out what it does not need", "%d %s; at most %d are admitted", n, what, limit)
		return 0
	case uint64(n) > uint64(len(r.b)-r.pos):
		r.fail(at, "malformed", buildAgain, "%d %s in %d bytes", n, what, len(r.b)-r.pos)
		return 0
	}
	return int(n)
}

func (r *reader) name() string {
	at := r.pos
	n := int(r.u32())
	if n > len(r.b)-r.pos {
		r.truncated()
		return ""
	}
	s := r.b[r.pos : r.pos+n]
	r.pos += n
	if !utf8.Valid(s) {
		r.fail(at, "malformed", buildAgain, "a name that is not UTF-8")
		return ""
	}
	return string(s)
}

// types reads a vector of value types.
func (r *reader) types() []abi.ValType {
	n := r.count("parameters or results", maxEntries)
	t := make([]abi.ValType, n)
	for i := range t {
		t[i] = r.valueType()
	}
	return t
}

// valueType reads a value type that this agent knows: numbers, vectors, and the two plain references.
func (r *reader) valueType() abi.ValType {
	at := r.pos
	switch c := r.byte(); c {
	case 0x7f, 0x7e, 0x7d, 0x7c, 0x7b, 0x70, 0x6f:
		return abi.ValType(c)
	case 0x6e, 0x6d, 0x6c, 0x6b, 0x6a, 0x71, 0x72, 0x73, 0x64, 0x63:
		r.fail(at, "feature", gcHint, "type %#x of the garbage collection proposal", c)
	case 0x69, 0x74:
		r.fail(at, "feature", exceptionHint, "type %#x of the exception handling proposal", c)
	default:
		r.fail(at, "malformed", buildAgain, "unknown value type %#x", c)
	}
	return 0
}

// limits reads the limits of a table or memory.
func (r *reader) limits(what string) (low, high uint64, hasHigh bool) {
	at := r.pos
	flags := r.byte()
	switch {
	case flags&2 != 0:
		r.fail(at, "feature", threadHint, "a shared %s", what)
	case flags&4 != 0:
		r.fail(at, "feature", "build for a wasm32 target", "a 64-bit %s (memory64)", what)
	case flags > 1:
		r.fail(at, "feature", "build with the default page size", "limits %#x of a %s", flags, what)
	}
	low = r.u64(32)
	if flags&1 != 0 {
		return low, r.u64(32), true
	}
	return low, 0, false
}

// Hints for proposals that are switched off.
const (
	gcHint        = "build without the garbage collection and typed references proposals"
	exceptionHint = "build without exception handling (clang: leave out -fwasm-exceptions)"
	threadHint    = "build without threads (clang: leave out -pthread, Rust: target wasm32-wasip1)"
	relaxedHint   = "build without relaxed SIMD (clang: leave out -mrelaxed-simd)"
	tailHint      = "build without tail calls (clang: leave out -mtail-call)"
)
