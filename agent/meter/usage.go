// Package meter keeps the usage ledger of this node: what each function used, hour by hour, chained by hashes so that an edit
// shows. It samples counters that others keep anyway, so an event costs nothing; what a crash can take is the usage since the
// last sample. DESIGN.md walks the failures.
package meter

import (
	"cmp"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"strings"
	"time"
)

// Subject is whose usage it is.
type Subject struct {
	Function string `json:"function"`
	Tenant   string `json:"tenant,omitempty"` // as the manifest said when it was used; "" = nobody's in particular
}

func (s Subject) compare(other Subject) int {
	return cmp.Or(strings.Compare(s.Function, other.Function), strings.Compare(s.Tenant, other.Tenant))
}

// Usage is what was used of everything that is metered. Sums stop at the largest number instead of beginning anew.
type Usage struct {
	Events    uint64 `json:"events"`         // runs that were done, and attempts that failed
	Failed    uint64 `json:"failed"`         // of them without effect
	CPU       uint64 `json:"cpu_ns"`         // processor time in the sandbox
	Wall      uint64 `json:"wall_ns"`        // how long it ran
	Memory    uint64 `json:"memory_byte_ms"` // linear memory times how long it ran, bytes x milliseconds
	BytesIn   uint64 `json:"bytes_in"`       // of events, as functions read them
	BytesOut  uint64 `json:"bytes_out"`      // published and answered
	Published uint64 `json:"published"`      // messages
	Stored    uint64 `json:"stored_bytes"`   // keys and values handed to the disk for it; what the database makes of them is not known by function
	State     uint64 `json:"state_bytes"`    // the most state it had at a sample; 0 while it did not run
}

// fields in the order they are stored; new ones are added at the end.
func (u *Usage) fields() []*uint64 {
	return []*uint64{&u.Events, &u.Failed, &u.CPU, &u.Wall, &u.Memory, &u.BytesIn, &u.BytesOut, &u.Published, &u.Stored, &u.State}
}

// Add adds other to u. The state is the larger of the two.
func (u *Usage) Add(other Usage) {
	state := max(u.State, other.State)
	theirs := other.fields()
	for i, f := range u.fields() {
		if *f > math.MaxUint64-*theirs[i] {
			*f = math.MaxUint64
			continue
		}
		*f += *theirs[i]
	}
	u.State = state
}

// Minus returns what was used after before. What is less than it was counts as 0; the state is u's.
func (u Usage) Minus(before Usage) Usage {
	state, earlier := u.State, before.fields()
	for i, f := range u.fields() {
		*f -= min(*f, *earlier[i])
	}
	u.State = state
	return u
}

// most is the larger of the two in everything.
func (u Usage) most(other Usage) Usage {
	theirs := other.fields()
	for i, f := range u.fields() {
		*f = max(*f, *theirs[i])
	}
	return u
}

// Idle says whether nothing was used.
func (u Usage) Idle() bool {
	u.State = 0
	return u == Usage{}
}

// append adds the stored form of u to b.
func (u Usage) append(b []byte) []byte {
	for _, f := range u.fields() {
		b = binary.AppendUvarint(b, *f)
	}
	return b
}

var errRecord = errors.New("not a record of the usage ledger")

// decodeUsage reads what append wrote. Fields it does not know, of a later version, are left out; missing ones are zero.
func decodeUsage(b []byte) (u Usage, err error) {
	for _, f := range u.fields() {
		if len(b) == 0 {
			return u, nil
		}
		n := 0
		if *f, n = binary.Uvarint(b); n <= 0 {
			return Usage{}, errRecord
		}
		b = b[n:]
	}
	return u, nil
}

// Row is what a subject used on a node in one period, which began at From.
type Row struct {
	Node string    `json:"node"`
	From time.Time `json:"from"` // UTC

	Folded bool `json:"folded,omitempty"` // it is a month whose hours are not kept any more, whatever period was asked for
	Subject
	Usage
}

func (r *Row) compare(other *Row) int {
	return cmp.Or(r.From.Compare(other.From), r.Subject.compare(other.Subject), strings.Compare(r.Node, other.Node), compareBool(r.Folded, other.Folded))
}

func compareBool(a, b bool) int {
	if a == b {
		return 0
	}
	if b {
		return -1
	}
	return 1
}

// Merge returns all rows, sorted by time, function, tenant and node, each once. Rows are a grow-only counter: each has one writer, its node,
// so of two that tell of the same the larger is the later one; it does not matter in which order or how often a row is merged.
func Merge(lists ...[]Row) []Row {
	all := slices.Concat(lists...)
	slices.SortFunc(all, func(a, b Row) int { return a.compare(&b) })
	merged := all[:0]
	for _, r := range all {
		if n := len(merged); n > 0 && merged[n-1].compare(&r) == 0 {
			merged[n-1].Usage = merged[n-1].most(r.Usage)
			continue
		}
		merged = append(merged, r)
	}
	return merged
}

// hourOf numbers hours since 1970 in UTC; a clock before that is in hour 0.
func hourOf(t time.Time) uint64 { return uint64(max(0, t.Unix()) / 3600) }

func timeOf(hour uint64) time.Time { return time.Unix(int64(min(hour, maxHour))*3600, 0).UTC() }

// maxHour keeps a damaged record from being a year that cannot be written: it is in 9999.
const maxHour = 70_389_527

func monthOf(hour uint64) uint64 {
	t := timeOf(hour)
	return hourOf(time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, time.UTC))
}

// After returns the rows, sorted as by Merge, that come after r, which need not be among them.
func After(rows []Row, r *Row) []Row {
	n, found := slices.BinarySearchFunc(rows, r, func(a Row, b *Row) int { return a.compare(b) })
	if found {
		n++
	}
	return rows[n:]
}
