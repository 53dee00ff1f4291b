package broker

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"time"

	"mayfly/function"
)

// Config is what a broker is made of. Only Listen is required.
type Config struct {
	Name   string // event.Event.Broker of its events; "" = "local"
	Listen []Listener
	Limits Limits       // zero fields take their defaults
	Log    *slog.Logger // nil = discard

	// Open listens on the address of a Listener; nil = on this machine's network.
	Open func(network, address string) (net.Listener, error)
}

// Listener is one address clients connect to. On a loopback address Users and TLS may be nil: whoever can open a
// connection there may publish and subscribe to everything. On any other address both are required.
type Listener struct {
	Address string // host:port; port 0 takes a free one
	TLS     *tls.Config
	Users   *Users
}

// Limits bound what clients can make the broker hold. A zero field takes the default named beside it.
type Limits struct {
	Clients        int           // connections at once, those that have not said CONNECT yet included: 200
	Sessions       int           // connected clients and sessions kept for absent ones: 400
	Packet         int           // bytes of one packet: 256 KiB
	Unacknowledged int           // QoS 1 and 2 publishes of one client that wait for their acknowledgement: 256
	Queue          int           // QoS 1 and 2 messages kept for one subscriber, connected or not: 1,000
	OfflineBytes   int64         // payload bytes kept for one absent session: 1 MiB
	Pending        int           // messages waiting to be written to one connection: 256
	Subscriptions  int           // filters of one client: 100
	Retained       int           // retained messages: 10,000
	RetainedBytes  int64         // their topics and payloads: 16 MiB
	SessionExpiry  time.Duration // how long an absent session is kept: 24 h
	Connect        time.Duration // from accepting a connection to its CONNECT, TLS included: 10 s
	Write          time.Duration // a client that takes no byte for this long is disconnected: 20 s
	Window         time.Duration // a client whose Unacknowledged stay used up for this long is disconnected: 30 s
	Drain          time.Duration // how long Subscription.Run waits for its receipts at the end: 10 s
}

func (l Limits) withDefaults() Limits {
	orInt := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	orDuration := func(p *time.Duration, v time.Duration) {
		if *p == 0 {
			*p = v
		}
	}
	orInt(&l.Clients, 200)
	orInt(&l.Sessions, 400)
	orInt(&l.Packet, 256<<10)
	orInt(&l.Unacknowledged, 256)
	orInt(&l.Queue, 1000)
	orInt(&l.Pending, 256)
	orInt(&l.Subscriptions, 100)
	orInt(&l.Retained, 10_000)
	orDuration(&l.SessionExpiry, 24*time.Hour)
	orDuration(&l.Connect, 10*time.Second)
	orDuration(&l.Write, 20*time.Second)
	orDuration(&l.Window, 30*time.Second)
	orDuration(&l.Drain, 10*time.Second)
	if l.OfflineBytes == 0 {
		l.OfflineBytes = 1 << 20
	}
	if l.RetainedBytes == 0 {
		l.RetainedBytes = 16 << 20
	}
	return l
}

func (l Limits) check() error {
	for _, f := range []struct {
		name string
		n    int
		high int
	}{
		{"Clients", l.Clients, math.MaxInt32},
		{"Sessions", l.Sessions, math.MaxInt32},
		{"Packet", l.Packet, 268435460}, // MQTT 3.1.1 section 2.2.3, header included
		{"Unacknowledged", l.Unacknowledged, math.MaxUint16},
		{"Queue", l.Queue, math.MaxUint16},
		{"Pending", l.Pending, math.MaxInt32},
		{"Subscriptions", l.Subscriptions, math.MaxInt32},
		{"Retained", l.Retained, math.MaxInt32},
	} {
		if f.n < 1 || f.n > f.high {
			return fmt.Errorf("limit %s is %d; it must be from 1 to %d", f.name, f.n, f.high)
		}
	}
	for _, d := range []time.Duration{l.SessionExpiry, l.Connect, l.Write, l.Window, l.Drain} {
		if d < 0 || d/time.Second > math.MaxUint32 {
			return fmt.Errorf("limit %v: durations must be positive and below 2^32 seconds", d)
		}
	}
	return nil
}

func (c *Config) check() error {
	if len(c.Listen) == 0 {
		return configError("listeners", errors.New("no address to listen on"), `set one, for example "127.0.0.1:1883"`)
	}
	if err := c.Limits.check(); err != nil {
		return configError("limits", err, "")
	}
	for _, l := range c.Listen {
		host, _, err := net.SplitHostPort(l.Address)
		if err != nil {
			return configError(l.Address, err, "write host:port")
		}
		if err := l.checkOpen(isLoopback(host)); err != nil {
			return err
		}
	}
	return nil
}

// checkOpen refuses an address other machines can reach unless it asks who is there and hides what is said.
func (l *Listener) checkOpen(loopback bool) error {
	if loopback || l.Users != nil && l.TLS != nil {
		return nil
	}
	missing := "users and TLS"
	switch {
	case l.Users != nil:
		missing = "TLS"
	case l.TLS != nil:
		missing = "users"
	}
	return configError(l.Address, fmt.Errorf("not a loopback address, and it has no %s", missing),
		"give it a users file and a TLS certificate, or listen on 127.0.0.1")
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true // checked again once it is bound: names can point anywhere
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

func configError(subject string, err error, hint string) error {
	return &function.Error{Op: "configure broker", Subject: subject, Class: function.ClassReject, Kind: "config", Err: err, Hint: hint}
}
