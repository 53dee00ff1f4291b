// Package outbox lets publishes leave until the broker has confirmed them: one ordered pipe for each broker, with two
// kinds of messages in it.
//
// Volatile messages (Send) are written to no disk: whoever sent the event behind them keeps it until they are confirmed
// (promise D2). Durable messages (Ops, Release) are committed by the caller together with the state they belong to, and deleted
// from the disk after they are confirmed. Both are published in the order they were sent or released, and again, in order,
// when the connection ends before the broker has confirmed them: at least once, with duplicates bounded by the publisher's
// in-flight window (durable ones also by what was confirmed and not yet deleted when the node dies).
//
// A broker that stays away costs bounded memory: durable messages beyond MemoryBytes stay on disk and are read in
// pages, volatile ones beyond it are refused. DESIGN.md walks the failures.
package outbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"mayfly/event"
	"mayfly/function"
	"mayfly/store"
)

// Confirmation is told the outcome of a publish: nil when the broker has confirmed it, an error when that is unknown.
type Confirmation = interface{ Confirmed(error) }

// Publisher sends to one broker.
type Publisher interface {
	// Publish sends m and keeps the order of calls. An error of class reject means it will never be taken; with any other
	// nothing was sent now, and it is worth trying again when something was confirmed or the connection changed. It does not
	// call c before it returns. When a connection ends, all its messages are told before the next one takes any.
	Publish(m *event.Message, c Confirmation) error
	// Check returns the reject-class error that Publish would return.
	Check(m *event.Message) error
	Ready() bool
	// Changes holds a signal after the connection came up or went down.
	Changes() <-chan struct{}
}

// Store is what the outbox needs of the store.
type Store interface {
	Submit(ops []store.Op, done func(error)) error
	Scan(prefix, after []byte, yield func(key, value []byte, version uint64) bool) error
}

// Config bounds the outbox. Zero fields get the defaults named.
type Config struct {
	Default     string // broker of messages that name none
	Quota       int64  // bytes on disk of one function, default 64 MiB; overshot by what is being committed at the moment
	MemoryBytes int64  // bytes in memory of one broker, of volatile and of durable messages each, default 4 MiB

	// Rejected is told of a durable message that the broker will never take; it has been acknowledged upstream already.
	// It must not block. nil: only counted and logged.
	Rejected func(function string, m event.Message, err error)
}

func (c Config) withDefaults() Config {
	if c.Quota == 0 {
		c.Quota = 64 << 20
	}
	if c.MemoryBytes == 0 {
		c.MemoryBytes = 4 << 20
	}
	return c
}

// ErrStopped is what Send's done is told when the outbox stops before the message was confirmed: it may have arrived or not.
var ErrStopped = errors.New("stopped before the broker confirmed the message")

// Outbox is safe for concurrent use. Run once.
type Outbox struct {
	config Config
	store  Store
	log    *slog.Logger
	pipes  map[string]*pipe

	mu    sync.Mutex
	bytes map[string]int64 // on disk, by function
}

// Open reads what the disk holds of former runs and returns an outbox over these publishers, by name of their broker. Messages
// for a broker that is not configured any more stay on disk, are logged and counted against their function's quota.
func Open(config Config, publishers map[string]Publisher, st Store, log *slog.Logger) (*Outbox, error) {
	o := &Outbox{config: config.withDefaults(), store: st, log: log, pipes: map[string]*pipe{}, bytes: map[string]int64{}}
	for name, p := range publishers {
		o.pipes[name] = newPipe(o, name, p)
	}
	homeless := map[string]int{}
	err := st.Scan(store.Outbox.All(), nil, func(key, value []byte, _ uint64) bool {
		broker, seq, ok := splitKey(key)
		if !ok {
			return true
		}
		if rec, err := decode(value); err == nil {
			o.bytes[rec.function] += int64(len(value))
		}
		if p := o.pipes[broker]; p != nil {
			p.found(seq)
		} else {
			homeless[broker]++
		}
		return true
	})
	for broker, n := range homeless {
		log.Warn("messages wait for a broker that is not configured", "broker", broker, "messages", n)
	}
	return o, err
}

// Run keeps the pipes moving until ctx ends. Then every volatile message that is not confirmed is told ErrStopped; durable ones
// stay on disk. It returns an error when the disk failed.
func (o *Outbox) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var all sync.WaitGroup
	for _, p := range o.pipes {
		all.Go(func() {
			if err := p.run(ctx); err != nil {
				cancel(err)
			}
		})
	}
	if len(o.pipes) == 0 {
		<-ctx.Done() // a node without brokers has nothing to send, and nothing that failed
	}
	all.Wait()
	for _, p := range o.pipes {
		p.stop()
	}
	if err := context.Cause(ctx); function.ClassOf(err) == function.ClassFatal {
		return err
	}
	return nil
}

// Connected says whether the broker of that name ("" = the default) can be published to now.
func (o *Outbox) Connected(broker string) bool {
	p := o.pipe(broker)
	return p != nil && p.pub.Ready()
}

func (o *Outbox) pipe(broker string) *pipe {
	if broker == "" {
		broker = o.config.Default
	}
	return o.pipes[broker]
}

// check finds the pipes of all messages, or the reason why one of them can never leave.
func (o *Outbox) check(msgs []event.Message) error {
	for i := range msgs {
		p := o.pipe(msgs[i].Broker)
		if p == nil {
			return &function.Error{
				Op: "publish", Subject: msgs[i].Topic, Class: function.ClassReject, Kind: "unknown-broker",
				Err: fmt.Errorf("there is no broker %q", msgs[i].Broker), Hint: "name it in the agent's configuration",
			}
		}
		if err := p.pub.Check(&msgs[i]); err != nil {
			return err
		}
	}
	return nil
}

// Check returns the error of class reject that Send would return for msgs.
func (o *Outbox) Check(msgs []event.Message) error { return o.check(msgs) }

// Send publishes msgs. done is called once: with nil when all are confirmed, with an error when the outbox stopped first or a
// broker will never take one of them. With an error nothing is sent and done is not called: class reject for a message that can
// never leave, class overload when too much waits. The slice is copied, the bytes are not. done must not block; it may be
// called before Send returns.
func (o *Outbox) Send(msgs []event.Message, done func(error)) error {
	if err := o.check(msgs); err != nil {
		return err
	}
	if len(msgs) == 0 {
		done(nil)
		return nil
	}
	s := &sending{done: done, left: len(msgs)}
	for i := range msgs {
		if p := o.pipe(msgs[i].Broker); !p.hasRoom(sizeOf(&msgs[i])) {
			return full(msgs[i].Topic, "messages in memory wait for broker "+p.name)
		}
	}
	entries := make([]entry, len(msgs))
	for i := range msgs {
		p := o.pipe(msgs[i].Broker)
		entries[i] = entry{pipe: p, msg: msgs[i], size: sizeOf(&msgs[i]), sending: s}
		p.send(&entries[i])
	}
	return nil
}

func full(subject, what string) error {
	return &function.Error{
		Op: "publish", Subject: subject, Class: function.ClassOverload, Kind: "outbox-full",
		Err: errors.New("too many " + what), Hint: "is the broker connected? mayfly status",
	}
}

// Ticket stands for messages whose operations are in a batch that is being committed; Release queues them once it is synced.
type Ticket struct{ batch *batch }

type batch struct{ entries []entry }

// Ops returns the operations that make msgs durable, for the caller to commit together with what they belong to, and the
// ticket to release them with. A batch that is not committed needs nothing more: its ticket is forgotten.
//
// Errors: class reject for a message that can never leave, class overload when the function's quota is used up.
func (o *Outbox) Ops(name string, msgs []event.Message) ([]store.Op, Ticket, error) {
	if err := o.check(msgs); err != nil {
		return nil, Ticket{}, err
	}
	b := &batch{entries: make([]entry, len(msgs))}
	ops := make([]store.Op, len(msgs))
	total := int64(0)
	for i := range msgs {
		value := encode(record{name, msgs[i]})
		if len(value) > store.MaxValue {
			return nil, Ticket{}, &function.Error{
				Op: "publish", Subject: msgs[i].Topic, Class: function.ClassReject, Kind: "too-large",
				Err: fmt.Errorf("%d bytes with its topic, the disk takes %d", len(value), store.MaxValue),
			}
		}
		total += int64(len(value))
		b.entries[i] = entry{pipe: o.pipe(msgs[i].Broker), msg: msgs[i], size: int64(len(value)), function: name}
		ops[i].Value = value
	}
	o.mu.Lock()
	used := o.bytes[name]
	o.mu.Unlock()
	if used+total > o.config.Quota {
		return nil, Ticket{}, full(name, fmt.Sprintf("bytes wait on disk: %d, and %d are allowed", used, o.config.Quota))
	}
	for i := range b.entries {
		e := &b.entries[i]
		e.seq = e.pipe.reserve()
		ops[i].Key = store.Outbox.SeqKey(e.pipe.name, e.seq)
	}
	return ops, Ticket{b}, nil
}

// Release queues the messages of a ticket whose operations are synced. It does not block and may be called from the store's
// goroutine. The zero Ticket holds no messages.
func (o *Outbox) Release(t Ticket) {
	if t.batch == nil {
		return
	}
	for i := range t.batch.entries {
		e := &t.batch.entries[i]
		o.charge(e.function, e.size)
		e.pipe.release(e)
	}
}

func (o *Outbox) charge(name string, bytes int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.bytes[name] += bytes; o.bytes[name] <= 0 {
		delete(o.bytes, name)
	}
}

// sending is one call of Send.
type sending struct {
	mu   sync.Mutex
	done func(error)
	left int
	err  error
}

func (s *sending) one(err error) {
	s.mu.Lock()
	s.left--
	if s.err == nil {
		s.err = err
	}
	over, err := s.left == 0, s.err // below 0: a confirmation that came after the outbox had stopped
	s.mu.Unlock()
	if over {
		s.done(err)
	}
}
