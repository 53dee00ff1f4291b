package broker

import (
	"io"
	"testing"

	paho "github.com/eclipse/paho.mqtt.golang"
)

// FuzzConn sends arbitrary bytes to a broker, after a CONNECT of either version or in its place. Whatever they are, the
// broker ends that connection or answers, and serves the next client.
func FuzzConn(f *testing.F) {
	f.Add(byte(5), malformedSubscribe)
	f.Add(byte(4), publishPacket("a", 1, 1, false, "v"))
	f.Add(byte(5), publishWith(5, publishPacket("a", 2, 1, true, "v"), "v"))
	f.Add(byte(4), subscribePacket(1, "a/+/#", 2))
	f.Add(byte(0), connectPacket("x", 5, true))
	f.Add(byte(0), []byte{0x10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	f.Add(byte(5), []byte{0xe0, 7, 0x9d, 5, 0x11, 0, 0, 0, 9})
	f.Add(byte(5), []byte{0x62, 2, 0, 9, 0x50, 2, 0, 9, 0xa2, 6, 0, 1, 0, 0, 1, 'a', 0xf0, 0})
	b, address := start(f, func(c *Config) { c.Limits.Packet = 4096 })
	run(f, b, Trigger{Name: "all", Filters: []string{"#"}, QoS: 1}, &settler{})
	f.Fuzz(func(t *testing.T, version byte, data []byte) {
		c := dial(t, address)
		if version == 4 || version == 5 {
			c.hello("fuzz", version, true)
		}
		c.Write(data) // it may close half way
		c.Conn.(interface{ CloseWrite() error }).CloseWrite()
		io.Copy(io.Discard, c.r)
		c.Close()
		good := dial(t, address)
		good.hello("good", 4, true)
		good.send([]byte{0xC0, 0})
		good.want(0xD0)
	})
}

// A client library that nobody here wrote agrees with what the broker says: sessions, retained messages, all QoS.
func TestPahoSessions(t *testing.T) {
	b, address := start(t, nil)
	heard := make(chan paho.Message, 10)
	kept := func(o *paho.ClientOptions) {
		o.SetCleanSession(false).SetDefaultPublishHandler(func(_ paho.Client, m paho.Message) { heard <- m })
	}
	s := connect(t, address, "s", kept)
	wait(t, "subscribe", s.Subscribe("a/+", 2, nil))
	s.Disconnect(100)
	until(t, "absent", func() bool { return b.Status().Clients == 0 })
	p := connect(t, address, "p", nil)
	for qos := range byte(3) {
		wait(t, "publish", p.Publish("a/b", qos, false, []byte{'0' + qos}))
	}
	wait(t, "publish retained", p.Publish("r", 1, true, "kept"))
	s = connect(t, address, "s", kept)
	got := map[string]bool{}
	for range 2 { // QoS 0 is not kept for the absent
		got[string(get(t, "message of the session", heard).Payload())] = true
	}
	if !got["1"] || !got["2"] {
		t.Errorf("received %v", got)
	}
	wait(t, "subscribe", s.Subscribe("r", 1, nil))
	if m := get(t, "retained message", heard); !m.Retained() || string(m.Payload()) != "kept" {
		t.Errorf("retained %v %q", m.Retained(), m.Payload())
	}
}
