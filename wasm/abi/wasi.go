package abi

import (
	"crypto/rand"
	"errors"
	"time"

	"mayfly/function"
)

// Error numbers of WASI preview 1.
const (
	wasiBadf   = 8
	wasiInval  = 28
	wasiNosys  = 52
	wasiNotsup = 58
	wasiSpipe  = 70
)

// Clocks of WASI preview 1. The CPU clocks show the time since the first event of the session.
const (
	clockRealtime = iota
	clockMonotonic
	clockProcess
	clockThread
)

// clockStep is what guests see of the clocks: a coarse one is a poorer stopwatch for side channels.
const clockStep = time.Microsecond

// randomChunk is how much is filled between two looks at the deadline.
const randomChunk = 64 << 10

// wasi performs the preview 1 function id.
func (s *Session) wasi(id int, a []uint64, m memory) (uint64, error) {
	switch id {
	case idArgsGet:
		return s.policy.arguments().give(m, a)
	case idArgsSizesGet:
		return s.policy.arguments().sizes(m, a)
	case idEnvironGet:
		return s.environ().give(m, a)
	case idEnvironSizesGet:
		return s.environ().sizes(m, a)
	case idClockResGet:
		return clockRes(m, a)
	case idClockTimeGet:
		return s.clockTime(m, a)
	case idFdClose:
		return s.fdClose(a), nil
	case idFdFdstatGet:
		return s.fdStat(m, a)
	case idFdFdstatSetFlags:
		return s.fdOr(a[0], 0), nil
	case idFdFilestatGet:
		return s.fdFilestat(m, a)
	case idFdPrestatGet, idFdPrestatDirName:
		return wasiBadf, nil // there is no directory; this is how a C library finds out
	case idFdRead:
		return s.fdRead(m, a)
	case idFdSeek, idFdTell:
		return s.fdOr(a[0], wasiSpipe), nil
	case idFdWrite:
		return s.fdWrite(m, a)
	case idPollOneoff:
		return s.poll(m, a)
	case idProcExit:
		return 0, &Exit{Code: int32(uint32(a[0]))}
	case idRandomGet:
		return s.random(m, a)
	case idSchedYield:
		return 0, nil
	case idProcRaise:
		return wasiNosys, nil
	}
	return wasiNotsup, nil
}

// random fills guest memory with random bytes.
func (s *Session) random(m memory, a []uint64) (uint64, error) {
	b, ok := m.at(a[0], a[1])
	if !ok {
		return 0, errOutside
	}
	for len(b) > randomChunk {
		_, _ = rand.Read(b[:randomChunk]) // never fails (crypto/rand since Go 1.24)
		b = b[randomChunk:]
		if s.left(time.Now()) == 0 {
			return 0, s.timeout("filling memory with random bytes")
		}
	}
	_, _ = rand.Read(b)
	return 0, nil
}

// timeout is the error of an event whose time is up while the guest was in a host call.
func (s *Session) timeout(doing string) error {
	return &function.Error{
		Op: "invoke", Subject: s.policy.fn.Name(), Class: function.ClassRetry, Kind: "timeout",
		Err:  errors.New("the deadline passed while " + doing),
		Hint: "raise limits.timeout in the manifest if it needs that long",
	}
}

func clockRes(m memory, a []uint64) (uint64, error) {
	if uint32(a[0]) > clockThread {
		return wasiInval, nil
	}
	if !m.putU64(a[1], uint64(clockStep)) {
		return 0, errOutside
	}
	return 0, nil
}

func (s *Session) clockTime(m memory, a []uint64) (uint64, error) {
	t, ok := s.clock(uint32(a[0]), time.Now())
	if !ok {
		return wasiInval, nil
	}
	if !m.putU64(a[2], t) {
		return 0, errOutside
	}
	return 0, nil
}

// clock reads a WASI clock in nanoseconds. A wall clock before 1970 reads as 0.
func (s *Session) clock(id uint32, now time.Time) (uint64, bool) {
	switch id {
	case clockRealtime:
		return uint64(max(now.UnixNano(), 0)) / uint64(clockStep) * uint64(clockStep), true
	case clockMonotonic, clockProcess, clockThread:
		return uint64(max(now.Sub(s.start), 0).Truncate(clockStep)), true
	}
	return 0, false
}

// sizes answers args_sizes_get and environ_sizes_get.
func (v variables) sizes(m memory, a []uint64) (uint64, error) {
	if !m.putU32(a[0], uint32(v.n)) || !m.putU32(a[1], uint32(len(v.block))) {
		return 0, errOutside
	}
	return 0, nil
}

// give answers args_get and environ_get: pointers to the strings, and those.
func (v variables) give(m memory, a []uint64) (uint64, error) {
	pointers, dst, ok := m.at2(a[0], uint64(4*v.n), a[1], uint64(len(v.block)))
	if !ok {
		return 0, errOutside
	}
	copy(dst, v.block)
	start := true
	for i, c := range v.block {
		if start {
			memory(pointers).putU32(0, uint32(a[1])+uint32(i))
			pointers = pointers[4:]
		}
		start = c == 0
	}
	return 0, nil
}
