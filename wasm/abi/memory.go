package abi

import (
	"encoding/binary"
	"errors"
	"math"
	"unsafe"
)

// errOutside is turned into a Trap that names the import.
var errOutside = errors.New("a pointer is outside the guest's memory")

// memory is a guest's linear memory. Pointers and lengths come as the words of a host call; only their low halves count.
type memory []byte

// at returns the n bytes at ptr, without copying, or false when they are not all inside the memory. No bytes are inside
// wherever ptr points: a guest's empty slice may have any pointer.
func (m memory) at(ptr, n uint64) ([]byte, bool) {
	from, size := uint64(uint32(ptr)), uint64(uint32(n))
	if size == 0 {
		return nil, true
	}
	if from+size > uint64(len(m)) {
		return nil, false
	}
	return m[from : from+size : from+size], true
}

// at2 returns two stretches of memory.
func (m memory) at2(ptr1, n1, ptr2, n2 uint64) (a, b []byte, ok bool) {
	a, ok1 := m.at(ptr1, n1)
	b, ok2 := m.at(ptr2, n2)
	return a, b, ok1 && ok2
}

func (m memory) putU32(ptr uint64, v uint32) bool {
	b, ok := m.at(ptr, 4)
	if ok {
		binary.LittleEndian.PutUint32(b, v)
	}
	return ok
}

func (m memory) putU64(ptr uint64, v uint64) bool {
	b, ok := m.at(ptr, 8)
	if ok {
		binary.LittleEndian.PutUint64(b, v)
	}
	return ok
}

// give answers a call of the form (buf, cap) -> n: it returns the length of src and copies src if that fits.
func (m memory) give(buf, space uint64, src string) (uint64, error) {
	dst, ok := m.at(buf, space)
	if !ok {
		return 0, errOutside
	}
	if len(src) > math.MaxInt32 {
		return i32(codeTooLarge), nil
	}
	if len(src) <= len(dst) {
		copy(dst, src)
	}
	return uint64(len(src)), nil
}

// text looks at b as a string without copying: for as long as nobody writes to b, so never past the host call when b is
// guest memory.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
