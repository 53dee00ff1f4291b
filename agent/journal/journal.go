package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"mayfly/event"
	"mayfly/function"
	"mayfly/store"
)

// Store is what the journal needs of the store.
type Store interface {
	Submit(ops []store.Op, done func(error)) error
	Get(key []byte) (value []byte, version uint64, err error)
	Scan(prefix, after []byte, yield func(key, value []byte, version uint64) bool) error
}

// Config bounds the journal. Zero fields get the defaults named.
type Config struct {
	Quota       int64 // bytes of events one function may have waiting, default 16 MiB
	Entries     int   // events waiting in all, default 200,000; each takes some 50 bytes of memory
	DeadQuota   int64 // bytes of dead letters one function may have, default 8 MiB; the oldest make room
	DeadLetters int   // dead letters one function may have, default 100,000; the oldest make room
}

// Errors of the journal, wrapped in a *function.Error that carries the class.
var (
	// ErrFull: the quota of the function, or the bound over all, is used up. Class overload.
	ErrFull = errors.New("the journal is full")
	// ErrGone: there is no such entry or dead letter. Class reject.
	ErrGone = errors.New("there is no such entry")
)

// Journal is safe for concurrent use.
type Journal struct {
	cfg   Config
	store Store
	log   *slog.Logger
	now   func() time.Time

	mu     sync.Mutex
	seq    uint64 // last assigned, entries and dead letters together
	total  int
	shelf  map[string]*shelf
	counts Counts
}

// shelf is what one function has waiting, and its dead letters.
type shelf struct {
	sizes  map[uint64]uint32 // bytes by sequence
	bytes  int64
	graves int
	buried int64  // bytes of graves
	oldest uint64 // every dead letter up to this one is gone, or about to be
}

// Open takes stock of what the store holds. Records that cannot be read become dead letters. The store may be run before or
// after.
func Open(cfg Config, s Store, log *slog.Logger) (*Journal, error) {
	if cfg.Quota == 0 {
		cfg.Quota = 16 << 20
	}
	if cfg.Entries == 0 {
		cfg.Entries = 200_000
	}
	if cfg.DeadQuota == 0 {
		cfg.DeadQuota = 8 << 20
	}
	if cfg.DeadLetters == 0 {
		cfg.DeadLetters = 100_000
	}
	j := &Journal{cfg: cfg, store: s, log: log, now: time.Now, shelf: map[string]*shelf{}}
	if err := j.countGraves(); err != nil {
		return nil, err
	}
	bad, err := j.countEntries()
	if err != nil {
		return nil, err
	}
	for _, b := range bad {
		j.condemn(b)
	}
	return j, nil
}

// Entries have one or two records: <sequence>'e' with the event, and after a reschedule <sequence>'r'.
const (
	partEvent = 'e'
	partRetry = 'r'
)

func entryKey(function string, seq uint64, part byte) []byte {
	return append(store.Journal.SeqKey(function, seq), part)
}

// splitEntryKey takes a key apart; ok is false for one that is not the journal's.
func splitEntryKey(key []byte) (function string, seq uint64, part byte, ok bool) {
	_, function, rest, ok := store.SplitKey(key)
	if !ok || len(rest) != 9 {
		return "", 0, 0, false
	}
	return function, binary.BigEndian.Uint64(rest), rest[8], true
}

func (j *Journal) of(function string) *shelf {
	s := j.shelf[function]
	if s == nil {
		s = &shelf{sizes: map[uint64]uint32{}}
		j.shelf[function] = s
	}
	return s
}

type badRecord struct {
	key []byte
	raw []byte
	err error
}

// countEntries fills the index and returns the records that cannot be read.
func (j *Journal) countEntries() ([]badRecord, error) {
	var bad []badRecord
	now := j.now()
	err := j.store.Scan(store.Journal.All(), nil, func(key, value []byte, version uint64) bool {
		name, seq, part, ok := splitEntryKey(key)
		j.seq = max(j.seq, seq)
		var err error
		switch {
		case version == 0:
			err = store.ErrCorrupt
		case !ok:
			err = errRecord
		case part == partEvent:
			_, err = decodeEvent(value, &Entry{}, now, false)
		case part == partRetry:
			if _, there := j.of(name).sizes[seq]; !there {
				err = errors.New("its event is gone")
			} else {
				err = decodeRetry(value, &Entry{}, now)
			}
		default:
			err = errRecord
		}
		if err != nil {
			bad = append(bad, badRecord{slices.Clone(key), slices.Clone(value), err})
			return true
		}
		if part == partEvent {
			j.index(name, seq, len(value))
		}
		return true
	})
	return bad, err
}

func (j *Journal) index(function string, seq uint64, size int) {
	s := j.of(function)
	if _, there := s.sizes[seq]; there {
		return
	}
	s.sizes[seq] = uint32(size)
	s.bytes += int64(size)
	j.total++
}

// AppendOps assigns e.Seq to all entries, in their order, and returns what to commit. Nothing else has changed until Appended
// is called; a number that was assigned in vain is not used again. ErrFull (class overload) when a quota is used up.
func (j *Journal) AppendOps(entries []*Entry) ([]store.Op, error) {
	now := j.now()
	ops := make([]store.Op, len(entries))
	need := map[string]int64{}
	for i, e := range entries {
		ops[i].Value = encodeEvent(make([]byte, 0, 256+len(e.Event.Data)), e, now)
		if len(ops[i].Value) > store.MaxValue {
			ops[i].Value = encodeEvent(ops[i].Value[:0], shortened(e), now)
		}
		if len(ops[i].Value) > store.MaxValue {
			return nil, &function.Error{
				Op: "journal: append", Subject: e.Function, Class: function.ClassReject, Kind: "too-large",
				Err: fmt.Errorf("the event takes %d bytes: %w", len(ops[i].Value), store.ErrTooLarge),
			}
		}
		need[e.Function] += int64(len(ops[i].Value))
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for name, bytes := range need {
		if s := j.shelf[name]; s != nil {
			bytes += s.bytes
		}
		if bytes > j.cfg.Quota || j.total+len(entries) > j.cfg.Entries {
			j.counts.Refused++
			return nil, &function.Error{
				Op: "journal: append", Subject: name, Class: function.ClassOverload, Kind: "journal-full", Err: ErrFull,
				Hint: "the function does not keep up: see mayfly status, or raise limits.journal",
			}
		}
	}
	for i, e := range entries {
		j.seq++
		e.Seq = j.seq
		ops[i].Key = entryKey(e.Function, e.Seq, partEvent)
	}
	return ops, nil
}

// Appended counts entries whose operations were submitted or synced. Calling it again for the same entry does nothing.
func (j *Journal) Appended(entries []*Entry) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, e := range entries {
		j.index(e.Function, e.Seq, e.size())
	}
}

// size is what e's event record takes, but for the few bytes that only the clock decides.
func (e *Entry) size() int {
	n := len(e.Event.Data) + len(e.Trigger) + len(e.LastError) + len(e.Event.ID) + len(e.Event.Source) + len(e.Event.Topic) + 80
	for _, attrs := range [...][]event.Attr{e.Event.User, e.Event.Captures} {
		for _, a := range attrs {
			n += len(a.Name) + len(a.Value) + 2
		}
	}
	return n
}

// RescheduleOps returns what to commit when Attempt, NotBefore and LastError of an entry have changed. The event itself is not
// written again.
func (j *Journal) RescheduleOps(e *Entry) []store.Op {
	return []store.Op{{Key: entryKey(e.Function, e.Seq, partRetry), Value: encodeRetry(e, j.now())}}
}

// RemoveOps returns what to commit when an entry is done with.
func (j *Journal) RemoveOps(function string, seq uint64) []store.Op {
	return []store.Op{
		{Key: entryKey(function, seq, partEvent), Delete: true},
		{Key: entryKey(function, seq, partRetry), Delete: true},
	}
}

// Removed is called when RemoveOps are synced.
func (j *Journal) Removed(function string, seq uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	s := j.shelf[function]
	if s == nil {
		return
	}
	if size, there := s.sizes[seq]; there {
		delete(s.sizes, seq)
		s.bytes -= int64(size)
		j.total--
	}
}

// Append stores entries in a batch of their own; done is called with nil once it is synced. When it returns an error nothing
// happened and done is not called.
func (j *Journal) Append(entries []*Entry, done func(error)) error {
	ops, err := j.AppendOps(entries)
	if err != nil {
		return err
	}
	if err := j.store.Submit(ops, done); err != nil {
		return err
	}
	j.Appended(entries)
	return nil
}

// Load reads one entry. ErrGone, or store.ErrCorrupt for one that cannot be read, both of class reject.
func (j *Journal) Load(name string, seq uint64) (*Entry, error) {
	e := &Entry{Function: name, Seq: seq}
	raw, version, err := j.store.Get(entryKey(name, seq, partEvent))
	now := j.now()
	switch {
	case err != nil:
		return nil, err
	case version == 0:
		return nil, j.failed("load", name, seq, "gone", ErrGone)
	}
	if _, err := decodeEvent(raw, e, now, true); err != nil {
		return nil, j.failed("load", name, seq, "corrupt", errors.Join(store.ErrCorrupt, err))
	}
	raw, version, err = j.store.Get(entryKey(name, seq, partRetry))
	if err == nil && version != 0 {
		before := *e
		if decodeRetry(raw, e, now) != nil {
			*e = before // a lost count of attempts is no reason to lose the event
		}
	} else if err != nil && !errors.Is(err, store.ErrCorrupt) {
		return nil, err
	}
	return e, nil
}

func (j *Journal) failed(op, name string, seq uint64, kind string, err error) error {
	return &function.Error{Op: "journal: " + op, Subject: fmt.Sprintf("%s %d", name, seq), Class: function.ClassReject, Kind: kind, Err: err}
}

// Pending returns what is waiting, in the order of Seq. It reads the disk; it is meant for the start.
func (j *Journal) Pending() ([]Waiting, error) {
	var all []Waiting
	now := j.now()
	err := j.store.Scan(store.Journal.All(), nil, func(key, value []byte, version uint64) bool {
		name, seq, part, ok := splitEntryKey(key)
		if !ok || version == 0 {
			return true // counted at Open
		}
		var e Entry
		switch d := (&decoder{b: value}); part {
		case partEvent:
			if decodeHead(d, &e, now); !d.bad {
				all = append(all, Waiting{name, e.Trigger, seq, e.Lane, e.Attempt, e.NotBefore})
			}
		case partRetry: // sorts right behind its event
			if n := len(all) - 1; n >= 0 && all[n].Seq == seq && all[n].Function == name && decodeRetry(value, &e, now) == nil {
				all[n].Attempt, all[n].NotBefore = e.Attempt, e.NotBefore
			}
		}
		return true
	})
	slices.SortFunc(all, func(a, b Waiting) int {
		if a.Seq < b.Seq {
			return -1
		}
		return 1
	})
	return all, err
}
