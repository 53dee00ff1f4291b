package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"mayfly/agent/changelog"
	"mayfly/agent/ownership"
	"mayfly/function"
	"mayfly/triggers/mqtt"
)

// states are the changelogs of the functions whose state is the cluster's ([U4]). Safe for concurrent use; the zero states have none.
type states struct {
	mu   sync.Mutex
	logs map[string]*changelog.Log // by function
}

// clustered says whether f's state is the cluster's: it says so, there is a cluster, and its trigger is not inside one of the nodes.
func (s *subscriptions) clustered(f *function.Function) bool {
	if f == nil || f.Manifest.State.Scope != function.ScopeCluster || s.team == nil || s.team.box == nil {
		return false
	}
	for i := range f.Manifest.MQTT {
		if at := s.sites[s.brokerOf(f, i)]; at != nil && at.local != nil {
			return false
		}
	}
	return true
}

func (s *subscriptions) brokerOf(f *function.Function, i int) string {
	if name := f.Manifest.MQTT[i].Broker; name != "" {
		return name
	}
	return s.standby
}

// unfit returns why f's state cannot be the cluster's though it says so, "" when it can or does not.
func (s *subscriptions) unfit(f *function.Function) string {
	if !s.clustered(f) {
		return ""
	}
	const or = `; or say state.scope = "node"`
	if n := len(f.Manifest.MQTT); n != 1 {
		return fmt.Sprintf(`state of scope "cluster" is where the function's MQTT trigger is: it needs exactly one, and has %d`, n) + or
	}
	at := s.sites[s.brokerOf(f, 0)]
	switch {
	case f.Manifest.MQTT[0].Shared != "":
		return `state of scope "cluster" needs a trigger with one owner, and a shared one has many` + or
	case at != nil && at.bound:
		return `state of scope "cluster" needs a broker that lets a session be taken over, and this one has bind_client_id` + or
	}
	return ""
}

// changelog returns where f's commits go, nil when its state is this node's own.
func (s *subscriptions) changelog(f *function.Function) *changelog.Log {
	if !s.clustered(f) {
		return nil
	}
	broker := ""
	if len(f.Manifest.MQTT) > 0 {
		broker = s.brokerOf(f, 0)
	}
	s.states.mu.Lock()
	defer s.states.mu.Unlock()
	log := s.states.logs[f.Name()]
	if log == nil || log.Broker != broker {
		log = s.newChangelog(f.Name(), broker)
		if s.states.logs == nil {
			s.states.logs = map[string]*changelog.Log{}
		}
		s.states.logs[f.Name()] = log
	}
	return log
}

func (s *subscriptions) newChangelog(name, broker string) *changelog.Log {
	return changelog.New(changelog.Config{
		Cluster: s.team.cluster, Node: s.team.self, Function: name, Broker: broker, Store: s.store, Outbox: s.team.box,
		Subscribe: func() (changelog.Subscription, error) { return s.stateFeed(broker) },
		Changed:   func() { s.team.moved(name) },
		Room:      func() { s.team.room(name) },
		Log:       s.log,
	})
}

// changelog returns where the commits of a function go whose state is the cluster's, nil for others.
func (a *Agent) changelog(f *function.Function) *changelog.Log { return a.subs.changelog(f) }

// stateOwner returns the node that has the MQTT trigger of a function whose state is the cluster's, as far as this node knows; "" when none has.
func (s *subscriptions) stateOwner(f *function.Function) string {
	if !s.clustered(f) || len(f.Manifest.MQTT) == 0 {
		return ""
	}
	c := s.claim(f, 0)
	board := s.boards[c.Broker]
	if board == nil {
		return ""
	}
	return board.Owner(mqtt.ClientID(mqtt.Subscription{Cluster: s.team.cluster, Session: ownedSource(c)}))
}

func (a *Agent) stateOwner(f *function.Function) string { return a.subs.stateOwner(f) }

// moved is called when the state of a function came here or went: its events may run here, or may not, and its schedules fire where it is.
func (a *Agent) moved(name string) {
	a.dispatch.Moved(name)
	a.pool.bell.ring()
}

// keepStates forgets the changelogs of functions that are no more.
func (s *subscriptions) keepStates(functions []*function.Function) {
	here := map[string]bool{}
	for _, f := range functions {
		here[f.Name()] = s.clustered(f)
	}
	s.states.mu.Lock()
	defer s.states.mu.Unlock()
	for name := range s.states.logs {
		if !here[name] {
			delete(s.states.logs, name)
		}
	}
}

// stateOf says why the state of a function is not here though this node should have it, "" when it is or should not.
func (s *subscriptions) stateOf(f *function.Function) string {
	log := s.changelog(f)
	if log == nil {
		return ""
	}
	if err := log.Status(); err != nil {
		return err.Error()
	}
	return ""
}

// clearState takes the state of a function that is no more off its trigger's broker.
func (s *subscriptions) clearState(o *owned) error {
	name, _, _ := strings.Cut(strings.TrimPrefix(o.key, o.broker+"/"), "/")
	s.states.mu.Lock()
	_, needed := s.states.logs[name]
	s.states.mu.Unlock()
	if needed || s.team.box == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(s.ctx, cleanEvery)
	defer cancel()
	err := s.newChangelog(name, o.broker).Clear(ctx)
	if err != nil && !errors.Is(err, context.Canceled) {
		s.log.Warn("the state of a removed function is still at the broker; trying again", "function", name, "err", err)
	}
	return err
}

// feed is a subscription to a changelog.
type feed struct{ *mqtt.Session }

// Filters implements changelog.Subscription.
func (f feed) Filters(filters []string) error {
	topics := make([]mqtt.Topic, len(filters))
	for i, filter := range filters {
		topics[i] = mqtt.Topic{Filter: filter, QoS: 1, Retained: function.RetainedAlways}
	}
	return f.SetTopics(topics)
}

func (s *subscriptions) stateFeed(broker string) (changelog.Subscription, error) {
	at := s.sites[broker]
	if at == nil || at.local != nil {
		return nil, fmt.Errorf("there is no broker %q whose state could be the cluster's", broker)
	}
	session, err := mqtt.NewSession(at.config, mqtt.Subscription{Cluster: "watch", Session: "state", Volatile: true}, nil, s.log)
	return feed{session}, err
}

// following is a trigger's owner as its session sees it, with the state that follows the trigger: it is opened when the session is
// connected, because then the broker has cut off whoever had it before, and closed before anybody hears that it is not.
type following struct {
	*ownership.Owner
	log func() *changelog.Log // of the function as it is deployed now

	mu    sync.Mutex
	claim uint64
	in    bool // connected
	goes  bool // of its own accord
	open  *changelog.Log
}

// Enter implements mqtt.Gate.
func (g *following) Enter(ctx context.Context) (epoch uint64, ok bool) {
	epoch, ok = g.Owner.Enter(ctx)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.claim, g.goes = epoch, false
	return epoch, ok
}

// Entered implements mqtt.Gate.
func (g *following) Entered() {
	g.connected(true)
	g.Owner.Entered()
}

// Leaving implements mqtt.Gate.
func (g *following) Leaving() {
	g.mu.Lock()
	g.goes = true
	g.mu.Unlock()
	g.Owner.Leaving()
}

// restsFor is how long a node that hands a trigger over waits until the broker has confirmed its state.
const restsFor = time.Second

// Left implements mqtt.Gate. Who leaves by itself still has the session at the broker.
func (g *following) Left() {
	g.mu.Lock()
	log := g.open
	if !g.goes {
		log = nil
	}
	g.mu.Unlock()
	if log != nil {
		log.Rest(restsFor)
	}
	g.connected(false)
	g.Owner.Left()
}

func (g *following) connected(in bool) {
	g.mu.Lock()
	g.in = in
	g.mu.Unlock()
	g.align()
}

// align opens and closes what should be open.
func (g *following) align() {
	g.mu.Lock()
	defer g.mu.Unlock()
	var want *changelog.Log
	if g.in {
		want = g.log()
	}
	if want == g.open {
		return
	}
	if g.open != nil {
		g.open.Close()
	}
	if g.open = want; want != nil {
		want.Open(g.claim)
	}
}
