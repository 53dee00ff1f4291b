package broker

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/mochi-mqtt/server/v2/system"

	"mayfly/event"
)

const maxClientID = 256 // bytes

// hook is where the library asks us: who may do what, what is kept, and what happens to a publish.
type hook struct {
	mqtt.HookBase
	b *Broker
}

func (h *hook) ID() string { return "mayfly" }

// Provides names the questions we answer.
func (h *hook) Provides(q byte) bool {
	return bytes.IndexByte([]byte{
		mqtt.OnConnect, mqtt.OnConnectAuthenticate, mqtt.OnACLCheck, mqtt.OnDisconnect,
		mqtt.OnPacketRead, mqtt.OnPacketEncode, mqtt.OnPacketProcessed, mqtt.OnSubscribe, mqtt.OnPublish, mqtt.OnPublishDropped, mqtt.OnQosPublish,
		mqtt.OnQosComplete, mqtt.OnQosDropped, mqtt.OnSessionEstablished, mqtt.OnWill, mqtt.OnWillSent, mqtt.OnClientExpired, mqtt.OnRetainedExpired, mqtt.OnSysInfoTick,
	}, q) >= 0
}

// OnConnect comes first, before the client is known to anybody else.
func (h *hook) OnConnect(cl *mqtt.Client, pk packets.Packet) error {
	c := connOf(cl)
	c.client, c.version = cl, pk.ProtocolVersion
	if !pk.Connect.Clean { // others have nothing to send again ([MQTT-4.4.0-1])
		c.session = event.Delivery{Session: h.b.name + "/" + cl.ID, Epoch: h.b.epochs.Add(1)}
	}
	c.flow.most = int(cl.Properties.Props.ReceiveMaximum)
	cl.Properties.Props.ReceiveMaximum = 0
	cl.State.Inflight.ResetSendQuota(0)
	// The library keeps delayed wills of any number of client ids and forgets to retain them: send them at once.
	cl.Properties.Will.WillDelayInterval = 0
	if len(cl.ID) > maxClientID {
		h.b.losses.count(lossRefusal, "client id too long")
		return packets.ErrClientIdentifierNotValid
	}
	return nil
}

// OnConnectAuthenticate says whether the client is who it says and may have this session and this will.
func (h *hook) OnConnectAuthenticate(cl *mqtt.Client, pk packets.Packet) bool {
	c := connOf(cl)
	if c.users != nil {
		if c.user = c.users.authenticate(pk.Connect.Username, pk.Connect.Password); c.user == nil {
			h.b.losses.count(lossRefusal, "wrong user or password from "+cl.Net.Remote)
			return false
		}
	}
	if err := h.checkSession(cl, c); err != nil {
		h.b.losses.count(lossRefusal, fmt.Sprintf("client %q from %s: %v", cl.ID, cl.Net.Remote, err))
		return false
	}
	return true
}

func (h *hook) checkSession(cl *mqtt.Client, c *conn) error {
	old, known := h.b.server.Clients.Get(cl.ID)
	switch {
	case known && connOf(old) != nil && connOf(old).user != c.user && !sameName(connOf(old).user, c.user):
		return errors.New("the session belongs to another user")
	case !known && h.b.server.Clients.Len() >= h.b.limits.Sessions:
		return errors.New("too many sessions")
	case hasWill(cl) && (event.CheckTopic(cl.Properties.Will.TopicName) != nil || strings.HasPrefix(cl.Properties.Will.TopicName, "$")):
		return errors.New("its will has no valid topic")
	case hasWill(cl) && c.user != nil && !c.user.may(cl.Properties.Will.TopicName, true):
		return errors.New("it may not publish to the topic of its will")
	}
	return nil
}

func sameName(a, b *user) bool { return a != nil && b != nil && a.name == b.name }

// hasWill says whether the client left a will.
func hasWill(cl *mqtt.Client) bool { return atomic.LoadUint32(&cl.Properties.Will.Flag) != 0 }

// OnACLCheck is asked before a publish, for each filter of a subscription, and before each delivery.
func (h *hook) OnACLCheck(cl *mqtt.Client, topic string, write bool) bool {
	c := connOf(cl)
	if c == nil {
		return cl.Net.Inline
	}
	ok := event.CheckFilter(topic) == nil && topic[0] != '$' // neither $share nor $SYS, see DESIGN.md
	if ok && c.user != nil {
		ok = c.user.may(topic, write)
	}
	if !ok {
		h.b.losses.count(lossForbidden, cl.ID+" "+topic)
	}
	return ok
}

// OnPacketRead ends the connection of a client that publishes to something that is no topic: the library would leave the
// message without an answer for ever.
func (h *hook) OnPacketRead(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	if pk.FixedHeader.Type == packets.Publish &&
		(event.CheckTopic(pk.TopicName) != nil || pk.FixedHeader.Qos > 2 || pk.TopicName[0] == '$') {
		return pk, packets.ErrRejectPacket
	}
	return pk, nil
}

// OnPacketEncode holds back messages (not acknowledgements) for a client that is slow to take them, before the library
// locks the client.
func (h *hook) OnPacketEncode(cl *mqtt.Client, pk packets.Packet) packets.Packet {
	if c := connOf(cl); c != nil && pk.FixedHeader.Type == packets.Publish {
		c.waitForRoom()
		if pk.FixedHeader.Qos > 0 && c.version == 5 {
			c.flow.send()
		}
	}
	return pk
}

// OnSessionEstablished comes when a resumed session has its messages again and the client is about to be read.
func (h *hook) OnSessionEstablished(cl *mqtt.Client, _ packets.Packet) { connOf(cl).flow.resumed() }

// OnQosComplete is told of the end of a message in either direction: PUBACK and PUBCOMP are for ours.
func (h *hook) OnQosComplete(cl *mqtt.Client, pk packets.Packet) {
	if t := pk.FixedHeader.Type; t == packets.Puback || t == packets.Pubcomp {
		connOf(cl).flow.acknowledged()
	}
}

// OnQosDropped is told of a PUBREC that refuses a message of ours.
func (h *hook) OnQosDropped(cl *mqtt.Client, pk packets.Packet) {
	if pk.FixedHeader.Type == packets.Pubrec {
		connOf(cl).flow.acknowledged()
	}
}

// OnSubscribe makes the filters beyond the limit invalid, which the library answers with a failure code. Until the packet
// is processed nothing is retained: the library looks for retained messages without a lock.
func (h *hook) OnSubscribe(cl *mqtt.Client, pk packets.Packet) packets.Packet {
	h.b.retained.scan.RLock()
	connOf(cl).scanning = true
	n := cl.State.Subscriptions.Len()
	for i := range pk.Filters {
		if n++; n > h.b.limits.Subscriptions {
			pk.Filters[i].Filter = ""
		}
	}
	return pk
}

// OnPacketProcessed ends what OnSubscribe began.
func (h *hook) OnPacketProcessed(cl *mqtt.Client, _ packets.Packet, _ error) {
	if c := connOf(cl); c != nil {
		h.b.scanned(c)
	}
}

func (b *Broker) scanned(c *conn) {
	if c.scanning {
		c.scanning = false
		b.retained.scan.RUnlock()
	}
}

// OnPublish decides what becomes of a publish. Those of QoS 1 and 2 are taken out of the library's hands: it would
// acknowledge them first and deliver them afterwards.
func (h *hook) OnPublish(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	if cl.Net.Inline {
		pk.Origin, pk.Connect.ClientIdentifier = pk.Connect.ClientIdentifier, ""
		return pk, nil
	}
	if pk.FixedHeader.Retain && !h.b.retained.admit(pk.TopicName, len(pk.Payload)) {
		pk.FixedHeader.Retain = false
		h.b.losses.count(lossRetained, pk.TopicName)
	}
	if pk.FixedHeader.Qos == 0 {
		h.b.tell(&pk, event.Delivery{}, nil)
		if !pk.FixedHeader.Retain {
			return pk, nil
		}
		h.b.pass(cl, pk)
		return pk, packets.ErrRejectPacket
	}
	h.b.ingest(cl, pk)
	return pk, packets.ErrRejectPacket
}

// OnPublishDropped counts what a connected subscriber was too slow for.
func (h *hook) OnPublishDropped(cl *mqtt.Client, _ packets.Packet) { h.b.losses.count(lossSlow, cl.ID) }

// OnQosPublish bounds the bytes kept for an absent session.
func (h *hook) OnQosPublish(cl *mqtt.Client, pk packets.Packet, _ int64, _ int) {
	c := connOf(cl)
	if c == nil || pk.FixedHeader.Type != packets.Publish || !cl.Closed() {
		return
	}
	if c.offline.Add(int64(len(pk.Payload))) <= h.b.limits.OfflineBytes {
		return
	}
	c.offline.Add(-int64(len(pk.Payload)))
	if cl.State.Inflight.Delete(pk.PacketID) {
		atomic.AddInt64(&h.b.server.Info.Inflight, -1)
		h.b.losses.count(lossOffline, cl.ID)
	}
}

// OnDisconnect starts the count of an absent session's bytes.
func (h *hook) OnDisconnect(cl *mqtt.Client, _ error, expire bool) {
	c := connOf(cl)
	c.acks.close()
	if expire {
		return
	}
	var bytes int64
	for _, pk := range cl.State.Inflight.GetAll(false) {
		bytes += int64(len(pk.Payload))
	}
	c.offline.Store(bytes)
}

// OnWill keeps the library from retaining a will: OnWillSent does.
func (h *hook) OnWill(_ *mqtt.Client, will mqtt.Will) (mqtt.Will, error) {
	will.Retain = false
	return will, nil
}

// OnWillSent retains the will if it asks for that and there is room, and tells the triggers. Nobody waits for a will to be
// acknowledged.
func (h *hook) OnWillSent(cl *mqtt.Client, pk packets.Packet) {
	if cl.Properties.Will.Retain {
		if h.b.retained.admit(pk.TopicName, len(pk.Payload)) {
			kept := pk.Copy(false)
			kept.FixedHeader.Retain = true
			h.b.retained.scan.Lock()
			h.b.server.Topics.RetainMessage(kept)
			h.b.retained.scan.Unlock()
		} else {
			h.b.losses.count(lossRetained, pk.TopicName)
		}
	}
	h.b.tell(&pk, event.Delivery{}, nil)
}

// OnClientExpired frees what the library leaves behind of an expired session.
func (h *hook) OnClientExpired(cl *mqtt.Client) {
	if n := cl.State.Inflight.Len(); n > 0 {
		h.b.losses.add(lossExpired, int64(n), cl.ID)
	}
	cl.ClearInflights()
	h.b.server.UnsubscribeClient(cl)
}

// OnRetainedExpired keeps the ledger true.
func (h *hook) OnRetainedExpired(topic string) { h.b.retained.drop(topic) }

// OnSysInfoTick counts what the library drops without telling.
func (h *hook) OnSysInfoTick(info *system.Info) { h.b.countQueueFull(info.InflightDropped) }

// ingest hands a publish of QoS 1 or 2 to the triggers and the subscribers. It is acknowledged when every trigger has
// settled; if one could not make it safe, it is not, and the client is disconnected: an MQTT 3.1.1 client sends again
// only after it has connected again.
func (b *Broker) ingest(cl *mqtt.Client, pk packets.Packet) {
	c := connOf(cl)
	one, ok := c.acks.reserve(&pk, b.limits.Window)
	if !ok {
		b.dismiss(cl, lossWindow)
		return
	}
	d := newDelivery(func(err error) {
		if err != nil {
			b.dismiss(cl, lossUnsettled)
			return
		}
		c.acks.settled(one, func(a *ack) { b.acknowledge(cl, a) })
	})
	from := c.session
	if from.Session != "" {
		from.PacketID = pk.PacketID
	}
	b.tell(&pk, from, d)
	b.pass(cl, pk)
	d.close(nil)
}

// pass brings a client's message to the retained messages and to the subscribers, as our own publisher.
func (b *Broker) pass(cl *mqtt.Client, pk packets.Packet) {
	pk.Connect.ClientIdentifier = cl.ID // our publisher's hook makes it the origin again
	if err := b.inject(pk); err != nil {
		b.log.Debug("message not delivered to subscribers", "topic", pk.TopicName, "error", err)
	}
}

func (b *Broker) inject(pk packets.Packet) error {
	if pk.FixedHeader.Retain {
		b.retained.scan.Lock()
		defer b.retained.scan.Unlock()
	}
	return b.server.InjectPacket(b.own, pk)
}

// acknowledge writes PUBACK or PUBREC. A write error means the connection is gone, and the client will send again.
func (b *Broker) acknowledge(cl *mqtt.Client, a *ack) {
	out := packets.Packet{FixedHeader: packets.FixedHeader{Type: a.kind}, PacketID: a.packetID, Created: time.Now().Unix()}
	if a.kind == packets.Pubrec {
		cl.State.Inflight.DecreaseReceiveQuota()
		if cl.State.Inflight.Set(out) { // until PUBREL: [MQTT-4.3.3-2]
			atomic.AddInt64(&b.server.Info.Inflight, 1)
		}
	}
	_ = cl.WritePacket(out)
}

// dismiss disconnects a client whose publish we cannot acknowledge.
func (b *Broker) dismiss(cl *mqtt.Client, why loss) {
	if cl.Closed() {
		return
	}
	b.losses.count(why, cl.ID)
	_ = b.server.DisconnectClient(cl, packets.ErrQuotaExceeded)
}
