package catalog

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"mayfly/function"
)

// Snapshot is the catalog at one moment. It never changes, and reading it takes no lock.
type Snapshot struct {
	kinds     map[Kind][]*entry    // sorted by key, tombstones included
	functions []*function.Function // as they should run, sorted by name
	disputes  []Dispute
	broken    map[ident]string // what is on disk and cannot be read, and why
	conflicts []Conflict       // newest first
	count     int
	bytes     int
	newest    uint64 // highest version
	digest    func() *digest
	next      chan struct{} // closed when there is a newer one
}

// ident names a record.
type ident struct {
	kind Kind
	key  string
}

func (id ident) compare(o ident) int {
	return cmp.Or(cmp.Compare(id.kind, o.kind), cmp.Compare(id.key, o.key))
}

// entry is a record as it is held.
type entry struct {
	Record
	hash     [hashSize]byte // of the whole record
	function *function.Function
	fault    error // why it is of no use here, though it is held and passed on
	held     int64 // of a tombstone: the running time when it came, in milliseconds
}

const hashSize = 16

func newEntry(r Record) *entry {
	e := &entry{Record: r}
	sum := sha256.Sum256(r.Encode())
	copy(e.hash[:], sum[:])
	if r.Kind == KindFunction && !r.Deleted {
		e.function, e.fault = readFunction(r)
	}
	return e
}

func (e *entry) ident() ident { return ident{e.Kind, e.Key} }

// size is what an entry counts against the catalog's quota.
func (e *entry) size() int { return len(e.Key) + len(e.Body) + len(e.Sig) + 200 }

// body is the body of a function's record. That of a tombstone says only what it replaced.
type body struct {
	Manifest function.Manifest `json:"manifest"`
	Module   string            `json:"module"`
	Deployed time.Time         `json:"deployed"`
	Paused   bool              `json:"paused,omitempty"`
	Replaces uint64            `json:"replaces,omitempty"` // the version its writer saw
	Canary   *canary           `json:"canary,omitempty"`
}

func readFunction(r Record) (*function.Function, error) {
	var b body
	if err := json.Unmarshal(r.Body, &b); err != nil {
		return nil, err
	}
	digest, err := function.ParseDigest(b.Module)
	if err != nil {
		return nil, err
	}
	f := &function.Function{Manifest: b.Manifest, Module: digest, Version: r.Ver, Deployed: b.Deployed, Paused: b.Paused}
	if f.Name() != r.Key {
		return nil, fmt.Errorf("its manifest is of %q", f.Name())
	}
	f.Canary, err = b.Canary.read(f)
	return f, err
}

// replaces returns the version that the writer of a function's record saw before; ok is false when the record does not say.
func (r Record) replaces() (ver uint64, ok bool) {
	if r.Kind != KindFunction {
		return 0, false
	}
	var b struct {
		Replaces *uint64 `json:"replaces"`
	}
	if json.Unmarshal(r.Body, &b) != nil {
		return 0, false
	}
	if b.Replaces == nil {
		return 0, !r.Deleted // the first of its name replaces nothing
	}
	return *b.Replaces, true
}

func emptySnapshot() *Snapshot {
	s := &Snapshot{kinds: map[Kind][]*entry{}, broken: map[ident]string{}}
	s.finish()
	return s
}

// finish derives what is derived.
func (s *Snapshot) finish() {
	s.next = make(chan struct{})
	s.digest = sync.OnceValue(s.computeDigest)
}

// with returns the snapshot after some records came and others went.
func (s *Snapshot) with(put []*entry, drop []ident) *Snapshot {
	n := &Snapshot{
		kinds: maps.Clone(s.kinds), functions: s.functions, disputes: s.disputes, broken: s.broken, conflicts: s.conflicts,
		count: s.count, bytes: s.bytes, newest: s.newest,
	}
	cloned := map[Kind]bool{}
	own := func(k Kind) []*entry {
		if !cloned[k] {
			cloned[k] = true
			n.kinds[k] = slices.Clone(n.kinds[k])
		}
		return n.kinds[k]
	}
	for _, e := range put {
		list := own(e.Kind)
		if i, ok := find(list, e.Key); ok {
			n.bytes -= list[i].size()
			list[i] = e
		} else {
			n.kinds[e.Kind] = slices.Insert(list, i, e)
			n.count++
		}
		n.bytes += e.size()
		n.newest = max(n.newest, e.Ver)
		n.mended(e.ident())
	}
	for _, id := range drop {
		if i, ok := find(own(id.kind), id.key); ok {
			n.bytes -= n.kinds[id.kind][i].size()
			n.count--
			n.kinds[id.kind] = slices.Delete(n.kinds[id.kind], i, i+1)
		}
	}
	if cloned[KindFunction] {
		n.settle()
	}
	n.finish()
	return n
}

// mended takes a record off the list of those that cannot be read. The map is shared with older snapshots.
func (s *Snapshot) mended(id ident) {
	if _, ok := s.broken[id]; ok {
		s.broken = maps.Clone(s.broken)
		delete(s.broken, id)
	}
}

func find(list []*entry, key string) (int, bool) {
	return slices.BinarySearchFunc(list, key, func(e *entry, key string) int { return strings.Compare(e.Key, key) })
}

func (s *Snapshot) entry(id ident) *entry {
	if i, ok := find(s.kinds[id.kind], id.key); ok {
		return s.kinds[id.kind][i]
	}
	return nil
}

// all calls yield with every entry, sorted by kind and key, until it returns false.
func (s *Snapshot) all(yield func(*entry) bool) {
	for _, k := range slices.Sorted(maps.Keys(s.kinds)) {
		for _, e := range s.kinds[k] {
			if !yield(e) {
				return
			}
		}
	}
}

// Next is closed when there is a newer snapshot.
func (s *Snapshot) Next() <-chan struct{} { return s.next }

// List returns all functions as they should run here, sorted by name; one that lost a dispute over messages that would go round is
// paused. Neither the slice nor the functions may be changed.
func (s *Snapshot) List() []*function.Function { return s.functions }

// Get returns the function of that name, as in List.
func (s *Snapshot) Get(name string) (*function.Function, bool) {
	i, ok := slices.BinarySearchFunc(s.functions, name, func(f *function.Function, name string) int {
		return strings.Compare(f.Name(), name)
	})
	if !ok {
		return nil, false
	}
	return s.functions[i], true
}

// Record returns a record that is not deleted. Its body must not be changed.
func (s *Snapshot) Record(kind Kind, key string) (Record, bool) {
	e := s.entry(ident{kind, key})
	if e == nil || e.Deleted {
		return Record{}, false
	}
	return e.Record, true
}

// Gone returns the version of a tombstone; ok is false when there is none.
func (s *Snapshot) Gone(kind Kind, key string) (ver uint64, ok bool) {
	e := s.entry(ident{kind, key})
	if e == nil || !e.Deleted {
		return 0, false
	}
	return e.Ver, true
}

// Records returns the records of a kind that are not deleted, sorted by key. Their bodies must not be changed.
func (s *Snapshot) Records(kind Kind) []Record {
	all := make([]Record, 0, len(s.kinds[kind]))
	for _, e := range s.kinds[kind] {
		if !e.Deleted {
			all = append(all, e.Record)
		}
	}
	return all
}

// Damaged returns the names of the functions that are deployed and cannot be read here, sorted: their records are damaged on disk, not
// signed by anybody who is trusted now, or of a version that is not known here.
func (s *Snapshot) Damaged() []string {
	var names []string
	for id := range s.broken {
		if id.kind == KindFunction {
			names = append(names, id.key)
		}
	}
	for _, e := range s.kinds[KindFunction] {
		if e.fault != nil {
			names = append(names, e.Key)
		}
	}
	slices.Sort(names)
	return names
}

// Fault says why a function is among the damaged.
func (s *Snapshot) Fault(name string) error {
	if why, ok := s.broken[ident{KindFunction, name}]; ok {
		return errors.New(why)
	}
	if e := s.entry(ident{KindFunction, name}); e != nil {
		return e.fault
	}
	return nil
}

// deployed returns the function of that name as its record has it.
func (s *Snapshot) deployed(name string) *function.Function {
	if e := s.entry(ident{KindFunction, name}); e != nil {
		return e.function
	}
	return nil
}
