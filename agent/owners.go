package agent

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"mayfly/agent/changelog"
	"mayfly/agent/ownership"
	"mayfly/function"
	"mayfly/store"
	"mayfly/triggers"
	"mayfly/triggers/mqtt"
)

// Membership shows the live nodes of the cluster to what decides who owns triggers. Its methods answer with what they have; Nodes is
// called for every trigger whenever anything changes.
type Membership interface {
	// Nodes returns the live nodes, this one among them, as candidates for triggers of f at the broker of that name.
	Nodes(f *function.Function, broker string) []ownership.Node
	// Watch returns a channel that is closed when Nodes or Revoked changes next.
	Watch() <-chan struct{}
	// Revoked says whether a node was shut out of the cluster.
	Revoked(node string) bool
}

// withdrawer gives back events that have not begun to run, and knows which epochs have written; see dispatch.Dispatcher.
type withdrawer interface {
	Withdraw(source string, all bool) (given int)
	Fence(function, trigger string) uint64
}

// team is what the triggers of scope cluster need of the other nodes.
type team struct {
	cluster string // its id
	self    string // this node's id, as in Membership.Nodes
	members Membership
	name    func(node string) string // what people call it; nil = its id
	events  withdrawer
	rules   ownership.Rules // zero: the defaults

	box   changelog.Outbox      // where changelogs leave; nil: the state of functions stays where it is
	moved func(function string) // the state of a function came or went
	room  func(function string) // commits of a function are taken again
}

// owned is a trigger's session that other nodes may take over.
type owned struct {
	key     string // its source
	broker  string
	board   *ownership.Board
	owner   *ownership.Owner
	session *mqtt.Session
	gate    *following
	fn      atomic.Pointer[function.Function] // as it is deployed now
}

// join makes triggers of scope cluster the cluster's. It is called before the first apply, or never.
func (s *subscriptions) join(t *team) {
	s.team = t
	s.boards = map[string]*ownership.Board{}
	for name, at := range s.sites {
		if at.local == nil {
			s.boards[name] = ownership.NewBoard(t.cluster, at, boardSettles, s.log.With("broker", name))
		}
	}
}

// boardSettles is how long after the subscription to claims the ones that the broker had kept are there.
const boardSettles = 300 * time.Millisecond

// shared says whether a trigger has a session of its own that its owner in the cluster has. The embedded broker is in one node, and
// its triggers are that node's; who asks for a $share group leaves it to the broker.
func (s *subscriptions) shared(t *function.MQTTTrigger, at *site) bool {
	return s.team != nil && at.local == nil && t.Scope != function.ScopeNode && t.Shared == ""
}

// openOwned returns how to make the source of a trigger whose session belongs to the cluster.
func (s *subscriptions) openOwned(key string, c claim, topics []mqtt.Topic) (func() triggers.Source, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.owned[key]
	if o == nil {
		var err error
		if o, err = s.newOwned(c.Broker, key, topics); err != nil {
			return nil, err
		}
		s.owned[key] = o
	}
	o.fn.Store(c.fn)
	o.gate.align()
	first := s.heirs[key]
	return func() triggers.Source {
		if first != nil {
			return &expecting{o.owner, first}
		}
		return o.owner
	}, o.session.SetTopics(topics)
}

func (s *subscriptions) newOwned(broker, key string, topics []mqtt.Topic) (*owned, error) {
	t, at := s.team, s.sites[broker]
	o := &owned{key: key, broker: broker, board: s.boards[broker]}
	wanted := mqtt.Subscription{Cluster: t.cluster, Session: key, Topics: topics}
	c := ownership.Config{
		Self: t.self, Session: mqtt.ClientID(wanted), Board: o.board, Bound: at.bound, Changed: t.members.Watch, Revoked: t.members.Revoked,
		Rules: t.rules, Log: s.log.With("source", key),
		Nodes: func() []ownership.Node {
			f := o.fn.Load()
			if f == nil {
				return nil
			}
			return t.members.Nodes(f, broker)
		},
		Floor: func() uint64 {
			f := o.fn.Load()
			if f == nil {
				return 0
			}
			return t.events.Fence(f.Name(), triggerOf(key))
		},
		Withdraw: func(all bool) { t.events.Withdraw(key, all) },
	}
	o.owner = ownership.NewOwner(c)
	o.gate = &following{Owner: o.owner, log: func() *changelog.Log { return s.changelog(o.fn.Load()) }}
	wanted.Gate = o.gate
	var memory mqtt.Memory = o.owner
	if at.bound {
		wanted.Session += boundTo(t.self)
		memory = s
	}
	var err error
	if o.session, err = mqtt.NewSession(at.config, wanted, memory, s.log); err != nil {
		return nil, err
	}
	o.owner.Bind(o.session)
	return o, nil
}

// triggerOf is the trigger in the key of a source that has one: "site/f/mqtt[0] in/# qos 1".
func triggerOf(key string) string {
	name, _, _ := strings.Cut(key, " ")
	return name[strings.LastIndexByte(name, '/')+1:]
}

// listen adds the sources that hear the claims at each broker.
func (s *subscriptions) listen(want map[string]func() triggers.Running) error {
	for name, b := range s.boards {
		session, err := mqtt.NewSession(s.sites[name].config, mqtt.Subscription{
			Cluster: "watch", Session: "claims", Volatile: true, Gate: b,
			Topics: []mqtt.Topic{
				{Filter: b.Filter(), QoS: 1, Retained: function.RetainedAlways},
				{Filter: b.Echoes(), QoS: 1, Retained: function.RetainedAlways},
			},
		}, nil, s.log)
		if err != nil {
			return fmt.Errorf("claims at %s: %w", name, err)
		}
		want[name+" claims"] = func() triggers.Running { return triggers.Running{Source: session, Sink: b} }
	}
	return nil
}

// dismiss ends the ownership of triggers that are no more, on this node's part: before their sources end, so that they do not hand
// over what nobody is to have.
func (s *subscriptions) dismiss(want map[string]func() triggers.Running) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, o := range s.owned {
		if want[key] == nil && !s.deployed[key] {
			o.owner.Retire()
		}
	}
}

// retireOwned drops the owners whose sources have ended, and has the sessions of triggers that are no more purged.
func (s *subscriptions) retireOwned(want map[string]func() triggers.Running) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, o := range s.owned {
		if want[key] != nil {
			continue
		}
		delete(s.owned, key)
		if !s.deployed[key] {
			s.purging.Go(func() { s.clean(o) })
		}
	}
}

// clean purges the session of a trigger that is no more ([U3]): at once if this node had it. Else whoever had it does; if that one is gone,
// every node that knew the trigger does so after a while. Purging twice is harmless.
func (s *subscriptions) clean(o *owned) {
	mine := o.owner.Had()
	ticker := time.NewTicker(cleanEvery)
	defer ticker.Stop()
	for {
		claimed, orphaned := o.board.Orphaned(o.session.ClientID())
		switch {
		case s.wants(o.key):
			return
		case mine || orphaned && claimed:
			if s.clearState(o) == nil && o.session.Purge(s.ctx) == nil {
				s.forgetOwned(o)
				return
			}
		case !claimed:
			s.forgetOwned(o)
			return
		}
		select {
		case <-ticker.C:
		case <-s.ctx.Done():
			return
		}
	}
}

// cleanEvery is how often a node looks whether a session that nobody needs is still there.
const cleanEvery = 10 * time.Second

func (s *subscriptions) wants(key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.deployed[key]
}

// all are the sessions that this node may have. Called with mu held.
func (s *subscriptions) all() map[string]*mqtt.Session {
	all := maps.Clone(s.sessions)
	for key, o := range s.owned {
		all[key] = o.session
	}
	return all
}

// connecting are the sessions that this node has, should have or has claimed. Called with mu held.
func (s *subscriptions) connecting() map[string]*mqtt.Session {
	all := maps.Clone(s.sessions)
	for key, o := range s.owned {
		if o.owner.Phase() != ownership.Watching {
			all[key] = o.session
		}
	}
	return all
}

// everywhere takes note of the sources that belong to the cluster, of every function there is, also of those that may not run here.
func (s *subscriptions) everywhere(functions []*function.Function) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deployed = map[string]bool{}
	s.keepStates(functions)
	for _, f := range functions {
		for i := range f.Manifest.MQTT {
			if c := s.claim(f, i); s.sites[c.Broker] != nil && s.shared(c.spec, s.sites[c.Broker]) {
				s.deployed[ownedSource(c)] = true
			}
		}
	}
}

// ownedSource is the key of the source of a trigger whose session is the cluster's.
func ownedSource(c claim) string {
	return source(triggers.Group{Broker: c.Broker, Number: numberOwned, Members: []triggers.Subscription{c.Subscription}})
}

// A node remembers the sessions of the cluster that it knew triggers of: when it finds at a start that one of them is no more, it sees
// to it that the broker forgets the session, unless somebody else has.

func ownedKey(id string) []byte { return store.Trigger.Key("", []byte("owned/"+id)) }

// keptOwned is such a record.
type keptOwned struct{ Broker, Key string }

// rememberOwned returns what has to be written about the owned sessions that are new.
func (s *subscriptions) rememberOwned(groups []triggers.Group) (ops []store.Op, err error) {
	for _, g := range groups {
		if g.Number != numberOwned {
			continue
		}
		key := source(g)
		record := ownedKey(mqtt.ClientID(mqtt.Subscription{Cluster: s.team.cluster, Session: key}))
		if _, version, err := s.store.Get(record); err == nil && version != 0 {
			continue
		}
		value, err := json.Marshal(keptOwned{g.Broker, key})
		if err != nil {
			return nil, err
		}
		ops = append(ops, store.Op{Key: record, Value: value})
	}
	return ops, nil
}

func (s *subscriptions) forgetOwned(o *owned) {
	id := mqtt.ClientID(mqtt.Subscription{Cluster: s.team.cluster, Session: o.key})
	if err := s.commit([]store.Op{{Key: ownedKey(id), Delete: true}}); err != nil {
		s.log.Warn("a purged session is looked for again after the next start", "source", o.key, "err", err)
	}
}

// retireForgottenOwned is retireForgotten for sessions of the cluster. Called with mu held.
func (s *subscriptions) retireForgottenOwned() error {
	if s.team == nil {
		return nil
	}
	var gone []keptOwned
	err := s.store.Scan(ownedKey(""), nil, func(_, value []byte, _ uint64) bool {
		var k keptOwned
		if json.Unmarshal(value, &k) == nil && !s.deployed[k.Key] && s.boards[k.Broker] != nil {
			gone = append(gone, k)
		}
		return true
	})
	if err != nil {
		return err
	}
	for _, k := range gone {
		o, err := s.newOwned(k.Broker, k.Key, nil)
		if err != nil {
			return err
		}
		s.purging.Go(func() { s.clean(o) })
	}
	return nil
}

// ownership says in a few words who has a trigger's session, and what its broker makes of that; "" when it is this node's alone.
func (s *subscriptions) ownership(function, trigger string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, o := range s.owned {
		if name, _, _ := strings.Cut(key, " "); name != o.broker+"/"+triggerID(function, trigger) {
			continue
		}
		text := ", no owner yet"
		if node := o.board.Owner(o.owner.Session); node != "" {
			text = ", owner " + s.team.called(node)
		}
		if why := s.stateOf(o.fn.Load()); why != "" {
			text += " (" + why + ")"
		}
		if s.sites[o.broker].bound {
			text += " (bind_client_id: what is published while the owner changes may be lost)"
		}
		return text
	}
	return ""
}

// called is what people call a node.
func (t *team) called(node string) string {
	if t.name == nil {
		return node
	}
	return t.name(node)
}

// links says which brokers this node has a good connection to, for gossip. It must be asked every few seconds.
func (s *subscriptions) links(now time.Time) (up []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, at := range s.sites {
		if at.link.Observe(now, at.Ready()) {
			up = append(up, name)
		}
	}
	slices.SortFunc(up, cmp.Compare[string])
	return up
}
