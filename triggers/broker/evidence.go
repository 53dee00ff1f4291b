package broker

import (
	"hash/maphash"
	"sync"

	"github.com/mochi-mqtt/server/v2/packets"
)

const evidenceSlots = 256

// evidence is what we remember of the last publishes of one session, to give a message that is sent again the event id
// it had. Equal readings are legal: only the client's own DUP flag together with packet id, topic and payload say
// "again". It lives in memory: after a restart a message that is sent again is a new event.
type evidence struct {
	mu    sync.Mutex
	slots [evidenceSlots]struct {
		hash     uint64
		packetID uint16
		id       string
	}
}

// identify returns the id of the event the packet stands for: the earlier one if it is sent again, else mint's.
func (e *evidence) identify(seed maphash.Seed, pk *packets.Packet, mint func() string) string {
	var h maphash.Hash
	h.SetSeed(seed)
	h.WriteString(pk.TopicName)
	h.WriteByte(0)
	h.Write(pk.Payload)
	sum := h.Sum64()
	e.mu.Lock()
	defer e.mu.Unlock()
	slot := &e.slots[pk.PacketID%evidenceSlots]
	if pk.FixedHeader.Dup && slot.packetID == pk.PacketID && slot.hash == sum {
		return slot.id
	}
	slot.hash, slot.packetID, slot.id = sum, pk.PacketID, mint()
	return slot.id
}

// witnesses keeps the evidence of sessions across their connections, of at most limit sessions.
type witnesses struct {
	mu    sync.Mutex
	by    map[string]*evidence // client id
	limit int
}

func (w *witnesses) of(clientID string) *evidence {
	w.mu.Lock()
	defer w.mu.Unlock()
	e := w.by[clientID]
	if e == nil {
		if len(w.by) >= w.limit {
			for victim := range w.by { // any: losing evidence makes one event look new, which at-least-once allows
				delete(w.by, victim)
				break
			}
		}
		e = new(evidence)
		w.by[clientID] = e
	}
	return e
}
