package mqtt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"mayfly/event"
	"mayfly/function"
)

// Confirmation is told once how a published message fared: nil when the broker confirmed it (QoS 1) or it was written to the
// connection (QoS 0), ErrUnknown when the connection ended first. It runs on the connection's goroutine and must not
// block; it may publish.
type Confirmation = interface{ Confirmed(error) }

// Publisher sends messages to one broker over a connection of its own, with a clean session: nothing of ours is kept there.
// Safe for concurrent use; Run once.
type Publisher struct {
	broker  Broker
	id      string
	log     *slog.Logger
	count   counters
	changes chan struct{}

	mu     sync.Mutex
	state  state
	link   *link  // nil when down
	flight flight // of link
}

// NewPublisher checks the configuration and returns a publisher that does nothing yet. Its client id is clientID, which must
// be nobody else's, or a new random one when empty.
func NewPublisher(b Broker, clientID string, log *slog.Logger) (*Publisher, error) {
	b = b.WithDefaults()
	if err := b.Validate(); err != nil {
		return nil, err
	}
	if clientID == "" {
		clientID = randomID()
	}
	return &Publisher{broker: b, id: clientID, log: log.With("broker", b.Name), changes: make(chan struct{}, 1)}, nil
}

// Changes holds a signal after the connection came up or went down.
func (p *Publisher) Changes() <-chan struct{} { return p.changes }

// Ready says whether there is a connection.
func (p *Publisher) Ready() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.link != nil
}

// Publish sends m and returns at once; c learns the outcome. The order of calls is the order on the wire. m is not kept.
//
// With an error c is never called and nothing was sent: ErrDown without a connection, ErrFull with Window messages (at
// QoS 1) or more than MaxPayload+1 MiB of bytes (at any) underway, an error of class reject for a message no broker takes.
//
// A broker that does not let us publish to a topic confirms all the same: MQTT 3.1.1 has no way to say no (section 3.3.5).
func (p *Publisher) Publish(m *event.Message, c Confirmation) error {
	if err := p.Check(m); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.link == nil {
		return ErrDown
	}
	var id uint16
	if m.QoS > 0 {
		var free bool
		if id, free = p.flight.id(); !free {
			return ErrFull
		}
	}
	size := len(m.Data) + len(m.Topic) + 9
	if !p.flight.fits(size, int(p.broker.MaxPayload)+1<<20) {
		return ErrFull
	}
	flags := min(m.QoS, 1) << 1
	if m.Retain {
		flags |= 1
	}
	upTo, err := p.link.gather(func(b []byte) []byte { return appendPublish(b, m.Topic, m.Data, id, flags) })
	if err != nil {
		return ErrDown
	}
	p.flight.sent(id, size, upTo, c)
	p.count.sent.Add(1)
	return nil
}

// Check returns the error of class reject that Publish would return for m: for what no broker takes.
func (p *Publisher) Check(m *event.Message) error {
	err := event.CheckTopic(m.Topic)
	kind := "topic"
	if err == nil && int64(len(m.Data)) > p.broker.MaxPayload {
		kind, err = "too-large", fmt.Errorf("%d bytes, broker %s takes %d", len(m.Data), p.broker.Name, p.broker.MaxPayload)
	}
	if err == nil {
		return nil
	}
	return &function.Error{Op: "publish", Subject: m.Topic, Class: function.ClassReject, Kind: kind, Err: err}
}

// Run keeps the publisher connected until ctx ends, then disconnects; what is unconfirmed then is told ErrUnknown. It always
// returns nil: what fails is tried again, logged once per reason and shown by Status.
func (p *Publisher) Run(ctx context.Context) error {
	var retry backoff
	for turn := 0; ctx.Err() == nil; turn++ {
		up, err := p.serve(ctx, p.broker.URLs[turn%len(p.broker.URLs)])
		if ctx.Err() != nil {
			return nil
		}
		wait := retry.next(up)
		p.failed(explain("connect", &p.broker, err), up > 0, wait)
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
	return nil
}

func (p *Publisher) serve(ctx context.Context, address string) (up time.Duration, err error) {
	l, err := open(ctx, &p.broker, address)
	if err != nil {
		return 0, err
	}
	l.start((*confirmations)(p))
	c, err := handshake(ctx, &p.broker, identity{p.id, true}, l)
	if err != nil {
		return 0, err
	}
	defer c.disconnect()
	began := time.Now()
	p.connected(address, l)
	select {
	case <-l.ended:
	case <-ctx.Done():
	}
	p.disconnected()
	up = max(time.Since(began), 1)
	if ctx.Err() == nil {
		err = c.reason()
	}
	return up, err
}

func (p *Publisher) connected(address string, l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.link, p.flight = l, newFlight(p.broker.Window)
	p.state.connected(address)
	p.log.Info("publisher connected", "url", address, "client", p.id)
	p.changed()
}

// disconnected takes the link away, so that nothing more is sent or confirmed on it, and then tells everybody who waits.
func (p *Publisher) disconnected() {
	p.mu.Lock()
	p.link = nil
	left := p.flight.abandon()
	p.state.disconnected()
	p.changed()
	p.mu.Unlock()
	p.count.unknown.Add(uint64(len(left)))
	for _, c := range left {
		c.Confirmed(ErrUnknown)
	}
}

func (p *Publisher) failed(err *function.Error, wasUp bool, wait time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state.failed(err, wasUp, wait) {
		p.log.Warn("cannot publish to the broker", "reason", err.Kind, "err", err, "hint", err.Hint, "retry", wait)
	}
}

func (p *Publisher) changed() {
	select {
	case p.changes <- struct{}{}:
	default:
	}
}

// Status returns what the publisher is doing.
func (p *Publisher) Status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state.status(&p.broker, p.id, &p.count)
}

// confirmations is the publisher as the receiver of its link.
type confirmations Publisher

func (p *confirmations) publish(inbound) error {
	return errors.Join(errProtocol, errors.New("a message without a subscription"))
}

func (p *confirmations) puback(id uint16) error {
	p.mu.Lock()
	c, ok := p.flight.confirm(id)
	p.mu.Unlock()
	if ok {
		p.count.confirmed.Add(1)
		c.Confirmed(nil)
	}
	return nil // an id that is not in flight confirms nothing
}

func (p *confirmations) flushed(total uint64) {
	p.mu.Lock()
	done := p.flight.written(total)
	p.mu.Unlock()
	p.count.confirmed.Add(uint64(len(done)))
	for _, c := range done {
		c.Confirmed(nil)
	}
}

func (p *confirmations) pong(uint64) {}
