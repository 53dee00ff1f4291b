// Package broker is an MQTT 3.1.1 and 5 broker inside the agent, for a site that has none. It keeps one promise that
// brokers rarely make: a QoS 1 or 2 publish that matches a durable trigger is acknowledged only when its event is safe
// (promise D1). What it does not promise is listed in DESIGN.md.
//
// It is built on mochi-mqtt, which only this package imports, and guards against its known faults.
package broker

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"

	"mayfly/event"
)

const sysInterval = 10 // seconds between updates of $SYS topics; each reads the memory statistics, which is not cheap

// Broker is one embedded broker. New makes it, Run runs it. All methods are safe for concurrent use.
type Broker struct {
	name   string
	listen []Listener
	open   func(network, address string) (net.Listener, error)
	limits *Limits
	log    *slog.Logger
	server *mqtt.Server
	own    *mqtt.Client // publishes what the agent says and what ingest passes on

	boot     string        // begins the ids of this process's events
	events   atomic.Uint64 // minted
	epochs   atomic.Uint64 // connections of clients that keep a session
	losses   losses
	retained ledger

	edit  sync.Mutex // guards subs and holds
	subs  []*Subscription
	holds int
	index atomic.Pointer[event.Index[*Subscription]] // of subs

	connections atomic.Int64
	queueFull   atomic.Int64 // of the library's count, what is in losses already
	ran         atomic.Bool
	closed      atomic.Bool
	ready       chan struct{}
	changes     chan struct{}
	addresses   []string // written before ready is closed
}

// New checks the configuration and makes a broker that listens nowhere yet. Subscribe and Publish work from here on.
func New(c Config) (*Broker, error) {
	c.Limits = c.Limits.withDefaults()
	if err := c.check(); err != nil {
		return nil, err
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Name == "" {
		c.Name = "local"
	}
	if c.Open == nil {
		c.Open = net.Listen
	}
	boot := make([]byte, 8)
	rand.Read(boot) // never fails (crypto/rand)
	b := &Broker{
		name: c.Name, listen: c.Listen, open: c.Open, limits: &c.Limits, log: c.Log, server: newServer(&c.Limits),
		boot:     hex.EncodeToString(boot),
		losses:   losses{log: c.Log},
		retained: ledger{size: map[string]int64{}, maxCount: c.Limits.Retained, maxBytes: c.Limits.RetainedBytes},
		ready:    make(chan struct{}),
		changes:  make(chan struct{}, 1),
	}
	if err := b.server.AddHook(&hook{b: b}, nil); err != nil {
		return nil, fmt.Errorf("new broker: %w", err)
	}
	b.own = b.server.NewClient(nil, "own", "mayfly", true)
	b.own.Properties.ProtocolVersion = 5 // keeps the properties of what it passes on
	return b, nil
}

func newServer(l *Limits) *mqtt.Server {
	caps := mqtt.NewDefaultServerCapabilities()
	caps.MaximumClients = int64(l.Clients)
	caps.MaximumMessageExpiryInterval = 0 // else retained messages vanish after a day; a sender's own expiry is kept
	caps.MaximumClientWritesPending = int32(l.Pending)
	caps.MaximumSessionExpiryInterval = uint32(l.SessionExpiry / time.Second)
	caps.MaximumPacketSize = uint32(l.Packet)
	caps.ReceiveMaximum = uint16(l.Unacknowledged)
	caps.MaximumInflight = uint16(l.Queue)
	caps.TopicAliasMaximum = 0 // the library asks for permission before it knows which topic an alias means
	caps.SharedSubAvailable = 0
	caps.Compatibilities.NoInheritedPropertiesOnAck = true
	return mqtt.New(&mqtt.Options{
		Capabilities:             caps,
		ClientNetWriteBufferSize: 1, // conn gathers; the library's own gathering can leave an acknowledgement unsent
		ClientNetReadBufferSize:  4096,
		Logger:                   slog.New(slog.DiscardHandler), // it logs payloads, and a line for every dropped message
		SysTopicResendInterval:   sysInterval,
	})
}

// Run listens and serves until ctx ends, then disconnects everybody. Sources should be running before, so that no
// publisher finds its trigger held, and have ended before ctx does. It may be called once.
func (b *Broker) Run(ctx context.Context) error {
	if !b.ran.CompareAndSwap(false, true) {
		return errors.New("broker runs twice")
	}
	var gates []*gate
	for _, l := range b.listen {
		g, err := b.openGate(l)
		if err != nil {
			for _, open := range gates {
				open.ln.Close()
			}
			return err
		}
		gates = append(gates, g)
	}
	for _, g := range gates {
		if err := b.server.AddListener(g); err != nil {
			return fmt.Errorf("run broker: %w", err)
		}
		b.addresses = append(b.addresses, g.id)
	}
	if err := b.server.Serve(); err != nil {
		return fmt.Errorf("run broker: %w", err)
	}
	close(b.ready)
	b.log.Info("broker listens", "addresses", b.addresses)

	<-ctx.Done()

	b.closed.Store(true)
	b.changes <- struct{}{}
	if err := b.server.Close(); err != nil {
		return fmt.Errorf("stop broker: %w", err)
	}
	return nil
}

// Listening is closed when the broker accepts connections.
func (b *Broker) Listening() <-chan struct{} { return b.ready }

// Addresses returns where it listens, in the order of the configuration. Call it when it is Listening.
func (b *Broker) Addresses() []string { return b.addresses }

func (b *Broker) mintID() string { return fmt.Sprintf("%s-%d", b.boot, b.events.Add(1)) }

// Status is what the broker holds now and has given up since it started.
type Status struct {
	Name          string
	Addresses     []string // nil before it listens
	Clients       int      // connected
	Sessions      int      // connected clients and kept sessions
	Triggers      int      // subscriptions of this agent
	Subscriptions int64    // filters of clients
	Retained      int
	Inflight      int64 // messages kept for subscribers until they acknowledge
	Received      int64 // publishes
	Sent          int64
	Losses        map[string]int64 // by reason; only those that occurred
}

// Status returns a snapshot.
func (b *Broker) Status() Status {
	info := b.server.Info.Clone()
	b.countQueueFull(info.InflightDropped)
	s := Status{
		Name: b.name, Clients: int(info.ClientsConnected), Sessions: b.server.Clients.Len(), Triggers: b.triggers(),
		Subscriptions: info.Subscriptions, Retained: b.retained.count(), Inflight: info.Inflight,
		Received: info.MessagesReceived, Sent: info.MessagesSent, Losses: b.losses.snapshot(),
	}
	select {
	case <-b.ready:
		s.Addresses = b.addresses
	default:
	}
	return s
}

// countQueueFull adds what the library's counter grew by to the losses.
func (b *Broker) countQueueFull(now int64) {
	if seen := b.queueFull.Load(); now > seen && b.queueFull.CompareAndSwap(seen, now) {
		b.losses.add(lossQueue, now-seen, "")
	}
}

func (b *Broker) triggers() int {
	b.edit.Lock()
	defer b.edit.Unlock()
	return len(b.subs)
}
