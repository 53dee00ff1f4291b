package mqtt

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"
)

// ErrNoMark is the error of Inherit when the mark did not come back: the broker may not let this user publish it.
var ErrNoMark = errors.New("the mark did not come back from the broker")

// Mark parts what comes to a session in two. It is a message of QoS 1 that every session concerned is subscribed to; a broker that sends
// everybody everything in one order, as mosquitto does, sends the same messages before it to all of them. One that does not may send some twice.
type Mark struct {
	Topic string
	Nonce string // its payload
}

// Inherit prepares the session, which must not run, to be the heir of another one: it subscribes its topics and the mark's, calls ready, and
// acknowledges what comes before the mark without handing it on, because the other session has that too. What comes after the mark stays at the
// broker for whoever runs the session. It waits at most patience for the mark; without it the error wraps ErrNoMark.
func (s *Session) Inherit(ctx context.Context, m Mark, ready func(), patience time.Duration) error {
	s.mu.Lock()
	topics := append([]Topic{{Filter: m.Topic, QoS: 1}}, s.topics...)
	s.mu.Unlock()
	to := &heir{mark: m, found: make(chan struct{})}
	return s.visit(ctx, to, func(c *client) error {
		refused, err := c.subscribe(ctx, topics, s.broker.ConnectTimeout)
		if err != nil {
			return err
		}
		if len(refused) > 0 {
			return fmt.Errorf("the broker refuses %q", refused)
		}
		ready()
		wait := time.NewTimer(patience)
		defer wait.Stop()
		select {
		case <-to.found:
		case <-wait.C:
			return ErrNoMark
		case <-c.ended:
			return c.why()
		case <-ctx.Done():
			return ctx.Err()
		}
		return c.unsubscribe(ctx, []string{m.Topic}, s.broker.ConnectTimeout)
	})
}

// Bequeath subscribes the session, which must not run, to a mark and acknowledges nothing. ok is false when the broker does not have the
// session: then there is nothing to inherit.
func (s *Session) Bequeath(ctx context.Context, m Mark) (ok bool, err error) {
	err = s.visit(ctx, discard{}, func(c *client) error {
		ok = c.present
		if !ok {
			return nil
		}
		_, err := c.subscribe(ctx, []Topic{{Filter: m.Topic, QoS: 1}}, s.broker.ConnectTimeout)
		return err
	})
	return ok, err
}

// visit connects with the session's id, does something, and says goodbye. The broker keeps the session.
func (s *Session) visit(ctx context.Context, to receiver, do func(*client) error) error {
	var faults []error
	for _, address := range s.broker.URLs {
		l, err := open(ctx, &s.broker, address)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		if h, ok := to.(*heir); ok {
			h.link = l
		}
		l.start(to)
		c, err := handshake(ctx, &s.broker, identity{s.id, false}, l)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		err = do(c)
		c.disconnect()
		if err == nil {
			return nil
		}
		return explain("inherit", &s.broker, err)
	}
	return explain("inherit", &s.broker, errors.Join(faults...))
}

// heir acknowledges what comes before the mark, and the mark. It is a receiver.
type heir struct {
	link  *link
	mark  Mark
	found chan struct{}
	once  sync.Once
	over  bool // of the goroutine that reads
}

func (h *heir) publish(p inbound) error {
	if h.over || p.qos == 0 {
		return nil
	}
	if p.topic == h.mark.Topic && string(p.payload) == h.mark.Nonce {
		h.over = true
		defer h.once.Do(func() { close(h.found) })
	}
	_, err := h.link.Write(binary.BigEndian.AppendUint16([]byte{0x40, 2}, p.id)) // PUBACK, in the order received
	return err
}

func (*heir) puback(uint16) error { return errProtocol }
func (*heir) flushed(uint64)      {}
func (*heir) pong(uint64)         {}
