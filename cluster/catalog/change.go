package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"mayfly/function"
	"mayfly/store"
)

// errUnchanged is what decide says when everything is as it should be.
var errUnchanged = errors.New("unchanged")

// decide makes the next state of a function out of the present one; nil is none.
type decide func(now *Snapshot, old *function.Function) (*function.Function, error)

// change replaces the function of that name by what d makes of it.
// Changes wait for their turn; the turn ends when the store has said what became of the change, also if nobody waits for it
// any more, so that no later change is built on one whose fate is open.
func (c *Catalog) change(ctx context.Context, op, name string, d decide) (*function.Function, error) {
	select {
	case <-c.turn:
	case <-ctx.Done():
		return nil, failed(op, name, ctx.Err())
	}
	now := c.Snapshot()
	f, r, err := c.prepare(op, name, now, d)
	if err != nil {
		c.turn <- struct{}{}
		if old, _ := now.Get(name); errors.Is(err, errUnchanged) {
			return old, nil
		}
		return nil, err
	}
	synced := make(chan error, 1)
	ops := []store.Op{{Key: store.Catalog.Key(string(r.Kind), []byte(r.Key)), Value: r.Encode()}}
	err = c.store.Submit(ops, func(err error) {
		if err == nil {
			c.show(now, name, f, r.Ver)
		}
		c.turn <- struct{}{} // has room: this is the only token
		synced <- err
	})
	if err != nil {
		c.turn <- struct{}{}
		return nil, failed(op, name, err)
	}
	select {
	case err = <-synced:
	case <-ctx.Done():
		err = fmt.Errorf("it may still come true: %w", ctx.Err())
	}
	if err != nil {
		return nil, failed(op, name, err)
	}
	return f, nil
}

// prepare decides on a change and makes its record.
func (c *Catalog) prepare(op, name string, now *Snapshot, d decide) (*function.Function, Record, error) {
	old, _ := now.Get(name)
	f, err := d(now, old)
	if err != nil {
		return nil, Record{}, err
	}
	r := Record{
		Kind: KindFunction, Key: name, Ver: NextVersion(now.versions[name], c.options.Now()), Writer: c.options.Node, Deleted: f == nil,
	}
	if f == nil {
		return nil, r, nil
	}
	f.Version = r.Ver
	r.Body, err = json.Marshal(body{Manifest: f.Manifest, Module: f.Module.String(), Deployed: f.Deployed, Paused: f.Paused})
	if err == nil && len(r.Body) > MaxBody {
		err = fmt.Errorf("its manifest takes %d bytes, the most is %d", len(r.Body), MaxBody)
	}
	if err != nil {
		return nil, Record{}, &function.Error{Op: op, Subject: name, Class: function.ClassReject, Kind: "manifest", Err: err}
	}
	return f, r, nil
}

// show makes the snapshot that follows now. Only the holder of the turn calls it.
func (c *Catalog) show(now *Snapshot, name string, f *function.Function, ver uint64) {
	next := &Snapshot{
		versions: maps.Clone(now.versions),
		damaged:  slices.DeleteFunc(slices.Clone(now.damaged), func(s string) bool { return s == name }),
		next:     make(chan struct{}),
	}
	next.versions[name] = ver
	for _, other := range now.functions {
		if other.Name() != name {
			next.functions = append(next.functions, other)
		}
	}
	if f != nil {
		next.functions = append(next.functions, f)
		slices.SortFunc(next.functions, byName)
	}
	c.current.Store(next)
	close(now.next)
}

func failed(op, name string, err error) error {
	return &function.Error{Op: op, Subject: name, Class: function.ClassOf(err), Kind: function.KindOf(err), Err: err}
}
