package mqtt

import (
	"sync"
	"sync/atomic"
	"time"

	"mayfly/event"
	"mayfly/internal/crashpoint"
	"mayfly/triggers"
)

// delivery is one QoS 1 message of one connection: the event and its receipt in one piece of memory.
type delivery struct {
	event event.Event
	of    *window
	size  int64
	fate  fate

	forgotten func(all bool)           // of its settlement
	heir      atomic.Pointer[delivery] // the same message on a later connection
}

type fate uint8

const (
	pending   fate = iota // handed over, not settled
	settled               // to be acknowledged when everything before it is
	givenBack             // never to be acknowledged on this connection
)

// Settle implements triggers.Receipt. When the connection has ended it is remembered until the broker sends the message again.
func (d *delivery) Settle(s triggers.Settlement) {
	f := settled
	if s.Err != nil {
		f = givenBack
	}
	for ; d != nil; d = d.heir.Load() {
		d.of.settle(d, f, s.Forgotten)
	}
}

// window holds the QoS 1 messages of one connection that are not acknowledged yet, in the order received, and acknowledges
// them in that order (MQTT 3.1.1 section 4.6). Safe for concurrent use.
type window struct {
	link    *link
	holdOff time.Duration
	count   *counters

	mu      sync.Mutex
	waiting []*delivery // [head:] are not acknowledged
	head    int
	open    int   // of them handed over and not settled
	bytes   int64 // of those
	acks    []byte
	timer   *time.Timer // runs once something was given back
	proof   proof       // that the broker has acknowledgements

	room chan struct{} // something was settled
}

func newWindow(l *link, holdOff time.Duration, count *counters) *window {
	return &window{link: l, holdOff: holdOff, count: count, room: make(chan struct{}, 1)}
}

// add takes d as the newest.
func (w *window) add(d *delivery) {
	w.mu.Lock()
	defer w.mu.Unlock()
	d.of = w
	w.waiting = append(w.waiting, d)
	w.open++
	w.bytes += d.size
}

// settle decides d's fate, once, and acknowledges what can be.
func (w *window) settle(d *delivery, f fate, forgotten func(all bool)) {
	w.mu.Lock()
	if d.fate != pending {
		w.mu.Unlock()
		return
	}
	d.fate, d.forgotten = f, forgotten
	w.open--
	w.bytes -= d.size
	if f == givenBack {
		w.count.givenBack.Add(1)
		if w.timer == nil {
			w.timer = time.AfterFunc(w.holdOff, func() { _ = w.link.end(errGivenBack) })
		}
	}
	w.acknowledge()
	w.mu.Unlock()
	select {
	case w.room <- struct{}{}:
	default:
	}
}

// acknowledge writes a PUBACK for the settled ones at the head. The lock is held, so that order is kept. What cannot be written
// because the link has ended stays: it will be known when it comes again.
func (w *window) acknowledge() {
	w.acks = w.acks[:0]
	next := w.head
	for ; next < len(w.waiting) && w.waiting[next].fate == settled; next++ {
		w.acks = appendPuback(w.acks, w.waiting[next].event.Delivery.PacketID)
	}
	if next == w.head {
		return
	}
	crashpoint.Here(crashpoint.Acknowledge)
	if _, err := w.link.Write(w.acks); err != nil {
		return
	}
	w.count.acked.Add(uint64(next - w.head))
	w.doubt(w.waiting[w.head:next])
	clear(w.waiting[w.head:next])
	w.head = next
	if w.head == len(w.waiting) {
		w.waiting, w.head = w.waiting[:0], 0
	} else if w.head > 64 && w.head > len(w.waiting)/2 {
		n := copy(w.waiting, w.waiting[w.head:])
		clear(w.waiting[n:])
		w.waiting, w.head = w.waiting[:n], 0
	}
}

// over says whether more than these limits is handed over and not settled.
func (w *window) over(events int, bytes int64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.open >= events || w.bytes >= bytes
}

// load returns how many events are handed over and not settled, and their bytes.
func (w *window) load() (events int, bytes int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.open, w.bytes
}

// idle waits until everything handed over is settled, the link has ended, or the budget is used up.
func (w *window) idle(budget time.Duration) {
	patience := time.NewTimer(budget)
	defer patience.Stop()
	for {
		if events, _ := w.load(); events == 0 {
			return
		}
		select {
		case <-w.room:
		case <-w.link.ended:
			return
		case <-patience.C:
			return
		}
	}
}

// close stops the hold-off and returns what was handed over and is not acknowledged; the link has ended.
func (w *window) close() []*delivery {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer != nil {
		w.timer.Stop()
	}
	w.proof.stop()
	return w.waiting[w.head:]
}

// fateOf returns what was decided of d so far.
func (w *window) fateOf(d *delivery) (f fate, forgotten func(all bool)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return d.fate, d.forgotten
}
