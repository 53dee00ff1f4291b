package mqtt

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"mayfly/function"
)

// Status is what a session or publisher is doing, for people.
type Status struct {
	Broker    string
	ClientID  string
	Connected bool
	URL       string          // of the connection that is up
	Since     time.Time       // when it came up, or when the last one was lost
	Attempts  int             // failed in a row
	NextTry   time.Time       // zero when connected
	Err       *function.Error // why the last connection ended or failed, kept until the next one is up; or why topics are denied
	ErrAt     time.Time       // when Err happened last
	Denied    []string        // filters the broker does not let us subscribe to; asked for again every minute

	Connects    uint64 // connections that came up
	Received    uint64 // messages from the broker
	Redelivered uint64 // of them with DUP
	Retained    uint64 // of them dropped by the retained policy
	Refused     uint64 // QoS 1 events the sink answered with an error
	Acked       uint64 // PUBACKs written
	GivenBack   uint64 // settled with an error, so left to the broker
	Unsettled   int    // QoS 1 events handed over and not settled
	Bytes       int64  // of them
	Sent        uint64 // messages published
	Confirmed   uint64 // of them confirmed (QoS 1) or written (QoS 0)
	Unknown     uint64 // of them unconfirmed when the connection ended
	Shed        map[string]uint64
}

// counters are read while they are counted.
type counters struct {
	received, redelivered, retained, refused, acked, givenBack, sent, confirmed, unknown atomic.Uint64
}

// state is the part of Status that changes with the connection.
type state struct {
	up       bool
	url      string
	since    time.Time
	attempts int
	nextTry  time.Time
	err      *function.Error
	errAt    time.Time
	connects uint64
	denied   []string
	shed     map[string]uint64
}

func (st *state) status(b *Broker, id string, c *counters) Status {
	return Status{
		Broker: b.Name, ClientID: id, Connected: st.up, URL: st.url, Since: st.since, Attempts: st.attempts, NextTry: st.nextTry,
		Err: st.err, ErrAt: st.errAt, Connects: st.connects, Received: c.received.Load(), Redelivered: c.redelivered.Load(),
		Retained: c.retained.Load(), Refused: c.refused.Load(), Acked: c.acked.Load(), GivenBack: c.givenBack.Load(),
		Sent: c.sent.Load(), Confirmed: c.confirmed.Load(), Unknown: c.unknown.Load(), Shed: maps.Clone(st.shed),
	}
}

func (st *state) connected(url string) {
	st.up, st.url, st.since, st.attempts, st.nextTry, st.err = true, url, time.Now(), 0, time.Time{}, nil
	st.errAt = time.Time{}
	st.connects++
}

func (st *state) disconnected() {
	st.up, st.url, st.since = false, "", time.Now()
}

// failed notes why and reports whether the reason is news.
func (st *state) failed(err *function.Error, wasUp bool, wait time.Duration) (news bool) {
	news = wasUp || st.err == nil || st.err.Kind != err.Kind
	st.err, st.errAt = err, time.Now()
	st.nextTry = st.errAt.Add(wait)
	st.attempts++
	return news
}

// Status returns what the session is doing.
func (s *Session) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.state.status(&s.broker, s.id, &s.count)
	st.Denied = s.state.denied
	if st.Connected && len(st.Denied) > 0 {
		st.ErrAt = st.Since
		st.Err = explain("subscribe", &s.broker, fmt.Errorf("%w to %s", errRefusedSub, strings.Join(st.Denied, ", ")))
	}
	if s.window != nil {
		st.Unsettled, st.Bytes = s.window.load()
	}
	return st
}

func (s *Session) connected(url string, w *window) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.connected(url)
	s.window = w
	s.log.Info("subscribed", "url", url, "client", s.id)
}

// denied notes the filters that were refused.
func (s *Session) denied(filters []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(filters) > 0 && !slices.Equal(filters, s.state.denied) {
		s.log.Warn("the broker refuses subscriptions", "filters", filters, "hint", causeOf(errRefusedSub).hint)
	}
	s.state.denied = filters
}

func (s *Session) disconnected() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.disconnected()
	s.window = nil
}

func (s *Session) failed(err *function.Error, wasUp bool, wait time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state.failed(err, wasUp, wait) {
		s.log.Warn("no subscription at the broker", "reason", err.Kind, "err", err, "hint", err.Hint, "retry", wait)
	}
}

// shed counts a message that is lost, and says so once per reason (promise D8).
func (s *Session) shed(reason, topic string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state.shed == nil {
		s.state.shed = map[string]uint64{}
	}
	s.state.shed[reason]++
	if !s.warned[reason] {
		s.warned[reason] = true
		s.log.Warn("message dropped; further ones for this reason are only counted", "reason", reason, "topic", topic)
	}
}
