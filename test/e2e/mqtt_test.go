package e2e_test

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
)

// device is an MQTT 3.1.1 client of a few lines, so that what is lost or turned around is seen by somebody who shares no code
// with the agent. It publishes at QoS 1 and knows what was acknowledged; it subscribes at QoS 1 and acknowledges at once.
type device struct {
	conn net.Conn
	r    *bufio.Reader

	mu       sync.Mutex
	wake     *sync.Cond
	packet   uint16
	waiting  map[uint16]string // sent, not acknowledged
	acked    []string          // payloads, in the order of their acknowledgements
	received []message
	gone     error
}

type message struct{ topic, payload string }

// connect is a device of that name at a broker; it is closed with the test. The broker keeps its session when the name starts
// with "durable".
func connect(t testing.TB, address, id string) *device {
	t.Helper()
	d := &device{waiting: map[uint16]string{}}
	d.wake = sync.NewCond(&d.mu)
	d.dial(t, address, id)
	t.Cleanup(d.close)
	return d
}

// dial connects, for the first time or after the connection was lost; what was heard before stays.
func (d *device) dial(t testing.TB, address, id string) {
	t.Helper()
	conn, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		t.Fatal(err)
	}
	d.conn, d.r, d.gone = conn, bufio.NewReader(conn), nil
	flags := byte(2) // clean session
	if strings.HasPrefix(id, "durable") {
		flags = 0
	}
	body := append(text("MQTT"), 4, flags, 0, 0) // level 4, no keep-alive
	if err := d.send(0x10, append(body, text(id)...)); err != nil {
		t.Fatal(err)
	}
	if kind, body, err := d.read(); err != nil || kind != 0x20 || len(body) != 2 || body[1] != 0 {
		t.Fatalf("CONNACK %x %x: %v", kind, body, err)
	}
	go d.listen()
}

func (d *device) close() { d.conn.Close() }

func text(s string) []byte { return append(binary.BigEndian.AppendUint16(nil, uint16(len(s))), s...) }

func (d *device) send(kind byte, body []byte) error {
	head := []byte{kind}
	n := len(body)
	for {
		b := byte(n & 0x7f)
		if n >>= 7; n > 0 {
			head = append(head, b|0x80)
			continue
		}
		_, err := d.conn.Write(append(append(head, b), body...))
		return err
	}
}

func (d *device) read() (kind byte, body []byte, err error) {
	if kind, err = d.r.ReadByte(); err != nil {
		return 0, nil, err
	}
	n, err := binary.ReadUvarint(d.r) // the same form as MQTT's remaining length
	if err != nil || n > 64<<20 {
		return 0, nil, errors.Join(err, errors.New("no packet"))
	}
	body = make([]byte, n)
	_, err = io.ReadFull(d.r, body)
	return kind, body, err
}

func (d *device) listen() {
	for {
		kind, body, err := d.read()
		if err == nil {
			err = d.take(kind, body)
		}
		if err != nil {
			d.mu.Lock()
			d.gone = err
			d.wake.Broadcast()
			d.mu.Unlock()
			return
		}
	}
}

func (d *device) take(kind byte, body []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	defer d.wake.Broadcast()
	switch kind & 0xf0 {
	case 0x40, 0x90: // PUBACK, SUBACK
		id := binary.BigEndian.Uint16(body)
		if kind == 0x40 {
			d.acked = append(d.acked, d.waiting[id])
		} else if body[2] == 0x80 {
			return errors.New("subscription refused")
		}
		delete(d.waiting, id)
	case 0x30:
		n := 2 + int(binary.BigEndian.Uint16(body))
		topic, rest := string(body[2:n]), body[n:]
		if kind&0x06 != 0 {
			if err := d.send(0x40, rest[:2]); err != nil {
				return err
			}
			rest = rest[2:]
		}
		d.received = append(d.received, message{topic, string(rest)})
	}
	return nil
}

// begin sends a packet that will be acknowledged.
func (d *device) begin(kind byte, head []byte, rest, note string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for d.gone == nil {
		if d.packet++; d.packet != 0 {
			if _, used := d.waiting[d.packet]; !used {
				break
			}
		}
	}
	if d.gone != nil {
		return d.gone
	}
	d.waiting[d.packet] = note
	return d.send(kind, append(binary.BigEndian.AppendUint16(head, d.packet), rest...))
}

// publish sends at QoS 1 and does not wait, unless more than 200 wait for their acknowledgements.
func (d *device) publish(topic, payload string) error {
	d.mu.Lock()
	for len(d.waiting) >= 200 && d.gone == nil {
		d.wake.Wait()
	}
	d.mu.Unlock()
	return d.begin(0x32, text(topic), payload, payload)
}

// settled waits until everything sent is acknowledged.
func (d *device) settled(t testing.TB) {
	t.Helper()
	until(t, "everything is acknowledged", func() (bool, string) {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.gone != nil {
			t.Fatal(d.gone)
		}
		return len(d.waiting) == 0, fmt.Sprintf("%d acknowledgements are missing", len(d.waiting))
	})
}

// say publishes and waits for the acknowledgement.
func (d *device) say(t testing.TB, topic, payload string) {
	t.Helper()
	if err := d.publish(topic, payload); err != nil {
		t.Fatal(err)
	}
	d.settled(t)
}

// subscribe returns when the subscription stands.
func (d *device) subscribe(t testing.TB, filter string) {
	t.Helper()
	if err := d.begin(0x82, nil, string(text(filter))+"\x01", ""); err != nil {
		t.Fatal(err)
	}
	d.settled(t)
}

// heard returns what came on a topic, "" for all.
func (d *device) heard(topic string) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []string
	for _, m := range d.received {
		if topic == "" || m.topic == topic {
			all = append(all, m.payload)
		}
	}
	return all
}

// acknowledged returns how many publishes were.
func (d *device) acknowledged() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.acked)
}

// hears waits for a payload on a topic.
func (d *device) hears(t testing.TB, topic, payload string) {
	t.Helper()
	until(t, topic+" "+payload, func() (bool, string) {
		all := d.heard(topic)
		if slices.Contains(all, payload) {
			return true, ""
		}
		return false, fmt.Sprintf("heard %.200q", all)
	})
}

func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
