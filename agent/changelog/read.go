package changelog

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"mayfly/event"
	"mayfly/function"
	"mayfly/triggers"
)

// reader hears a changelog: first what the broker has kept, then what is published. It is a triggers.Sink.
type reader struct {
	log  *Log
	name string // of its markers
	sub  Subscription

	mu    sync.Mutex
	seen  map[string][]byte // by topic; nil when the copy has been read
	late  []event.Event     // what came after that, until the log is open
	open  bool
	heard map[string]chan struct{}
}

func newReader(l *Log) (*reader, error) {
	sub, err := l.Subscribe()
	if err != nil {
		return nil, err
	}
	return &reader{log: l, name: rand.Text(), sub: sub, seen: map[string][]byte{}, heard: map[string]chan struct{}{}}, nil
}

// Accept implements triggers.Sink.
func (r *reader) Accept(_ context.Context, ev *event.Event, receipt triggers.Receipt) error {
	if receipt != nil {
		defer receipt.Settle(triggers.Settlement{})
	}
	r.mu.Lock()
	heard, live := r.heard[ev.Topic], r.open
	switch {
	case heard != nil:
		delete(r.heard, ev.Topic)
		close(heard)
	case live, isMarker(ev.Topic):
	case r.seen == nil:
		r.late = append(r.late, event.Event{Topic: ev.Topic, Data: slices.Clone(ev.Data)})
	case len(ev.Data) == 0:
		delete(r.seen, ev.Topic)
	default:
		r.seen[ev.Topic] = slices.Clone(ev.Data)
	}
	r.mu.Unlock()
	if live && !isMarker(ev.Topic) {
		r.log.hear(ev.Topic, ev.Data)
	}
	return nil
}

const (
	markAgain  = 250 * time.Millisecond // a marker may have been published before the subscription stood
	markWithin = 10 * time.Second       // after which the broker is taken not to pass them on
)

// await returns when what the broker has kept for filters has come. How that is known: the broker sends what it kept when it takes the
// subscription, and what is published later after it; so a message of our own that comes back is the end.
func (r *reader) await(ctx context.Context, filters []string) error {
	waiting := map[string]chan struct{}{}
	r.mu.Lock()
	for _, f := range filters {
		topic := marker(f, r.name)
		waiting[topic] = make(chan struct{})
		r.heard[topic] = waiting[topic]
	}
	r.mu.Unlock()
	again := time.NewTicker(markAgain)
	defer again.Stop()
	late := time.NewTimer(markWithin)
	defer late.Stop()
	for {
		if err := r.mark(ctx, waiting); err != nil {
			return err
		}
		for topic, heard := range waiting {
			select {
			case <-heard:
				delete(waiting, topic)
				continue
			case <-again.C:
			case <-late.C:
				return &function.Error{
					Op: "restore", Subject: r.log.Function, Class: function.ClassRetry, Kind: "unheard",
					Err:  errors.New("the broker does not answer: nothing comes back of what is published below " + r.log.base()),
					Hint: "the agents must be allowed to publish and to subscribe below mayfly/",
				}
			case <-ctx.Done():
				return ctx.Err()
			}
			break
		}
		if len(waiting) == 0 {
			return nil
		}
	}
}

// mark publishes markers that have not come back.
func (r *reader) mark(ctx context.Context, waiting map[string]chan struct{}) error {
	var msgs []event.Message
	for topic := range waiting {
		m := r.log.message(topic, []byte{'~'})
		m.Retain = false
		msgs = append(msgs, m)
	}
	return r.log.deliver(ctx, msgs)
}

// read returns what the broker holds, by topic.
func (r *reader) read(ctx context.Context) (map[string][]byte, error) {
	c := &r.log.Config
	filters := []string{c.commits()}
	if err := r.sub.Filters(filters); err != nil {
		return nil, err
	}
	if err := r.await(ctx, filters); err != nil {
		return nil, err
	}
	keys := uint64(0)
	r.mu.Lock()
	for topic, data := range r.seen {
		if rec, err := DecodeRecord(data); err == nil {
			keys = max(keys, rec.Keys+uint64(len(rec.Writes)))
		} else if h, err := DecodeHead(data); err == nil && topic == c.headTopic() {
			keys = max(keys, h.Keys)
		}
	}
	r.mu.Unlock()
	pages := c.pages(keys)
	for batch := range slices.Chunk(pages, 16) {
		filters = append(filters, batch...)
		if err := r.sub.Filters(filters); err != nil {
			return nil, err
		}
		if err := r.await(ctx, batch); err != nil {
			return nil, err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	seen := r.seen
	r.seen = nil
	return seen, nil
}

// live says that the log is open: it hears what came since the copy was read, and everything from now on.
func (r *reader) live() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.late {
		r.log.hear(r.late[i].Topic, r.late[i].Data)
	}
	r.open, r.late = true, nil
}

// image folds what was read. stale are the topics of messages that do not count; what cannot be read at all is among them.
func (c *Config) image(seen map[string][]byte) (m Image, stale []string, err error) {
	var head Head
	var records []Record
	var entries []Entry
	if data, ok := seen[c.headTopic()]; ok {
		if head, err = DecodeHead(data); err != nil {
			return m, nil, fmt.Errorf("the head of the changelog: %w", err)
		}
	}
	for topic, data := range seen {
		if topic == c.headTopic() {
			continue
		}
		var stamp Stamp
		if strings.HasPrefix(topic, c.base()+"k/") {
			e, err := DecodeEntry(data)
			if stamp = e.Stamp; err == nil && topic == c.keyTopic(e.Key) {
				entries = append(entries, e)
			}
		} else if rec, err := DecodeRecord(data); err == nil && topic == c.slotTopic(rec.Seq) {
			stamp = rec.Stamp
			records = append(records, rec)
		}
		if !head.Holds(stamp) {
			stale = append(stale, topic)
		}
	}
	m, err = Fold(head, records, entries)
	return m, stale, err
}

// deliver publishes msgs and returns when all are confirmed.
func (l *Log) deliver(ctx context.Context, msgs []event.Message) error {
	for chunk := range slices.Chunk(msgs, 256) {
		told := make(chan error, 1)
		err := l.Outbox.Send(chunk, func(err error) { told <- err })
		for function.ClassOf(err) == function.ClassOverload {
			select {
			case <-time.After(sendAgain):
			case <-ctx.Done():
				return ctx.Err()
			}
			err = l.Outbox.Send(chunk, func(err error) { told <- err })
		}
		if err != nil {
			return err
		}
		select {
		case err := <-told:
			if err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
