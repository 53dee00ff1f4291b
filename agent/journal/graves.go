package journal

import (
	"encoding/binary"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"mayfly/event"
	"mayfly/store"
)

// Letter is a dead letter: an event that was given up.
type Letter struct {
	ID    string // "<function>-<number>"
	Died  time.Time
	Kind  string // function.KindOf the last error
	Bytes int64  // of the event's data
	Entry        // Attempt is the number of attempts made; LastError says why it was given up. In lists the event has no data.

	size int // of the record
}

// grave is what BuryOps decided.
type grave struct {
	seq   uint64
	size  int
	freed []int // sizes of the dead letters that make room
}

// dropAtOnce bounds how many old dead letters one new one removes.
const dropAtOnce = 64

func graveKey(function string, seq uint64) []byte { return store.DeadLetter.SeqKey(function, seq) }

func splitGraveKey(key []byte) (function string, seq uint64, ok bool) {
	_, function, rest, ok := store.SplitKey(key)
	if !ok || len(rest) != 8 {
		return "", 0, false
	}
	return function, binary.BigEndian.Uint64(rest), true
}

func letterID(function string, seq uint64) string {
	return function + "-" + strconv.FormatUint(seq, 10)
}

func splitLetterID(id string) (function string, seq uint64, ok bool) {
	i := strings.LastIndexByte(id, '-')
	if i <= 0 {
		return "", 0, false
	}
	seq, err := strconv.ParseUint(id[i+1:], 10, 64)
	return id[:i], seq, err == nil
}

func encodeGrave(e *Entry, kind string, died time.Time) []byte {
	b := make([]byte, 0, 300+len(e.Event.Data))
	b = appendText(appendTime(append(b, formGrave), died), kind)
	return encodeEvent(b, e, died)
}

func decodeGrave(b []byte, l *Letter, now time.Time, withData bool) error {
	d := &decoder{b: b}
	if d.byte() != formGrave {
		d.fail()
	}
	l.Died, l.Kind = d.time(), d.text()
	if d.bad {
		return errRecord
	}
	n, err := decodeEvent(d.b, &l.Entry, now, withData)
	l.Bytes = int64(n)
	return err
}

func (j *Journal) countGraves() error {
	return j.store.Scan(store.DeadLetter.All(), nil, func(key, value []byte, _ uint64) bool {
		if name, seq, ok := splitGraveKey(key); ok {
			s := j.of(name)
			s.graves++
			s.buried += int64(len(value))
			j.seq = max(j.seq, seq)
		}
		return true
	})
}

// BuryOps returns what to commit to make a dead letter of e, whose LastError says why. It does not remove e from the journal.
// When the function's quota is used up the oldest dead letters make room.
func (j *Journal) BuryOps(e *Entry, kind string) ([]store.Op, error) {
	value := encodeGrave(e, kind, j.now())
	if len(value) > store.MaxValue { // an event of the largest size with a long error
		value = encodeGrave(shortened(e), kind, j.now())
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	s := j.of(e.Function)
	j.seq++
	e.grave = &grave{seq: j.seq, size: len(value)}
	ops := []store.Op{{Key: graveKey(e.Function, j.seq), Value: value}}
	excess := max(s.buried+int64(len(value))-j.cfg.DeadQuota, 0)
	over := max(s.graves+1-j.cfg.DeadLetters, 0)
	if excess == 0 && over == 0 {
		return ops, nil
	}
	err := j.store.Scan(store.DeadLetter.Prefix(e.Function), graveKey(e.Function, s.oldest), func(key, value []byte, _ uint64) bool {
		if excess <= 0 && over <= 0 || len(ops) > dropAtOnce {
			return false
		}
		if _, seq, ok := splitGraveKey(key); ok {
			s.oldest = seq
		}
		e.grave.freed = append(e.grave.freed, len(value))
		excess, over = excess-int64(len(value)), over-1
		ops = append(ops, store.Op{Key: slices.Clone(key), Delete: true})
		return true
	})
	return ops, err
}

// Buried is called when BuryOps are synced.
func (j *Journal) Buried(e *Entry) {
	j.mu.Lock()
	defer j.mu.Unlock()
	g := e.grave
	if g == nil {
		return
	}
	e.grave = nil
	s := j.of(e.Function)
	s.graves++
	s.buried += int64(g.size)
	for _, size := range g.freed {
		s.lose(size)
		if j.counts.Dropped++; j.counts.Dropped&(j.counts.Dropped-1) == 0 { // told as they double
			j.log.Warn("old dead letters make room for new ones and are lost", "function", e.Function, "so_far", j.counts.Dropped,
				"hint", "mayfly dlq ls; raise limits.journal")
		}
	}
}

func (s *shelf) lose(size int) {
	s.graves = max(s.graves-1, 0)
	s.buried = max(s.buried-int64(size), 0)
}

// condemn makes a dead letter of a record that cannot be read, so that somebody sees it, and takes it out of the way.
func (j *Journal) condemn(b badRecord) {
	j.mu.Lock()
	j.counts.Corrupt++
	j.mu.Unlock()
	name, seq, _, _ := splitEntryKey(b.key)
	if name == "" {
		name = "journal"
	}
	e := &Entry{
		Seq: seq, Function: name, LastError: b.err.Error(),
		Event: &event.Event{ID: "corrupt", Source: "journal", Type: "mayfly.journal.corrupt", Data: b.raw},
	}
	ops, err := j.BuryOps(e, "corrupt")
	if err == nil {
		err = j.store.Submit(append(ops, store.Op{Key: b.key, Delete: true}), nil)
	}
	if err != nil {
		j.log.Error("a journal record cannot be read, nor set aside", "function", name, "sequence", seq, "reason", b.err, "error", err)
		return
	}
	j.Buried(e)
	j.log.Error("a journal record cannot be read and is now a dead letter", "function", name, "sequence", seq, "reason", b.err)
}

// Query says which dead letters are meant: those of the IDs if there are any, else all of Function, else all.
type Query struct {
	IDs      []string
	Function string
	After    uint64 // numbers greater than this; the cursor of the page before
	Limit    int    // default and largest 1,000
}

// Letters returns a page of what matches, oldest first and without data, and the cursor for the next page, 0 = that was the
// last. A letter that cannot be read has Kind "corrupt" and no more than its ID and an empty event.
func (j *Journal) Letters(q Query) (page []Letter, next uint64, err error) {
	limit := q.Limit
	if limit <= 0 || limit > 1000 {
		limit = 1000
	}
	if len(q.IDs) > 0 {
		page, err = j.named(q)
		return page, 0, err
	}
	for _, name := range j.withGraves(q.Function) {
		n := 0
		err := j.store.Scan(store.DeadLetter.Prefix(name), graveKey(name, q.After), func(key, value []byte, _ uint64) bool {
			if _, seq, ok := splitGraveKey(key); ok {
				page = append(page, j.letter(name, seq, value, false))
				n++
			}
			return n <= limit
		})
		if err != nil {
			return nil, 0, err
		}
		// One page at a time, however many functions there are.
		slices.SortFunc(page, func(a, b Letter) int { return compare(a.Seq, b.Seq) })
		page = page[:min(len(page), limit+1)]
	}
	if len(page) > limit {
		page = page[:limit]
		next = page[limit-1].Seq
	}
	return page, next, nil
}

func compare(a, b uint64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func (j *Journal) withGraves(only string) []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var names []string
	for name, s := range j.shelf {
		if s.graves > 0 && (only == "" || only == name) {
			names = append(names, name)
		}
	}
	return names
}

// named returns the letters of q.IDs that exist, in the order asked for.
func (j *Journal) named(q Query) ([]Letter, error) {
	var page []Letter
	for _, id := range q.IDs {
		l, err := j.Letter(id)
		if errors.Is(err, ErrGone) {
			continue
		}
		if err != nil {
			return nil, err
		}
		l.Event.Data = nil
		page = append(page, l)
	}
	return page, nil
}

func (j *Journal) letter(name string, seq uint64, raw []byte, withData bool) Letter {
	l := Letter{ID: letterID(name, seq)}
	if err := decodeGrave(raw, &l, j.now(), withData); err != nil {
		l = Letter{ID: l.ID, Kind: "corrupt", Entry: Entry{LastError: "the dead letter cannot be read", Event: &event.Event{}}}
	}
	l.Function, l.Seq = name, seq
	l.size = len(raw)
	return l
}

// Letter returns one with its data, or ErrGone.
func (j *Journal) Letter(id string) (Letter, error) {
	name, seq, ok := splitLetterID(id)
	if !ok {
		return Letter{}, j.failed("dead letter", id, 0, "gone", ErrGone)
	}
	raw, version, err := j.store.Get(graveKey(name, seq))
	if err != nil && !errors.Is(err, store.ErrCorrupt) {
		return Letter{}, err
	}
	if err == nil && version == 0 {
		return Letter{}, j.failed("dead letter", id, seq, "gone", ErrGone)
	}
	return j.letter(name, seq, raw, true), nil
}
