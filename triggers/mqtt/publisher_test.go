package mqtt

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"mayfly/event"
	"mayfly/function"
	"mayfly/internal/mosquitto"
)

// cutter stands between a client and a broker. While mute it throws away what the broker says, so that published messages
// arrive and their confirmations do not.
type cutter struct {
	listener net.Listener
	broker   string

	mu    sync.Mutex
	mute  bool
	conns []net.Conn
	done  sync.WaitGroup
}

func newCutter(t *testing.T, broker string) *cutter {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{listener: l, broker: broker}
	c.done.Go(c.accept)
	t.Cleanup(func() { _ = l.Close(); c.cut(); c.done.Wait() })
	return c
}

func (c *cutter) url() string { return "tcp://" + c.listener.Addr().String() }

func (c *cutter) accept() {
	for {
		client, err := c.listener.Accept()
		if err != nil {
			return
		}
		broker, err := net.Dial("tcp", c.broker)
		if err != nil {
			_ = client.Close()
			continue
		}
		c.mu.Lock()
		c.conns = append(c.conns, client, broker)
		c.mu.Unlock()
		c.done.Go(func() { _, _ = io.Copy(broker, client); _ = broker.Close() })
		c.done.Go(func() {
			_, _ = io.Copy(writer(func(p []byte) (int, error) { return c.pass(client, p) }), broker)
			_ = client.Close()
		})
	}
}

func (c *cutter) pass(client net.Conn, p []byte) (int, error) {
	c.mu.Lock()
	mute := c.mute
	c.mu.Unlock()
	if mute {
		return len(p), nil
	}
	return client.Write(p)
}

func (c *cutter) setMute(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mute = on
}

func (c *cutter) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.conns {
		_ = conn.Close()
	}
	c.conns = nil
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

// A message counts as confirmed only by a PUBACK on the connection it was sent on.
func TestPublisherNeverTakesAReconnectionForAConfirmation(t *testing.T) {
	broker := mustRun(t, mosquitto.Options{})
	proxy := newCutter(t, broker.Addr())
	in, _ := listen(t, session(t, at(broker.URL()), sub("out"), &notes{}))
	p, _ := publisher(t, at(proxy.url()))
	say(t, p, numbered("out", 0, 3)...)

	proxy.setMute(true)
	o := make(outcome, 10)
	for _, m := range numbered("out", 3, 6) {
		if err := p.Publish(&m, o); err != nil {
			t.Fatal(err)
		}
	}
	for _, g := range in.take(t, 6) { // the broker has all of them
		g.settle(nil)
	}
	if len(o) != 0 {
		t.Fatal("confirmed without a PUBACK")
	}
	proxy.setMute(false)
	proxy.cut()
	for range 3 {
		if err := o.wait(t); !errors.Is(err, ErrUnknown) {
			t.Errorf("told %v, want ErrUnknown", err)
		}
	}
	eventually(t, "back", p.Ready)
	say(t, p, numbered("out", 6, 7)...)
	if g := in.next(t); string(g.ev.Data) != "6" {
		t.Errorf("after the reconnection came %s, want 6", g.ev.Data)
	}
	if st := p.Status(); st.Sent != 7 || st.Confirmed != 4 || st.Unknown != 3 || st.Connects != 2 {
		t.Errorf("status %+v", st)
	}
}

func TestPublisherFindsASilentBroker(t *testing.T) {
	proxy := newCutter(t, mustRun(t, mosquitto.Options{}).Addr())
	b := at(proxy.url())
	b.KeepAlive, b.PingTimeout = time.Second, 300*time.Millisecond
	p, _ := publisher(t, b)
	proxy.setMute(true)
	o := make(outcome, 1)
	if err := p.Publish(&event.Message{Topic: "x", QoS: 1}, o); err != nil {
		t.Fatal(err)
	}
	if err := o.wait(t); !errors.Is(err, ErrUnknown) {
		t.Errorf("told %v, want ErrUnknown", err)
	}
	eventually(t, "reported", func() bool { st := p.Status(); return st.Err != nil && st.Err.Kind == "timeout" })
	proxy.setMute(false)
	eventually(t, "back", p.Ready)
}

func TestPublisherKeepsOrderAndBounds(t *testing.T) {
	broker := mustRun(t, mosquitto.Options{MaxInflight: 1000, MaxQueued: -1})
	proxy := newCutter(t, broker.Addr())
	b := at(proxy.url())
	b.Window = 50
	c := sub("out")
	in, _ := listen(t, session(t, at(broker.URL()), c, &notes{}))
	p, _ := publisher(t, b)
	proxy.setMute(true)
	o := make(outcome, 100)
	messages := numbered("out", 0, 51)
	for i := range 50 {
		if err := p.Publish(&messages[i], o); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Publish(&messages[50], o); !errors.Is(err, ErrFull) {
		t.Errorf("beyond the window: %v", err)
	}
	if err := p.Publish(&event.Message{Topic: "out"}, o); err != nil {
		t.Errorf("QoS 0 beside a full window: %v", err)
	}
	for i, g := range in.take(t, 51) {
		if i < 50 && string(g.ev.Data) != fmt.Sprint(i) {
			t.Errorf("message %d came as number %s", i, g.ev.Data)
		}
	}
	if err := o.wait(t); err != nil {
		t.Errorf("QoS 0: %v", err)
	}
}

func TestPublisherRejectsWhatNoBrokerTakes(t *testing.T) {
	p, _ := publisher(t, at(mustRun(t, mosquitto.Options{}).URL()))
	o := make(outcome, 1)
	for name, m := range map[string]event.Message{
		"wildcard": {Topic: "a/#"}, "empty": {}, "NUL": {Topic: "a\x00b"}, "not UTF-8": {Topic: "\xff"},
		"too long": {Topic: string(make([]byte, 65536))}, "too large": {Topic: "a", Data: make([]byte, 256<<10+1)},
	} {
		if err := p.Publish(&m, o); function.ClassOf(err) != function.ClassReject {
			t.Errorf("%s: %v", name, err)
		}
	}
	say(t, p, event.Message{Topic: "a", Data: make([]byte, 256<<10), QoS: 1}, event.Message{Topic: "a"})
	if len(o) != 0 {
		t.Error("a rejected message was confirmed")
	}
}

func TestPublisherThatIsDownSaysSo(t *testing.T) {
	p, r := publisher(t, at(mustRun(t, mosquitto.Options{}).URL()))
	r.stop(t)
	if err := p.Publish(&event.Message{Topic: "a"}, make(outcome, 1)); !errors.Is(err, ErrDown) || p.Ready() {
		t.Errorf("after Run: %v, ready %t", err, p.Ready())
	}
}
