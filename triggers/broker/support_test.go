package broker

import (
	"bufio"
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"go.uber.org/goleak"

	"mayfly/event"
	"mayfly/triggers"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 10 * time.Second

// start runs a broker on a free loopback port until the test ends.
func start(t testing.TB, edit func(*Config)) (*Broker, string) {
	t.Helper()
	c := Config{Listen: []Listener{{Address: "127.0.0.1:0"}}, Log: slog.New(slog.DiscardHandler)}
	if edit != nil {
		edit(&c)
	}
	b, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	serve(t, b)
	return b, b.Addresses()[0]
}

func serve(t testing.TB, b *Broker) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(patience):
			t.Error("Run did not end")
		}
	})
	select {
	case <-b.Listening():
	case err := <-ended:
		ended <- nil
		t.Fatalf("Run: %v", err)
	}
}

// offered is an event a sink was given.
type offered struct {
	ev *event.Event
	r  triggers.Receipt
}

// inbox is a sink that passes everything to a channel and settles nothing by itself.
type inbox chan offered

func (in inbox) Accept(_ context.Context, ev *event.Event, r triggers.Receipt) error {
	in <- offered{ev, r}
	return nil
}

// settler is a sink that settles at once.
type settler struct {
	mu  sync.Mutex
	ids map[string]int
	err error
}

func (s *settler) Accept(_ context.Context, ev *event.Event, r triggers.Receipt) error {
	s.mu.Lock()
	if s.ids == nil {
		s.ids = map[string]int{}
	}
	s.ids[ev.ID]++
	s.mu.Unlock()
	if r != nil {
		r.Settle(triggers.Settlement{Err: s.err})
	}
	return s.err
}

// run subscribes a sink and runs the subscription until stop is called, at the latest when the test ends.
func run(t testing.TB, b *Broker, spec Trigger, sink triggers.Sink) (s *Subscription, stop func()) {
	t.Helper()
	s, err := b.Subscribe(spec)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, sink) }()
	until(t, "subscription runs", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.accept != nil })
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("subscription: %v", err)
		}
	})
	t.Cleanup(stop)
	return s, stop
}

// until polls a condition that no channel tells about.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	end := time.After(patience)
	for !ok() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("never: %s", what)
		}
	}
}

func get[T any](t testing.TB, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("never: %s", what)
		panic("unreachable")
	}
}

// connect returns a connected paho client.
func connect(t testing.TB, address, id string, edit func(*paho.ClientOptions)) paho.Client {
	t.Helper()
	o := paho.NewClientOptions().AddBroker("tcp://" + address).SetClientID(id).SetProtocolVersion(4).
		SetAutoReconnect(false).SetConnectTimeout(patience).SetOrderMatters(true)
	if edit != nil {
		edit(o)
	}
	c := paho.NewClient(o)
	wait(t, "connect "+id, c.Connect())
	t.Cleanup(func() { c.Disconnect(10) })
	return c
}

func wait(t testing.TB, what string, token paho.Token) {
	t.Helper()
	if !token.WaitTimeout(patience) {
		t.Fatalf("%s: no answer", what)
	}
	if err := token.Error(); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// raw is a client of bytes.
type raw struct {
	t testing.TB
	net.Conn
	r *bufio.Reader
}

func dial(t testing.TB, address string) *raw {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return &raw{t, c, bufio.NewReader(c)}
}

func (c *raw) send(p ...[]byte) {
	c.t.Helper()
	for _, b := range p {
		if _, err := c.Write(b); err != nil {
			c.t.Fatalf("write: %v", err)
		}
	}
}

// next returns the first byte and the body of the next packet; nil at the end of the connection.
func (c *raw) next() (byte, []byte) {
	c.t.Helper()
	first, err := c.r.ReadByte()
	if err != nil {
		return 0, nil
	}
	n, err := binary.ReadUvarint(c.r)
	if err != nil {
		c.t.Fatal(err)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(c.r, body); err != nil {
		c.t.Fatal(err)
	}
	return first, body
}

func (c *raw) want(first byte, body ...byte) {
	c.t.Helper()
	f, b := c.next()
	if f != first || string(b) != string(body) {
		c.t.Fatalf("received %#x % x, want %#x % x", f, b, first, body)
	}
}

// hello connects with a session that is kept unless clean.
func (c *raw) hello(id string, version byte, clean bool) {
	c.t.Helper()
	c.send(connectPacket(id, version, clean))
	if f, b := c.next(); f != 0x20 || len(b) < 2 || b[1] != 0 {
		c.t.Fatalf("CONNACK %#x % x", f, b)
	}
}

func connectPacket(id string, version byte, clean bool) []byte {
	body := append(str("MQTT"), version, 0, 0, 60)
	if clean {
		body[7] = 2
	}
	if version == 5 {
		body = append(body, 0)
	}
	return packet(0x10, append(body, str(id)...))
}

func publishPacket(topic string, qos byte, packetID uint16, dup bool, payload string) []byte {
	first := byte(0x30) | qos<<1
	if dup {
		first |= 8
	}
	body := str(topic)
	if qos > 0 {
		body = binary.BigEndian.AppendUint16(body, packetID)
	}
	return packet(first, append(body, payload...))
}

func subscribePacket(packetID uint16, filter string, qos byte) []byte {
	body := binary.BigEndian.AppendUint16(nil, packetID)
	return packet(0x82, append(append(body, str(filter)...), qos))
}

func str(s string) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(s))), s...)
}

func packet(first byte, body []byte) []byte {
	return append(binary.AppendUvarint([]byte{first}, uint64(len(body))), body...)
}

type sinkFunc func(*event.Event, triggers.Receipt)

func (f sinkFunc) Accept(_ context.Context, ev *event.Event, r triggers.Receipt) error {
	f(ev, r)
	return nil
}
