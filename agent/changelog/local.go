package changelog

import (
	"bytes"
	"cmp"
	"slices"
	"time"

	"mayfly/function"
	"mayfly/store"
)

// local is what this node's store holds of a changelog.
type local struct {
	head Head
	ring []Record // in order
	tip  Stamp
	half bool
}

// load reads it. The records of commits are written with the commits, so the latest one says what the state is.
func (l *Log) load() (*local, error) {
	out := &local{}
	if value, version, err := l.Store.Get(l.headKey()); err != nil {
		return nil, err
	} else if version != 0 {
		if out.head, err = DecodeHead(value); err != nil {
			return nil, err
		}
	}
	_, version, err := l.Store.Get(l.halfKey())
	if err != nil {
		return nil, err
	}
	out.half = version != 0
	err = l.Store.Scan(append(Prefix(l.Function), "slot/"...), nil, func(_, value []byte, _ uint64) bool {
		if r, err := DecodeRecord(bytes.Clone(value)); err == nil {
			out.ring = append(out.ring, r)
		}
		return true
	})
	slices.SortFunc(out.ring, func(a, b Record) int { return cmp.Or(cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.Seq, b.Seq)) })
	if n := len(out.ring); n > 0 {
		out.tip = out.ring[n-1].Stamp
	}
	if s := out.head.Latest(); out.tip.Epoch < s.Epoch && out.head.Node == l.Node {
		out.tip = Stamp{Version{s.Epoch, s.Base}, s.Writer} // nothing was committed since this node began
	}
	return out, err
}

// after returns the commits after seq; false when they are not all there.
func (o *local) after(seq uint64) ([]Record, bool) {
	if seq >= o.tip.Seq {
		return nil, true
	}
	var missing []Record
	for _, r := range o.ring {
		if r.Seq > seq {
			missing = append(missing, r)
		}
	}
	return missing, uint64(len(missing)) == o.tip.Seq-seq
}

// adopt makes this node's copy the broker's: state, done marks and commits. While it is at it the copy is marked as half.
func (l *Log) adopt(m *Image) error {
	now := time.Now()
	b := &batcher{log: l, ops: []store.Op{{Key: l.halfKey(), Value: []byte{1}}}}
	wanted := map[string]*Entry{}
	for key, e := range m.Values {
		if !e.Delete && (e.Expires == 0 || e.Expires > now.UnixMilli()) {
			wanted[string(store.State.Key(l.Function, []byte(key)))] = &e
		}
	}
	if err := b.drop(store.State.Prefix(l.Function), func(key string) bool { return wanted[key] == nil }); err != nil {
		return err
	}
	for _, prefix := range [][]byte{store.Done.Prefix(l.Function), append(Prefix(l.Function), "slot/"...)} {
		if err := b.drop(prefix, func(string) bool { return true }); err != nil {
			return err
		}
	}
	for key, e := range wanted {
		op := store.Op{Key: []byte(key), Value: e.Value}
		if e.Expires != 0 {
			op.TTL = time.Duration(e.Expires-now.UnixMilli()) * time.Millisecond
		}
		if err := b.add(op); err != nil {
			return err
		}
	}
	for key, value := range m.Marks() {
		if err := b.add(store.Op{Key: store.Done.Key(l.Function, []byte(key)), Value: value, TTL: markLasts}); err != nil {
			return err
		}
	}
	for i := range m.Ring {
		if err := b.add(store.Op{Key: l.slotKey(m.Ring[i].Seq), Value: m.Ring[i].Encode()}); err != nil {
			return err
		}
	}
	l.mu.Lock()
	l.generation++ // whoever read what was here before is not to commit
	l.mu.Unlock()
	if err := b.add(store.Op{Key: l.halfKey(), Delete: true}, store.Op{Key: l.headKey(), Value: m.Head.Encode()}); err != nil {
		return err
	}
	return b.flush()
}

// markLasts is how long an event is remembered that another node has dealt with.
const markLasts = 24 * time.Hour

// batcher commits many changes, some at a time.
type batcher struct {
	log  *Log
	ops  []store.Op
	size int
}

const (
	batchOps   = 500
	batchBytes = 256 << 10
)

func (b *batcher) add(ops ...store.Op) error {
	for _, op := range ops {
		b.size += len(op.Key) + len(op.Value)
	}
	if b.ops = append(b.ops, ops...); len(b.ops) < batchOps && b.size < batchBytes {
		return nil
	}
	return b.flush()
}

func (b *batcher) flush() error {
	ops := b.ops
	b.ops, b.size = nil, 0
	return b.log.commit(ops)
}

// drop deletes the keys with a prefix that are unwanted.
func (b *batcher) drop(prefix []byte, unwanted func(key string) bool) error {
	var gone []store.Op
	err := b.log.Store.Scan(prefix, nil, func(key, _ []byte, _ uint64) bool {
		if unwanted(string(key)) {
			gone = append(gone, store.Op{Key: bytes.Clone(key), Delete: true})
		}
		return true
	})
	for _, op := range gone {
		if err := b.add(op); err != nil {
			return err
		}
	}
	return err
}

// commit returns when ops are synced. While the disk has no room it is asked again, for a while.
func (l *Log) commit(ops []store.Op) error {
	synced := make(chan error, 1)
	for attempt := 0; ; attempt++ {
		err := l.Store.Submit(ops, func(err error) { synced <- err })
		switch {
		case err == nil:
			return <-synced
		case function.ClassOf(err) != function.ClassOverload || attempt == 50:
			return err
		}
		<-time.After(sendAgain)
	}
}
