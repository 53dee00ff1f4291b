package secret

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"sync"

	"mayfly/function"
	"mayfly/store"
)

// Records are the boxes that the catalog carries. They are there when they were ordered by somebody who may, and signed by him.
type Records interface {
	// Names are those of all boxes, sorted; changed is closed when there may be others, or other ones.
	Names() (names []string, changed <-chan struct{})
	// Get returns a box and what tells this one from those before. It is cheap, and body is not to be changed.
	Get(name string) (body []byte, version Version, ok bool)
	// Set and Remove change the catalog, durably, as an order of an operator.
	Set(ctx context.Context, name string, body []byte) error
	Remove(ctx context.Context, name string) error
}

// Version tells one box from those of the same name before it.
type Version struct {
	Ver    uint64
	Writer string
}

// Peers are the other nodes, as calls with certificates reach them: who answers is who was asked.
type Peers interface {
	// Live are the ids of the other members that can be called now; changed is closed when there may be others.
	Live() (nodes []string, changed <-chan struct{})
	// Ask brings a request to the vault of a node and its answer back.
	Ask(ctx context.Context, node string, request []byte) ([]byte, error)
}

// Notes are this node's own, on its disk.
type Notes interface {
	Submit(ops []store.Op, done func(error)) error
	Scan(prefix, after []byte, yield func(key, value []byte, version uint64) bool) error
}

// Config of a vault. What is marked optional may be left zero.
type Config struct {
	Node    string // id of this node
	Key     *Key
	Records Records
	Peers   Peers // optional: nil on a node that is alone
	Notes   Notes
	Log     *slog.Logger
}

// Vault reads and changes the secrets of a node. Values are in its memory and in that of the functions that were given them, and
// nowhere else [I7]. Safe for concurrent use.
type Vault struct {
	cfg Config

	mu     sync.RWMutex
	opened map[string]opened
	kept   map[string]kept
}

// opened is a value that was read. It is not to be changed.
type opened struct {
	version Version
	value   []byte
	err     error
}

// kept is a share that another node passed on, as it is on disk: sealed to this node's key.
type kept struct {
	Mark  []byte `json:"mark"`
	Share Share  `json:"share"`
}

func keptKey(name string) []byte { return store.Trigger.Key("", []byte("secret/"+name)) }

// Open makes the vault of a node from what is on its disk. It starts nothing.
func Open(c Config) (*Vault, error) {
	v := &Vault{cfg: c, opened: map[string]opened{}, kept: map[string]kept{}}
	prefix := keptKey("")
	err := c.Notes.Scan(prefix, nil, func(key, value []byte, _ uint64) bool {
		var k kept
		if json.Unmarshal(value, &k) == nil { // a damaged one is asked for again
			v.kept[string(key[len(prefix):])] = k
		}
		return true
	})
	return v, err
}

// Read returns the value of a secret; ok is false when there is none of that name. An error means that there is one which this node
// cannot read yet: it is worth a retry. The value must not be changed.
func (v *Vault) Read(name string) (value []byte, ok bool, err error) {
	body, version, ok := v.cfg.Records.Get(name)
	if !ok {
		return nil, false, nil
	}
	v.mu.RLock()
	o, known := v.opened[name]
	v.mu.RUnlock()
	if !known || o.version != version {
		o = v.open(name, body, version)
	}
	return o.value, true, o.err
}

// open opens a box and remembers the value. That it cannot be opened is not remembered: a share may come at any moment.
func (v *Vault) open(name string, body []byte, version Version) opened {
	o := opened{version: version}
	b, err := Decode(body)
	if err == nil {
		o.value, err = b.Open(name, v.cfg.Node, v.cfg.Key, v.share(name, b)...)
	}
	if err != nil {
		o.err = &function.Error{
			Op: "read", Subject: "secret " + name, Class: function.ClassRetry, Kind: "sealed", Err: err,
			Hint: "it is asked of the other nodes; or set it again: mayfly secret set " + name,
		}
		return o
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.opened[name] = o
	return o
}

// share returns the share of a box that was passed to this node, if one was.
func (v *Vault) share(name string, b *Box) []Share {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if k, ok := v.kept[name]; ok && bytes.Equal(k.Mark, b.Mark) {
		return []Share{k.Share}
	}
	return nil
}

// Sealed is to whom a value was sealed.
type Sealed struct {
	Nodes []string // ids
	Later []string // they did not say what their keys are: other nodes pass it to them
}

// Set seals value to this node and all others that can be asked for their keys now, and orders it. When it returns it is durable here; the
// others have it when the catalog has come to them. One that was away, or joins later, or has another key by then, is passed it by a
// node that can read it.
func (v *Vault) Set(ctx context.Context, name string, value []byte) (Sealed, error) {
	to := []Recipient{{v.cfg.Node, v.cfg.Key.Public()}}
	var s Sealed
	if v.cfg.Peers != nil {
		keys, later := v.keys(ctx)
		to, s.Later = append(to, keys...), later
	}
	b, err := Seal(name, value, to)
	if err != nil {
		return s, &function.Error{Op: "set", Subject: "secret " + name, Class: function.ClassReject, Kind: "invalid", Err: err}
	}
	body, err := b.Encode()
	if err == nil {
		err = v.cfg.Records.Set(ctx, name, body)
	}
	for _, share := range b.Shares {
		s.Nodes = append(s.Nodes, share.Node)
	}
	return s, err
}

// Remove makes a secret be gone. It is of kind "not-found" if there is none.
func (v *Vault) Remove(ctx context.Context, name string) error {
	if _, _, ok := v.cfg.Records.Get(name); !ok {
		return &function.Error{
			Op: "remove", Subject: "secret " + name, Class: function.ClassReject, Kind: "not-found", Err: errors.New("there is no such secret"),
			Hint: "mayfly secret ls",
		}
	}
	return v.cfg.Records.Remove(ctx, name)
}

// Status is what is known here of a secret.
type Status struct {
	Name    string
	Version Version
	Nodes   []string // ids of those it was sealed to when it was set
	Bytes   int      // of the value; 0 when it cannot be read here
	Err     error    // why it cannot be read here
}

// List returns all secrets without their values, sorted by name.
func (v *Vault) List() []Status {
	names, _ := v.cfg.Records.Names()
	all := make([]Status, 0, len(names))
	for _, name := range names {
		body, version, ok := v.cfg.Records.Get(name)
		if !ok {
			continue
		}
		s := Status{Name: name, Version: version}
		if b, err := Decode(body); err == nil {
			for _, share := range b.Shares {
				s.Nodes = append(s.Nodes, share.Node)
			}
		}
		value, _, err := v.Read(name)
		s.Bytes, s.Err = len(value), err
		all = append(all, s)
	}
	return all
}

// forget drops what is known of secrets that are gone, from memory and from disk.
func (v *Vault) forget(names []string) error {
	v.mu.Lock()
	var ops []store.Op
	for name := range v.opened {
		if !slices.Contains(names, name) {
			delete(v.opened, name)
		}
	}
	for name := range v.kept {
		if !slices.Contains(names, name) {
			delete(v.kept, name)
			ops = append(ops, store.Op{Key: keptKey(name), Delete: true})
		}
	}
	v.mu.Unlock()
	return v.write(ops)
}

// write returns when ops are synced.
func (v *Vault) write(ops []store.Op) error {
	if len(ops) == 0 {
		return nil
	}
	synced := make(chan error, 1)
	if err := v.cfg.Notes.Submit(ops, func(err error) { synced <- err }); err != nil {
		return err
	}
	return <-synced
}
