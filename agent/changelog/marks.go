package changelog

import (
	"time"

	"mayfly/store"
)

// A done mark has to travel as long as the event may be sent again. Who knows when that is over is the sender: until it has shown that it has
// the acknowledgement (triggers.Settlement.Forgotten), a mark is carried along. The record that takes a slot takes over, from the
// record that was there, the marks that are still needed. So a mark that is needed is always in one of the latest Slots records, however
// many commits there have been since; and it costs its few bytes once in Slots commits.

// carried are the marks that are needed, and where they are. The zero value holds none; Log.mu guards it.
type carried struct {
	began   time.Time // the log was opened
	marks   map[string]*carry
	slots   [Slots][]string // the keys that went into the record there
	settled bool            // none of them is of before began
}

// carry is a mark that is needed.
type carry struct {
	value []byte
	born  uint64 // the commit that made it
	at    uint64 // the record that has it
	early bool   // it is of before the log was opened
}

// begin takes over the marks of records, in order, when the log is opened with them.
func (c *carried) begin(ring []Record) {
	*c = carried{began: time.Now(), marks: map[string]*carry{}}
	for i := range ring {
		r := &ring[i]
		for _, m := range r.Marks {
			c.marks[string(m.Key)] = &carry{value: m.Value, born: r.Seq, at: r.Seq, early: true}
		}
		c.note(r)
	}
}

func (c *carried) note(r *Record) {
	keys := make([]string, len(r.Marks))
	for i, m := range r.Marks {
		keys[i] = string(m.Key)
	}
	c.slots[r.Seq%Slots] = keys
}

// load adds to r, which is about to take its slot, the marks that would be lost with what is there.
func (c *carried) load(r *Record) {
	if r.Seq < Slots {
		return
	}
	own := map[string]bool{}
	for _, m := range r.Marks {
		own[string(m.Key)] = true
	}
	for _, key := range c.slots[r.Seq%Slots] {
		if m := c.marks[key]; m != nil && m.at+Slots <= r.Seq && !own[key] {
			r.Marks = append(r.Marks, Mark{[]byte(key), m.value})
		}
	}
}

// committed takes note of r, of whose marks the first own are of its own events.
func (c *carried) committed(r *Record, own int) {
	if c.marks == nil {
		c.marks = map[string]*carry{}
	}
	for i, m := range r.Marks {
		if i < own {
			c.marks[string(m.Key)] = &carry{value: m.Value, born: r.Seq, at: r.Seq}
		} else {
			c.marks[string(m.Key)].at = r.Seq
		}
	}
	c.note(r)
}

// Release returns what is to be called when the sender of an event with these done marks, which came at received, does not send it again any
// more: they need not be carried along then. With all, it does not send again either what it had sent before. Nil while the log is closed.
func (l *Log) Release(marks []store.Op, received time.Time) func(all bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.open {
		return nil
	}
	c := &l.carried
	born := make(map[string]uint64, len(marks))
	for _, m := range l.marks(marks) {
		if now := c.marks[string(m.Key)]; now != nil {
			born[string(m.Key)] = now.born
		}
	}
	return func(all bool) {
		l.mu.Lock()
		defer l.mu.Unlock()
		for key, seq := range born {
			if now := c.marks[key]; now != nil && now.born == seq { // else it is of a later event with the same packet id
				delete(c.marks, key)
			}
		}
		if !all || c.settled || !received.After(c.began) { // what was committed before the opening had come before it
			return
		}
		c.settled = true
		for key, m := range c.marks {
			if m.early {
				delete(c.marks, key)
			}
		}
	}
}

// homeless returns the marks that no record at the broker has any more, because those before number first are gone.
func (c *carried) homeless(first uint64) (marks []Mark) {
	for key, m := range c.marks {
		if m.at < first {
			marks = append(marks, Mark{[]byte(key), m.value})
		}
	}
	return marks
}
