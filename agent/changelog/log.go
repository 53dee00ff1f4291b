package changelog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"mayfly/event"
	"mayfly/function"
	"mayfly/store"
	"mayfly/triggers"
)

// Store is what a log needs of the store.
type Store interface {
	Submit(ops []store.Op, done func(error)) error
	Get(key []byte) (value []byte, version uint64, err error)
	Scan(prefix, after []byte, yield func(key, value []byte, version uint64) bool) error
}

// Outbox publishes in the order of calls, again until it is confirmed.
type Outbox interface {
	Send(msgs []event.Message, done func(error)) error
	Check(msgs []event.Message) error
}

// Subscription brings what lies and comes at some topic filters, with what is retained there, in the order in which the broker sends it.
// Filters may be called while it runs; filters that stay are not subscribed again.
type Subscription interface {
	triggers.Source
	Filters(filters []string) error
}

// Config says what a log is of.
type Config struct {
	Cluster, Node string
	Function      string
	Broker        string // where the function's trigger is
	Store         Store
	Outbox        Outbox
	Subscribe     func() (Subscription, error)
	Changed       func() // told after Claim changed; must not block for long
	Room          func() // told after Full changed to false; must not block for long
	Log           *slog.Logger
	Again         time.Duration // default 1 s: after a copy could not be had
}

// Log is the changelog of one function's state on one node. Open and Close follow the trigger; between them, as soon as this node's copy is
// what the broker holds, commits are taken. Safe for concurrent use.
type Log struct {
	Config
	opening sync.Mutex // one Open after the other

	mu         sync.Mutex
	open       bool
	why        error  // it is not open, though it should be
	claim      uint64 // latest
	generation uint64 // changes when what a call has read may not be so any more
	head       Head
	seq        uint64            // of the latest commit
	sent       uint64            // of the latest one that was handed to the outbox
	keys       map[string]string // that have an entry at the broker, by its topic
	waiting    int               // commits that are not confirmed
	last       *flight           // the latest of them
	carried    carried           // done marks
	resting    bool              // closed, but what was committed still counts
	idle       chan struct{}     // closed when nothing is unconfirmed any more; nil = nobody waits
	cancel     context.CancelFunc
	superseded func(error) // while open: somebody else has the state
	ended      chan struct{}

	sending sync.Mutex
	queue   []*flight // synced, in order, for which the outbox has no room yet
}

// New returns a log that is closed.
func New(c Config) *Log {
	if c.Again == 0 {
		c.Again = time.Second
	}
	return &Log{Config: c, cancel: func() {}}
}

// ErrMoved is why a commit is refused for good: since its call began the state has been another node's.
var ErrMoved = errors.New("another node has had the state meanwhile")

var errClosed = errors.New("the state is not on this node now")

// Change is a commit.
type Change struct {
	Generation uint64 // of when its call began
	Writes     []function.StateWrite
	Ops        []store.Op  // all that becomes true together, the writes and marks included
	Marks      []store.Op  // the done marks among them
	Synced     func(error) // it is true here
	Done       func(error) // the broker has confirmed that it knows, and all before it; not told when Synced is told an error
}

// flight is a commit on its way.
type flight struct {
	seq  uint64
	msgs []event.Message
	done []func(error)
	over bool
}

// Generation returns what a call that begins now has to say when it commits; 0 while the log is closed.
func (l *Log) Generation() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.open {
		return 0
	}
	return l.generation
}

// Holds says whether what was committed at that generation, and is confirmed now, certainly counts: nobody else can have begun meanwhile.
func (l *Log) Holds(generation uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return (l.open || l.resting) && l.generation == generation
}

// Claim returns the epoch of the claim under which the log is open, 0 while it is closed.
func (l *Log) Claim() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.open {
		return 0
	}
	return l.claim
}

// Full says whether a commit would be refused because too many are unconfirmed.
func (l *Log) Full() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open && l.waiting >= maxWaiting
}

// Status returns why events do not run, nil when they do or nobody asked for it.
func (l *Log) Status() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.why
}

func (l *Log) refuse(class function.Class, kind string, err error) error {
	return &function.Error{Op: "commit", Subject: l.Function, Class: class, Kind: kind, Err: err}
}

// Commit makes a change true here and then at the broker; all in the order of calls. With an error nothing happens and nobody is told:
// class overload while the log is closed or too much is unconfirmed, not-here for ErrMoved, reject for what the broker would not take, and
// those of the store.
func (l *Log) Commit(c Change) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case !l.open:
		return l.refuse(function.ClassOverload, "state-moving", errClosed)
	case c.Generation != l.generation:
		return l.refuse(function.ClassNotHere, "fenced", ErrMoved)
	case len(c.Writes) == 0:
		return l.follow(c)
	case l.waiting >= maxWaiting:
		return l.refuse(function.ClassOverload, "unconfirmed", errors.New("the broker has not confirmed the commits before"))
	}
	r := Record{Stamp: l.next(), Keys: uint64(len(l.keys)), Writes: writes(c.Writes, time.Now()), Marks: l.marks(c.Marks)}
	return l.append(&r, c)
}

// next is the stamp of the next commit. Called with mu held.
func (l *Log) next() Stamp {
	span := l.head.Latest()
	return Stamp{Version{span.Epoch, l.seq + 1}, span.Writer}
}

func writes(all []function.StateWrite, now time.Time) []Write {
	out := make([]Write, len(all))
	for i := range all {
		w := &all[i]
		out[i] = Write{Key: w.Key, Delete: w.Delete}
		if !w.Delete {
			out[i].Value = w.Value
			if w.TTL > 0 {
				out[i].Expires = now.Add(w.TTL).UnixMilli()
			}
		}
	}
	return out
}

func (l *Log) marks(ops []store.Op) []Mark {
	var out []Mark
	prefix := len(store.Done.Prefix(l.Function))
	for _, op := range ops {
		out = append(out, Mark{op.Key[prefix:], op.Value})
	}
	return out
}

// follow tells c when everything before it is confirmed. Called with mu held.
func (l *Log) follow(c Change) error {
	before := l.last
	return l.Store.Submit(c.Ops, func(err error) {
		c.Synced(err)
		if err != nil {
			return
		}
		l.mu.Lock()
		if before != nil && !before.over {
			before.done = append(before.done, c.Done)
			l.mu.Unlock()
			return
		}
		l.mu.Unlock()
		c.Done(nil)
	})
}

// append commits r with what c says besides. Called with mu held.
func (l *Log) append(r *Record, c Change) error {
	l.carried.load(r)
	text := r.Encode()
	f := &flight{seq: r.Seq, msgs: l.messages(r, text)}
	if err := l.Outbox.Check(f.msgs); err != nil {
		return err
	}
	if c.Done != nil {
		f.done = append(f.done, c.Done)
	}
	ops := append(slices.Clip(c.Ops), store.Op{Key: l.slotKey(r.Seq), Value: text})
	err := l.Store.Submit(ops, func(err error) {
		if c.Synced != nil {
			c.Synced(err)
		}
		if err != nil {
			return // the disk failed: this process is at its end
		}
		l.send(f)
	})
	if err != nil {
		return err
	}
	l.seq = r.Seq
	l.waiting++
	l.last = f
	l.follows(r)
	l.carried.committed(r, len(c.Marks))
	return nil
}

// follows keeps track of which keys have entries. Called with mu held.
func (l *Log) follows(r *Record) {
	for i := range r.Writes {
		w := &r.Writes[i]
		if topic := l.keyTopic(w.Key); w.Delete {
			delete(l.keys, topic)
		} else if l.keys[topic] == "" {
			l.keys[topic] = string(w.Key)
		}
	}
}

// messages are what says r: itself, and then the entries of its keys, of which the last write counts.
func (l *Log) messages(r *Record, text []byte) []event.Message {
	msgs := make([]event.Message, 0, 1+len(r.Writes))
	msgs = append(msgs, l.message(l.slotTopic(r.Seq), text))
	at := make(map[string]int, len(r.Writes))
	for i := range r.Writes {
		e := Entry{r.Stamp, r.Writes[i]}
		m := l.message(l.keyTopic(e.Key), nil)
		if !e.Delete {
			m.Data = e.Encode()
		}
		if before, twice := at[m.Topic]; twice {
			msgs[before] = m
			continue
		}
		at[m.Topic] = len(msgs)
		msgs = append(msgs, m)
	}
	return msgs
}

func (l *Log) message(topic string, data []byte) event.Message {
	return event.Message{Broker: l.Broker, Topic: topic, Data: data, QoS: 1, Retain: true}
}

// send publishes f behind those before it. It is called in the order of commits, by the store's goroutine.
func (l *Log) send(f *flight) {
	l.sending.Lock()
	defer l.sending.Unlock()
	l.queue = append(l.queue, f)
	if len(l.queue) == 1 {
		l.flush()
	}
}

// flush hands the outbox what it has room for. Called with sending held.
func (l *Log) flush() {
	for len(l.queue) > 0 {
		f := l.queue[0]
		err := l.Outbox.Send(f.msgs, func(err error) { l.confirmed(f, err) })
		if function.ClassOf(err) == function.ClassOverload {
			time.AfterFunc(sendAgain, func() {
				l.sending.Lock()
				defer l.sending.Unlock()
				l.flush()
			})
			return
		}
		l.queue = l.queue[1:]
		if err != nil {
			go l.confirmed(f, err) // who waits may commit again
			continue
		}
		l.mu.Lock()
		l.sent = max(l.sent, f.seq)
		l.mu.Unlock()
	}
	l.queue = nil
}

// maxWaiting is how many commits may be unconfirmed: few enough that the broker, or this node, has the record of every one.
const maxWaiting = 32

// sendAgain is how soon the outbox is asked again that had no room.
const sendAgain = 20 * time.Millisecond

func (l *Log) confirmed(f *flight, err error) {
	l.mu.Lock()
	f.over = true
	l.waiting--
	room := l.waiting == maxWaiting-1
	if l.last == f {
		l.last = nil
	}
	all := f.done
	f.done = nil
	l.mu.Unlock()
	if err != nil {
		err = fmt.Errorf("changelog of %s: %w", l.Function, err)
	}
	for _, done := range all {
		done(err)
	}
	if room {
		l.Room()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.waiting == 0 && l.idle != nil {
		close(l.idle)
		l.idle = nil
	}
}
