package meter

import (
	"time"

	"mayfly/function"
	"mayfly/store"
)

// Query says which rows are wanted.
type Query struct {
	From     time.Time       `json:"from,omitzero"` // zero = from the beginning
	To       time.Time       `json:"to,omitzero"`   // up to, not including; zero = until now
	By       function.Period `json:"by"`
	Function string          `json:"function,omitempty"` // "" = all
}

// wants says whether usage of a period that began at from counts. A month whose hours are gone counts when it began in the time asked for.
func (q *Query) wants(from time.Time, s Subject) bool {
	return !from.Before(q.From.Truncate(time.Hour)) && (q.To.IsZero() || from.Before(q.To)) && (q.Function == "" || q.Function == s.Function)
}

// moment is all usage until some moment: what is on disk before the open segment is not in it.
type moment struct {
	open   segment // as it is on disk
	hour   uint64
	since  map[Subject]Usage // what was used since
	totals map[Subject]Usage
}

func (m *Meter) now() moment {
	m.mu.Lock()
	defer m.mu.Unlock()
	totals := m.config.Totals()
	return moment{m.open, hourOf(m.config.Now()), m.unwritten(totals), totals}
}

// each calls yield with all usage until then, also what is not written yet, in no order. It writes nothing. Segments from the open one on are taken from
// memory, the others and the months from the disk while nothing is folded: however it meets a sample or a fold, nothing counts twice or not at
// all ([L4]).
func (m *Meter) each(now moment, yield func(hour uint64, folded bool, s Subject, u Usage)) error {
	m.folding.RLock()
	defer m.folding.RUnlock()
	err := m.store.Scan(store.Meter.All(), nil, func(key, value []byte, _ uint64) bool {
		e, err := readEntry(key, value)
		if err != nil || e.kind == kindLink || e.kind == kindRow && e.number >= now.open.number {
			return true // the anchor, or what Verify reports
		}
		if hour, u, err := e.usage(); err == nil {
			yield(hour, e.kind == kindMonth, e.subject, u)
		}
		return true
	})
	if err != nil {
		return err
	}
	for s, u := range now.open.usage {
		yield(now.open.hour, false, s, u)
	}
	for s, u := range now.since {
		yield(now.hour, false, s, u)
	}
	return nil
}

// Rows returns what was used, until this moment, summed up by subject and period, as Merge sorts it. It writes nothing.
func (m *Meter) Rows(q Query) ([]Row, error) {
	type place struct {
		from   time.Time
		folded bool
		Subject
	}
	sums := map[place]Usage{}
	err := m.each(m.now(), func(hour uint64, folded bool, s Subject, u Usage) {
		if !q.wants(timeOf(hour), s) {
			return
		}
		p := place{q.By.Start(timeOf(hour)), folded && q.By != function.PerMonth, s}
		if p.folded {
			p.from = timeOf(hour)
		}
		sum := sums[p]
		sum.Add(u)
		sums[p] = sum
	})
	rows := make([]Row, 0, len(sums))
	for p, u := range sums {
		rows = append(rows, Row{Node: m.config.Node, From: p.from, Folded: p.folded, Subject: p.Subject, Usage: u})
	}
	return Merge(rows), err
}

// Spent returns what each function used since from, of all tenants, and what its totals are at the same moment: whoever watches them needs
// not ask again before the period ends.
func (m *Meter) Spent(from time.Time) (spent, totals map[string]Usage, err error) {
	spent, totals = map[string]Usage{}, map[string]Usage{}
	sum := func(into map[string]Usage, s Subject, u Usage) {
		total := into[s.Function]
		total.Add(u)
		into[s.Function] = total
	}
	now := m.now()
	for s, u := range now.totals {
		sum(totals, s, u)
	}
	q := Query{From: from}
	err = m.each(now, func(hour uint64, _ bool, s Subject, u Usage) {
		if q.wants(timeOf(hour), s) {
			sum(spent, s, u)
		}
	})
	return spent, totals, err
}
