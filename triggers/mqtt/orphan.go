package mqtt

import "bytes"

// An orphan is a message that was handed over and whose connection ended before it was acknowledged. The broker sends it
// again with the same packet id and DUP ([MQTT-4.4.0-1]). Running it a second time would be allowed, but while the first run
// is in our hands it would also be foolish: the new delivery becomes the old one's heir, and gets its fate.

// orphaned keeps what the window of an ended connection holds.
func (s *Session) orphaned(w *window) {
	left := w.close()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.orphan == nil {
		s.orphan = map[uint16]*delivery{}
	}
	for _, d := range left {
		if d.event.ID != "" {
			s.orphan[d.event.Delivery.PacketID] = d
		}
	}
}

// forsake forgets all orphans: the broker has no session to send them from. Their events run on; nobody waits for them.
func (s *Session) forsake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.orphan)
}

// adopt makes d the heir of the orphan it is a redelivery of. It reports false for a message that the sink has not got, or
// that it gave back. A message without DUP proves that the broker has done with what had its packet id before.
func (s *Session) adopt(d *delivery) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := d.event.Delivery.PacketID
	o := s.orphan[id]
	if o == nil {
		return false
	}
	delete(s.orphan, id)
	if !d.event.Dup || o.event.Topic != d.event.Topic || !bytes.Equal(o.event.Data, d.event.Data) {
		return false
	}
	if f, _ := o.of.fateOf(o); f == givenBack {
		return false
	}
	o.heir.Store(d)
	if f, forgotten := o.of.fateOf(o); f != pending { // it was settled before there was an heir, or while one was made
		d.of.settle(d, f, forgotten)
	}
	return true
}
