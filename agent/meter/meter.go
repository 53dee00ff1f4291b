package meter

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"mayfly/store"
)

// Store is where the ledger is kept. What was submitted is read at once.
type Store interface {
	Submit(ops []store.Op, done func(error)) error
	Get(key []byte) (value []byte, version uint64, err error)
	Scan(prefix, after []byte, yield func(key, value []byte, version uint64) bool) error
}

// Config of a meter.
type Config struct {
	Node   string                       // whose ledger it is, for rows
	Totals func() map[Subject]Usage     // what each used since this process began: it only grows. The caller may keep the map
	State  func(function string) uint64 // bytes of a function's state now; nil = not metered

	Every time.Duration    // between samples, default 1 min: what a crash may take
	Keep  int              // segments that are kept by the hour, default 1080, 45 days of hours in which something ran; older ones are added up by month, for ever
	Now   func() time.Time // default time.Now
}

// WithDefaults returns c with every zero field at its default.
func (c Config) WithDefaults() Config {
	if c.Every == 0 {
		c.Every = time.Minute
	}
	if c.Keep == 0 {
		c.Keep = 45 * 24
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.State == nil {
		c.State = func(string) uint64 { return 0 }
	}
	return c
}

// Meter is safe for concurrent use.
type Meter struct {
	config Config
	store  Store
	log    *slog.Logger

	writing sync.Mutex   // one change of the ledger at a time, until it is synced
	folding sync.RWMutex // held while usage goes from hours to months: a look at the disk is not of one moment

	mu   sync.Mutex
	open segment           // as it is on disk
	last map[Subject]Usage // the totals that are in it
}

// segment is the one that is being written. It is immutable.
type segment struct {
	number uint64
	hour   uint64
	usage  map[Subject]Usage
	before link // of the segment before
}

// Open reads where the ledger ends. It starts nothing and writes nothing. A ledger of which a part cannot be read goes on after it: usage is
// still counted, no number is used again, and Verify says what does not fit. The error is the store's.
func Open(c Config, s Store, log *slog.Logger) (*Meter, error) {
	m := &Meter{config: c.WithDefaults(), store: s, log: log, last: map[Subject]Usage{}}
	begin, err := m.anchored()
	if err != nil {
		log.Error("the beginning of the usage ledger cannot be read; mayfly usage verify says the same", "err", err)
	}
	m.open = segment{number: begin.segment + 1, usage: map[Subject]Usage{}, before: begin.link}
	links, err := m.read(kindPrefix(kindLink))
	if err != nil {
		return nil, err
	}
	if n := len(links); n > 0 && links[n-1].number > begin.segment {
		m.open.number = links[n-1].number + 1
		m.open.before = link{}
		copy(m.open.before[:], links[n-1].value)
	}
	rows, err := m.read(kindPrefix(kindRow))
	if err != nil {
		return nil, err
	}
	for i := range rows {
		if rows[i].number > m.open.number { // its link is lost
			m.open = segment{number: rows[i].number, usage: map[Subject]Usage{}}
		}
	}
	for i := range rows {
		if rows[i].number != m.open.number {
			continue
		}
		hour, u, err := rows[i].usage()
		if err != nil {
			log.Error("a record of the usage ledger cannot be read", "err", err)
			continue
		}
		m.open.hour, m.open.usage[rows[i].subject] = hour, u
	}
	return m, nil
}

// read returns records; one whose key makes no sense is passed over, Verify reports it.
func (m *Meter) read(prefix []byte) (all []entry, err error) {
	err = m.store.Scan(prefix, nil, func(key, value []byte, _ uint64) bool {
		if e, err := readEntry(key, value); err == nil {
			all = append(all, e)
		}
		return true
	})
	if err != nil {
		err = fmt.Errorf("usage ledger: %w", err)
	}
	return all, err
}

// anchored returns where the chain begins.
func (m *Meter) anchored() (anchor, error) {
	value, version, err := m.store.Get(anchorKey())
	if err != nil || version == 0 {
		return anchor{}, err
	}
	return decodeAnchor(value)
}

// Run takes a sample every so often until ctx ends, and a last one then.
func (m *Meter) Run(ctx context.Context) error {
	tick := time.NewTicker(m.config.Every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := m.Sample(); err != nil {
				m.log.Warn("usage could not be written; it is counted with the next sample", "err", err)
			}
		case <-ctx.Done():
			if err := m.Sample(); err != nil {
				m.log.Warn("the last usage could not be written", "err", err)
			}
			return nil
		}
	}
}

// Sample writes what was used since the last sample, if anything was, and returns when that is synced. After an error the next sample has it
// ([L1], [L2]).
func (m *Meter) Sample() error {
	m.writing.Lock()
	defer m.writing.Unlock()
	totals := m.config.Totals()
	open := m.open // only changed below
	used := m.unwritten(totals)
	if len(used) == 0 {
		return nil
	}
	for s, u := range used {
		u.State = m.config.State(s.Function)
		used[s] = u
	}
	next, ops := open.after(hourOf(m.config.Now()), used)
	if err := m.commit(ops); err != nil {
		return err
	}
	m.mu.Lock()
	m.open, m.last = next, totals
	m.mu.Unlock()
	if next.number != open.number {
		return m.fold()
	}
	return nil
}

// unwritten is what was used since the last sample, by totals.
func (m *Meter) unwritten(totals map[Subject]Usage) map[Subject]Usage {
	used := map[Subject]Usage{}
	for s, u := range totals {
		if delta := u.Minus(m.last[s]); !delta.Idle() {
			used[s] = delta
		}
	}
	return used
}

// after returns the segment that is open after used was written, and the writes that make it so.
func (s segment) after(hour uint64, used map[Subject]Usage) (segment, []store.Op) {
	var ops []store.Op
	next := segment{s.number, hour, maps.Clone(s.usage), s.before}
	if hour != s.hour && len(s.usage) > 0 {
		l := hash(s.before[:], s.rows())
		ops = append(ops, store.Op{Key: recordKey(kindLink, s.number), Value: l[:]})
		next = segment{s.number + 1, hour, map[Subject]Usage{}, l}
	}
	for subject, u := range used {
		total := next.usage[subject]
		total.Add(u)
		next.usage[subject] = total
		e := rowEntry(next.number, hour, subject, total)
		ops = append(ops, store.Op{Key: e.key, Value: e.value})
	}
	return next, ops
}

// rows are the records of s, in the order of their keys.
func (s segment) rows() []entry {
	subjects := slices.SortedFunc(maps.Keys(s.usage), Subject.compare)
	all := make([]entry, 0, len(subjects))
	for _, subject := range subjects {
		all = append(all, rowEntry(s.number, s.hour, subject, s.usage[subject]))
	}
	return all
}

// commit returns when ops are synced, or were refused. It does not give up before: what became of one change must be known before the next.
func (m *Meter) commit(ops []store.Op) error {
	synced := make(chan error, 1)
	if err := m.store.Submit(ops, func(err error) { synced <- err }); err != nil {
		return err
	}
	return <-synced
}
