package catalog

import (
	"bytes"
	"encoding/json"
	"slices"
	"time"

	"mayfly/store"
)

// Conflict is a record that lost against one whose writer did not know of it, or that was dropped here: nothing an operator ordered goes away
// without a trace.
type Conflict struct {
	Lost   Record    // as it was; without its body when that was long
	Winner Record    // without its body; zero when nothing took the place
	Reason string    // for people
	At     time.Time // when it was noticed, by this node's clock
}

func (c *Conflict) ident() ident { return ident{c.Lost.Kind, c.Lost.Key} }

// Bounds of the conflicts that are kept; the oldest go first.
const (
	maxConflicts    = 64
	maxConflictBody = 8 << 10
)

// Conflicts returns what lost against a change whose writer did not know of it, newest first, at most 64. Changing or removing the record in question takes
// it off the list.
func (s *Snapshot) Conflicts() []Conflict { return slices.Clone(s.conflicts) }

func newConflict(lost, winner Record, reason string, at time.Time) Conflict {
	if len(lost.Body) > maxConflictBody {
		lost.Body = nil
	}
	lost.Sig, winner.Sig, winner.Body = nil, nil, nil
	return Conflict{Lost: lost, Winner: winner, Reason: reason, At: at.UTC().Truncate(time.Millisecond)}
}

// conflictsAfter returns the conflicts that are left when a is done: one per record.
func (s *Snapshot) conflictsAfter(a *alteration) []Conflict {
	if len(a.conflicts)+len(a.resolved) == 0 {
		return s.conflicts
	}
	gone := map[ident]bool{}
	for _, id := range a.resolved {
		gone[id] = true
	}
	var left []Conflict
	for _, c := range append(slices.Clone(a.conflicts), s.conflicts...) {
		if id := c.ident(); !gone[id] {
			gone[id] = true
			left = append(left, c)
		}
	}
	return bounded(left)
}

// bounded sorts conflicts and drops the oldest beyond the bound.
func bounded(all []Conflict) []Conflict {
	slices.SortStableFunc(all, func(a, b Conflict) int { return b.At.Compare(a.At) })
	return slices.Clip(all[:min(len(all), maxConflicts)])
}

// conflictOps are the writes that make the disk hold after instead of before.
func conflictOps(before, after []Conflict) (ops []store.Op) {
	same := func(list []Conflict, c *Conflict) bool {
		return slices.ContainsFunc(list, func(o Conflict) bool {
			return o.ident() == c.ident() && o.Lost.Ver == c.Lost.Ver && o.Winner.Ver == c.Winner.Ver && o.At.Equal(c.At)
		})
	}
	for i := range after {
		if b, err := json.Marshal(&after[i]); err == nil && !same(before, &after[i]) {
			ops = append(ops, store.Op{Key: conflictKey(after[i].ident()), Value: b})
		}
	}
	for i := range before {
		id := before[i].ident()
		if !slices.ContainsFunc(after, func(o Conflict) bool { return o.ident() == id }) {
			ops = append(ops, store.Op{Key: conflictKey(id), Delete: true})
		}
	}
	return ops
}

func conflictKey(id ident) []byte {
	return store.Catalog.Key("", []byte(conflictPrefix+"/"+string(id.kind)+"/"+id.key))
}

func decodeConflict(b []byte) (c Conflict, err error) { return c, json.Unmarshal(b, &c) }

// conflict compares a record that is held with one that came: did one of the writers not know of the other's change? Only functions say what
// they replace; of other kinds only two changes of one version are known to be concurrent.
func conflict(old, came Record) (reason string, ok bool) {
	winner, loser := came, old
	if old.compare(came) > 0 {
		winner, loser = old, came
	}
	if old.Kind == KindNode || bytes.Equal(old.Body, came.Body) && old.Deleted == came.Deleted {
		return "", false
	}
	if old.Ver == came.Ver {
		return "two nodes changed it at the same moment", true
	}
	saw, known := winner.replaces()
	if !known || saw >= loser.Ver || winner.Writer == loser.Writer {
		return "", false
	}
	if base, known := loser.replaces(); known && base > saw {
		return "", false // there is a step between them that we do not know
	}
	if loser.Deleted {
		return "it was removed on " + loser.Writer + " and deployed on " + winner.Writer + ", and neither knew of the other", true
	}
	if winner.Deleted {
		return "it was deployed on " + loser.Writer + " and removed on " + winner.Writer + ", and neither knew of the other", true
	}
	return "it was deployed on " + loser.Writer + " and on " + winner.Writer + ", and neither knew of the other", true
}
