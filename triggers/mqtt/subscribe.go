package mqtt

import (
	"context"
	"errors"

	"mayfly/function"
)

// repeatedly is the number of subscriptions from which on counting tells nothing more.
const repeatedly = 2

// subscribe subscribes unless the broker still holds the subscription: subscribing again makes it send every retained
// message again ([MQTT-3.8.4-3]).
//
// A session that is present proves only that somebody connected, not that the SUBSCRIBE behind it arrived; the memory,
// written after the SUBACK, is the proof. The other way round the memory may be one subscription behind (we died between
// SUBACK and Remember): then it is done again, and first-time retained messages come twice rather than never.
//
// With policy once, retained messages are handed on exactly when the broker's latest subscription is the trigger's first:
// on the connection that makes it, and on later ones that find the session present (the broker may still be sending them).
// A session that is present and not in our memory was another node's: what is retained there is not new.
func (s *Session) subscribe(ctx context.Context, c *client, a *arrival, times uint32) error {
	if c.present && times > 0 {
		return nil
	}
	if s.config.Retained == function.RetainedOnce {
		a.retained.Store(times == 0 && !c.present)
	}
	if err := c.subscribe(ctx, s.config.Filters, s.config.QoS, s.broker.ConnectTimeout); err != nil {
		return err
	}
	if times >= repeatedly {
		return nil // nothing new: no write for every reconnection
	}
	if c.present {
		return s.memory.Remember(s.key, repeatedly)
	}
	return s.memory.Remember(s.key, times+1)
}

// Purge makes the broker forget the session and everything it keeps for it, and us that it was ever subscribed. For a
// trigger that was deleted or changed: otherwise the broker queues for it for ever. Purging a session that does not exist
// is no error; at QoS 0 there is nothing to purge.
func (s *Session) Purge(ctx context.Context) error {
	if s.config.QoS == 0 {
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
		return s.memory.Remember(s.key, 0)
	}
	return explain("purge", &s.broker, errors.Join(faults...))
}

// discard is the receiver of a connection that expects no message.
type discard struct{}

func (discard) publish(inbound) error { return nil }
func (discard) puback(uint16) error   { return errProtocol }
func (discard) flushed(uint64)        {}
