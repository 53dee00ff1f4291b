package catalog

import (
	"context"
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

// Options of a catalog. What is marked optional may be left zero.
type Options struct {
	Node string // id of this node, the writer of its records
	Now  func() time.Time
	Log  *slog.Logger

	// Horizon is how long tombstones are kept, in running time: 30 days unless given. A node may be away for that long without
	// anybody asking what it missed.
	Horizon time.Duration
	// Built is when this program was built: a clock before that is not set. Optional.
	Built time.Time
	// Verify says whether a record is one to obey: signed by who may order such a thing. Without it everything is obeyed that came
	// by a call of another member; gossip alone is never believed. Safe for concurrent use. Optional.
	Verify func(Record) error
	// Sign returns the signature of a record this node is about to write, over Record.Signed. Optional; needed with Verify.
	Sign func(context.Context, Record) ([]byte, error)
}

// Catalog is one node's copy of what should be. Reading is a load of one pointer; changes are made one after the other and are
// visible once they are synced to disk [C1]. Safe for concurrent use.
type Catalog struct {
	store   Store
	options Options
	turn    chan struct{} // holds one token: who has it may change the catalog
	current atomic.Pointer[Snapshot]
	clocks  clocks
	horizon horizon
	counts  counts
	written func(Record) // told after a change made here; set before anything runs
}

// Open reads the catalog from disk. It starts nothing. A record that cannot be read is logged and left where it is: its function
// does not run, the others do.
func Open(s Store, o Options) (*Catalog, error) {
	c := &Catalog{store: s, options: o, turn: make(chan struct{}, 1), written: func(Record) {}}
	c.clocks.built = o.Built
	if c.options.Horizon == 0 {
		c.options.Horizon = month
	}
	c.horizon.limit = c.options.Horizon
	l := &loading{Catalog: c, held: map[ident]int64{}, broken: map[ident]string{}}
	if err := s.Scan(store.Catalog.All(), nil, l.take); err != nil {
		return nil, &function.Error{
			Op: "read", Subject: "the catalog", Class: function.ClassOf(err), Kind: function.KindOf(err), Err: err,
		}
	}
	c.current.Store(l.snapshot())
	c.turn <- struct{}{}
	return c, nil
}

// Snapshot returns the catalog as it is now. To follow it: take a snapshot, make the world like it, wait for its Next, again.
func (c *Catalog) Snapshot() *Snapshot { return c.current.Load() }

// List is that of the current snapshot.
func (c *Catalog) List() []*function.Function { return c.Snapshot().List() }

// Get is that of the current snapshot.
func (c *Catalog) Get(name string) (*function.Function, bool) { return c.Snapshot().Get(name) }

// Put makes f the function of its name and returns it with its version and time of deployment, after it is synced to disk. If the same
// manifest and module are there in the same state, it changes nothing and returns what is there.
//
// It refuses, with class reject, what Check refuses, and whatever an operator must not change now: see Set. When ctx ends while the
// disk is busy, the change may still come true.
func (c *Catalog) Put(ctx context.Context, f function.Function) (*function.Function, error) {
	return c.changeFunction(ctx, "deploy", f.Name(), func(now *Snapshot, old *function.Function) (*function.Function, error) {
		if old != nil && old.Module == f.Module && old.Paused == f.Paused && old.Canary == nil && reflect.DeepEqual(old.Manifest, f.Manifest) {
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
	return c.changeFunction(ctx, "pause", name, func(_ *Snapshot, old *function.Function) (*function.Function, error) {
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
	_, err := c.changeFunction(ctx, "remove", name, func(now *Snapshot, old *function.Function) (*function.Function, error) {
		if old == nil && !slices.Contains(now.Damaged(), name) {
			return nil, notFound("remove", name)
		}
		return nil, nil
	})
	return err
}

// Set makes body that of a record and returns the record after it is synced to disk. If it is there, nothing changes. Functions have a
// method of their own.
//
// Like every change by an operator it is refused, with class reject and a hint, while this node's clock cannot be trusted and it has
// company (kind "clock"), and when nobody here can sign for what the cluster asks to be signed (kind "unsigned").
func (c *Catalog) Set(ctx context.Context, kind Kind, key string, body []byte) (Record, error) {
	return c.change(ctx, "set", ident{kind, key}, func(_ *Snapshot, old *entry) ([]byte, bool, error) {
		if old != nil && !old.Deleted && string(old.Body) == string(body) {
			return nil, false, errUnchanged
		}
		return body, false, nil
	})
}

// Remove puts a tombstone in a record's place. The error is of kind "not-found" if there is none.
func (c *Catalog) Remove(ctx context.Context, kind Kind, key string) error {
	_, err := c.change(ctx, "remove", ident{kind, key}, func(_ *Snapshot, old *entry) ([]byte, bool, error) {
		if old == nil || old.Deleted {
			return nil, false, notFound("remove", key)
		}
		return nil, true, nil
	})
	return err
}

// Founded says that this node has just made the cluster: nothing was deleted in it before. Who joins learns that from here; without it a new
// site would take a whole horizon to be sure that nobody knows more. It is synced when Founded returns.
func (c *Catalog) Founded(ctx context.Context) error {
	now := c.options.Now()
	if !c.clocks.trust(now).good() {
		return nil // it would be a mark of another time
	}
	return c.alter(ctx, func(*Snapshot) (*alteration, error) {
		op, then, err := c.horizon.saved(marks{synced: versionAt(now)})
		return &alteration{ops: []store.Op{op}, then: then}, err
	})
}

func notFound(op, name string) error {
	return &function.Error{
		Op: op, Subject: name, Class: function.ClassReject, Kind: "not-found", Err: errors.New("there is no such function"),
		Hint: "mayfly fn ls shows what is deployed",
	}
}

// loading collects what is on disk.
type loading struct {
	*Catalog
	entries   []*entry
	held      map[ident]int64
	broken    map[ident]string
	conflicts []Conflict
}

// take looks at one key of the catalog's space; it never stops the scan.
func (l *loading) take(key, value []byte, _ uint64) bool {
	_, kind, rest, ok := store.SplitKey(key)
	switch {
	case !ok:
	case kind == "":
		l.own(string(rest), value)
	default:
		id := ident{Kind(kind), string(rest)}
		e, err := l.read(id, value)
		if err == nil {
			l.entries = append(l.entries, e)
			err = e.fault
		} else {
			l.broken[id] = err.Error()
		}
		if err != nil {
			l.options.Log.Error("a record of the catalog cannot be read and has no effect; deploy the function again or remove it",
				"kind", kind, "name", id.key, "error", err)
		}
	}
	return true
}

func (l *loading) read(id ident, value []byte) (*entry, error) {
	if value == nil {
		return nil, errors.New("it is damaged on disk")
	}
	r, err := Decode(value)
	switch {
	case err != nil:
		return nil, err
	case r.Key != id.key || r.Kind != id.kind:
		return nil, fmt.Errorf("it is about %q", r.Key)
	case l.options.Verify != nil:
		if err := l.options.Verify(r); err != nil {
			return nil, fmt.Errorf("nobody whom this cluster trusts has signed it: %w", err)
		}
	}
	return newEntry(r), nil
}

// own takes what this node keeps for itself, under the kind "".
func (l *loading) own(rest string, value []byte) {
	if rest == stateKey {
		l.horizon.load(value, l.options.Log)
		return
	}
	what, name, _ := strings.Cut(rest, "/")
	kind, key, _ := strings.Cut(name, "/")
	id := ident{Kind(kind), key}
	switch what {
	case heldPrefix:
		l.held[id] = decodeHeld(value)
	case conflictPrefix:
		if conflict, err := decodeConflict(value); err == nil {
			l.conflicts = append(l.conflicts, conflict)
		}
	}
}

func (l *loading) snapshot() *Snapshot {
	for _, e := range l.entries {
		e.held = l.horizon.running() // since when is not known: from now on
		if at, ok := l.held[e.ident()]; ok {
			e.held = min(at, e.held)
		}
	}
	s := emptySnapshot()
	s.broken = l.broken
	s.conflicts = bounded(l.conflicts)
	return s.with(l.entries, nil)
}
