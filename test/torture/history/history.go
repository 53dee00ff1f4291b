// Package history keeps what was seen of every event of a torture run, and judges it: what was promised must have had its
// effect, once on state, in the order of its key.
//
// An event is a number of a stream; a stream is one order key of one function, such as "ledger/3". Numbers of a stream count
// up from 1 without gaps. What is noted comes from outside the agent: from the publisher, and from the bytes between the agent
// and its broker.
package history

import (
	"strings"
	"sync"
	"time"
)

// Event is the Seq-th event of a stream.
type Event struct {
	Stream string
	Seq    uint32
}

// Sight is something that was seen of an event.
type Sight uint8

// What can be seen, in the order of an event's journey.
const (
	Sent      Sight = iota // the publisher wrote it
	Promised               // the broker acknowledged it to the publisher
	Delivered              // the broker sent it to the agent
	Acked                  // the agent acknowledged it to the broker
	Published              // the agent wrote its effect
	Confirmed              // the broker acknowledged the effect to the agent
	sights
)

// stream is what was seen of its events; index 0 is event 1.
type stream struct {
	seen [][sights]uint16
	top  uint32 // highest number whose effect was written
}

// Log is a history being written. Safe for concurrent use.
type Log struct {
	mu      sync.Mutex
	streams map[string]*stream
	turned  []Event // effects that were first written after that of a later event of their stream
	total   [sights]int
	first   [sights]int // of them, distinct events
	changed time.Time   // when something was last seen for the first time
	watch   func(Event, Sight)
	frozen  bool
	ignored map[string]bool
}

// New returns an empty history.
func New() *Log { return &Log{streams: map[string]*stream{}, changed: time.Now()} }

// Note adds a sight of e.
func (l *Log) Note(e Event, s Sight) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if function, _, _ := strings.Cut(e.Stream, "/"); e.Seq == 0 || l.frozen || l.ignored[function] {
		return
	}
	st := l.streams[e.Stream]
	if st == nil {
		st = &stream{}
		l.streams[e.Stream] = st
	}
	for int(e.Seq) > len(st.seen) {
		st.seen = append(st.seen, [sights]uint16{})
	}
	n := &st.seen[e.Seq-1][s]
	if *n++; *n == 1 {
		l.first[s]++
		l.changed = time.Now()
		if s == Published && e.Seq < st.top {
			l.turned = append(l.turned, e)
		}
		if s == Published {
			st.top = max(st.top, e.Seq)
		}
	}
	l.total[s]++
	if l.watch != nil {
		l.watch(e, s)
	}
}

// Watch calls see for every sight from now on, nil ends it. see must not block nor call the Log.
func (l *Log) Watch(see func(Event, Sight)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.watch = see
}

// Ignore makes the events of a function not count from now on: it has no effects to be seen.
func (l *Log) Ignore(function string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ignored == nil {
		l.ignored = map[string]bool{}
	}
	l.ignored[function] = true
}

// Freeze makes later sights not count: what happens after it is no part of the run.
func (l *Log) Freeze() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.frozen = true
}

// Count returns how many distinct events had that sight, and how often it was seen in all.
func (l *Log) Count(s Sight) (distinct, total int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.first[s], l.total[s]
}

// Waiting returns how many events had one sight and not the other, and since when nothing new was seen.
func (l *Log) Waiting(had, not Sight) (n int, since time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, st := range l.streams {
		for i := range st.seen {
			if st.seen[i][had] > 0 && st.seen[i][not] == 0 {
				n++
			}
		}
	}
	return n, l.changed
}

// Effects counts the events of a function whose effect was confirmed.
func (l *Log) Effects(function string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for name, st := range l.streams {
		if !strings.HasPrefix(name, function+"/") {
			continue
		}
		for i := range st.seen {
			if st.seen[i][Confirmed] > 0 {
				n++
			}
		}
	}
	return n
}

// Saw reports whether e had that sight.
func (l *Log) Saw(e Event, s Sight) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.times(e, s) > 0
}

func (l *Log) times(e Event, s Sight) int {
	st := l.streams[e.Stream]
	if st == nil || e.Seq == 0 || int(e.Seq) > len(st.seen) {
		return 0
	}
	return int(st.seen[e.Seq-1][s])
}
