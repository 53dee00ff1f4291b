package history

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Rules say what a run was about.
type Rules struct {
	// Durable: the broker kept everything it promised to the publisher, so that must have had its effect too. Otherwise only
	// what the agent acknowledged counts: a broker that lost its memory cannot deliver.
	Durable bool
	// Ledger is the function whose state is a bank; "" = none. State is what it held in the end.
	Ledger string
	State  *Bank
	// Settled is what became of events otherwise, such as dead letters: they are not missed.
	Settled map[Event]bool
	// Damaged: part of the store was destroyed and the loss reported: no event may act twice, but state may be missing.
	Damaged bool
}

// Verdict is what a history shows. Notes name some of the events behind each number that should be zero.
type Verdict struct {
	Sent, Acknowledged, Executed, Duplicates int
	Lost, OrderViolations, StateViolations   int
	Again                                    map[string]int // duplicates of each function
	Notes                                    []string
}

// Clean reports whether every promise was kept.
func (v *Verdict) Clean() bool {
	return v.Lost == 0 && v.OrderViolations == 0 && v.StateViolations == 0
}

// maxNotes bounds the examples of each kind.
const maxNotes = 5

func (v *Verdict) note(count *int, format string, args ...any) {
	if *count++; *count <= maxNotes {
		v.Notes = append(v.Notes, fmt.Sprintf(format, args...))
	}
}

// Judge compares the history with the rules.
func (l *Log) Judge(r Rules) Verdict {
	l.mu.Lock()
	defer l.mu.Unlock()
	v := Verdict{Sent: l.first[Sent], Acknowledged: l.first[Acked], Executed: l.total[Published], Duplicates: l.total[Published] - l.first[Published]}
	v.Again = map[string]int{}
	for _, name := range slices.Sorted(maps.Keys(l.streams)) {
		l.judgeStream(name, &r, &v)
	}
	for _, e := range l.turned {
		v.note(&v.OrderViolations, "%s: the effect of %d was first seen after that of a later event", e.Stream, e.Seq)
	}
	if r.Ledger != "" {
		l.judgeBank(&r, &v)
	}
	return v
}

func (l *Log) judgeStream(name string, r *Rules, v *Verdict) {
	st := l.streams[name]
	for i := range st.seen {
		e, saw := Event{name, uint32(i + 1)}, &st.seen[i]
		if saw[Published] > 1 {
			function, _, _ := strings.Cut(name, "/")
			v.Again[function] += int(saw[Published]) - 1
		}
		owed := saw[Acked] > 0 || r.Durable && saw[Promised] > 0
		switch {
		case owed && saw[Confirmed] == 0 && !r.Settled[e]:
			v.note(&v.Lost, "%s: %d was promised and had no effect (%s)", name, e.Seq, describe(saw))
		case saw[Published] > 0 && saw[Sent] == 0:
			v.note(&v.StateViolations, "%s: an effect of %d, which was never sent", name, e.Seq)
		}
	}
}

func describe(saw *[sights]uint16) string {
	words := []string{"sent", "promised", "delivered", "acknowledged", "effect written", "effect confirmed"}
	var parts []string
	for i, n := range saw {
		parts = append(parts, fmt.Sprintf("%s %d", words[i], n))
	}
	return strings.Join(parts, ", ")
}

// judgeBank compares the state with the model: the bank after exactly the events that say they acted.
func (l *Log) judgeBank(r *Rules, v *Verdict) {
	b := r.State
	if b == nil {
		v.note(&v.StateViolations, "%s: its state could not be read", r.Ledger)
		return
	}
	if b.Twice > 0 {
		v.StateViolations += int(b.Twice)
		v.Notes = append(v.Notes, fmt.Sprintf("%s: %d events acted twice on state", r.Ledger, b.Twice))
	}
	if b.Turned > 0 {
		v.OrderViolations += int(b.Turned)
		v.Notes = append(v.Notes, fmt.Sprintf("%s: %d events acted after a later one of their key", r.Ledger, b.Turned))
	}
	if sum := b.Sum(); sum != 0 {
		v.note(&v.StateViolations, "%s: the accounts sum up to %d instead of 0", r.Ledger, sum)
	}
	if r.Damaged {
		return
	}
	want := map[int]int64{}
	for name, st := range l.streams {
		function, key, _ := strings.Cut(name, "/")
		if function != r.Ledger {
			continue
		}
		for i := range st.seen {
			e := Event{name, uint32(i + 1)}
			owed := st.seen[i][Acked] > 0 || st.seen[i][Published] > 0 || r.Durable && st.seen[i][Promised] > 0
			acted := b.Acted(key, e.Seq)
			switch {
			case owed && !acted && !r.Settled[e]:
				v.note(&v.StateViolations, "%s: %d left no trace in the state (%s)", name, e.Seq, describe(&st.seen[i]))
			case acted && st.seen[i][Sent] == 0:
				v.note(&v.StateViolations, "%s: %d acted and was never sent", name, e.Seq)
			}
			if acted {
				t := TransferOf(key, e.Seq)
				want[t.From] -= t.Amount
				want[t.To] += t.Amount
			}
		}
	}
	for account := range Accounts {
		if b.Balance[account] != want[account] {
			v.note(&v.StateViolations, "%s: account %d holds %d, its events add up to %d", r.Ledger, account, b.Balance[account], want[account])
		}
	}
}
