package ownership

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"mayfly/event"
	"mayfly/triggers"
)

// Publisher says a message at one broker. Confirmed is called once if Publish returned nil, when the broker has it or it is not known
// whether it has.
type Publisher interface {
	Publish(m *event.Message, c interface{ Confirmed(error) }) error
}

// Board is the claims at one broker as this node knows them. It is a triggers.Sink for a subscription to Filter, with retained
// messages, and wants to be told about that subscription's connections (Enter, Entered, Left). Safe for concurrent use.
type Board struct {
	cluster string
	out     Publisher
	settle  time.Duration
	log     *slog.Logger

	mu      sync.Mutex
	claims  map[string]Known
	echo    echo
	since   time.Time     // listening since then; zero = it is not
	changed chan struct{} // closed at the next change
}

// NewBoard returns a board on which nothing is known. settle is how long after its subscription the claims the broker kept have come.
func NewBoard(cluster string, out Publisher, settle time.Duration, log *slog.Logger) *Board {
	return &Board{
		cluster: cluster, out: out, settle: settle, log: log, claims: map[string]Known{}, changed: make(chan struct{}), echo: echo{name: rand.Text()},
	}
}

// Filter is what the board's subscription has to subscribe to.
func (b *Board) Filter() string { return b.topic("+") }

func (b *Board) topic(session string) string { return "mayfly/" + b.cluster + "/claims/" + session }

// Accept implements triggers.Sink: ev is a claim somebody made, perhaps this node itself.
func (b *Board) Accept(_ context.Context, ev *event.Event, r triggers.Receipt) error {
	if r != nil {
		defer r.Settle(triggers.Settlement{})
	}
	if ev.Topic == b.Echoes() {
		b.echoed(ev.Data)
		return nil
	}
	session, ok := strings.CutPrefix(ev.Topic, b.topic(""))
	if !ok {
		return fmt.Errorf("%w: topic %q", errClaim, ev.Topic)
	}
	if len(ev.Data) == 0 {
		b.mu.Lock()
		delete(b.claims, session)
		b.touch()
		b.mu.Unlock()
		return nil
	}
	c, err := ParseClaim(ev.Data)
	if err != nil {
		b.log.Warn("somebody publishes where owners of triggers claim them", "topic", ev.Topic, "err", err)
		return err
	}
	b.hear(session, c, ev.Retained)
	return nil
}

// hear takes note of a claim. One that the broker had kept is a sign of life only when it says something new.
func (b *Board) hear(session string, c Claim, kept bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	k, known := b.claims[session]
	if c.Released {
		k.Let = max(k.Let, c.Epoch)
	}
	if !known || c.supersedes(k.Claim) {
		k.Claim, k.Heard = c, time.Now()
		if !known && kept {
			k.Heard = time.Time{}
		}
	}
	b.claims[session] = k
	b.touch()
}

func (b *Board) touch() {
	close(b.changed)
	b.changed = make(chan struct{})
}

// known returns what is known of a session, and a channel that is closed when anything on the board changes.
func (b *Board) known(session string) (Known, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.claims[session], b.changed
}

// Owner returns the node that has a session by its latest claim; "" when nobody says so.
func (b *Board) Owner(session string) string {
	k, _ := b.known(session)
	if k.Released {
		return ""
	}
	return k.Node
}

// Orphaned says whether there is a claim of a session, and whether nobody is behind it: it was given away, or its owner has given no
// sign of life for longer than is believed. While the board does not listen there may be a claim.
func (b *Board) Orphaned(session string) (claimed, orphaned bool) {
	wait, ok, _ := b.ready()
	b.mu.Lock()
	defer b.mu.Unlock()
	k, known := b.claims[session]
	if !ok || wait > 0 || !known {
		return !ok || wait > 0, false
	}
	last := k.Heard
	if b.since.After(last) {
		last = b.since
	}
	return true, k.Released || time.Since(last) > Rules{}.WithDefaults().Fresh
}

// ready returns how long it takes until the claims that the broker kept are known; ok is false while the board does not listen.
func (b *Board) ready() (wait time.Duration, ok bool, changed <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return max(0, time.Until(b.since.Add(b.settle))), !b.since.IsZero(), b.changed
}

// Enter says that the subscription may connect, at any time.
func (b *Board) Enter(context.Context) (fence uint64, ok bool) { return 0, true }

// Entered says that the subscription is up.
func (b *Board) Entered() { b.listening(time.Now()) }

// Leaving says that the subscription is about to end.
func (b *Board) Leaving() {}

// Left says that the subscription's connection has ended.
func (b *Board) Left() { b.listening(time.Time{}) }

func (b *Board) listening(since time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.since = since
	b.touch()
}

// Publish makes a claim and returns when the broker has confirmed it. It is known here at once.
func (b *Board) publish(ctx context.Context, session string, c Claim, retain bool) error {
	data, err := c.encode()
	if err != nil {
		return err
	}
	if err := b.say(ctx, event.Message{Topic: b.topic(session), Data: data, QoS: 1, Retain: retain}); err != nil {
		return fmt.Errorf("claim %s: %w", session, err)
	}
	b.hear(session, c, false)
	return b.firstEcho()
}

// clear takes the claim of a session that is no more off the board, for everybody.
func (b *Board) clear(ctx context.Context, session string) error {
	if err := b.say(ctx, event.Message{Topic: b.topic(session), QoS: 1, Retain: true}); err != nil {
		return fmt.Errorf("clear the claim of %s: %w", session, err)
	}
	return nil
}

func (b *Board) say(ctx context.Context, m event.Message) error {
	told := make(confirmation, 1)
	if err := b.out.Publish(&m, told); err != nil {
		return err
	}
	select {
	case err := <-told:
		return err
	case <-ctx.Done():
		return errors.Join(ctx.Err(), errors.New("the broker did not confirm in time"))
	}
}

type confirmation chan error

// Confirmed is called once.
func (c confirmation) Confirmed(err error) { c <- err }
