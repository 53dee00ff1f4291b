package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"mayfly/event"
	"mayfly/function"
	"mayfly/triggers"
)

var errHeld = errors.New("the trigger is not taking events now")

// Trigger says what a Subscription brings.
type Trigger struct {
	Name     string   // for messages to people
	Filters  []string // a message that matches several of them is one event
	QoS      byte     // 0: events are told and forgotten; 1: nothing is acknowledged before it is safe
	Retained function.Retained
}

// Subscription brings the messages of this broker that match a trigger's filters, a triggers.Source. It is registered from
// Subscribe to the end of Run, or to Close, or, while Broker.Hold holds, for longer. It takes events while Run runs. When
// registered and not running it is held: a QoS 1 or 2 message that matches it is not acknowledged and its publisher is
// disconnected (it will send it again), so that what comes while an agent starts or stops is not lost.
type Subscription struct {
	broker *Broker
	spec   Trigger
	ran    atomic.Bool
	over   atomic.Bool // Run has ended, or is about to

	mu       sync.Mutex
	accept   func(*event.Event, triggers.Receipt) error // Run's sink; nil while held
	inflight int                                        // handed over and not settled
	idle     chan struct{}                              // not nil: Run waits for inflight to become 0
}

// Subscribe registers a trigger: from now on nothing that matches it at QoS 1 or 2 is acknowledged unless it is safe.
// The caller runs the Subscription, or closes it.
func (b *Broker) Subscribe(t Trigger) (*Subscription, error) {
	err := error(nil)
	if len(t.Filters) == 0 {
		err = errors.New("no topic filter")
	}
	if t.QoS > 1 {
		err = fmt.Errorf("QoS %d; 0 and 1 are known", t.QoS)
	}
	for _, f := range t.Filters {
		err = errors.Join(err, event.CheckFilter(f))
	}
	if err != nil {
		return nil, &function.Error{Op: "subscribe", Subject: t.Name, Class: function.ClassReject, Kind: "config", Err: err}
	}
	if t.Retained == "" {
		t.Retained = function.RetainedOnce
	}
	t.Filters = slices.Clone(t.Filters)
	s := &Subscription{broker: b, spec: t}
	b.editSubscriptions(func(list []*Subscription) []*Subscription { return append(list, s) })
	return s, nil
}

func (b *Broker) editSubscriptions(edit func([]*Subscription) []*Subscription) {
	b.edit.Lock()
	defer b.edit.Unlock()
	b.subs = edit(b.subs)
	var entries []event.Entry[*Subscription]
	for _, s := range b.subs {
		for _, f := range s.spec.Filters {
			entries = append(entries, event.Entry[*Subscription]{Filter: f, Value: s})
		}
	}
	b.index.Store(event.NewIndex(entries))
}

// Hold keeps the triggers whose Run ends from now on registered and held instead of removing them, until release is
// called, which removes those that ended. Hold before the sources are stopped or exchanged, and release when the new ones
// are there; at the end of the process do not release.
func (b *Broker) Hold() (release func()) {
	b.edit.Lock()
	defer b.edit.Unlock()
	b.holds++
	return sync.OnceFunc(func() {
		b.edit.Lock()
		b.holds--
		over := b.holds == 0
		b.edit.Unlock()
		if over {
			b.editSubscriptions(func(list []*Subscription) []*Subscription {
				return slices.DeleteFunc(list, func(s *Subscription) bool { return s.over.Load() })
			})
		}
	})
}

func (b *Broker) holding() bool {
	b.edit.Lock()
	defer b.edit.Unlock()
	return b.holds > 0
}

// Close removes a trigger that does not run: messages that match it are acknowledged as if it had never been.
func (s *Subscription) Close() {
	s.broker.editSubscriptions(func(list []*Subscription) []*Subscription {
		return slices.DeleteFunc(list, func(other *Subscription) bool { return other == s })
	})
}

// Run hands events to the sink until ctx ends and then waits until all of them are settled, at most for Limits.Drain:
// then it returns an error, and what is settled later is still acknowledged. Accept is called from many goroutines at
// once; the messages of one client come in their order. It may be called once.
func (s *Subscription) Run(ctx context.Context, to triggers.Sink) error {
	if !s.ran.CompareAndSwap(false, true) {
		return errors.New("subscription runs twice")
	}
	s.mu.Lock()
	s.accept = func(ev *event.Event, r triggers.Receipt) error { return to.Accept(ctx, ev, r) }
	s.mu.Unlock()
	if s.spec.Retained == function.RetainedOnce || s.spec.Retained == function.RetainedAlways {
		s.seed()
	}

	<-ctx.Done()

	s.over.Store(true)
	if !s.broker.holding() {
		s.Close()
	}
	s.mu.Lock()
	s.accept = nil
	idle := make(chan struct{})
	if s.inflight == 0 {
		close(idle)
	} else {
		s.idle = idle
	}
	left := s.inflight
	s.mu.Unlock()
	timer := time.NewTimer(s.broker.limits.Drain)
	defer timer.Stop()
	select {
	case <-idle:
		return nil
	case <-timer.C:
		return &function.Error{
			Op: "drain", Subject: s.spec.Name, Class: function.ClassRetry, Kind: "timeout",
			Err: fmt.Errorf("%d events were unsettled when it began and some still are after %v", left, s.broker.limits.Drain),
		}
	}
}

// seed brings the retained messages that match. Nobody waits for them: the broker keeps them anyway.
func (s *Subscription) seed() {
	seen := map[string]bool{}
	for _, f := range s.spec.Filters {
		s.broker.retained.scan.RLock()
		messages := s.broker.server.Topics.Messages(f)
		s.broker.retained.scan.RUnlock()
		for _, pk := range messages {
			if seen[pk.TopicName] {
				continue
			}
			seen[pk.TopicName] = true
			ev := s.broker.newEvent(&pk)
			ev.Retained = true
			ev.QoS = min(pk.FixedHeader.Qos, s.spec.QoS)
			s.offer(ev, nil)
		}
	}
}

// offer hands ev over, with d when somebody waits for it.
func (s *Subscription) offer(ev *event.Event, d *delivery) {
	s.mu.Lock()
	accept := s.accept
	if accept != nil {
		s.inflight++
	}
	s.mu.Unlock()
	switch {
	case accept == nil && d == nil:
		s.broker.losses.count(lossHeld, s.spec.Name)
	case accept == nil:
		d.settle(errHeld)
	case d == nil:
		if err := accept(ev, nil); err != nil {
			s.broker.losses.count(lossRefused, s.spec.Name)
		}
		s.leave()
	default:
		// The sink settles the receipt also when it returns an error, and that tells more.
		_ = accept(ev, &receipt{sub: s, delivery: d})
	}
}

func (s *Subscription) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inflight--
	if s.inflight == 0 && s.idle != nil {
		close(s.idle)
		s.idle = nil
	}
}

type receipt struct {
	sub      *Subscription
	delivery *delivery
	settled  atomic.Bool
}

// Settle lets the acknowledgement go, or disconnects the publisher.
func (r *receipt) Settle(how triggers.Settlement) {
	if r.settled.CompareAndSwap(false, true) {
		r.delivery.settle(how.Err)
		r.sub.leave()
	}
}

// tell offers the message to every trigger that wants it. d is nil when nobody waits (QoS 0).
func (b *Broker) tell(pk *packets.Packet, from event.Delivery, d *delivery) {
	var room [8]*Subscription
	wanted := b.index.Load().Match(pk.TopicName, room[:0])
	if len(wanted) == 0 {
		return
	}
	base := b.newEvent(pk)
	base.Dup = pk.FixedHeader.Dup
	base.Delivery = from
	for i, s := range wanted {
		if slices.Contains(wanted[:i], s) {
			continue // several of its filters match
		}
		ev := *base
		ev.QoS = min(pk.FixedHeader.Qos, s.spec.QoS)
		if ev.QoS == 0 || d == nil {
			s.offer(&ev, nil)
			continue
		}
		d.left.Add(1)
		s.offer(&ev, d)
	}
}

func (b *Broker) newEvent(pk *packets.Packet) *event.Event {
	ev := &event.Event{
		ID:     b.mintID(),
		Source: "mqtt://" + b.name + "/" + pk.TopicName,
		Type:   event.TypeMQTT,
		Time:   time.Now(),
		Broker: b.name,
		Topic:  pk.TopicName,
		QoS:    pk.FixedHeader.Qos,
		Data:   pk.Payload,
	}
	ev.ContentType = pk.Properties.ContentType
	for _, p := range pk.Properties.User {
		if p.Key == "traceparent" {
			ev.TraceParent = p.Val
			continue
		}
		if strings.HasPrefix(p.Key, event.AuthPrefix) {
			continue // who sent it is not for the sender to say [T4]
		}
		ev.User = append(ev.User, event.Attr{Name: p.Key, Value: p.Val})
	}
	return ev
}
