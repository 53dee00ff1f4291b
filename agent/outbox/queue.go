package outbox

import "mayfly/event"

// entry is one message in a pipe.
type entry struct {
	pipe  *pipe
	msg   event.Message
	size  int64
	place uint64 // in the queue
	state state

	sending *sending // volatile

	function string // durable
	seq      uint64 // durable, never 0
}

type state uint8

const (
	queued    state = iota
	underway        // published, not confirmed
	confirmed       // or rejected: only waits for those before it
)

// queue holds the messages of a pipe in order. Places count up for ever; next is the first that may be queued: none before
// it is. Not safe for concurrent use.
type queue struct {
	entries []*entry // [head:] at places from first on
	head    int
	first   uint64
	next    uint64
}

func (q *queue) add(e *entry) {
	e.place = q.first + uint64(len(q.entries)-q.head)
	q.entries = append(q.entries, e)
}

func (q *queue) len() int { return len(q.entries) - q.head }

// peek returns the first queued entry, nil when there is none.
func (q *queue) peek() *entry {
	for ; q.next < q.first+uint64(q.len()); q.next++ {
		if e := q.entries[q.head+int(q.next-q.first)]; e.state == queued {
			return e
		}
	}
	return nil
}

// again puts an entry that was underway back where it was.
func (q *queue) again(e *entry) {
	e.state = queued
	q.next = min(q.next, e.place)
}

// over marks e as confirmed and forgets the ones at the front that are.
func (q *queue) over(e *entry) {
	e.state = confirmed
	for q.head < len(q.entries) && q.entries[q.head].state == confirmed {
		q.entries[q.head] = nil
		q.head++
		q.first++
	}
	q.next = max(q.next, q.first)
	if q.head == len(q.entries) {
		q.entries, q.head = q.entries[:0], 0
	} else if q.head > 64 && q.head > len(q.entries)/2 {
		n := copy(q.entries, q.entries[q.head:])
		clear(q.entries[n:])
		q.entries, q.head = q.entries[:n], 0
	}
}
