package mqtt

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"slices"
	"sync"
	"time"

	"mayfly/event"
	"mayfly/function"
	"mayfly/triggers"
)

// Subscription says what a session is for. The zero value of a field below the line means its default.
type Subscription struct {
	Cluster  string   // id of the cluster (of the node, for a trigger of scope node): part of the client id
	Trigger  string   // identity of the trigger, such as "overheat/mqtt[0]"
	Filters  []string // topic filters, $share/group/filter included; several when triggers share the session
	QoS      byte     // 0 or 1
	Retained function.Retained

	HoldOff   time.Duration // default 5 s: how long a given-back event may block the ones behind it before the connection is dropped; also how long reading is held back
	Drain     time.Duration // default 5 s: how long Run waits for receipts when it is told to stop
	MaxEvents int           // default 4096 QoS 1 events handed over and not settled
	MaxBytes  int64         // default 8 MiB of them
}

// WithDefaults returns c with every zero field at its default.
func (c Subscription) WithDefaults() Subscription {
	setDefault(&c.Retained, function.RetainedOnce)
	setDefault(&c.HoldOff, 5*time.Second)
	setDefault(&c.Drain, 5*time.Second)
	setDefault(&c.MaxEvents, 4096)
	setDefault(&c.MaxBytes, 8<<20)
	return c
}

// Validate reports every fault of a subscription that has its defaults, joined.
func (c Subscription) Validate() error {
	var faults []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			faults = append(faults, fmt.Errorf("subscription %q: "+format, append([]any{c.Trigger}, args...)...))
		}
	}
	check(c.Trigger != "", "trigger: wanted a name")
	check(len(c.Filters) > 0, "filters: wanted at least one")
	for _, f := range c.Filters {
		err := event.CheckFilter(f)
		check(err == nil, "%v", err)
	}
	check(c.QoS <= 1, "qos %d: wanted 0 or 1", c.QoS)
	check(slices.Contains([]function.Retained{function.RetainedSkip, function.RetainedOnce, function.RetainedAlways}, c.Retained),
		"retained %q: wanted skip, once or always", c.Retained)
	check(c.HoldOff > 0 && c.Drain > 0, "hold_off %v, drain %v: wanted more than 0", c.HoldOff, c.Drain)
	check(c.MaxEvents > 0 && c.MaxBytes > 0, "max_events %d, max_bytes %d: wanted more than 0", c.MaxEvents, c.MaxBytes)
	return errors.Join(faults...)
}

// Memory remembers over restarts how often a session has subscribed, for the retained policies. Its methods may block and
// are called from Run and Purge only.
type Memory interface {
	// Subscribed returns how often the session of that client id has subscribed; 0 when never.
	Subscribed(session string) (times uint32, err error)
	// Remember replaces that number; 0 forgets the session.
	Remember(session string, times uint32) error
}

// Session is the subscription of one trigger at one broker: a triggers.Source. It never publishes. Its client id belongs
// to the trigger, not to the node: whoever runs it takes the session over, and the broker cuts off the one before.
//
// Status may be called at any time; Run once; Purge only while Run does not run.
type Session struct {
	broker Broker
	config Subscription
	id     string // client id
	key    string // in memory; the client id, but at QoS 0, where that is a new one for every session
	memory Memory
	log    *slog.Logger
	count  counters

	mu     sync.Mutex
	state  state
	window *window // of the connection that is up
	epoch  uint64
	warned map[string]bool // reasons for shedding that have been logged
}

// NewSession checks the configuration and returns a session that does nothing yet.
func NewSession(b Broker, c Subscription, memory Memory, log *slog.Logger) (*Session, error) {
	b, c = b.WithDefaults(), c.WithDefaults()
	if err := errors.Join(b.Validate(), c.Validate()); err != nil {
		return nil, err
	}
	key := clientID(c)
	s := &Session{broker: b, config: c, id: key, key: key, memory: memory, warned: map[string]bool{},
		log: log.With("broker", b.Name, "trigger", c.Trigger)}
	if c.QoS == 0 {
		s.id = randomID()
	}
	return s, nil
}

// ClientID returns the id the session connects with: 23 letters and digits, all that a server must accept ([MQTT-3.1.3-5]).
func (s *Session) ClientID() string { return s.id }

// clientID depends on all that the broker keeps for a session, so that a changed trigger gets a new one.
func clientID(c Subscription) string {
	filters := slices.Sorted(slices.Values(c.Filters))
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %q %d", c.Cluster, c.Trigger, filters, c.QoS))
	return readableID(sum[:])
}

func randomID() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails
	return readableID(b)
}

func readableID(sum []byte) string {
	text := fmt.Sprintf("%021s", new(big.Int).SetBytes(sum).Text(62))
	return "mf" + text[len(text)-21:]
}

// Run keeps the session connected and hands its messages to the sink until ctx ends. Then it takes nothing new, waits
// for at most Drain until what it had handed over is settled, acknowledges that and disconnects; the broker keeps the rest.
// It always returns nil: what fails is tried again, logged once per reason and shown by Status.
func (s *Session) Run(ctx context.Context, to triggers.Sink) error {
	var retry backoff
	for turn := 0; ctx.Err() == nil; turn++ {
		up, err := s.serve(ctx, s.broker.URLs[turn%len(s.broker.URLs)], to)
		if ctx.Err() != nil {
			return nil
		}
		wait := retry.next(up)
		s.failed(explain("subscribe", &s.broker, err), up > 0, wait)
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
	return nil
}

// serve is one connection from dialling to its end; it returns for how long it was up.
func (s *Session) serve(ctx context.Context, address string, to triggers.Sink) (up time.Duration, err error) {
	l, err := open(ctx, &s.broker, address)
	if err != nil {
		return 0, err
	}
	a := s.receive(ctx, l, to)
	defer a.window.close()
	l.start(a)
	times, err := s.memory.Subscribed(s.key)
	if err != nil {
		_ = l.Close()
		return 0, err
	}
	a.retained.Store(s.config.Retained == function.RetainedAlways || s.config.Retained == function.RetainedOnce && times <= 1)
	c, err := handshake(ctx, &s.broker, identity{s.id, s.config.QoS == 0}, l)
	if err != nil {
		return 0, err
	}
	defer c.disconnect()
	began := time.Now()
	if err := s.subscribe(ctx, c, a, times); err != nil {
		return 0, err
	}
	s.connected(address, a.window)
	select {
	case <-l.ended:
	case <-ctx.Done():
		a.draining.Store(true)
		a.window.idle(s.config.Drain)
	}
	s.disconnected()
	up = max(time.Since(began), 1)
	if ctx.Err() == nil {
		err = c.reason()
	}
	return up, err
}

func (s *Session) receive(ctx context.Context, l *link, to triggers.Sink) *arrival {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epoch++
	var nonce [5]byte
	_, _ = rand.Read(nonce[:]) // never fails
	number := binary.BigEndian.Uint64(append(make([]byte, 3), nonce[:]...))
	return &arrival{
		session: s, ctx: ctx, sink: to, link: l, window: newWindow(l, s.config.HoldOff, &s.count),
		epoch: s.epoch, prefix: new(big.Int).SetUint64(number).Text(62) + "-",
	}
}
