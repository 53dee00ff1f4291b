package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"mayfly/function"
	"mayfly/store"
)

// Store is where records are kept.
type Store interface {
	// Submit queues ops as one atomic batch and calls done once they are synced. When it returns an error nothing
	// happened and done is not called.
	Submit(ops []store.Op, done func(error)) error
	// Scan yields the records below prefix; a damaged one has a nil value.
	Scan(prefix, after []byte, yield func(key, value []byte, version uint64) bool) error
}

// Options of a catalog.
type Options struct {
	Node string // id of this node, the writer of its records
	Now  func() time.Time
	Log  *slog.Logger
}

// Catalog holds the deployed functions of this node. Reading is a load of one pointer; changes are made one after the other and are
// visible once they are synced to disk. Safe for concurrent use.
type Catalog struct {
	store   Store
	options Options
	turn    chan struct{} // holds one token: who has it may change the catalog
	current atomic.Pointer[Snapshot]
}

// Snapshot is the catalog at one moment. It never changes.
type Snapshot struct {
	functions []*function.Function // sorted by name
	versions  map[string]uint64    // by name, tombstones included
	damaged   []string             // keys of records that could not be read
	next      chan struct{}        // closed when there is a newer one
}

// Open reads the catalog from disk. It starts nothing. A record that cannot be read is logged and left where it is: its function
// does not run, the others do.
func Open(s Store, o Options) (*Catalog, error) {
	c := &Catalog{store: s, options: o, turn: make(chan struct{}, 1)}
	first := &Snapshot{versions: map[string]uint64{}, next: make(chan struct{})}
	prefix := store.Catalog.Prefix(string(KindFunction))
	err := s.Scan(prefix, nil, func(key, value []byte, _ uint64) bool {
		name := string(key[len(prefix):])
		r, f, err := read(value)
		if err == nil && r.Key != name {
			err = fmt.Errorf("it is about %q", r.Key)
		}
		if err != nil {
			first.damaged = append(first.damaged, name)
			o.Log.Error("a deployed function cannot be read and will not run; deploy it again or remove it", "function", name, "error", err)
			return true
		}
		first.versions[name] = r.Ver
		if !r.Deleted {
			first.functions = append(first.functions, f)
		}
		return true
	})
	if err != nil {
		return nil, &function.Error{
			Op: "read", Subject: "the catalog", Class: function.ClassOf(err), Kind: function.KindOf(err), Err: err,
		}
	}
	slices.SortFunc(first.functions, byName)
	c.current.Store(first)
	c.turn <- struct{}{}
	return c, nil
}

func byName(a, b *function.Function) int { return strings.Compare(a.Name(), b.Name()) }

// body is the body of a function's record.
type body struct {
	Manifest function.Manifest `json:"manifest"`
	Module   string            `json:"module"`
	Deployed time.Time         `json:"deployed"`
	Paused   bool              `json:"paused,omitempty"`
}

func read(value []byte) (Record, *function.Function, error) {
	if value == nil {
		return Record{}, nil, errors.New("it is damaged on disk")
	}
	r, err := Decode(value)
	if err != nil || r.Deleted {
		return r, nil, err
	}
	var b body
	if err := json.Unmarshal(r.Body, &b); err != nil {
		return r, nil, err
	}
	digest, err := function.ParseDigest(b.Module)
	f := &function.Function{Manifest: b.Manifest, Module: digest, Version: r.Ver, Deployed: b.Deployed, Paused: b.Paused}
	if err == nil && f.Name() != r.Key {
		err = fmt.Errorf("its manifest is of %q", f.Name())
	}
	return r, f, err
}

// Snapshot returns the catalog as it is now. To follow it: take a snapshot, make the world like it, wait for its Next, again.
func (c *Catalog) Snapshot() *Snapshot { return c.current.Load() }

// Next is closed when there is a newer snapshot.
func (s *Snapshot) Next() <-chan struct{} { return s.next }

// List returns all functions, sorted by name. Neither the slice nor the functions may be changed.
func (s *Snapshot) List() []*function.Function { return s.functions }

// Get returns the function of that name.
func (s *Snapshot) Get(name string) (*function.Function, bool) {
	i, ok := slices.BinarySearchFunc(s.functions, name, func(f *function.Function, name string) int {
		return strings.Compare(f.Name(), name)
	})
	if !ok {
		return nil, false
	}
	return s.functions[i], true
}

// Damaged returns the names of the functions whose records could not be read.
func (s *Snapshot) Damaged() []string { return s.damaged }

// List is that of the current snapshot.
func (c *Catalog) List() []*function.Function { return c.Snapshot().List() }

// Get is that of the current snapshot.
func (c *Catalog) Get(name string) (*function.Function, bool) { return c.Snapshot().Get(name) }

// Put makes f the function of its name and returns it with its version and time of deployment, after it is synced to disk. If the same
// manifest and module are there in the same state, it changes nothing and returns what is there.
//
// It refuses, with class reject, what Check refuses. When ctx ends while the disk is
// busy, the change may still come true.
func (c *Catalog) Put(ctx context.Context, f function.Function) (*function.Function, error) {
	return c.change(ctx, "deploy", f.Name(), func(now *Snapshot, old *function.Function) (*function.Function, error) {
		if old != nil && old.Module == f.Module && old.Paused == f.Paused && reflect.DeepEqual(old.Manifest, f.Manifest) {
			return nil, errUnchanged
		}
		if err := now.Check(&f); err != nil {
			return nil, err
		}
		f.Deployed = c.options.Now().UTC().Truncate(time.Millisecond)
		return &f, nil
	})
}

// SetPaused says whether the function of that name runs. Setting what is set changes nothing. The error is of kind "not-found" if there is
// none.
func (c *Catalog) SetPaused(ctx context.Context, name string, paused bool) (*function.Function, error) {
	return c.change(ctx, "pause", name, func(_ *Snapshot, old *function.Function) (*function.Function, error) {
		if old == nil {
			return nil, notFound("pause", name)
		}
		if old.Paused == paused {
			return nil, errUnchanged
		}
		f := *old
		f.Paused = paused
		return &f, nil
	})
}

// Delete removes the function of that name, also a damaged one: a tombstone takes its place. The error is of kind "not-found" if there is none.
func (c *Catalog) Delete(ctx context.Context, name string) error {
	_, err := c.change(ctx, "remove", name, func(now *Snapshot, old *function.Function) (*function.Function, error) {
		if old == nil && !slices.Contains(now.damaged, name) {
			return nil, notFound("remove", name)
		}
		return nil, nil
	})
	return err
}

func notFound(op, name string) error {
	return &function.Error{
		Op: op, Subject: name, Class: function.ClassReject, Kind: "not-found", Err: errors.New("there is no such function"),
		Hint: "mayfly fn ls shows what is deployed",
	}
}
