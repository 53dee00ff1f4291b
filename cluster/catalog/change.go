package catalog

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"mayfly/function"
	"mayfly/store"
)

// errUnchanged is what decide says when everything is as it should be.
var errUnchanged = errors.New("unchanged")

// alteration is one step from a snapshot to the next: what is written in one batch, and what is visible once it is synced.
type alteration struct {
	put       []*entry
	drop      []ident
	conflicts []Conflict // come into being
	resolved  []ident    // conflicts about these are over
	ops       []store.Op // besides those of the above
	then      func()     // after the next snapshot is visible; must not block
}

// alter makes one step. Steps wait for their turn; the turn ends when the store has said what became of the step, also if nobody waits
// for it any more, so that no later step is built on one whose fate is open. When plan returns an error, or nothing to do, nothing is done.
func (c *Catalog) alter(ctx context.Context, plan func(now *Snapshot) (*alteration, error)) error {
	select {
	case <-c.turn:
	case <-ctx.Done():
		return ctx.Err()
	}
	now := c.Snapshot()
	a, err := plan(now)
	if err != nil || a == nil {
		c.turn <- struct{}{} // has room: this is the only token
		return err
	}
	synced := make(chan error, 1)
	err = c.store.Submit(c.ops(now, a), func(err error) {
		if err == nil {
			c.show(now, a)
		}
		c.turn <- struct{}{}
		synced <- err
	})
	if err != nil {
		c.turn <- struct{}{}
		return err
	}
	select {
	case err = <-synced:
		return err
	case <-ctx.Done():
		return fmt.Errorf("it may still come true: %w", ctx.Err())
	}
}

// ops are the changes of keys that make a step.
func (c *Catalog) ops(now *Snapshot, a *alteration) []store.Op {
	ops := a.ops
	for _, e := range a.put {
		ops = append(ops, store.Op{Key: recordKey(e.ident()), Value: e.Encode()})
		old := now.entry(e.ident())
		switch {
		case e.Deleted:
			ops = append(ops, store.Op{Key: heldKey(e.ident()), Value: binary.BigEndian.AppendUint64(nil, uint64(e.held))})
		case old != nil && old.Deleted:
			ops = append(ops, store.Op{Key: heldKey(e.ident()), Delete: true})
		}
	}
	for _, id := range a.drop {
		ops = append(ops, store.Op{Key: recordKey(id), Delete: true}, store.Op{Key: heldKey(id), Delete: true})
	}
	return append(ops, conflictOps(now.conflicts, now.conflictsAfter(a))...)
}

// show makes the snapshot that follows now. Only the holder of the turn calls it.
func (c *Catalog) show(now *Snapshot, a *alteration) {
	next := now.with(a.put, a.drop)
	next.conflicts = now.conflictsAfter(a)
	c.current.Store(next)
	if a.then != nil {
		a.then()
	}
	close(now.next)
}

// What this node keeps for itself is under the kind "", which no record has.
const (
	stateKey       = "state"
	heldPrefix     = "held"
	conflictPrefix = "conflict"
)

func recordKey(id ident) []byte { return store.Catalog.Key(string(id.kind), []byte(id.key)) }

func heldKey(id ident) []byte {
	return store.Catalog.Key("", []byte(heldPrefix+"/"+string(id.kind)+"/"+id.key))
}

func decodeHeld(b []byte) int64 {
	if len(b) != 8 {
		return 1 << 62 // unknown: held since now
	}
	return int64(binary.BigEndian.Uint64(b))
}

// decide makes the next body of a record out of the present one; nil is none.
type decide func(now *Snapshot, old *entry) (body []byte, deleted bool, err error)

// change replaces a record by what d makes of it, as this node.
func (c *Catalog) change(ctx context.Context, op string, id ident, d decide) (Record, error) {
	var out Record
	err := c.alter(ctx, func(now *Snapshot) (*alteration, error) {
		old := now.entry(id)
		b, deleted, err := d(now, old)
		if err != nil {
			if old != nil {
				out = old.Record
			}
			return nil, err
		}
		e, err := c.write(ctx, op, Record{Kind: id.kind, Key: id.key, Writer: c.options.Node, Deleted: deleted, Body: b}, old)
		if err != nil {
			return nil, err
		}
		out = e.Record
		return &alteration{
			put: []*entry{e}, resolved: []ident{id},
			then: func() { c.written(e.Record) },
		}, nil
	})
	if err != nil && !errors.Is(err, errUnchanged) {
		return Record{}, failed(op, id.key, err)
	}
	return out, nil
}

// write gives a record its version and signature.
func (c *Catalog) write(ctx context.Context, op string, r Record, old *entry) (*entry, error) {
	var err error
	if r.Ver, err = c.version(op, r, old); err != nil {
		return nil, err
	}
	if len(r.Body) > MaxBody {
		return nil, refused(op, r.Key, "manifest", fmt.Errorf("it takes %d bytes, the most is %d", len(r.Body), MaxBody), "")
	}
	if c.options.Sign != nil {
		if r.Sig, err = c.options.Sign(ctx, r); err != nil {
			return nil, refused(op, r.Key, "unsigned", err, unsignedHint)
		}
	}
	if c.options.Verify != nil {
		if err := c.options.Verify(r); err != nil {
			return nil, refused(op, r.Key, "unsigned", fmt.Errorf("the other nodes would not obey it: %w", err), unsignedHint)
		}
	}
	if err := r.check(); err != nil {
		return nil, refused(op, r.Key, "record", err, "")
	}
	e := newEntry(r)
	e.held = c.horizon.running()
	if e.fault != nil {
		return nil, refused(op, r.Key, "manifest", e.fault, "")
	}
	return e, nil
}

const unsignedHint = "give an operator's key to the command line: --signing-key FILE; or do it on the node where one is"

// changeFunction replaces the function of that name by what d makes of it; nil removes it.
func (c *Catalog) changeFunction(ctx context.Context, op, name string,
	d func(now *Snapshot, old *function.Function) (*function.Function, error),
) (*function.Function, error) {
	r, err := c.change(ctx, op, ident{KindFunction, name}, func(now *Snapshot, old *entry) ([]byte, bool, error) {
		f, err := d(now, now.deployed(name))
		if err != nil {
			return nil, false, err
		}
		var replaces uint64
		if old != nil {
			replaces = old.Ver
		}
		if f == nil {
			b, err := json.Marshal(map[string]uint64{"replaces": replaces})
			return b, true, err
		}
		b, err := json.Marshal(body{f.Manifest, f.Module.String(), f.Deployed, f.Paused, replaces, canaryOf(f)})
		if err != nil {
			err = refused(op, name, "manifest", err, "")
		}
		return b, false, err
	})
	if err != nil || r.Deleted {
		return nil, err
	}
	if e := c.Snapshot().entry(ident{KindFunction, name}); e != nil && e.Ver == r.Ver && e.function != nil {
		return e.function, nil
	}
	return readFunction(r) // somebody changed it since
}

func refused(op, subject, kind string, err error, hint string) error {
	return &function.Error{Op: op, Subject: subject, Class: function.ClassReject, Kind: kind, Err: err, Hint: hint}
}

// failed gives an error its operation, unless it has one already.
func failed(op, name string, err error) error {
	if e, ok := errors.AsType[*function.Error](err); ok && e.Op == op {
		return e
	}
	return &function.Error{Op: op, Subject: name, Class: function.ClassOf(err), Kind: function.KindOf(err), Err: err}
}
