package abi

import (
	"encoding/binary"
	"math"
	"time"
)

// Kinds of subscriptions and events of poll_oneoff, and the sizes of both.
const (
	pollClock = iota
	pollRead
	pollWrite

	subscriptionSize = 48
	pollEventSize    = 32
)

// poll waits for the first of the subscribed clocks, not at all when a stream is subscribed to (they are always ready), and
// never past the deadline, which ends the guest.
func (s *Session) poll(m memory, a []uint64) (uint64, error) {
	count := uint64(uint32(a[2]))
	if count == 0 || count > MaxVectors {
		return wasiInval, nil
	}
	in, out, ok := m.at2(a[0], count*subscriptionSize, a[1], count*pollEventSize)
	stored, ok2 := m.at(a[3], 4)
	if !ok || !ok2 {
		return 0, errOutside
	}
	now := time.Now()
	waits := time.Duration(math.MaxInt64)
	for sub := in; len(sub) > 0; sub = sub[subscriptionSize:] {
		wait, ok := s.wait(sub, now)
		if !ok {
			return wasiInval, nil
		}
		waits = min(waits, wait)
	}
	if err := s.sleep(waits, now); err != nil {
		return 0, err
	}
	n := uint32(0)
	for sub := in; len(sub) > 0; sub = sub[subscriptionSize:] {
		if wait, ok := s.wait(sub, now); ok && wait <= waits { // in and out may overlap: then it may no longer be ok
			s.putEvent(out[n*pollEventSize:], sub)
			n++
		}
	}
	binary.LittleEndian.PutUint32(stored, n)
	return 0, nil
}

// wait returns how long the subscription has to wait; false when it is malformed.
func (s *Session) wait(sub []byte, now time.Time) (time.Duration, bool) {
	switch sub[8] {
	case pollClock:
	case pollRead, pollWrite:
		return 0, true
	default:
		return 0, false
	}
	at := binary.LittleEndian.Uint64(sub[24:])
	if sub[40]&1 != 0 { // absolute
		t, ok := s.clock(binary.LittleEndian.Uint32(sub[16:]), now)
		if !ok {
			return 0, false
		}
		at = max(at, t) - t
	}
	return time.Duration(min(at, math.MaxInt64)), true
}

// sleep waits for d, or until the deadline and then reports that.
func (s *Session) sleep(d time.Duration, now time.Time) error {
	if d <= 0 {
		return nil
	}
	left := s.left(now)
	if wait := min(d, left); wait > 0 {
		timer := time.NewTimer(wait)
		<-timer.C
	}
	if d >= left {
		return s.timeout("sleeping")
	}
	return nil
}

// putEvent writes the event for a subscription that is ready.
func (s *Session) putEvent(out, sub []byte) {
	kind, fd := sub[8], binary.LittleEndian.Uint32(sub[16:])
	var e [pollEventSize]byte
	copy(e[:8], sub[:8]) // user data
	e[10] = kind
	if kind != pollClock {
		size := uint64(math.MaxUint16)
		if kind == pollRead {
			size = uint64(len(s.call.Event.Data) - s.stdin)
		}
		binary.LittleEndian.PutUint64(e[16:], size)
		wrong := kind == pollRead && fd != fdStdin || kind == pollWrite && fd == fdStdin
		if s.fdOr(uint64(fd), 0) != 0 || wrong {
			binary.LittleEndian.PutUint16(e[8:], wasiBadf)
		}
	}
	copy(out, e[:])
}
