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
	"strings"
	"sync"
	"time"

	"mayfly/event"
	"mayfly/function"
	"mayfly/triggers"
)

// Topic is one filter a session is subscribed to.
type Topic struct {
	Filter   string // $share/group/filter included
	QoS      byte   // 0 or 1
	Retained function.Retained
}

// Subscription says what a session is for. The zero value of a field below the line means its default.
type Subscription struct {
	Cluster string  // id of the cluster (of the node, for triggers of scope node): part of the client id
	Session string  // what tells it from the cluster's other sessions at this broker, such as "triggers-0": part of the client id
	Topics  []Topic // to begin with; no two of their filters may overlap. SetTopics changes them

	// Volatile sessions have an id of their own and nothing is kept for them: for somebody who only watches.
	Volatile bool

	// Gate decides about connections; nil: the session may always connect. For a session that another node may take over.
	Gate Gate

	HoldOff   time.Duration // default 5 s: how long a given-back event may block the ones behind it before the connection is dropped; also how long reading is held back
	Drain     time.Duration // default 5 s: how long Run waits for receipts when it is told to stop
	MaxEvents int           // default 4096 QoS 1 events handed over and not settled
	MaxBytes  int64         // default 8 MiB of them
}

// WithDefaults returns c with every zero field at its default.
func (c Subscription) WithDefaults() Subscription {
	c.Topics = slices.Clone(c.Topics)
	for i := range c.Topics {
		setDefault(&c.Topics[i].Retained, function.RetainedOnce)
	}
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
			faults = append(faults, fmt.Errorf("session %q: "+format, append([]any{c.Session}, args...)...))
		}
	}
	check(c.Session != "", "wanted a name")
	check(c.HoldOff > 0 && c.Drain > 0, "hold_off %v, drain %v: wanted more than 0", c.HoldOff, c.Drain)
	check(c.MaxEvents > 0 && c.MaxBytes > 0, "max_events %d, max_bytes %d: wanted more than 0", c.MaxEvents, c.MaxBytes)
	return errors.Join(append(faults, checkTopics(c.Topics))...)
}

func checkTopics(topics []Topic) error {
	var faults []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	for i, t := range topics {
		err := event.CheckFilter(t.Filter)
		check(err == nil, "%v", err)
		check(t.QoS <= 1, "%s: qos %d: wanted 0 or 1", t.Filter, t.QoS)
		check(slices.Contains([]function.Retained{function.RetainedSkip, function.RetainedOnce, function.RetainedAlways}, t.Retained),
			"%s: retained %q: wanted skip, once or always", t.Filter, t.Retained)
		for _, other := range topics[:i] {
			check(err != nil || event.CheckFilter(other.Filter) != nil || !event.Overlaps(plain(t.Filter), plain(other.Filter)),
				"%s overlaps %s: the broker may send a message twice", t.Filter, other.Filter)
		}
	}
	return errors.Join(faults...)
}

// plain returns the filter that topics are matched with, without $share/group/.
func plain(filter string) string {
	if rest, ok := strings.CutPrefix(filter, "$share/"); ok {
		if _, inner, ok := strings.Cut(rest, "/"); ok {
			return inner
		}
	}
	return filter
}

// Memory remembers over restarts which filters a session has subscribed to, and how often, for the retained policies and for
// taking back the ones that are not wanted any more. Its methods may block and are called from Run and Purge only.
type Memory interface {
	// Subscribed returns the session's filters; nil when it was never subscribed.
	Subscribed(session string) (filters map[string]uint32, err error)
	// Remember replaces them; nil forgets the session.
	Remember(session string, filters map[string]uint32) error
}

// Gate is asked before every connection of a session, and told how they fare. Its methods are called from Run, one at a time.
type Gate interface {
	// Enter may wait. With ok false the session is not to be connected any more, and Run returns. The fence is put into every event
	// that comes until the next call (event.Delivery).
	Enter(ctx context.Context) (fence uint64, ok bool)
	// Entered says that the session is connected and subscribed.
	Entered()
	// Leaving says that Run was told to stop while connected: nothing more is handed over, and what was is waited for.
	Leaving()
	// Left says that a connection that was Entered has ended.
	Left()
}

// Session is the subscription of some triggers at one broker: a triggers.Source. It never publishes. Its client id belongs
// to the triggers, not to the node: whoever runs it takes the session over, and the broker cuts off the one before.
//
// An event that was handed over and not settled when the connection ended is not handed over again when the broker sends it
// again: the new delivery takes over the receipt of the old one.
//
// Status and SetTopics may be called at any time; Run when it does not run already; Purge only while it does not.
type Session struct {
	broker Broker
	config Subscription
	id     string // client id
	memory Memory
	log    *slog.Logger
	count  counters

	changed chan struct{} // topics changed

	mu     sync.Mutex
	topics []Topic
	orphan map[uint16]*delivery // handed over on earlier connections, not acknowledged, by packet id
	state  state
	window *window // of the connection that is up
	epoch  uint64
	fence  uint64          // the gate's
	warned map[string]bool // reasons for shedding that have been logged
}

// NewSession checks the configuration and returns a session that does nothing yet.
func NewSession(b Broker, c Subscription, memory Memory, log *slog.Logger) (*Session, error) {
	b, c = b.WithDefaults(), c.WithDefaults()
	if err := errors.Join(b.Validate(), c.Validate()); err != nil {
		return nil, err
	}
	s := &Session{
		broker: b, config: c, id: clientID(c), memory: memory, warned: map[string]bool{}, topics: c.Topics,
		changed: make(chan struct{}, 1), log: log.With("broker", b.Name, "session", c.Session),
	}
	if c.Volatile {
		s.id = randomID()
	}
	return s, nil
}

// SetTopics makes topics the ones the session is subscribed to: new ones are subscribed, missing ones unsubscribed, at once or
// when the connection is back. Messages of the others are not touched. No two filters may overlap.
func (s *Session) SetTopics(topics []Topic) error {
	c := Subscription{Topics: topics}.WithDefaults()
	if err := checkTopics(c.Topics); err != nil {
		return err
	}
	s.mu.Lock()
	s.topics = c.Topics
	s.mu.Unlock()
	select {
	case s.changed <- struct{}{}:
	default:
	}
	return nil
}

// ClientID returns the id the session connects with: 23 letters and digits, all that a server must accept ([MQTT-3.1.3-5]).
func (s *Session) ClientID() string { return s.id }

// ClientID returns the client id of the session that c describes. It does not depend on the topics.
func ClientID(c Subscription) string { return clientID(c) }

// clientID does not depend on the topics: a session whose triggers change stays the same session, and what the broker keeps
// for it stays.
func clientID(c Subscription) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q", c.Cluster, c.Session))
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
// for at most Drain until what it had handed over is settled, acknowledges that and disconnects; the broker keeps the rest. It
// also ends when the gate says so. It always returns nil: what fails is tried again, logged once per reason and shown by Status.
func (s *Session) Run(ctx context.Context, to triggers.Sink) error {
	var retry backoff
	for turn := 0; ctx.Err() == nil && s.enter(ctx); turn++ {
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

// enter asks the gate. With another fence somebody else may have had the session meanwhile, and packet ids may be in use again: then
// nothing that comes is taken for a redelivery of what is still here.
func (s *Session) enter(ctx context.Context) bool {
	if s.config.Gate == nil {
		return true
	}
	fence, ok := s.config.Gate.Enter(ctx)
	if !ok {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if fence != s.fence {
		clear(s.orphan)
	}
	s.fence = fence
	return true
}

// serve is one connection from dialling to its end; it returns for how long it was up.
func (s *Session) serve(ctx context.Context, address string, to triggers.Sink) (up time.Duration, err error) {
	l, err := open(ctx, &s.broker, address)
	if err != nil {
		return 0, err
	}
	a := s.receive(ctx, l, to)
	defer s.orphaned(a.window)
	known, err := s.remembered()
	if err != nil {
		_ = l.Close()
		return 0, err
	}
	a.known = known
	a.welcome.Store(s.welcome(a, true, nil))
	l.start(a)
	c, err := handshake(ctx, &s.broker, identity{s.id, s.config.Volatile}, l)
	if err != nil {
		return 0, err
	}
	defer c.disconnect()
	began := time.Now()
	if !c.present {
		s.forsake() // packet ids of a session that is gone mean nothing
	}
	if err := s.subscribe(ctx, c, a); err != nil {
		return 0, err
	}
	s.connected(address, a.window)
	if s.config.Gate != nil {
		s.config.Gate.Entered()
	}
	err = s.attend(ctx, c, a)
	a.drain() // what was read and not handed on comes again; it must not overtake what is withdrawn now
	s.disconnected()
	if s.config.Gate != nil {
		s.config.Gate.Left()
	}
	up = max(time.Since(began), 1)
	if err == nil && ctx.Err() == nil {
		err = c.reason()
	}
	return up, err
}

// attend lets the connection run until it ends or ctx does, and subscribes to what changes.
func (s *Session) attend(ctx context.Context, c *client, a *arrival) error {
	again := time.NewTicker(askAgain)
	defer again.Stop()
	for {
		select {
		case <-c.ended:
			return nil
		case <-again.C:
			if len(s.Status().Denied) == 0 {
				continue
			}
			if err := s.subscribe(ctx, c, a); err != nil {
				return err
			}
		case <-s.changed:
			if err := s.subscribe(ctx, c, a); err != nil {
				return err
			}
		case <-ctx.Done():
			a.drain()
			if s.config.Gate != nil {
				s.config.Gate.Leaving()
			}
			a.window.idle(s.config.Drain)
			return nil
		}
	}
}

func (s *Session) receive(ctx context.Context, l *link, to triggers.Sink) *arrival {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epoch++
	var nonce [5]byte
	_, _ = rand.Read(nonce[:]) // never fails
	number := binary.BigEndian.Uint64(append(make([]byte, 3), nonce[:]...))
	return &arrival{
		session: s, link: l, window: newWindow(l, s.config.HoldOff, &s.count),
		accept: func(ev *event.Event, r triggers.Receipt) error { return to.Accept(ctx, ev, r) },
		epoch:  s.epoch, fence: s.fence, prefix: new(big.Int).SetUint64(number).Text(62) + "-",
	}
}
