package changelog

import (
	"fmt"
	"slices"
)

// Slots is how many records of the latest commits the broker holds, with their done marks. It is fewer than what a broker queues for a client.
const Slots = 256

// Latest returns the epoch, writer and base that count now; the zero Span of the zero Head.
func (h *Head) Latest() Span {
	if len(h.Spans) == 0 {
		return Span{}
	}
	return h.Spans[len(h.Spans)-1]
}

// Holds says whether what was written then by that writer is part of the function's history. What an owner wrote after the next one had
// begun is not, whenever it arrives ([U4]).
func (h *Head) Holds(s Stamp) bool {
	for i, span := range h.Spans {
		switch {
		case span.Epoch == s.Epoch:
			return span.Writer == s.Writer && s.Seq >= span.Base && s.Seq <= h.until(i+1)
		case span.Epoch > s.Epoch: // between two that are known there was nobody; before the first, whoever was
			return i == 0 && s.Seq <= h.until(0)
		}
	}
	return false
}

// until is the last number that was taken over by span i and all later ones.
func (h *Head) until(i int) uint64 {
	last := ^uint64(0)
	for _, span := range h.Spans[i:] {
		last = min(last, span.Base)
	}
	return last
}

// with returns h for a new owner.
func (h *Head) with(node string, claim uint64, s Span) Head {
	spans := append(slices.Clone(h.Spans), s)
	return Head{Node: node, Claim: claim, First: h.First, Spans: spans[max(0, len(spans)-maxSpans):]}
}

// Image is a function's state as a changelog tells it.
type Image struct {
	Head   Head  // zero: there is none
	Tip    Stamp // of the latest record
	Values map[string]Entry
	Ring   []Record // in order
	Torn   bool     // there are commits or keys, and no head
	Behind []Entry  // what commits say of keys and their entries do not: who wrote them died in between
}

// Exists says whether there is a changelog at all.
func (m *Image) Exists() bool { return len(m.Head.Spans) > 0 }

// Reached returns the number of the latest commit that is part of the image.
func (m *Image) Reached() uint64 { return max(m.Tip.Seq, m.Head.Latest().Base) }

// Fold makes an image of what a broker holds. It is a pure function of the set of messages: order and repetition make no difference. The
// messages of a commit are published in order, its record first, so any prefix of them folds to the state after a whole number of
// commits. The error says that something is missing: what can be told from the numbers of records and keys.
func Fold(head Head, records []Record, entries []Entry) (Image, error) {
	m := Image{Head: head, Values: map[string]Entry{}}
	m.Torn = !m.Exists() && len(records)+len(entries) > 0
	keys := map[string]Version{}
	for i := range entries {
		if e := &entries[i]; head.Holds(e.Stamp) {
			keys[string(e.Key)] = e.Version
			m.take(*e)
		}
	}
	bySeq := map[uint64]*Record{}
	for i := range records {
		r := &records[i]
		if !head.Holds(r.Stamp) {
			continue
		}
		if old := bySeq[r.Seq]; old == nil || old.Version.Before(r.Version) {
			bySeq[r.Seq] = r
		}
		if m.Tip.Version.Before(r.Version) {
			m.Tip = r.Stamp
		}
	}
	if len(bySeq) == 0 {
		return m, enough(len(keys), 0, head.Keys)
	}
	first := head.First
	if m.Tip.Seq >= Slots {
		first = max(first, m.Tip.Seq-Slots+1)
	}
	for seq := max(first, 1); seq <= m.Tip.Seq; seq++ {
		r := bySeq[seq]
		if r == nil {
			return m, fmt.Errorf("commit %d of %d is missing at the broker", seq, m.Tip.Seq)
		}
		for _, w := range r.Writes {
			m.take(Entry{r.Stamp, w})
		}
		m.Ring = append(m.Ring, *r)
	}
	for key, e := range m.Values {
		if version, known := keys[key]; known && version != e.Version || !known && !e.Delete {
			m.Behind = append(m.Behind, e)
		}
	}
	tip := bySeq[m.Tip.Seq]
	return m, enough(len(keys), len(tip.Writes), tip.Keys)
}

// enough says what is missing when keys came of wanted, but for those that are on their way.
func enough(keys, underway int, wanted uint64) error {
	if uint64(keys+underway) < wanted {
		return fmt.Errorf("%d keys came from the broker, there are %d: does it keep back retained messages?", keys, wanted)
	}
	return nil
}

// take makes e the value of its key unless there is a later one.
func (m *Image) take(e Entry) {
	if old, known := m.Values[string(e.Key)]; !known || old.Version.Before(e.Version) {
		m.Values[string(e.Key)] = e
	}
}

// Marks returns the done marks of the latest commits, by key.
func (m *Image) Marks() map[string][]byte {
	marks := map[string][]byte{}
	for i := range m.Ring {
		for _, x := range m.Ring[i].Marks {
			marks[string(x.Key)] = x.Value
		}
	}
	return marks
}

// Local is what a node knows of its own copy.
type Local struct {
	Node string
	Tip  Stamp // zero: it has none
	Half bool  // a copy was being taken over when the node died
}

// Verdict is whose copy counts.
type Verdict uint8

// Verdicts.
const (
	Adopt Verdict = iota // the broker's
	Keep                 // this node's: nobody has written since, or the broker has forgotten
	Wait                 // nobody's: both are in pieces
)

func (v Verdict) String() string { return [...]string{"adopt", "keep", "wait"}[v] }

// Decide says whose copy counts, for a node that has the trigger.
func Decide(m *Image, l Local) Verdict {
	switch {
	case !m.Exists() && (l.Half || m.Torn && l.Tip == Stamp{}):
		return Wait
	case !m.Exists():
		return Keep
	case m.Head.Partial && m.Head.Node == l.Node && !l.Half:
		return Keep // it was this node that was making it
	case m.Head.Partial:
		return Wait
	case l.Tip == Stamp{}, l.Half:
		return Adopt
	case l.Tip.Epoch > m.Head.Latest().Epoch:
		return Keep // the broker has gone back to what it was before
	case m.Head.Holds(l.Tip) && l.Tip.Seq >= m.Reached():
		return Keep
	}
	return Adopt
}
