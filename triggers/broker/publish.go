package broker

import (
	"errors"
	"fmt"

	"github.com/mochi-mqtt/server/v2/packets"

	"mayfly/event"
	"mayfly/function"
)

// ErrClosed is wrapped by errors of Publish after Run has ended.
var ErrClosed = errors.New("the broker has stopped")

// Confirmation is told once how a published message fared.
type Confirmation = interface{ Confirmed(error) }

// Ready says whether Publish takes messages: until Run has ended, also before it began.
func (b *Broker) Ready() bool { return !b.closed.Load() }

// Changes holds a signal after Ready changed.
func (b *Broker) Changes() <-chan struct{} { return b.changes }

// Publish delivers m to the triggers and the subscribers that want it, in this process. With QoS 1, c is told nil when
// every durable trigger has settled its event and the message is in the queues of the subscribers (in memory), or an
// error when one trigger could not make it safe: then m should be published again later. With QoS 0 nothing is waited
// for. c may be nil; it is told exactly once, perhaps before Publish returns, and may publish. If Publish returns an
// error, c is never told and nothing was delivered. m.Data must not be changed afterwards.
func (b *Broker) Publish(m *event.Message, c Confirmation) error {
	if err := b.checkMessage(m); err != nil {
		return err
	}
	pk := packets.Packet{
		FixedHeader:     packets.FixedHeader{Type: packets.Publish, Qos: min(m.QoS, 1), Retain: m.Retain},
		TopicName:       m.Topic,
		Payload:         m.Data,
		ProtocolVersion: 5,
		PacketID:        uint16(min(m.QoS, 1)), // never sent, but checked
	}
	d := newDelivery(func(err error) {
		if c != nil {
			c.Confirmed(err)
		}
	})
	b.tell(&pk, event.Delivery{}, d)
	d.close(b.inject(pk))
	return nil
}

func (b *Broker) checkMessage(m *event.Message) error {
	refuse := func(class function.Class, kind string, err error) error {
		return &function.Error{Op: "publish", Subject: m.Topic, Class: class, Kind: kind, Err: err}
	}
	if b.closed.Load() {
		return refuse(function.ClassRetry, "closed", ErrClosed)
	}
	if err := event.CheckTopic(m.Topic); err != nil {
		return refuse(function.ClassReject, "topic", err)
	}
	if m.Topic[0] == '$' {
		return refuse(function.ClassReject, "topic", errors.New("topics that begin with $ are the broker's own"))
	}
	if len(m.Topic)+len(m.Data)+16 > b.limits.Packet {
		return refuse(function.ClassReject, "too-large", fmt.Errorf("%d bytes; the limit of a packet is %d", len(m.Data), b.limits.Packet))
	}
	if m.Retain && !b.retained.admit(m.Topic, len(m.Data)) {
		return refuse(function.ClassOverload, "retained-limit", errors.New("the broker's room for retained messages is used up"))
	}
	return nil
}
