package faultlink

import (
	"bytes"
	"encoding/binary"
	"strconv"
	"strings"
	"sync"

	"mayfly/test/torture/history"
)

// Kinds of MQTT control packets (MQTT 3.1.1 section 2.2.1) that matter to a tap.
const (
	publish = 3
	puback  = 4
)

// splitter cuts a stream of bytes into MQTT packets.
type splitter struct {
	buf  []byte
	each func(kind, flags byte, body []byte)
}

// feed takes the next bytes. It returns how many of them are beyond the end of the last complete packet.
func (s *splitter) feed(p []byte) int {
	s.buf = append(s.buf, p...)
	at := 0
	for {
		head, size, ok := length(s.buf[at:])
		if !ok || at+head+size > len(s.buf) {
			break
		}
		b := s.buf[at]
		s.each(b>>4, b&0x0f, s.buf[at+head:at+head+size])
		at += head + size
	}
	s.buf = s.buf[:copy(s.buf, s.buf[at:])]
	return len(s.buf)
}

// length decodes a fixed header: its own length and that of what follows (MQTT 3.1.1 section 2.2.3).
func length(b []byte) (head, size int, ok bool) {
	for i := 1; i < 5 && i < len(b); i++ {
		size |= int(b[i]&0x7f) << (7 * (i - 1))
		if b[i]&0x80 == 0 {
			return i + 1, size, true
		}
	}
	return 0, 0, false
}

// tap notes what one connection says in a history: PUBLISH and PUBACK of both sides.
type tap struct {
	log *history.Log
	mu  sync.Mutex
	in  map[uint16]history.Event // sent to the agent and not acknowledged
	out map[uint16]history.Event // sent by the agent and not acknowledged
}

func newTap(log *history.Log) *tap {
	return &tap{log: log, in: map[uint16]history.Event{}, out: map[uint16]history.Event{}}
}

// fromAgent and fromBroker are for one direction each.
func (t *tap) fromAgent() *splitter {
	return &splitter{each: func(kind, flags byte, body []byte) {
		t.see(side{mine: t.out, theirs: t.in, said: history.Published, acked: history.Acked}, kind, flags, body)
	}}
}

func (t *tap) fromBroker() *splitter {
	return &splitter{each: func(kind, flags byte, body []byte) {
		t.see(side{mine: t.in, theirs: t.out, said: history.Delivered, acked: history.Confirmed}, kind, flags, body)
	}}
}

// side is how things look to one end: the messages it has underway, those the other end has, and what its packets mean.
type side struct {
	mine, theirs map[uint16]history.Event
	said, acked  history.Sight
}

// see notes one packet that s sent.
func (t *tap) see(s side, kind, flags byte, body []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch kind {
	case publish:
		e, id, ok := decode(flags, body)
		if !ok {
			return
		}
		s.mine[id] = e
		t.log.Note(e, s.said)
	case puback:
		if len(body) != 2 {
			return
		}
		id := binary.BigEndian.Uint16(body)
		if e, ok := s.theirs[id]; ok {
			delete(s.theirs, id)
			t.log.Note(e, s.acked)
		}
	}
}

// decode finds out which event a QoS 1 PUBLISH is about: in/ledger/3 or out/ledger/3, and "s":17 in the payload.
func decode(flags byte, body []byte) (e history.Event, id uint16, ok bool) {
	if len(body) < 2 || flags>>1&3 != 1 {
		return e, 0, false
	}
	n := int(binary.BigEndian.Uint16(body))
	if len(body) < 4+n {
		return e, 0, false
	}
	_, stream, found := strings.Cut(string(body[2:2+n]), "/")
	id = binary.BigEndian.Uint16(body[2+n:])
	seq, numbered := Seq(body[4+n:])
	return history.Event{Stream: stream, Seq: seq}, id, found && numbered
}

// Seq finds the sequence number in a payload.
func Seq(payload []byte) (uint32, bool) {
	_, rest, ok := bytes.Cut(payload, []byte(`"s":`))
	if !ok {
		return 0, false
	}
	end := 0
	for end < len(rest) && rest[end] >= '0' && rest[end] <= '9' {
		end++
	}
	n, err := strconv.ParseUint(string(rest[:end]), 10, 32)
	return uint32(n), err == nil && n > 0
}
