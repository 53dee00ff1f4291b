package broker

import (
	"fmt"
	"io"
	"sync"
	"testing"

	"mayfly/event"
)

// Many clients at once do everything that touches shared structures of the library: subscribe with wildcards to topics that
// are being retained, take each other's sessions over, leave with a will, publish at every QoS.
func TestStorm(t *testing.T) {
	b, address := start(t, func(c *Config) { c.Limits.Queue = 50; c.Limits.Pending = 20 })
	run(t, b, Trigger{Name: "all", Filters: []string{"#"}, QoS: 1}, &settler{})
	var clients sync.WaitGroup
	for n := range 6 {
		clients.Go(func() {
			for round := range 15 {
				c := dial(t, address)
				c.Write(connectPacket(fmt.Sprint("c", (n+round)%4), 4+byte(n%2), round%3 == 0)) // it may be taken over at any time
				c.Write(storm(n, round, 4+byte(n%2)))
				c.Conn.(interface{ CloseWrite() error }).CloseWrite()
				io.Copy(io.Discard, c.r)
				c.Close()
			}
		})
	}
	clients.Go(func() {
		for i := range 200 {
			if err := b.Publish(&event.Message{Topic: fmt.Sprint("s/", i%20), Data: []byte("v"), QoS: 1, Retain: i%2 == 0}, nil); err != nil {
				t.Error(err)
			}
			b.Status()
		}
	})
	clients.Wait()
	c := dial(t, address)
	c.hello("after", 4, true)
	c.send([]byte{0xC0, 0})
	c.want(0xD0)
	if n := b.Status().Losses["malformed"]; n != 0 {
		t.Errorf("%d panics", n)
	}
}

func storm(n, round int, version byte) []byte {
	var p []byte
	subscribe := subscribePacket(1, "s/+", 1)
	if version == 5 {
		subscribe = packet(0x82, append(append([]byte{0, 1, 0}, str("s/+")...), 1))
	}
	p = append(p, subscribe...)
	for i := range 20 {
		retained := publishWith(version, publishPacket(fmt.Sprint("s/", n, "/", i%5), byte(i%2), uint16(i+1), false, "v"), "v")
		retained[0] |= byte(round+i) % 2
		p = append(p, retained...)
		flat := publishWith(version, publishPacket(fmt.Sprint("s/", i), byte(i%3), uint16(i+100), false, "v"), "v")
		flat[0] |= 1
		p = append(p, flat...)
	}
	return p
}
