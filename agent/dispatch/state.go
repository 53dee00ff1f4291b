package dispatch

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"time"

	"mayfly/function"
	"mayfly/store"
)

// state is a function's committed state as its calls see it.
type state struct {
	store Store
	name  string
	held  *ledger
	now   func() time.Time
}

var _ function.State = (*state)(nil)

// Get returns a value and its version.
func (s *state) Get(key []byte) ([]byte, uint64, error) {
	return s.store.Get(store.State.Key(s.name, key))
}

// List yields keys in order.
func (s *state) List(prefix, cursor []byte, yield func(key []byte) bool) error {
	base := store.State.Prefix(s.name)
	var after []byte
	if len(cursor) > 0 {
		after = append(append([]byte(nil), base...), cursor...)
	}
	return s.store.Scan(append(append([]byte(nil), base...), prefix...), after, func(key, _ []byte, _ uint64) bool {
		return yield(key[len(base):])
	})
}

// Usage returns the bytes of all keys and values.
func (s *state) Usage() (int64, error) { return s.held.usage(s.store, s.name, s.now()) }

func stateOps(name string, writes []function.StateWrite) []store.Op {
	ops := make([]store.Op, 0, len(writes)+4)
	for i := range writes {
		w := &writes[i]
		ops = append(ops, store.Op{
			Key: store.State.Key(name, w.Key), Value: w.Value, Delete: w.Delete, TTL: w.TTL, Checked: w.Checked, Expect: w.Expect,
		})
	}
	return ops
}

// A done mark remembers that a function with state has dealt with an event, so that the same event delivered again is
// acknowledged without running ([D4]). It is keyed by the sender's own message id where the manifest says how to find it; else
// by the broker's redelivery evidence, session and packet id, and holds a hash of topic and payload. A packet id is in use for
// one message at a time, so its mark is overwritten by the next one; marks expire after Config.Dedupe of running time.

// handled says whether t was dealt with before. Only functions with state ask: for others a repetition is allowed and cheaper.
func (d *Dispatcher) handled(f *function.Function, t *task) bool {
	key, value := d.mark(f, t)
	if key == nil || value != nil && !t.ev.Dup {
		return false
	}
	found, version, err := d.dep.Store.Get(key)
	return err == nil && version != 0 && found != nil && (value == nil || string(found) == string(value))
}

// markOps makes t known as handled, and those it stands for.
func (d *Dispatcher) markOps(f *function.Function, t *task) []store.Op {
	key, value := d.mark(f, t)
	if key == nil {
		return t.besides
	}
	if value == nil {
		value = []byte{1}
	}
	return append(slices.Clone(t.besides), store.Op{Key: key, Value: value, TTL: d.cfg.Dedupe})
}

// mark returns the key of t's done mark, and the evidence to compare; nil evidence means that the key says it all.
func (d *Dispatcher) mark(f *function.Function, t *task) (key, evidence []byte) {
	if f == nil || f.Manifest.State.Scope == function.ScopeNone || f.Manifest.State.Scope == "" || t.sync {
		return nil, nil
	}
	if t.route.ID != nil && t.ev != nil {
		if id, ok := t.route.ID(t.ev); ok && id != "" {
			return store.Done.Key(f.Name(), []byte("id/"+id)), nil
		}
	}
	if t.ev == nil || t.ev.Delivery.Session == "" {
		return nil, nil
	}
	h := sha256.New()
	h.Write([]byte(t.ev.Topic))
	h.Write([]byte{0})
	h.Write(t.ev.Data)
	if fence := t.ev.Delivery.Fence; fence != 0 && d.changelog(f) == nil {
		h.Write(binary.BigEndian.AppendUint64(nil, fence)) // another node may have used the packet id meanwhile, for an equal reading
	}
	packet := binary.BigEndian.AppendUint16([]byte("at/"+t.ev.Delivery.Session+"/"), t.ev.Delivery.PacketID)
	return store.Done.Key(f.Name(), packet), h.Sum(nil)[:16]
}

// laneHash names a lane: 0 means no order. Two keys that share a hash share a lane, which keeps every promise.
func laneHash(key string) uint64 {
	h := uint64(14695981039346656037) // FNV-1a
	for i := range len(key) {
		h = (h ^ uint64(key[i])) * 1099511628211
	}
	return max(1, h)
}
