package changelog

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"mayfly/event"
	"mayfly/store"
)

// Open begins to make this node's copy the one that counts, under the epoch of its claim on the trigger: it is to be called when the broker
// has cut off whoever had the trigger before. What fails is tried again until Close.
func (l *Log) Open(claim uint64) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	l.mu.Lock()
	l.cancel, l.ended = cancel, ended
	l.why = errors.New("the state is being restored from the broker")
	l.mu.Unlock()
	go func() {
		defer close(ended)
		l.opening.Lock()
		defer l.opening.Unlock()
		for ctx.Err() == nil {
			err := l.attempt(ctx, claim)
			if ctx.Err() != nil {
				return
			}
			l.shut(err)
			l.Log.Warn("the state of a function is not here", "function", l.Function, "err", err, "retry", l.Again)
			select {
			case <-time.After(l.Again):
			case <-ctx.Done():
			}
		}
	}()
}

// Rest closes the log and waits, for so long at most, until what was taken is confirmed. It is for who still has the trigger and is about to
// leave it: nobody else can begin before that.
func (l *Log) Rest(most time.Duration) {
	l.mu.Lock()
	was := l.open
	l.resting, l.open = l.open, false
	var idle chan struct{}
	if l.waiting > 0 {
		idle = make(chan struct{})
		l.idle = idle
	}
	l.mu.Unlock()
	if was {
		l.Changed()
	}
	if was && idle != nil {
		late := time.NewTimer(most)
		defer late.Stop()
		select {
		case <-idle:
		case <-late.C:
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.resting, l.idle = false, nil
}

// Close ends it: from its return on no commit is taken. What was taken is still confirmed.
func (l *Log) Close() {
	l.shut(nil)
	l.mu.Lock()
	cancel, ended := l.cancel, l.ended
	l.mu.Unlock()
	cancel()
	if ended != nil {
		<-ended
	}
	l.shut(nil)
}

func (l *Log) shut(why error) {
	l.mu.Lock()
	was := l.open
	l.open, l.why = false, why
	l.mu.Unlock()
	if was {
		l.Changed()
	}
}

// attempt opens the log and keeps listening until ctx ends or somebody else has it. It returns why it is not open any more.
func (l *Log) attempt(ctx context.Context, claim uint64) error {
	r, err := newReader(l)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	listening := make(chan struct{})
	go func() {
		defer close(listening)
		_ = r.sub.Run(ctx, r) // always nil: it ends with ctx
	}()
	defer func() { cancel(nil); <-listening }()
	began := time.Now()
	seen, err := r.read(ctx)
	if err != nil {
		return err
	}
	image, stale, err := l.image(seen)
	if err != nil {
		return err
	}
	verdict, err := l.settle(ctx, claim, &image)
	if err != nil {
		return err
	}
	l.mu.Lock()
	l.open, l.why = true, nil
	l.superseded = cancel
	keys, epoch, seq := len(l.keys), l.head.Latest().Epoch, l.seq
	l.mu.Unlock()
	l.Log.Info("state opened", "function", l.Function, "copy", verdict, "keys", keys, "epoch", epoch, "commit", seq, "took", time.Since(began).Round(time.Millisecond))
	for _, topic := range stale {
		l.hear(topic, seen[topic])
	}
	r.live()
	l.Changed()
	<-ctx.Done()
	return context.Cause(ctx)
}

// settle makes this node's copy and the broker's the same.
func (l *Log) settle(ctx context.Context, claim uint64, m *Image) (Verdict, error) {
	local, err := l.load()
	if err != nil {
		return Wait, err
	}
	verdict := Decide(m, Local{l.Node, local.tip, local.half})
	switch verdict {
	case Wait:
		return verdict, fmt.Errorf("the copy at the broker is in pieces, and this node has none; the last one to write it: %s", cmp.Or(m.Head.Node, "unknown"))
	case Adopt:
		if err := l.adopt(m); err != nil {
			return verdict, err
		}
		return verdict, l.begin(ctx, claim, m, m.Reached(), m.Ring)
	case Keep:
	}
	base := &m.Head
	if !m.Exists() || local.tip.Epoch > m.Head.Latest().Epoch {
		base = &local.head
	}
	if !m.Exists() || m.Head.Partial || base == &local.head {
		return verdict, l.renew(ctx, claim, base, m, local)
	}
	if missing, ok := local.after(m.Reached()); ok {
		return verdict, l.catchUp(ctx, claim, m, local, missing)
	}
	return verdict, l.renew(ctx, claim, base, m, local)
}

// catchUp publishes the commits that were made here and are not at the broker: as they would have been.
func (l *Log) catchUp(ctx context.Context, claim uint64, m *Image, local *local, missing []Record) error {
	var msgs []event.Message
	for i := range missing {
		msgs = append(msgs, l.messages(&missing[i], missing[i].Encode())...)
		for _, w := range missing[i].Writes {
			m.take(Entry{missing[i].Stamp, w})
		}
	}
	if err := l.deliver(ctx, msgs); err != nil {
		return err
	}
	return l.begin(ctx, claim, m, max(m.Reached(), local.tip.Seq), local.ring)
}

// begin puts this node's epoch on top of the history, unless it is that already, and takes commits from number seq on, behind those of ring.
func (l *Log) begin(ctx context.Context, claim uint64, m *Image, seq uint64, ring []Record) error {
	keys := map[string]string{}
	for key, e := range m.Values {
		if !e.Delete {
			keys[l.keyTopic(e.Key)] = key
		}
	}
	if err := l.deliver(ctx, l.entries(m.Behind)); err != nil { // before their commits leave the ring
		return err
	}
	next := m.Head
	if next.Node != l.Node || next.Claim != claim {
		next = m.Head.with(l.Node, claim, Span{max(claim, m.Head.Latest().Epoch+1), random(), seq})
		next.Keys = uint64(len(keys))
		if err := l.publishHead(ctx, &next); err != nil {
			return err
		}
	}
	return l.start(start{claim, next, seq, keys, ring})
}

// renew publishes the whole copy, because the broker has none or one that is older than this node can tell. Until it is done nobody else
// can take it over.
func (l *Log) renew(ctx context.Context, claim uint64, base *Head, m *Image, local *local) error {
	seq := max(m.Reached(), local.tip.Seq)
	epoch := max(claim, base.Latest().Epoch+1, m.Head.Latest().Epoch+1, local.tip.Epoch+1)
	next := base.with(l.Node, claim, Span{epoch, random(), seq})
	next.First, next.Partial = seq+1, true
	if err := l.publishHead(ctx, &next); err != nil {
		return err
	}
	stamp := Stamp{Version{epoch, seq}, next.Latest().Writer}
	keys := map[string]string{}
	msgs, err := l.everything(stamp, keys)
	if err != nil {
		return err
	}
	for _, e := range m.Values {
		if topic := l.keyTopic(e.Key); !e.Delete && keys[topic] == "" {
			msgs = append(msgs, l.message(topic, nil))
		}
	}
	for slot := range uint64(Slots) {
		msgs = append(msgs, l.message(l.slotTopic(slot), nil))
	}
	if err := l.deliver(ctx, msgs); err != nil {
		return err
	}
	next.Partial, next.Keys = false, uint64(len(keys))
	if err := l.publishHead(ctx, &next); err != nil {
		return err
	}
	return l.start(start{claim, next, seq, keys, local.ring})
}

// everything is an entry for every key there is, which it adds to keys.
func (l *Log) everything(stamp Stamp, keys map[string]string) (msgs []event.Message, err error) {
	base := len(store.State.Prefix(l.Function))
	err = l.Store.Scan(store.State.Prefix(l.Function), nil, func(key, value []byte, version uint64) bool {
		if version == 0 {
			return true // damaged: the store has counted it
		}
		e := Entry{stamp, Write{Key: slices.Clone(key[base:]), Value: value}}
		m := l.message(l.keyTopic(e.Key), e.Encode())
		keys[m.Topic] = string(e.Key)
		msgs = append(msgs, m)
		return true
	})
	if err == nil {
		err = l.Outbox.Check(msgs)
	}
	return msgs, err
}

func (l *Log) entries(all []Entry) (msgs []event.Message) {
	for i := range all {
		m := l.message(l.keyTopic(all[i].Key), nil)
		if !all[i].Delete {
			m.Data = all[i].Encode()
		}
		msgs = append(msgs, m)
	}
	return msgs
}

func (l *Log) publishHead(ctx context.Context, h *Head) error {
	return l.deliver(ctx, []event.Message{l.message(l.headTopic(), h.Encode())})
}

// start is what was agreed with the broker.
type start struct {
	claim uint64
	head  Head
	seq   uint64            // of the latest commit
	keys  map[string]string // that have an entry, by its topic
	ring  []Record          // the latest commits
}

// start makes the log that. It is not open yet. Marks that were in records which are gone from the broker are said again, before anything else.
func (l *Log) start(s start) error {
	if err := l.commit([]store.Op{{Key: l.headKey(), Value: s.head.Encode()}}); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.claim != l.claim {
		l.generation++
	}
	l.claim, l.head, l.seq, l.sent, l.keys = s.claim, s.head, s.seq, s.seq, s.keys
	l.carried.begin(s.ring)
	for marks := range slices.Chunk(l.carried.homeless(s.head.First), Slots) {
		if err := l.append(&Record{Stamp: l.next(), Keys: uint64(len(l.keys)), Marks: marks}, Change{}); err != nil {
			return err
		}
	}
	return nil
}

func random() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return binary.BigEndian.Uint64(b[:])
}

// hear looks at a message while the log is open. Most are our own. One that somebody else wrote who had the state before does not
// count: what does is published again ([U4]).
func (l *Log) hear(topic string, data []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.open {
		return
	}
	writer := l.head.Latest().Writer
	var err error
	switch rest := strings.TrimPrefix(topic, l.base()); {
	case rest == "c/head":
		err = l.hearHead(data)
	case strings.HasPrefix(rest, "c/"):
		if r, bad := DecodeRecord(data); bad == nil && (r.Writer == writer || l.head.Holds(r.Stamp) && r.Seq+Slots > l.seq) {
			return
		}
		err = l.repairSlot(topic, len(data) == 0)
	default:
		if key, known := l.keys[topic]; len(data) == 0 && known {
			err = l.touch([]byte(key)) // somebody has cleared it
		} else if e, bad := DecodeEntry(data); bad == nil && e.Writer != writer && topic == l.keyTopic(e.Key) {
			err = l.hearEntry(&e)
		}
	}
	if err != nil {
		l.Log.Warn("a changelog could not be repaired", "function", l.Function, "topic", topic, "err", err)
	}
}

// hearHead is called with mu held.
func (l *Log) hearHead(data []byte) error {
	h, err := DecodeHead(data)
	mine, other := l.head.Latest(), h.Latest()
	switch {
	case err == nil && other == mine:
		return nil
	case err == nil && other.Epoch >= mine.Epoch:
		l.superseded(fmt.Errorf("node %s has the state now, with epoch %d", h.Node, other.Epoch))
		return nil
	}
	return l.Outbox.Send([]event.Message{l.message(l.headTopic(), l.head.Encode())}, func(error) {})
}

// hearEntry is called with mu held.
func (l *Log) hearEntry(e *Entry) error {
	value, version, err := l.Store.Get(store.State.Key(l.Function, e.Key))
	if err != nil || version != 0 && l.head.Holds(e.Stamp) && bytes.Equal(value, e.Value) {
		return err
	}
	return l.touch(e.Key)
}

// touch commits the value of a key once more. Called with mu held.
func (l *Log) touch(key []byte) error {
	value, version, err := l.Store.Get(store.State.Key(l.Function, key))
	if err != nil {
		return err
	}
	l.keys[l.keyTopic(key)] = string(key) // there is an entry, whoever made it
	r := Record{Stamp: l.next(), Keys: uint64(len(l.keys)), Writes: []Write{{Key: slices.Clone(key), Value: value, Delete: version == 0}}}
	return l.append(&r, Change{})
}

// repairSlot publishes what belongs into a slot. Called with mu held.
func (l *Log) repairSlot(topic string, empty bool) error {
	for seq := range uint64(Slots) {
		if l.slotTopic(seq) != topic {
			continue
		}
		value, version, err := l.Store.Get(l.slotKey(seq))
		if err != nil {
			return err
		}
		r, bad := DecodeRecord(value)
		switch {
		case version == 0 || bad != nil || r.Seq < l.head.First:
			value = nil
		case r.Seq > l.sent:
			return nil // it is on its way
		}
		if value == nil && empty {
			return nil
		}
		return l.Outbox.Send([]event.Message{l.message(topic, value)}, func(error) {})
	}
	return nil
}
