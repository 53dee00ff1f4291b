package mqtt

import (
	"context"
	"errors"
	"maps"
	"time"

	"mayfly/event"
	"mayfly/function"
)

// repeatedly is the number of subscriptions from which on counting tells nothing more.
const repeatedly = 2

// askAgain is how long after it was refused a filter is asked for again: somebody may have changed the broker's access list.
const askAgain = time.Minute

// subscribe makes the broker's subscriptions those of the session's topics. A filter the broker still holds is left alone:
// subscribing again makes it send every retained message again ([MQTT-3.8.4-3]).
//
// A session that is present proves only that somebody connected, not that the SUBSCRIBE behind it arrived; the memory,
// written after the SUBACK, is the proof. The other way round the memory may be one subscription behind (we died between
// SUBACK and Remember): then it is done again, and first-time retained messages come twice rather than never.
//
// With policy once, retained messages are handed on exactly when the broker's latest subscription is the filter's first:
// on the connection that makes it, and on later ones that find the session present (the broker may still be sending them).
// A session that is present and not in our memory at all was another node's: what is retained there is not new.
//
// A filter the broker refuses is no reason to do without the others: it is reported, and asked for again after askAgain.
func (s *Session) subscribe(ctx context.Context, c *client, a *arrival) error {
	s.mu.Lock()
	topics := s.topics
	s.mu.Unlock()
	held := c.present || a.ours
	foreign := c.present && !a.ours && len(a.known) == 0
	var ask []Topic
	wanted := map[string]uint32{}
	for _, t := range topics {
		times := a.known[t.Filter]
		if !held || times == 0 {
			ask = append(ask, t)
			times = min(times+1, repeatedly)
			if foreign {
				times = repeatedly
			}
		}
		wanted[t.Filter] = times
	}
	var gone []string
	for filter := range a.known {
		if _, still := wanted[filter]; !still && held {
			gone = append(gone, filter)
		}
	}
	a.welcome.Store(s.welcome(a, held, wanted))
	refused, err := c.subscribe(ctx, ask, s.broker.ConnectTimeout)
	if err != nil {
		return err
	}
	s.denied(refused)
	for _, filter := range refused {
		delete(wanted, filter)
	}
	if err := c.unsubscribe(ctx, gone, s.broker.ConnectTimeout); err != nil {
		return err
	}
	changed := !maps.Equal(a.known, wanted)
	a.known, a.ours = wanted, true
	if !changed || s.config.Volatile {
		return nil // nothing new: no write for every reconnection
	}
	return s.memory.Remember(s.id, wanted)
}

// remembered returns the filters the session was subscribed to.
func (s *Session) remembered() (map[string]uint32, error) {
	if s.config.Volatile {
		return nil, nil
	}
	return s.memory.Subscribed(s.id)
}

// welcome returns the filters whose retained messages are handed on. wanted holds how often each filter is subscribed
// after what is being done now; nil means that nothing is known of the broker yet, and what it sends first is of a session
// that is present.
func (s *Session) welcome(a *arrival, held bool, wanted map[string]uint32) *[]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var filters []string
	for _, t := range s.topics {
		times, before := wanted[t.Filter], a.known[t.Filter]
		if wanted == nil {
			times = before
		}
		first := times == 1 && (held || before == 0)
		if t.Retained == function.RetainedAlways || t.Retained == function.RetainedOnce && first {
			filters = append(filters, plain(t.Filter))
		}
	}
	return &filters
}

// welcomes says whether a retained message of that topic is handed on.
func (a *arrival) welcomes(topic string) bool {
	for _, filter := range *a.welcome.Load() {
		if event.MatchFilter(filter, topic) {
			return true
		}
	}
	return false
}

// Purge makes the broker forget the session and everything it keeps for it, and us that it was ever subscribed. For a
// session that no trigger needs any more: otherwise the broker queues for it for ever. Purging a session that does not exist
// is no error; of a volatile one nothing is kept.
func (s *Session) Purge(ctx context.Context) error {
	if s.config.Volatile {
		return nil
	}
	var faults []error
	for _, address := range s.broker.URLs {
		l, err := open(ctx, &s.broker, address)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		l.start(discard{})
		c, err := handshake(ctx, &s.broker, identity{s.id, true}, l)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		c.disconnect()
		return s.memory.Remember(s.id, nil)
	}
	return explain("purge", &s.broker, errors.Join(faults...))
}

// discard is the receiver of a connection that expects no message.
type discard struct{}

func (discard) publish(inbound) error { return nil }
func (discard) puback(uint16) error   { return errProtocol }
func (discard) flushed(uint64)        {}
func (discard) pong(uint64)           {}
