package agent

import (
	"encoding/json"
	"strings"

	"mayfly/store"
	"mayfly/triggers"
)

// member is what is remembered of a trigger: where its subscription is.
type member struct {
	Broker, Filter string
	Group          int
}

func memberKey(function, trigger string) []byte {
	return store.Trigger.Key(function, []byte("member/"+trigger))
}

func (s *subscriptions) before(want triggers.Subscription) (int, bool) {
	value, version, err := s.store.Get(memberKey(want.Function, want.Trigger))
	var m member
	if err != nil || version == 0 || json.Unmarshal(value, &m) != nil || m.Broker != want.Broker || m.Filter != want.Filter {
		return 0, false
	}
	return m.Group, true
}

// remember writes down the members of groups, and forgets those of triggers that are gone, in one batch.
func (s *subscriptions) remember(groups []triggers.Group) error {
	ops, err := s.rememberOwned(groups)
	if err != nil {
		return err
	}
	keep := map[string]bool{}
	for _, g := range groups {
		for _, m := range g.Members {
			if g.Number < 0 {
				continue
			}
			key := memberKey(m.Function, m.Trigger)
			keep[string(key)] = true
			if n, ok := s.before(m); ok && n == g.Number {
				continue
			}
			value, err := json.Marshal(member{m.Broker, m.Filter, g.Number})
			if err != nil {
				return err
			}
			ops = append(ops, store.Op{Key: key, Value: value})
		}
	}
	err = s.store.Scan(store.Trigger.All(), nil, func(key, _ []byte, _ uint64) bool {
		if _, _, rest, ok := store.SplitKey(key); ok && strings.HasPrefix(string(rest), "member/") && !keep[string(key)] {
			ops = append(ops, store.Op{Key: append([]byte(nil), key...), Delete: true})
		}
		return true
	})
	if err != nil || len(ops) == 0 {
		return err
	}
	return s.commit(ops)
}

func (s *subscriptions) commit(ops []store.Op) error {
	synced := make(chan error, 1)
	if err := s.store.Submit(ops, func(err error) { synced <- err }); err != nil {
		return err
	}
	return <-synced
}

func sessionKey(id string) []byte { return store.Trigger.Key("", []byte("session/"+id)) }

// Subscribed implements mqtt.Memory.
func (s *subscriptions) Subscribed(session string) (filters map[string]uint32, err error) {
	value, version, err := s.store.Get(sessionKey(session))
	if err != nil || version == 0 {
		return nil, err
	}
	return filters, json.Unmarshal(value, &filters)
}

// Remember implements mqtt.Memory.
func (s *subscriptions) Remember(session string, filters map[string]uint32) error {
	if filters == nil {
		return s.commit([]store.Op{{Key: sessionKey(session), Delete: true}})
	}
	value, err := json.Marshal(filters)
	if err != nil {
		return err
	}
	return s.commit([]store.Op{{Key: sessionKey(session), Value: value}})
}
