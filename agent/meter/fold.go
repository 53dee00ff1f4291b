package meter

import (
	"bytes"

	"mayfly/store"
)

// foldAtOnce bounds the changes of one batch; the rest is folded after the next segment.
const foldAtOnce = 2000

// fold adds the oldest closed segments, beyond those that are kept, to their months, and moves the beginning of the chain behind them. How old
// a segment is, is by its number: no clock can fold too much or hold folding up ([L4]). Called with writing held, after a segment
// was closed.
func (m *Meter) fold() error {
	begin, err := m.beginning()
	if err != nil || m.open.number-1-begin.segment <= uint64(m.config.Keep) {
		return err
	}
	months, err := m.months()
	if err != nil {
		return err
	}
	end := begin
	if _, all := months.entries(); begin.months != monthsHash(all) {
		m.log.Error("the folded months of the usage ledger are not what was written; they are added to as they are")
		end.misfits++
	}
	var ops []store.Op
	for m.open.number-1-end.segment > uint64(m.config.Keep) && len(ops) < foldAtOnce {
		gone, err := m.foldOne(&end, months)
		if err != nil {
			return err
		}
		ops = append(ops, gone...)
	}
	changed, all := months.entries()
	for _, e := range changed {
		ops = append(ops, store.Op{Key: e.key, Value: e.value})
	}
	end.months = monthsHash(all)
	m.folding.Lock()
	defer m.folding.Unlock()
	return m.commit(append(ops, store.Op{Key: anchorKey(), Value: end.encode()}))
}

// beginning is the anchor, or, when that cannot be read, a guess by what is there; Verify goes on telling of it.
func (m *Meter) beginning() (anchor, error) {
	begin, err := m.anchored()
	if err == nil {
		return begin, nil
	}
	links, err := m.read(kindPrefix(kindLink))
	if err != nil || len(links) == 0 {
		return anchor{segment: m.open.number - 1, misfits: 1}, err
	}
	return anchor{segment: links[0].number - 1, misfits: 1}, nil
}

// foldOne adds the segment after end to its months, moves end behind it, and returns what removes it.
func (m *Meter) foldOne(end *anchor, months months) (ops []store.Op, err error) {
	next := end.segment + 1
	rows, err := m.read(recordKey(kindRow, next))
	if err != nil {
		return nil, err
	}
	key := recordKey(kindLink, next)
	written, _, err := m.store.Get(key)
	expected := hash(end.link[:], rows)
	if err != nil || !bytes.Equal(written, expected[:]) {
		m.log.Error("an hour of the usage ledger is not what was written; it is added to its month as it is", "segment", next)
		end.misfits++
	}
	end.segment, end.link = next, link{}
	copy(end.link[:], written)
	for i := range rows {
		ops = append(ops, store.Op{Key: rows[i].key, Delete: true})
		hour, u, err := rows[i].usage()
		if err != nil {
			m.log.Error("a record of the usage ledger cannot be read; what it says is not in its month", "segment", next, "err", err)
			continue
		}
		months.add(hour, rows[i].subject, u)
	}
	return append(ops, store.Op{Key: key, Delete: true}), nil
}

// months are all folded months, by their keys.
type months map[string]*month

type month struct {
	entry
	usage   Usage
	changed bool
}

func (m *Meter) months() (months, error) {
	all, err := m.read(kindPrefix(kindMonth))
	by := months{}
	for i := range all {
		_, u, err := all[i].usage()
		if err != nil {
			m.log.Error("a month of the usage ledger cannot be read", "err", err)
		}
		by[string(all[i].key)] = &month{entry: all[i], usage: u}
	}
	return by, err
}

func (ms months) add(hour uint64, s Subject, u Usage) {
	e := newEntry(kindMonth, monthOf(hour), s, nil)
	at := ms[string(e.key)]
	if at == nil {
		at = &month{entry: e}
		ms[string(e.key)] = at
	}
	at.usage.Add(u)
	at.value, at.changed = at.usage.append(nil), true
}

// monthsHash is what the anchor says of all months; there is no anchor as long as there are none.
func monthsHash(all []entry) link {
	if len(all) == 0 {
		return link{}
	}
	return hash(nil, all)
}

// entries returns those that changed, and all, in the order of their keys.
func (ms months) entries() (changed, all []entry) {
	for _, e := range ms {
		all = append(all, e.entry)
		if e.changed {
			changed = append(changed, e.entry)
		}
	}
	sortEntries(all)
	return changed, all
}
