package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"mayfly/agent/ownership"
	"mayfly/function"
	"mayfly/store"
	"mayfly/triggers"
	"mayfly/triggers/broker"
	"mayfly/triggers/mqtt"
)

// subscriptions keeps the brokers' subscriptions equal to the triggers of the deployed functions. Which session a trigger is in
// is remembered in the store: a restart finds the sessions the brokers hold, and what they have queued.
type subscriptions struct {
	cluster string
	sites   map[string]*site
	standby string // default broker
	store   notebook
	log     *slog.Logger
	set     *triggers.Set
	team    *team                       // nil: this node is alone
	boards  map[string]*ownership.Board // by broker, of the team

	mu       sync.Mutex
	sessions map[string]*mqtt.Session // by source key
	owned    map[string]*owned
	deployed map[string]bool // sources of the cluster, wherever they may run
	local    map[string]*broker.Subscription
	faults   map[string]string // by trigger, why it is not subscribed
	states   states
	heirs    map[string]chan struct{} // by source key: closed when what it inherits was handed on; nil before the first apply
	estate   map[string]bool          // client ids of sessions that are being handed over
	purging  sync.WaitGroup
	ctx      context.Context //nolint:containedctx // ends the purges, which outlive the call that started them
	cancel   context.CancelFunc
}

// notebook is what subscriptions need of the store.
type notebook interface {
	Submit(ops []store.Op, done func(error)) error
	Get(key []byte) (value []byte, version uint64, err error)
	Scan(prefix, after []byte, yield func(key, value []byte, version uint64) bool) error
}

func newSubscriptions(cluster string, all map[string]*site, standby string, notes notebook, log *slog.Logger) *subscriptions {
	ctx, cancel := context.WithCancel(context.Background())
	return &subscriptions{
		cluster: cluster, sites: all, standby: standby, store: notes, log: log, set: triggers.NewSet(log),
		sessions: map[string]*mqtt.Session{}, owned: map[string]*owned{}, local: map[string]*broker.Subscription{}, faults: map[string]string{}, estate: map[string]bool{}, ctx: ctx, cancel: cancel,
	}
}

// claim is a trigger that wants to be subscribed, with what its session needs to know.
type claim struct {
	triggers.Subscription
	spec *function.MQTTTrigger
	fn   *function.Function
}

// plan says which source brings which trigger's events, for the functions that may run here.
func (s *subscriptions) plan(functions []*function.Function) (groups []triggers.Group, claims map[string]claim) {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.faults)
	claims = map[string]claim{}
	var wanted []triggers.Subscription
	for _, f := range functions {
		for i := range f.Manifest.MQTT {
			c := s.claim(f, i)
			id := triggerID(f.Name(), c.Trigger)
			switch site := s.sites[c.Broker]; {
			case c.Broker == "":
				s.faults[id] = "no broker is configured: set [embedded] listen or [broker.<name>] urls in the agent's configuration"
				continue
			case s.unfit(f) != "":
				s.faults[id] = s.unfit(f)
				continue
			case site == nil:
				s.faults[id] = fmt.Sprintf("there is no broker %q in the agent's configuration", c.Broker)
				continue
			case site.local != nil:
				groups = append(groups, triggers.Group{Broker: c.Broker, Number: numberLocal, Members: []triggers.Subscription{c.Subscription}})
			case s.shared(c.spec, site):
				groups = append(groups, triggers.Group{Broker: c.Broker, Number: numberOwned, Members: []triggers.Subscription{c.Subscription}})
			default:
				wanted = append(wanted, c.Subscription)
			}
			claims[id] = c
		}
	}
	return append(groups, triggers.Plan(wanted, s.before)...), claims
}

func (s *subscriptions) claim(f *function.Function, i int) claim {
	t := &f.Manifest.MQTT[i]
	filter, name := t.Topic.Filter(), t.Broker
	if name == "" {
		name = s.standby
	}
	if t.Shared != "" {
		filter = "$share/" + t.Shared + "/" + filter
	}
	return claim{triggers.Subscription{
		Function: f.Name(), Trigger: fmt.Sprintf("mqtt[%d]", i), Broker: name, Filter: filter, QoS: t.QoS,
		Alone:  t.Overflow == function.OverflowHold || t.Shared != "",
		Stores: f.Manifest.State.Scope != function.ScopeNone && f.Manifest.State.Scope != "",
	}, t, f}
}

// Numbers of groups that are not shared sessions of this node: one trigger each.
const (
	numberLocal = -1 // at the embedded broker
	numberOwned = -2 // with a session that belongs to the cluster
)

func triggerID(function, trigger string) string { return function + "/" + trigger }

// source is the key of the source that brings a group's events.
func source(g triggers.Group) string {
	if g.Number < 0 {
		m := g.Members[0]
		return fmt.Sprintf("%s/%s %s qos %d", g.Broker, triggerID(m.Function, m.Trigger), m.Filter, m.QoS)
	}
	return fmt.Sprintf("%s/%d", g.Broker, g.Number)
}

// apply makes groups the sessions that run, and remembers them. to gives the sink of a source.
func (s *subscriptions) apply(groups []triggers.Group, claims map[string]claim, to func(source string) triggers.Sink) error {
	if err := s.inherit(groups, to); err != nil {
		return err
	}
	if err := s.remember(groups); err != nil {
		return err
	}
	want := map[string]func() triggers.Running{}
	for _, g := range groups {
		key := source(g)
		topics := make([]mqtt.Topic, len(g.Members))
		for i, m := range g.Members {
			topics[i] = mqtt.Topic{Filter: m.Filter, QoS: m.QoS, Retained: claims[triggerID(m.Function, m.Trigger)].spec.Retained}
		}
		src, err := s.open(key, g, claims, topics)
		if err != nil {
			return fmt.Errorf("subscribe %s: %w", key, err)
		}
		want[key] = func() triggers.Running { return triggers.Running{Source: src(), Sink: to(key)} }
	}
	if err := s.listen(want); err != nil {
		return err
	}
	s.dismiss(want)
	release := s.hold()
	s.set.Apply(want)
	release()
	s.retire(want)
	s.retireOwned(want)
	return nil
}

// hold keeps the embedded broker from acknowledging anything until release: while sources are exchanged, a message must not
// find that nobody wants it.
func (s *subscriptions) hold() (release func()) {
	if at := s.sites[EmbeddedName]; at != nil && at.local != nil {
		return at.local.Hold()
	}
	return func() {}
}

// open returns how to make the group's source; a session that runs already gets its new topics.
func (s *subscriptions) open(key string, g triggers.Group, claims map[string]claim, topics []mqtt.Topic) (func() triggers.Source, error) {
	at := s.sites[g.Broker]
	switch {
	case at.local != nil:
		return s.openLocal(at.local, key, topics[0])
	case g.Number == numberOwned:
		return s.openOwned(key, claims[triggerID(g.Members[0].Function, g.Members[0].Trigger)], topics)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if session := s.sessions[key]; session != nil {
		return func() triggers.Source { return session }, session.SetTopics(topics)
	}
	session, err := s.session(g.Broker, key, topics)
	if err == nil && s.estate[session.ClientID()] {
		err = errors.New("what the broker holds for its session from before the cluster is still being handed over")
	}
	if err != nil {
		return nil, err
	}
	s.sessions[key] = session
	return func() triggers.Source { return session }, nil
}

func (s *subscriptions) session(name, key string, topics []mqtt.Topic) (*mqtt.Session, error) {
	return mqtt.NewSession(s.sites[name].config, mqtt.Subscription{Cluster: s.cluster, Session: key, Topics: topics}, s, s.log)
}

// openLocal registers a trigger at the embedded broker at once, before anybody can connect to it: what matches is not
// acknowledged from then on unless it is safe.
func (s *subscriptions) openLocal(at *broker.Broker, key string, t mqtt.Topic) (func() triggers.Source, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sub := s.local[key]
	if sub == nil {
		var err error
		sub, err = at.Subscribe(broker.Trigger{Name: key, Filters: []string{t.Filter}, QoS: t.QoS, Retained: t.Retained})
		if err != nil {
			return nil, err
		}
		s.local[key] = sub
	}
	return func() triggers.Source { return &durable{sub, func() { s.closed(key) }} }, nil
}

func (s *subscriptions) closed(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.local, key)
}

// durable is one trigger's subscription at the embedded broker, removed when it has run: the broker is in this process, so
// there is nobody who would have to remember.
type durable struct {
	*broker.Subscription
	closed func()
}

// Run implements triggers.Source.
func (d *durable) Run(ctx context.Context, to triggers.Sink) error {
	defer d.closed()
	defer d.Close()
	return d.Subscription.Run(ctx, to)
}

// retire purges the broker sessions that no trigger needs any more: otherwise the broker would queue for them for ever.
func (s *subscriptions) retire(want map[string]func() triggers.Running) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, session := range s.sessions {
		if want[key] == nil {
			delete(s.sessions, key)
			s.purging.Go(func() { s.purge(session) })
		}
	}
}

// retireForgotten does the same for sessions of an earlier run of the agent. It is called after the first apply.
func (s *subscriptions) retireForgotten() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := map[string]bool{}
	for _, session := range s.sessions {
		known[string(sessionKey(session.ClientID()))] = true
	}
	for id := range s.estate {
		known[string(sessionKey(id))] = true
	}
	for name, at := range s.sites {
		if at.local != nil {
			continue
		}
		for n := range maxGroups {
			key := source(triggers.Group{Broker: name, Number: n})
			session, err := s.session(name, key, nil)
			if err != nil {
				return err
			}
			memory := sessionKey(session.ClientID())
			if _, version, err := s.store.Get(memory); err == nil && version != 0 && !known[string(memory)] {
				s.purging.Go(func() { s.purge(session) })
			}
		}
	}
	return s.retireForgottenOwned()
}

// maxGroups is how many sessions at one broker are looked for after a restart; more overlapping triggers than that on one
// topic are not expected on one device.
const maxGroups = 64

func (s *subscriptions) purge(session *mqtt.Session) {
	wait := time.NewTicker(30 * time.Second)
	defer wait.Stop()
	for {
		if session.Purge(s.ctx) == nil || s.ctx.Err() != nil {
			return
		}
		select {
		case <-wait.C:
		case <-s.ctx.Done():
			return
		}
	}
}

// close ends all sources, which give back or settle what they hold, and the purges.
func (s *subscriptions) close() {
	s.hold() // for good: what comes now stays with its sender
	s.set.Close()
	s.cancel()
	s.purging.Wait()
}

// fault returns why a trigger is not subscribed, "" when it is or will be.
func (s *subscriptions) fault(function, trigger string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.faults[triggerID(function, trigger)]
}

// waiting returns why the triggers at a broker do not get events now, "" when they do.
func (s *subscriptions) waiting(name string) string {
	if name == "" {
		name = s.standby
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, session := range s.connecting() {
		if !strings.HasPrefix(key, name+"/") {
			continue
		}
		if st := session.Status(); !st.Connected {
			if st.Err != nil {
				return st.Err.Error()
			}
			return "connecting to the broker"
		}
	}
	return ""
}

// received counts the messages that came from a broker.
func (s *subscriptions) received(name string) (sum uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, session := range s.all() {
		if strings.HasPrefix(key, name+"/") {
			sum += session.Status().Received
		}
	}
	return sum
}

// shed adds what the sessions gave up, by reason.
func (s *subscriptions) shed(sum map[string]uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, session := range s.all() {
		for reason, n := range session.Status().Shed {
			sum["mqtt-"+reason] += n
		}
	}
}
