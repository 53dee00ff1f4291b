package meter

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"mayfly/function"
	"mayfly/store"
)

// Copies are what other nodes said of their usage, by day, on this node's disk: they count when those nodes are away. A copy is one answer and what
// it left as it was; it is replaced and never added to, because what a ledger folds it says in other rows.
type Copies struct{ store Store }

// NewCopies returns the copies in a store.
func NewCopies(s Store) *Copies { return &Copies{s} }

// Copied is when a copy was made.
type Copied struct {
	At   time.Time `json:"at"`   // of the latest answer
	Full time.Time `json:"full"` // of the latest that told of everything
}

// MaxCopy is how many rows are kept of one node: 400 functions every day for 45 days, and some months. Later ones go before.
const MaxCopy = 20_000

func copyKey(node string) []byte { return store.Trigger.Key("", []byte("usage-of/"+node)) }

func copyPrefix(node string) []byte { return store.Trigger.Key("", []byte("usage/"+node+"/")) }

func copyRowKey(node string, r *Row) []byte {
	return fmt.Appendf(copyPrefix(node), "%016x/%t/%s\x00%s", uint64(r.From.Unix()), r.Folded, r.Function, r.Tenant)
}

// Put replaces the copy of a node's rows from a day on by what it answered; zero = all of it. Only what changed is written, and within an hour nothing
// when nothing did. It returns when that is synced.
func (c *Copies) Put(node string, from time.Time, rows []Row, at time.Time) error {
	before, was, known, err := c.read(node)
	if err != nil {
		return err
	}
	next := Copied{At: at, Full: was.Full}
	if from.IsZero() {
		next.Full = at
	}
	text, err := json.Marshal(next)
	if err != nil {
		return err
	}
	ops := []store.Op{{Key: copyKey(node), Value: text}}
	rows = rows[max(0, len(rows)-MaxCopy):] // they are sorted by time
	for i := range rows {
		key := copyRowKey(node, &rows[i])
		value, err := json.Marshal(rows[i])
		if err != nil {
			return err
		}
		if !bytes.Equal(before[string(key)], value) {
			ops = append(ops, store.Op{Key: key, Value: value})
		}
		delete(before, string(key))
	}
	for key, value := range before {
		var r Row
		if json.Unmarshal(value, &r) != nil || !r.From.Before(from) {
			ops = append(ops, store.Op{Key: []byte(key), Delete: true})
		}
	}
	if age := at.Sub(was.At); known && len(ops) == 1 && !from.IsZero() && age >= 0 && age < time.Hour {
		return nil
	}
	return c.write(ops)
}

// maxBatch keeps a batch small. A copy that was written in part is replaced by the next answer.
const maxBatch = 1000

func (c *Copies) write(ops []store.Op) error {
	for len(ops) > 0 {
		n := min(len(ops), maxBatch)
		synced := make(chan error, 1)
		if err := c.store.Submit(ops[len(ops)-n:], func(err error) { synced <- err }); err != nil { // when it was made is said last
			return err
		}
		if err := <-synced; err != nil {
			return err
		}
		ops = ops[:len(ops)-n]
	}
	return nil
}

// read returns the copy of a node by its keys.
func (c *Copies) read(node string) (rows map[string][]byte, at Copied, ok bool, err error) {
	rows = map[string][]byte{}
	err = c.store.Scan(copyPrefix(node), nil, func(key, value []byte, _ uint64) bool {
		rows[string(key)] = bytes.Clone(value)
		return true
	})
	if err != nil {
		return nil, at, false, err
	}
	at, ok, err = c.When(node)
	return rows, at, ok, err
}

// When says when the copy of a node was made; ok is false when there is none.
func (c *Copies) When(node string) (at Copied, ok bool, err error) {
	text, version, err := c.store.Get(copyKey(node))
	if err != nil || version == 0 {
		return at, false, err
	}
	return at, json.Unmarshal(text, &at) == nil, nil
}

// Rows returns what a node had used when its copy was made, as that node would have answered, but that hours are days, and the day that q.From is
// in counts whole; ok is false when there is no copy.
func (c *Copies) Rows(node string, q Query) (rows []Row, at Copied, ok bool, err error) {
	kept, at, ok, err := c.read(node)
	if err != nil || !ok {
		return nil, at, false, err
	}
	if q.By == function.PerHour {
		q.From = function.PerDay.Start(q.From)
	}
	sums := map[Row]Usage{}
	for _, value := range kept {
		var r Row
		if json.Unmarshal(value, &r) != nil || !q.wants(r.From, r.Subject) {
			continue // a damaged one is copied again
		}
		place := Row{Node: node, From: r.From.UTC(), Folded: r.Folded, Subject: r.Subject}
		if q.By == function.PerMonth {
			place.From, place.Folded = q.By.Start(place.From), false
		}
		sum := sums[place]
		sum.Add(r.Usage)
		sums[place] = sum
	}
	for r, u := range sums {
		r.Usage = u
		rows = append(rows, r)
	}
	return Merge(rows), at, true, nil
}

// Forget deletes the copies of nodes that are not to be kept.
func (c *Copies) Forget(keep func(node string) bool) error {
	var gone []string
	prefix := copyKey("")
	err := c.store.Scan(prefix, nil, func(key, _ []byte, _ uint64) bool {
		if node := string(key[len(prefix):]); !keep(node) {
			gone = append(gone, node)
		}
		return true
	})
	for _, node := range gone {
		rows, _, _, readErr := c.read(node)
		if readErr != nil {
			return readErr
		}
		ops := []store.Op{{Key: copyKey(node), Delete: true}}
		for key := range rows {
			ops = append(ops, store.Op{Key: []byte(key), Delete: true})
		}
		if err := c.write(ops); err != nil {
			return err
		}
	}
	return err
}
