package agent

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"sync"

	"mayfly/agent/ownership"
	"mayfly/cluster/peer"
	"mayfly/event"
	"mayfly/function"
	"mayfly/triggers"
	"mayfly/triggers/broker"
	"mayfly/triggers/mqtt"
)

// site is one broker as the agent uses it: somebody's, over the network, or the embedded one, in this process. Exactly one of
// remote and local is set.
type site struct {
	name   string
	config mqtt.Broker
	remote *mqtt.Publisher
	local  *broker.Broker
	bound  bool           // the broker ties client ids to identities: no other node can take a session over
	link   ownership.Link // how good the connection is, for gossip; guarded by subscriptions.mu
	queue  chan said      // towards local
}

// said is a message on its way to the embedded broker. It takes a queue and a goroutine of its own: the broker confirms at
// once, often before Publish returns, and the outbox does not expect to be called back from within its own call.
type said struct {
	m event.Message
	c mqtt.Confirmation
}

const saidQueue = 256

// sites makes all configured brokers. It starts nothing.
func sites(c *Config, dial peer.Dial, log *slog.Logger) (map[string]*site, error) {
	all := map[string]*site{}
	for name := range c.Brokers {
		b := c.broker(name)
		b.Dial = dial
		p, err := mqtt.NewPublisher(b, "", log.With("client", "publisher"))
		if err != nil {
			return nil, fmt.Errorf("broker %s: %w", name, err)
		}
		all[name] = &site{name: name, config: b, remote: p, bound: c.Brokers[name].BindClientID}
	}
	if len(c.Embedded.Listen) > 0 {
		b, err := embedded(&c.Embedded, log)
		if err != nil {
			return nil, fmt.Errorf("embedded broker: %w", err)
		}
		all[EmbeddedName] = &site{name: EmbeddedName, local: b, queue: make(chan said, saidQueue)}
	}
	return all, nil
}

func embedded(c *EmbeddedConfig, log *slog.Logger) (*broker.Broker, error) {
	config := broker.Config{Name: EmbeddedName, Log: log}
	var users *broker.Users
	var secure *tls.Config
	if c.Users != "" {
		var err error
		if users, err = broker.LoadUsers(c.Users); err != nil {
			return nil, err
		}
	}
	if c.Cert != "" {
		pair, err := tls.LoadX509KeyPair(c.Cert, c.Key)
		if err != nil {
			return nil, err
		}
		secure = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	}
	for _, address := range c.Listen {
		l := broker.Listener{Address: address, Users: users}
		if host, _, err := net.SplitHostPort(address); err != nil || !loopback(host) {
			l.TLS = secure
		}
		config.Listen = append(config.Listen, l)
	}
	return broker.New(config)
}

// Run keeps the site's own connection, or the embedded broker, up until ctx ends.
func (s *site) Run(ctx context.Context) error {
	if s.local == nil {
		return s.remote.Run(ctx)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.carry(ctx)
	}()
	err := s.local.Run(ctx)
	<-ended
	return err
}

// carry takes messages to the embedded broker until ctx ends; what is queued then is told that its fate is unknown.
func (s *site) carry(ctx context.Context) {
	for {
		select {
		case x := <-s.queue:
			if err := s.local.Publish(&x.m, x.c); err != nil {
				x.c.Confirmed(err)
			}
		case <-ctx.Done():
			for {
				select {
				case x := <-s.queue:
					x.c.Confirmed(mqtt.ErrUnknown)
				default:
					return
				}
			}
		}
	}
}

// Publish implements outbox.Publisher.
func (s *site) Publish(m *event.Message, c mqtt.Confirmation) error {
	if s.local == nil {
		return s.remote.Publish(m, c)
	}
	select {
	case s.queue <- said{*m, c}:
		return nil
	default:
		return mqtt.ErrFull
	}
}

// Check implements outbox.Publisher.
func (s *site) Check(m *event.Message) error {
	if s.remote != nil {
		return s.remote.Check(m)
	}
	if err := event.CheckTopic(m.Topic); err != nil {
		return &function.Error{Op: "publish", Subject: m.Topic, Class: function.ClassReject, Kind: "topic", Err: err}
	}
	return nil
}

// Ready says whether messages can be published now.
func (s *site) Ready() bool { return s.local != nil || s.remote.Ready() }

// Changes holds a signal after Ready changed.
func (s *site) Changes() <-chan struct{} {
	if s.local != nil {
		return nil
	}
	return s.remote.Changes()
}

// watch is a subscription for somebody who only looks: nothing is kept for it and nothing waits for it.
func (s *site) watch(filter string, qos byte, log *slog.Logger) (triggers.Source, func() bool, error) {
	if s.local != nil {
		sub, err := s.local.Subscribe(broker.Trigger{Name: "watch " + filter, Filters: []string{filter}, Retained: "always"})
		if err != nil {
			return nil, nil, err
		}
		return &watching{sub}, func() bool { return true }, nil
	}
	session, err := mqtt.NewSession(s.config, mqtt.Subscription{
		Cluster: "watch", Session: "watch", Volatile: true, Topics: []mqtt.Topic{{Filter: filter, QoS: qos, Retained: "always"}},
	}, nil, log)
	if err != nil {
		return nil, nil, err
	}
	return session, func() bool { return session.Status().Connected }, nil
}

// watching closes an embedded subscription when its run ends.
type watching struct{ *broker.Subscription }

// Run implements triggers.Source.
func (w *watching) Run(ctx context.Context, to triggers.Sink) error {
	defer w.Close()
	return w.Subscription.Run(ctx, to)
}

// emitter is the sink of a watch.
type emitter struct {
	emit func(*event.Event)
	once sync.Mutex // emit is called one at a time
}

// Accept implements triggers.Sink.
func (e *emitter) Accept(_ context.Context, ev *event.Event, r triggers.Receipt) error {
	e.once.Lock()
	e.emit(ev)
	e.once.Unlock()
	if r != nil {
		r.Settle(triggers.Settlement{})
	}
	return nil
}
