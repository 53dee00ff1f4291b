package mqtt

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// header is the fixed header of an MQTT packet (MQTT 3.1.1 section 2.2).
type header struct {
	kind  byte // packets.Publish, ...
	flags byte
	body  int // bytes after the header
	size  int // bytes of the header, 2 to 5
}

// readHeader looks at the next packet's header without consuming it.
func readHeader(in *bufio.Reader) (header, error) {
	var h header
	for size := 2; size <= 5; size++ {
		b, err := in.Peek(size)
		if err != nil {
			return h, err
		}
		h.kind, h.flags = b[0]>>4, b[0]&0x0f
		last := b[size-1]
		h.body |= int(last&0x7f) << (7 * (size - 2))
		if last&0x80 == 0 {
			h.size = size
			return h, nil
		}
	}
	return h, fmt.Errorf("%w: remaining length of more than four bytes ([MQTT-2.2.3])", errProtocol)
}

// inbound is one PUBLISH as it came. Topic and source are shared with other messages of the topic; payload is the
// receiver's own.
type inbound struct {
	topic    string
	source   string // prefix + topic
	payload  []byte
	id       uint16
	qos      byte
	dup      bool
	retain   bool
	tooLarge int // bytes of the payload when it was longer than allowed and thrown away; payload is nil then
}

// publishReader decodes PUBLISH packets without allocating for more than the payload allowed.
type publishReader struct {
	prefix     string // of every source
	maxPayload int
	names      map[string]string // topic to source, so that a topic seen before costs no allocation
}

// maxNames bounds the memory of names; topics beyond are simply made anew.
const maxNames = 512

func (r *publishReader) read(in *bufio.Reader, h header) (inbound, error) {
	p := inbound{qos: h.flags >> 1 & 3, dup: h.flags&8 != 0, retain: h.flags&1 != 0}
	if p.qos > 1 {
		return p, fmt.Errorf("%w: PUBLISH with QoS %d, at most 1 was subscribed", errProtocol, p.qos)
	}
	rest := h.body
	n, err := readUint16(in, &rest)
	if err != nil {
		return p, err
	}
	if rest -= int(n); rest < 0 || n == 0 {
		return p, fmt.Errorf("%w: PUBLISH with a topic of %d bytes in a body of %d", errProtocol, n, h.body)
	}
	if p.source, err = r.source(in, int(n)); err != nil {
		return p, err
	}
	p.topic = p.source[len(r.prefix):]
	if p.qos == 1 {
		if p.id, err = readUint16(in, &rest); err != nil {
			return p, err
		}
		if p.id == 0 {
			return p, fmt.Errorf("%w: PUBLISH with packet id 0 ([MQTT-2.3.1-1])", errProtocol)
		}
	}
	if rest > r.maxPayload {
		p.tooLarge = rest
		_, err = in.Discard(rest)
		return p, err
	}
	p.payload = make([]byte, rest)
	_, err = io.ReadFull(in, p.payload)
	return p, err
}

func (r *publishReader) source(in *bufio.Reader, n int) (string, error) {
	var topic []byte
	var err error
	if n <= in.Size() {
		topic, err = in.Peek(n)
	} else {
		topic = make([]byte, n)
		_, err = io.ReadFull(in, topic)
	}
	if err != nil {
		return "", err
	}
	source, known := r.names[string(topic)]
	if !known {
		source = r.prefix + string(topic)
		if len(r.names) >= maxNames {
			clear(r.names)
		}
		r.names[source[len(r.prefix):]] = source
	}
	if n <= in.Size() {
		_, err = in.Discard(n)
	}
	return source, err
}

func readUint16(in *bufio.Reader, rest *int) (uint16, error) {
	if *rest -= 2; *rest < 0 {
		return 0, fmt.Errorf("%w: packet shorter than its fields", errProtocol)
	}
	b, err := in.Peek(2)
	if err != nil {
		return 0, err
	}
	v := binary.BigEndian.Uint16(b)
	_, err = in.Discard(2)
	return v, err
}

// appendPublish appends a PUBLISH packet (MQTT 3.1.1 section 3.3). The caller has checked topic and sizes.
func appendPublish(b []byte, topic string, payload []byte, id uint16, flags byte) []byte {
	body := 2 + len(topic) + len(payload)
	if id != 0 {
		body += 2
	}
	b = append(b, packets.Publish<<4|flags)
	for n := body; ; n >>= 7 {
		if n < 0x80 {
			b = append(b, byte(n))
			break
		}
		b = append(b, byte(n)|0x80)
	}
	b = binary.BigEndian.AppendUint16(b, uint16(len(topic)))
	b = append(b, topic...)
	if id != 0 {
		b = binary.BigEndian.AppendUint16(b, id)
	}
	return append(b, payload...)
}

// appendPuback appends a PUBACK packet (MQTT 3.1.1 section 3.4).
func appendPuback(b []byte, id uint16) []byte {
	return append(b, packets.Puback<<4, 2, byte(id>>8), byte(id))
}
