package mqtt

import "math/bits"

// flight holds the messages of one connection that were sent and are not confirmed. Not safe for concurrent use.
//
// QoS 1 messages wait for a PUBACK in a ring in the order sent; packet ids run through 1..65535, so an id says where its
// message is and cannot meet an older one as long as the ring is shorter than that. QoS 0 messages wait until the bytes
// up to their end were written.
type flight struct {
	ring       []waiting // length a power of two
	window     int
	head, tail uint64 // tail-head waiting; the message sent as number n is at ring[n&mask] and has packet id n%65535+1
	bytes      int    // of all that wait

	volatile []waiting
	done     []Confirmation
}

type waiting struct {
	to   Confirmation
	size int
	upTo uint64 // QoS 0
	done bool
}

func newFlight(window int) flight {
	return flight{window: window, ring: make([]waiting, 1<<bits.Len(uint(window-1)))}
}

// id returns the packet id of the next QoS 1 message, and whether there is room for it.
func (f *flight) id() (uint16, bool) {
	return uint16(f.tail%65535) + 1, f.tail-f.head < uint64(f.window)
}

// fits says whether a message of that size may be sent beside what is underway; one alone always may.
func (f *flight) fits(size, limit int) bool { return f.bytes == 0 || f.bytes+size <= limit }

// sent notes a message. id is 0 at QoS 0.
func (f *flight) sent(id uint16, size int, upTo uint64, c Confirmation) {
	f.bytes += size
	if id == 0 {
		f.volatile = append(f.volatile, waiting{to: c, size: size, upTo: upTo})
		return
	}
	f.ring[f.tail&uint64(len(f.ring)-1)] = waiting{to: c, size: size}
	f.tail++
}

// confirm takes the message with that packet id out; false if none waits with it.
func (f *flight) confirm(id uint16) (Confirmation, bool) {
	ahead := (uint64(id) - 1 + 65535 - f.head%65535) % 65535
	if ahead >= f.tail-f.head {
		return nil, false
	}
	mask := uint64(len(f.ring) - 1)
	w := &f.ring[(f.head+ahead)&mask]
	if w.done {
		return nil, false
	}
	c := w.to
	f.bytes -= w.size
	*w = waiting{done: true}
	for f.head < f.tail && f.ring[f.head&mask].done {
		f.head++
	}
	return c, true
}

// written takes the QoS 0 messages out that end within the first total bytes. The slice is good until the next call.
func (f *flight) written(total uint64) []Confirmation {
	f.done = f.done[:0]
	n := 0
	for n < len(f.volatile) && f.volatile[n].upTo <= total {
		f.bytes -= f.volatile[n].size
		f.done = append(f.done, f.volatile[n].to)
		n++
	}
	if n > 0 {
		left := copy(f.volatile, f.volatile[n:])
		clear(f.volatile[left:])
		f.volatile = f.volatile[:left]
	}
	return f.done
}

// abandon takes everything out, QoS 1 in the order sent, then QoS 0.
func (f *flight) abandon() []Confirmation {
	var left []Confirmation
	for n := f.head; n < f.tail; n++ {
		if w := f.ring[n&uint64(len(f.ring)-1)]; !w.done {
			left = append(left, w.to)
		}
	}
	for _, w := range f.volatile {
		left = append(left, w.to)
	}
	*f = flight{}
	return left
}
