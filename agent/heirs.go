package agent

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"mayfly/agent/ownership"
	"mayfly/event"
	"mayfly/function"
	"mayfly/store"
	"mayfly/triggers"
	"mayfly/triggers/mqtt"
)

// A node that founds a cluster had broker sessions of its own, and the broker has queued for them; from now on its triggers have sessions of
// the cluster. Nothing may be lost between the two and nothing may come twice ([U5]). So the new sessions are subscribed while the old one still is;
// then one message, the mark, goes to all of them. What the old one has before the mark is handed on from there; what the new ones have
// after it, from them. DESIGN.md walks through what happens when we die in between.

// estate is an old session that is handed over, as it is kept until that is done.
type estate struct {
	Broker string    `json:"broker"`
	Key    string    `json:"key"`  // of the source that had it
	Mark   mqtt.Mark `json:"mark"` // Nonce "" = not set; Topic "" as well = the broker takes none
	Marked bool      `json:"marked,omitempty"`
	Heirs  []heir    `json:"heirs"`
}

// heir is a trigger that has a session of its own from now on.
type heir struct {
	Filter string `json:"filter"`
	QoS    byte   `json:"qos"`
	Key    string `json:"key"` // of its source
}

func estateKey(id string) []byte { return store.Trigger.Key("", []byte("estate/"+id)) }

const (
	markPatience = 5 * time.Second  // a mark comes back in milliseconds, or never
	heirPatience = 10 * time.Second // how long the heirs wait for the old session to be drained, so that what is older comes first
	quietEnds    = 20 * time.Second // an old session whose mark was dropped, because its queue was full, is empty then
)

// inherit finds the sessions that this node had alone, and begins to hand them over. It is called before the first apply writes down where the
// triggers are now.
func (s *subscriptions) inherit(groups []triggers.Group, to func(source string) triggers.Sink) error {
	if s.team == nil || s.heirs != nil {
		return nil
	}
	s.heirs = map[string]chan struct{}{}
	all, err := s.estates(groups)
	if err != nil {
		return err
	}
	for id, e := range all {
		done := make(chan struct{})
		for _, h := range e.Heirs {
			s.heirs[h.Key] = done
		}
		s.estate[id] = true
		s.purging.Go(func() { s.handOver(e, to, done) })
	}
	return nil
}

// estates are those that are written down, and those that become some now. Triggers that were removed meanwhile inherit nothing.
func (s *subscriptions) estates(groups []triggers.Group) (map[string]*estate, error) {
	all, ops := map[string]*estate{}, []store.Op(nil)
	err := s.store.Scan(estateKey(""), nil, func(_, value []byte, _ uint64) bool {
		var e estate
		if json.Unmarshal(value, &e) == nil && s.sites[e.Broker] != nil {
			all[s.former(&e).ClientID] = &e
		}
		return true
	})
	if err != nil {
		return nil, err
	}
	fresh := map[string]*estate{}
	for _, g := range groups {
		for _, m := range g.Members {
			number, had := s.before(m)
			if g.Number != numberOwned || !had || number < 0 {
				continue
			}
			e := &estate{Broker: m.Broker, Key: source(triggers.Group{Broker: m.Broker, Number: number})}
			id := s.former(e).ClientID
			if filters, err := s.Subscribed(id); err != nil || filters == nil || all[id] != nil {
				continue // the broker holds nothing for it
			}
			if fresh[id] == nil {
				fresh[id] = e
			}
			fresh[id].Heirs = append(fresh[id].Heirs, heir{m.Filter, m.QoS, source(g)})
		}
	}
	for id, e := range fresh {
		value, err := json.Marshal(e)
		if err != nil {
			return nil, err
		}
		all[id], ops = e, append(ops, store.Op{Key: estateKey(id), Value: value})
	}
	if len(ops) == 0 {
		return all, nil
	}
	return all, s.commit(ops)
}

// mixed returns a function that becoming the first node of a cluster would take events from, "" when there is none: its trigger shares a session
// with one that stays this node's.
func (s *subscriptions) mixed(functions []*function.Function) string {
	groups, claims := s.plan(functions)
	for _, g := range groups {
		leaves, stays := "", false
		for _, m := range g.Members {
			if c := claims[triggerID(m.Function, m.Trigger)]; g.Number >= 0 && s.sites[g.Broker].local == nil {
				if c.spec.Scope == function.ScopeNode || c.spec.Shared != "" {
					stays = true
				} else {
					leaves = m.Function
				}
			}
		}
		if stays && leaves != "" {
			return leaves
		}
	}
	return ""
}

// former describes an old session.
type former struct {
	mqtt.Subscription
	ClientID string
}

func (s *subscriptions) former(e *estate) former {
	c := mqtt.Subscription{Cluster: s.cluster, Session: e.Key, Drain: 10 * time.Millisecond}
	return former{c, mqtt.ClientID(c)}
}

// handOver hands an old session over, however often it has to begin again, until the agent ends.
func (s *subscriptions) handOver(e *estate, to func(string) triggers.Sink, done chan struct{}) {
	release := sync.OnceFunc(func() { close(done) })
	defer release()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for tries := 0; s.ctx.Err() == nil; tries++ {
		err := s.step(e, to, release, tries >= 1)
		if err == nil {
			s.mu.Lock()
			delete(s.estate, s.former(e).ClientID)
			s.mu.Unlock()
			s.log.Info("what the broker held for this node alone was handed over to the cluster's sessions", "source", e.Key)
			return
		}
		if tries%30 == 0 && s.ctx.Err() == nil {
			s.log.Warn("what the broker holds for this node alone cannot be handed over yet; its triggers wait", "source", e.Key, "err", err)
		}
		select {
		case <-tick.C:
		case <-s.ctx.Done():
		}
	}
}

// step goes from where it is to the end. bare does without a mark when the broker takes none: then what comes in between may come twice.
func (s *subscriptions) step(e *estate, to func(string) triggers.Sink, release func(), bare bool) error {
	old := s.former(e)
	there := e.Marked
	if !there {
		var err error
		if there, err = s.mark(e, bare); err != nil {
			return err
		}
	}
	late := time.AfterFunc(heirPatience, release)
	defer late.Stop()
	if e.Mark.Topic != "" {
		old.Topics = []mqtt.Topic{{Filter: e.Mark.Topic, QoS: 1}} // and all others are taken back
	}
	session, err := mqtt.NewSession(s.sites[e.Broker].config, old.Subscription, s, s.log)
	if err == nil && there {
		err = s.drainOld(session, e, to)
	}
	if err != nil {
		return err
	}
	return s.buried(old.ClientID, session)
}

// buried makes the broker, and us, forget the old session.
func (s *subscriptions) buried(id string, session *mqtt.Session) error {
	if err := session.Purge(s.ctx); err != nil {
		return err
	}
	return s.commit([]store.Op{{Key: sessionKey(id), Delete: true}, {Key: estateKey(id), Delete: true}})
}

// mark subscribes the heirs and sets the mark. there is false when the broker has lost the old session. It can be repeated: what was
// acknowledged in a heir's session is still in the old one, and a new mark is another message.
func (s *subscriptions) mark(e *estate, bare bool) (there bool, err error) {
	old := s.former(e)
	m := mqtt.Mark{Topic: "mayfly/" + s.team.cluster + "/estate/" + old.ClientID, Nonce: rand.Text()}
	session, err := mqtt.NewSession(s.sites[e.Broker].config, old.Subscription, s, s.log)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	if there, err = session.Bequeath(ctx, m); err != nil {
		return false, err
	}
	if err = s.prepare(ctx, cancel, e, m); bare && errors.Is(err, mqtt.ErrNoMark) {
		s.log.Warn("the broker takes no mark below mayfly/: what comes while the sessions change may come twice", "source", e.Key)
		m, err = mqtt.Mark{}, nil
	}
	if err != nil {
		return there, err
	}
	e.Mark, e.Marked = m, true
	value, err := json.Marshal(e)
	if err == nil {
		err = s.commit([]store.Op{{Key: estateKey(old.ClientID), Value: value}})
	}
	e.Marked = err == nil
	return there, err
}

// prepare subscribes all heirs and then publishes the mark, which all of them wait for.
func (s *subscriptions) prepare(ctx context.Context, cancel func(), e *estate, m mqtt.Mark) error {
	var ready, ended sync.WaitGroup
	var mu sync.Mutex
	var faults []error
	for _, h := range e.Heirs {
		c := mqtt.Subscription{Cluster: s.team.cluster, Session: h.Key, Topics: []mqtt.Topic{{Filter: h.Filter, QoS: h.QoS}}}
		if s.sites[e.Broker].bound {
			c.Session += boundTo(s.team.self)
		}
		session, err := mqtt.NewSession(s.sites[e.Broker].config, c, s, s.log)
		if err != nil {
			return err
		}
		ready.Add(1)
		ended.Go(func() {
			once := sync.OnceFunc(ready.Done)
			defer once()
			if err := session.Inherit(ctx, m, once, markPatience); err != nil {
				mu.Lock()
				faults = append(faults, err)
				mu.Unlock()
			}
		})
	}
	ready.Wait()
	told := make(confirmation, 1)
	err := s.sites[e.Broker].Publish(&event.Message{Topic: m.Topic, Data: []byte(m.Nonce), QoS: 1}, told)
	if err == nil {
		select {
		case err = <-told:
		case <-time.After(markPatience):
			err = mqtt.ErrNoMark
		}
	}
	if err != nil {
		cancel()
	}
	ended.Wait()
	return errors.Join(append(faults, err)...)
}

// drainOld hands on what the old session has before the mark, and returns when that is safe.
func (s *subscriptions) drainOld(session *mqtt.Session, e *estate, to func(string) triggers.Sink) error {
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	x := &executor{estate: e, to: to, changed: make(chan struct{}, 1), unsafe: map[uint16]bool{}}
	ended := make(chan error, 1)
	go func() { ended <- session.Run(ctx, x) }()
	quiet := time.NewTimer(quietEnds)
	defer quiet.Stop()
	for !x.finished() {
		select {
		case <-x.changed:
			quiet.Reset(x.patience())
		case <-quiet.C:
			if session.Status().Connected {
				cancel()
				return <-ended
			}
			quiet.Reset(quietEnds)
		case <-s.ctx.Done():
			return errors.Join(<-ended, s.ctx.Err())
		}
	}
	cancel()
	return <-ended
}

// expecting is the source of a trigger that inherits: it begins when the old session is drained, or that takes long.
type expecting struct {
	*ownership.Owner
	done <-chan struct{}
}

// Run implements triggers.Source.
func (w *expecting) Run(ctx context.Context, to triggers.Sink) error {
	select {
	case <-w.done:
	case <-ctx.Done():
		return nil
	}
	return w.Owner.Run(ctx, to)
}

func boundTo(node string) string { return fmt.Sprintf(" at %s", node) }
