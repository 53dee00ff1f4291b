package mqtt

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
	"pgregory.net/rapid"
)

// seen is a receiver that notes everything.
type seen struct {
	mu      sync.Mutex
	got     []inbound
	acks    []uint16
	written uint64
	refuse  error
}

func (s *seen) publish(p inbound) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, p)
	return s.refuse
}

func (s *seen) puback(id uint16) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.acks = append(s.acks, id)
	return nil
}

func (s *seen) flushed(total uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.written = total
}

func (s *seen) pong(uint64) {}

// linked returns a started link and the broker's end of it.
func linked(t *testing.T, stall time.Duration, to receiver) (*link, net.Conn) {
	t.Helper()
	near, far := net.Pipe()
	l := newLink(near, &Broker{Name: "site", MaxPayload: 1000, WriteTimeout: stall})
	l.start(to)
	t.Cleanup(func() { _ = far.Close(); _ = l.Close() })
	return l, far
}

func TestLinkGathersWritesAndKeepsTheirOrder(t *testing.T) {
	s := &seen{}
	l, far := linked(t, patience, s)
	var want []byte
	for i := range 1000 { // nobody reads yet: none of them may block
		packet := bytes.Repeat([]byte{byte(i)}, i%7+1)
		want = append(want, packet...)
		if n, err := l.Write(packet); n != len(packet) || err != nil {
			t.Fatalf("write %d: %d, %v", i, n, err)
		}
	}
	reads := 0
	got := make([]byte, 0, len(want))
	for len(got) < len(want) {
		n, err := far.Read(got[len(got):cap(got)])
		if err != nil {
			t.Fatal(err)
		}
		got = got[:len(got)+n]
		reads++
	}
	if !bytes.Equal(got, want) {
		t.Error("bytes differ")
	}
	if reads > 3 {
		t.Errorf("1000 packets took %d writes", reads)
	}
	eventually(t, "flushed", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.written == uint64(len(want)) })
}

func TestLinkIsSafeForManyWriters(t *testing.T) {
	l, far := linked(t, patience, &seen{})
	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			for i := range 200 {
				if _, err := l.Write([]byte{byte(w), byte(i)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	got := make([]byte, 4*200*2)
	if _, err := io.ReadFull(far, got); err != nil {
		t.Fatal(err)
	}
	writers.Wait()
	var next [4]byte
	for i := 0; i < len(got); i += 2 {
		if w := got[i]; got[i+1] != next[w] {
			t.Fatalf("writer %d: packet %d after %d", w, got[i+1], next[w])
		}
		next[got[i]]++
	}
}

func TestLinkCloseFlushesFirst(t *testing.T) {
	l, far := linked(t, patience, &seen{})
	disconnect := []byte{packets.Disconnect << 4, 0}
	if _, err := l.Write(disconnect); err != nil {
		t.Fatal(err)
	}
	go func() { _ = l.Close() }()
	if got, err := io.ReadAll(far); err != nil || !bytes.Equal(got, disconnect) {
		t.Errorf("the other side read %x, %v", got, err)
	}
	if _, err := l.Write(disconnect); !errors.Is(err, net.ErrClosed) {
		t.Errorf("write after Close: %v", err)
	}
	if _, err := l.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("read after Close: %v", err)
	}
}

func TestLinkThatStallsEndsInTime(t *testing.T) {
	l, _ := linked(t, 20*time.Millisecond, &seen{})
	if _, err := l.Write([]byte("nobody reads this")); err != nil {
		t.Fatal(err)
	}
	select {
	case <-l.ended:
	case <-time.After(patience):
		t.Fatal("still waiting")
	}
	if err := l.why(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("ended for %v", err)
	}
}

func TestLinkReportsAWriteError(t *testing.T) {
	l, far := linked(t, patience, &seen{})
	_ = far.Close()
	if _, err := l.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	<-l.gone
	if _, err := l.Write([]byte("x")); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("write on a broken link: %v", err)
	}
}

// The client underneath sees only what is its own, whatever else comes in between and however the bytes are cut.
func TestLinkSortsPackets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var stream bytes.Buffer
		var forClient []byte
		var messages []packets.PublishPacket
		var acks []uint16
		for range rapid.IntRange(1, 12).Draw(t, "packets") {
			switch rapid.IntRange(0, 2).Draw(t, "kind") {
			case 0:
				p := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
				p.TopicName = rapid.StringMatching(`[a-c]{1,3}(/[a-c]{1,3}){0,2}`).Draw(t, "topic")
				p.Qos = byte(rapid.IntRange(0, 1).Draw(t, "qos"))
				p.Dup, p.Retain = rapid.Bool().Draw(t, "dup"), rapid.Bool().Draw(t, "retain")
				p.MessageID = uint16(p.Qos) * rapid.Uint16Min(1).Draw(t, "id")
				p.Payload = rapid.SliceOfN(rapid.Byte(), 0, 1200).Draw(t, "payload")
				must(t, p.Write(&stream))
				messages = append(messages, *p)
			case 1:
				id := rapid.Uint16Min(1).Draw(t, "ack")
				stream.Write(appendPuback(nil, id))
				acks = append(acks, id)
			case 2:
				stream.Write([]byte{packets.Pingresp << 4, 0})
				forClient = append(forClient, packets.Pingresp<<4, 0)
			}
		}
		s := &seen{}
		near, far := net.Pipe()
		l := newLink(near, &Broker{Name: "site", MaxPayload: 1000, WriteTimeout: patience})
		l.start(s)
		size := rapid.IntRange(1, 300).Draw(t, "cut")
		go func() {
			for chunk := range slices.Chunk(stream.Bytes(), size) {
				_, _ = far.Write(chunk)
			}
			_ = far.Close()
		}()
		got, err := io.ReadAll(l)
		_ = l.Close()
		if err != nil || !bytes.Equal(got, forClient) || !slices.Equal(s.acks, acks) || len(s.got) != len(messages) {
			t.Fatalf("client got %x of %x, %d of %d messages, acks %v of %v: %v", got, forClient, len(s.got), len(messages), s.acks, acks, err)
		}
		for i, m := range messages {
			sameMessage(t, s.got[i], m)
		}
	})
}

func sameMessage(t *rapid.T, g inbound, m packets.PublishPacket) {
	same := g.topic == m.TopicName && g.source == "mqtt://site/"+m.TopicName && g.id == m.MessageID && g.qos == m.Qos && g.dup == m.Dup && g.retain == m.Retain
	if len(m.Payload) > 1000 {
		same = same && g.tooLarge == len(m.Payload) && g.payload == nil
	} else {
		same = same && bytes.Equal(g.payload, m.Payload) && g.tooLarge == 0
	}
	if !same {
		t.Fatalf("got %+v of %s", g, m.String())
	}
}

func must(t *rapid.T, err error) {
	if err != nil {
		t.Fatal(err)
	}
}

// What we publish is what the client library would have published.
func TestAppendPublish(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
		p.TopicName = rapid.StringN(1, 100, 300).Draw(t, "topic")
		p.Payload = make([]byte, rapid.SampledFrom([]int{0, 1, 120, 127, 128, 16000, 16383, 16384, 2097152}).Draw(t, "size"))
		p.Qos, p.Retain = byte(rapid.IntRange(0, 1).Draw(t, "qos")), rapid.Bool().Draw(t, "retain")
		p.MessageID = uint16(p.Qos) * rapid.Uint16Min(1).Draw(t, "id")
		var want bytes.Buffer
		must(t, p.Write(&want))
		flags := p.Qos << 1
		if p.Retain {
			flags |= 1
		}
		if got := appendPublish(nil, p.TopicName, p.Payload, p.MessageID, flags); !bytes.Equal(got, want.Bytes()) {
			t.Fatalf("got %x..., want %x...", got[:min(20, len(got))], want.Bytes()[:min(20, want.Len())])
		}
	})
}

// replay is a connection that says what it was given and hears nothing.
type replay struct {
	net.Conn
	in *bytes.Reader
}

func (r replay) Read(p []byte) (int, error)       { return r.in.Read(p) }
func (r replay) Write(p []byte) (int, error)      { return len(p), nil }
func (r replay) Close() error                     { return nil }
func (r replay) SetDeadline(time.Time) error      { return nil }
func (r replay) SetWriteDeadline(time.Time) error { return nil }

// Whatever a broker sends: no panic, no memory beyond the payload allowed, and nothing reaches the client that it does not
// expect.
func FuzzLinkRead(f *testing.F) {
	f.Add([]byte{0x20, 2, 0, 0, 0x30, 4, 0, 1, 'a', 'b', 0x40, 2, 0, 1, 0xd0, 0})
	f.Add([]byte{0x90, 200, 0, 1, 0, 0, 0})
	f.Add([]byte{0x32, 0xff, 0xff, 0xff, 0x7f, 0, 1, 'a', 0, 1})
	f.Add([]byte{0x30, 0xff, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, stream []byte) {
		s := &seen{}
		l := newLink(replay{in: bytes.NewReader(stream)}, &Broker{Name: "site", MaxPayload: 100, WriteTimeout: time.Second})
		l.filters.Store(1)
		l.start(s)
		client, err := io.ReadAll(l)
		_ = l.Close()
		if err == nil && l.why() == nil {
			t.Fatal("it did not end")
		}
		for in := bytes.NewReader(client); in.Len() > 1; {
			if _, err := packets.ReadPacket(in); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
				t.Fatalf("the client was handed %x: %v", client, err)
			}
		}
		for _, p := range s.got {
			if len(p.payload) > 100 || p.topic == "" || p.qos > 1 || p.qos == 1 && p.id == 0 {
				t.Fatalf("handed on: %+v", p)
			}
		}
	})
}
