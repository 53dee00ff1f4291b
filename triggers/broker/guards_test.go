package broker

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"mayfly/event"
	"mayfly/function"
)

// malformedSubscribe is an MQTT 5 SUBSCRIBE that ends after its filter, before the options: the library's decoder reads
// one byte beyond it.
var malformedSubscribe = []byte{0x82, 0x06, 0x00, 0x01, 0x00, 0x00, 0x01, 'a'}

func TestMalformedSubscribeEndsOnlyItsConnection(t *testing.T) {
	b, address := start(t, nil)
	other := connect(t, address, "other", nil)
	for i := range 3 {
		c := dial(t, address)
		c.hello("bad", 5, true)
		c.send(malformedSubscribe)
		if f, body := c.next(); f != 0 {
			t.Fatalf("received %#x % x, want the end of the connection", f, body)
		}
		until(t, "the panic is counted", func() bool { return b.Status().Losses["malformed"] == int64(i+1) })
	}
	wait(t, "publish", other.Publish("x", 1, false, "still here"))
	until(t, "the session is gone", func() bool { return b.Status().Sessions == 1 })
}

func TestRefusesToListenOpenly(t *testing.T) {
	users, cert := testUsers(t, ""), testTLS(t)
	for _, c := range []struct {
		l    Listener
		want string
	}{
		{Listener{Address: "127.0.0.1:0"}, ""},
		{Listener{Address: "[::1]:0"}, ""},
		{Listener{Address: "localhost:0"}, ""},
		{Listener{Address: "0.0.0.0:0"}, "no users and TLS"},
		{Listener{Address: ":0"}, "no users and TLS"},
		{Listener{Address: "192.0.2.1:1883", Users: users}, "no TLS"},
		{Listener{Address: "0.0.0.0:0", TLS: cert}, "no users"},
		{Listener{Address: "0.0.0.0:0", TLS: cert, Users: users}, ""},
		{Listener{Address: "0.0.0.0"}, "missing port"},
	} {
		_, err := New(Config{Listen: []Listener{c.l}})
		if c.want == "" {
			if err != nil {
				t.Errorf("%s: %v", c.l.Address, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.l.Address, err, c.want)
		}
		if e, ok := errors.AsType[*function.Error](err); !ok || e.Hint == "" {
			t.Errorf("%s: no hint in %#v", c.l.Address, err)
		}
	}
	if _, err := New(Config{}); err == nil {
		t.Error("no listener is no error")
	}
	if _, err := New(Config{Listen: []Listener{{Address: "127.0.0.1:0"}}, Limits: Limits{Queue: 70_000}}); err == nil {
		t.Error("a queue longer than there are packet ids is no error")
	}
}

func TestAddressInUse(t *testing.T) {
	_, address := start(t, nil)
	b, err := New(Config{Listen: []Listener{{Address: "127.0.0.1:0"}, {Address: address}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Run(context.Background()); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("Run: %v", err)
	}
}

func TestUsersOverTLS(t *testing.T) {
	users := testUsers(t, "publish plant/1/#\n subscribe plant/1/cmd")
	b, address := start(t, func(c *Config) {
		c.Listen = []Listener{{Address: "0.0.0.0:0", TLS: testTLS(t), Users: users}}
	})
	address = strings.Replace(address, "[::]", "127.0.0.1", 1)
	secure := func(o *paho.ClientOptions) {
		o.Servers = nil
		o.AddBroker("ssl://" + address).SetTLSConfig(&tls.Config{InsecureSkipVerify: true}).SetUsername("s").SetPassword("pw")
	}
	c := connect(t, address, "a", secure)
	for filter, want := range map[string]byte{"plant/1/cmd": 1, "plant/1/#": 0x80, "#": 0x80, "plant/1/cmd/secret": 0x80, "$share/g/plant/1/cmd": 0x80, "a#": 0x80, "$SYS/#": 0x80} {
		token := c.Subscribe(filter, 1, nil).(*paho.SubscribeToken)
		if !token.WaitTimeout(patience) {
			t.Fatal("no SUBACK")
		}
		for _, got := range token.Result() { // one, under a name without $share
			if got != want {
				t.Errorf("subscribe %q: %#x, want %#x", filter, got, want)
			}
		}
	}
	wait(t, "publish", c.Publish("plant/1/temp", 1, false, "v"))
	if token := c.Publish("plant/2/temp", 1, false, "v"); token.WaitTimeout(time.Second) && token.Error() == nil {
		t.Error("published where it may not")
	}
	for name, edit := range map[string]func(*paho.ClientOptions){
		"wrong password":   func(o *paho.ClientOptions) { o.SetPassword("x") },
		"unknown user":     func(o *paho.ClientOptions) { o.SetUsername("nobody") },
		"anonymous":        func(o *paho.ClientOptions) { o.SetUsername("").SetPassword("") },
		"forbidden will":   func(o *paho.ClientOptions) { o.SetWill("plant/2/x", "v", 1, false) },
		"wildcard in will": func(o *paho.ClientOptions) { o.SetWill("plant/1/#", "v", 1, false) },
	} {
		o := paho.NewClientOptions().SetProtocolVersion(4).SetClientID("b").SetAutoReconnect(false)
		secure(o)
		edit(o)
		token := paho.NewClient(o).Connect()
		if !token.WaitTimeout(patience) || token.Error() == nil {
			t.Errorf("%s: connected", name)
		}
	}
	if b.Status().Losses["connection-refused"] != 5 {
		t.Errorf("losses %v", b.Status().Losses)
	}
}

func TestSessionOfAnotherUserIsNotTakenOver(t *testing.T) {
	hash, _ := hashPassword("pw", 1000)
	users, err := ParseUsers(strings.NewReader("user a\npassword " + hash + "\nuser b\npassword " + hash + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	_, address := start(t, func(c *Config) { c.Listen[0].Users = users })
	as := func(name string) func(*paho.ClientOptions) {
		return func(o *paho.ClientOptions) { o.SetUsername(name).SetPassword("pw").SetCleanSession(false) }
	}
	mine := connect(t, address, "device", as("a"))
	o := paho.NewClientOptions().AddBroker("tcp://" + address).SetClientID("device").SetAutoReconnect(false)
	as("b")(o)
	if token := paho.NewClient(o).Connect(); !token.WaitTimeout(patience) {
		t.Error("no answer to another user")
	} else if token.Error() == nil {
		t.Error("another user took the session over")
	}
	if !mine.IsConnectionOpen() {
		t.Error("the owner was disconnected")
	}
	connect(t, address, "device", as("a"))
}

func TestSlowSubscriberDoesNotStopPublishers(t *testing.T) {
	b, address := start(t, func(c *Config) { c.Limits.Pending = 8; c.Limits.Queue = 5000 })
	slow := dial(t, address)
	slow.hello("slow", 4, true)
	slow.send(subscribePacket(1, "big", 1))
	slow.want(0x90, 0, 1, 1) // and reads nothing more
	p := connect(t, address, "p", nil)
	payload := bytes.Repeat([]byte("x"), 32<<10)
	for range 600 { // 19 MB, more than every buffer between us
		wait(t, "publish", p.Publish("big", 1, false, payload))
	}
	if b.Status().Losses["slow-subscriber"] == 0 {
		t.Errorf("losses %v", b.Status().Losses)
	}
}

func TestLimits(t *testing.T) {
	b, address := start(t, func(c *Config) {
		c.Limits = Limits{Clients: 3, Packet: 1000, Subscriptions: 2, Retained: 2, RetainedBytes: 100, OfflineBytes: 250, Connect: 50 * time.Millisecond}
	})
	lost := func(reason string) int64 { return b.Status().Losses[reason] }
	ended := func(c *raw) {
		t.Helper()
		if f, body := c.next(); f != 0 {
			t.Fatalf("received %#x % x, want the end", f, body)
		}
	}
	silent := dial(t, address)
	ended(silent) // no CONNECT in time
	until(t, "it is gone", func() bool { return b.connections.Load() == 0 })

	s := dial(t, address)
	s.hello("s", 4, false)
	s.send(subscribePacket(1, "a", 1), subscribePacket(2, "b", 1), subscribePacket(3, "c", 1))
	s.want(0x90, 0, 1, 1)
	s.want(0x90, 0, 2, 1)
	s.want(0x90, 0, 3, 0x80)
	s.Close()
	until(t, "absent", func() bool { return b.Status().Clients == 0 })

	p := dial(t, address)
	p.hello("p", 4, true)
	for i := range 5 { // 100 bytes each, 250 are kept
		p.send(publishPacket("a", 1, uint16(i+1), false, strings.Repeat("v", 100)))
		p.want(0x40, 0, byte(i+1))
	}
	if lost("offline-bytes") != 3 {
		t.Errorf("losses %v", b.Status().Losses)
	}
	for _, topic := range []string{"r1", "r2", "r3", "r1"} {
		retained := publishPacket(topic, 0, 0, false, "v")
		retained[0] |= 1
		p.send(retained)
	}
	p.send([]byte{0xC0, 0})
	p.want(0xD0)
	if b.Status().Retained != 2 || lost("retained-limit") != 1 {
		t.Errorf("%d retained, losses %v", b.Status().Retained, b.Status().Losses)
	}
	if err := b.Publish(&event.Message{Topic: "r4", Data: []byte("v"), Retain: true}, nil); function.KindOf(err) != "retained-limit" {
		t.Errorf("Publish: %v", err)
	}
	p.send(packet(0x30, make([]byte, 1000)))
	ended(p)

	s = dial(t, address)
	s.send(connectPacket("s", 4, false))
	s.want(0x20, 1, 0)
	for range 2 {
		if f, _ := s.next(); f&0xF0 != 0x30 {
			t.Errorf("received %#x, want a message kept for the session", f)
		}
	}
	dial(t, address).hello("c2", 4, true)
	dial(t, address).hello("c3", 4, true)
	ended(dial(t, address))
	if lost("too-many-connections") != 1 {
		t.Errorf("losses %v", b.Status().Losses)
	}
}

func TestPublishToNoTopicEndsTheConnection(t *testing.T) {
	_, address := start(t, nil)
	for _, topic := range []string{"a/+", "#", "", "$SYS/x"} {
		c := dial(t, address)
		c.hello("p", 4, true)
		c.send(publishPacket(topic, 1, 1, false, "v"))
		if f, body := c.next(); f != 0 {
			t.Errorf("%q: received %#x % x", topic, f, body)
		}
	}
}

func TestTakeOverSaysNoDisconnectBeforeMQTT5(t *testing.T) {
	_, address := start(t, nil)
	old := dial(t, address)
	old.hello("one", 4, false)
	dial(t, address).hello("two", 4, false)
	again := dial(t, address)
	again.send(connectPacket("one", 4, false))
	again.want(0x20, 1, 0)
	if f, body := old.next(); f != 0 {
		t.Errorf("received %#x % x, want only the end", f, body)
	}
}

func TestExpiredSessionLeavesNothing(t *testing.T) {
	b, address := start(t, func(c *Config) { c.Limits.SessionExpiry = time.Second })
	c := dial(t, address)
	c.hello("s", 4, false)
	c.send(subscribePacket(1, "a", 1))
	c.want(0x90, 0, 1, 1)
	c.Close()
	until(t, "absent", func() bool { return b.Status().Clients == 0 })
	if err := b.Publish(&event.Message{Topic: "a", Data: []byte("v"), QoS: 1}, nil); err != nil {
		t.Fatal(err)
	}
	until(t, "expired", func() bool { return b.Status().Sessions == 0 })
	until(t, "and forgotten", func() bool { s := b.Status(); return s.Subscriptions == 0 && s.Inflight == 0 })
	if n := b.Status().Losses["session-expired"]; n != 1 {
		t.Errorf("losses %v", b.Status().Losses)
	}
}

func TestLossesAreLoggedAsTheyDouble(t *testing.T) {
	var out bytes.Buffer
	l := losses{log: slog.New(slog.NewTextHandler(&out, nil))}
	for range 1000 {
		l.count(lossSlow, "c")
	}
	if n := strings.Count(out.String(), "reason=slow-subscriber"); n != 10 {
		t.Errorf("%d lines for 1,000 losses", n)
	}
	if l.snapshot()["slow-subscriber"] != 1000 {
		t.Error(l.snapshot())
	}
}

func TestReceiveMaximum(t *testing.T) {
	b, address := start(t, nil)
	c := dial(t, address)
	body := append(str("MQTT"), 5, 2, 0, 60, 3, 0x21, 0, 2) // takes two at once
	c.send(packet(0x10, append(body, str("two")...)))
	c.next()
	c.send(packet(0x82, append(append([]byte{0, 1, 0}, str("x")...), 1)))
	c.next()
	for i := range 10 {
		if err := b.Publish(&event.Message{Topic: "x", Data: []byte{byte(i)}, QoS: 1}, nil); err != nil {
			t.Fatal(err)
		}
	}
	var id []byte
	for i := range 10 {
		f, body := c.next()
		if f != 0x32 || body[len(body)-1] != byte(i) {
			t.Fatalf("received %#x % x, want message %d", f, body, i)
		}
		id = append(id, body[3:5]...)
		if i%2 == 0 {
			continue
		}
		c.send([]byte{0xC0, 0})
		if f, _ := c.next(); f != 0xD0 { // both are here, the others are not
			t.Fatalf("received %#x, want PINGRESP", f)
		}
		c.send([]byte{0x40, 2, id[0], id[1], 0x40, 2, id[2], id[3]})
		id = nil
	}
	until(t, "all are acknowledged", func() bool { return b.Status().Inflight == 0 })
}

func TestStopsWithConnectionsOpen(t *testing.T) {
	b, err := New(Config{Listen: []Listener{{Address: "127.0.0.1:0"}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := b.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	get(t, "ready", b.Listening())
	for i := range 5 {
		c := dial(t, b.Addresses()[0])
		if i%2 == 0 { // the others have said nothing yet
			c.hello(fmt.Sprint(i), 4, true)
		}
	}
	cancel()
	running.Wait()
	if err := b.Publish(&event.Message{Topic: "x"}, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("Publish after the end: %v", err)
	}
	if err := b.Run(ctx); err == nil {
		t.Error("ran twice")
	}
}

func testUsers(t testing.TB, permissions string) *Users {
	t.Helper()
	hash, err := hashPassword("pw", 1000)
	if err != nil {
		t.Fatal(err)
	}
	u, err := ParseUsers(strings.NewReader("user s\n password " + hash + "\n " + permissions + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func testTLS(t testing.TB) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}
