package outbox

import (
	"encoding/binary"
	"errors"

	"mayfly/event"
	"mayfly/store"
)

// record is a durable message as it lies on disk:
//
//	version 1 | flags: bits 0-1 QoS, bit 2 retain | uvarint length, function | uvarint length, topic | data
//
// Its key is the broker's name and a sequence number that grows with every message of that broker.
type record struct {
	function string
	msg      event.Message // Broker is in the key
}

const recordVersion = 1

var errRecord = errors.New("not a message record of this version")

func encode(r record) []byte {
	b := make([]byte, 0, 2+2*binary.MaxVarintLen32+len(r.function)+len(r.msg.Topic)+len(r.msg.Data))
	flags := r.msg.QoS & 3
	if r.msg.Retain {
		flags |= 4
	}
	b = append(b, recordVersion, flags)
	b = append(binary.AppendUvarint(b, uint64(len(r.function))), r.function...)
	b = append(binary.AppendUvarint(b, uint64(len(r.msg.Topic))), r.msg.Topic...)
	return append(b, r.msg.Data...)
}

// decode reads what encode wrote. The result does not alias b.
func decode(b []byte) (record, error) {
	if len(b) < 2 || b[0] != recordVersion || b[1]&^7 != 0 || b[1]&3 > 1 {
		return record{}, errRecord
	}
	r := record{msg: event.Message{QoS: b[1] & 3, Retain: b[1]&4 != 0}}
	name, b, ok1 := cutText(b[2:])
	topic, b, ok2 := cutText(b)
	if !ok1 || !ok2 {
		return record{}, errRecord
	}
	r.function, r.msg.Topic, r.msg.Data = name, topic, append([]byte(nil), b...)
	return r, nil
}

func cutText(b []byte) (text string, rest []byte, ok bool) {
	n, size := binary.Uvarint(b)
	if size <= 0 || n > uint64(len(b)-size) {
		return "", nil, false
	}
	return string(b[size : size+int(n)]), b[size+int(n):], true
}

func splitKey(key []byte) (broker string, seq uint64, ok bool) {
	space, broker, rest, ok := store.SplitKey(key)
	if !ok || space != store.Outbox || len(rest) != 8 {
		return "", 0, false
	}
	return broker, binary.BigEndian.Uint64(rest), true
}

// perMessage is what a message costs in memory besides its bytes.
const perMessage = 200

func sizeOf(m *event.Message) int64 { return int64(len(m.Topic)+len(m.Data)) + perMessage }
