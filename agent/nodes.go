package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"mayfly/admin"
	"mayfly/agent/placement"
	"mayfly/cluster/catalog"
	"mayfly/cluster/identity"
	"mayfly/function"
	"mayfly/store"
)

// nodes are the members of the cluster as operators see them. It implements admin.Nodes.
type nodes struct{ agent *Agent }

// List implements admin.Nodes.
func (n nodes) List(context.Context) ([]admin.Member, error) {
	a := n.agent
	all := []admin.Member{n.self()}
	if a.pool == nil {
		return all, nil
	}
	said := a.pool.described()
	seen := map[string]bool{a.node.ID: true}
	for _, m := range a.pool.others() {
		seen[m.Name] = true
		p := a.pool.node(&m, said[m.Name])
		shown := shownMember(&p, said[m.Name])
		shown.State, shown.Address, shown.LastSeen = admin.MemberAlive, m.Addr.String(), time.Now().Add(-p.Age)
		all = append(all, shown)
	}
	for id, w := range a.pool.known.copy() {
		if seen[id] {
			continue
		}
		seen[id] = true
		shown := shownMember(&placement.Node{ID: id, Name: cmp.Or(said[id].Name, id), Labels: said[id].Labels, Arch: said[id].Arch}, said[id])
		shown.State, shown.Address, shown.Reason = admin.MemberDown, w.Gossip, "this node has not heard of it"
		shown.Hint = "is it on, and does its network reach this node?"
		all = append(all, shown)
	}
	for _, r := range a.pool.member.Revocations() {
		if !seen[r.Node] {
			all = append(all, admin.Member{ID: r.Node, Name: cmp.Or(said[r.Node].Name, r.Node), State: admin.MemberRevoked, Labels: []string{}, LastSeen: r.At})
		}
	}
	for i := range all {
		m := &all[i]
		words := said[m.ID].Capabilities
		if m.Self {
			words = a.capabilities()
		}
		m.AdminAddress = adminAddress(words, m.Address)
	}
	slices.SortFunc(all, func(x, y admin.Member) int {
		return cmp.Or(strings.Compare(x.Name, y.Name), strings.Compare(x.ID, y.ID))
	})
	return all, nil
}

func (n nodes) self() admin.Member {
	a := n.agent
	here := *a.viewer.here()
	load := a.dispatch.Load()
	here.Running, here.Queued = load.Running, load.Queued
	m := shownMember(&here, catalog.Node{Version: a.version, Arch: runtime.GOARCH, OS: runtime.GOOS})
	m.ID, m.Name, m.Self, m.State, m.LastSeen = a.node.ID, a.cfg.Node.Name, true, admin.MemberAlive, time.Now()
	if a.pool != nil {
		m.Certificate = a.pool.member.Certificate().NotAfter
		m.Joined = a.pool.member.Certificate().NotBefore
		m.Address = a.pool.cfg.Listen
		if live, ok := a.pool.live(a.node.ID); ok {
			m.Address = live.Addr.String()
		}
	}
	return m
}

func shownMember(p *placement.Node, said catalog.Node) admin.Member {
	m := admin.Member{
		ID: p.ID, Name: cmp.Or(p.Name, p.ID), Draining: p.Draining, Labels: append([]string{}, p.Labels...), Version: said.Version,
		Arch: cmp.Or(said.Arch, p.Arch), OS: cmp.Or(said.OS, p.OS), Slots: p.Slots, Running: p.Running, Queued: p.Queued, MemoryBytes: p.Memory,
		RTTMS: ms(p.RTT), AgeMS: p.Age.Milliseconds(),
	}
	if p.Untrusted {
		m.State = admin.MemberRevoked
	}
	return m
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1e3 }

// Get implements admin.Nodes.
func (n nodes) Get(ctx context.Context, node string) (admin.Member, error) {
	if n.agent.pool == nil {
		return admin.Member{}, admin.Alone("show a node")
	}
	m, err := n.find(ctx, node)
	if err != nil {
		return m, err
	}
	m.Owns = n.agent.owned(m.ID)
	return m, nil
}

// find returns the node that is meant: by its name, its id, or the beginning of an id that only one has.
func (n nodes) find(ctx context.Context, node string) (admin.Member, error) {
	all, err := n.List(ctx)
	if err != nil {
		return admin.Member{}, err
	}
	for _, matches := range []func(*admin.Member) bool{
		func(m *admin.Member) bool { return m.ID == node },
		func(m *admin.Member) bool { return m.Name == node },
		func(m *admin.Member) bool { return node != "" && strings.HasPrefix(m.ID, node) },
	} {
		var found []admin.Member
		for i := range all {
			if matches(&all[i]) {
				found = append(found, all[i])
			}
		}
		switch {
		case len(found) == 1:
			return found[0], nil
		case len(found) > 1:
			return admin.Member{}, &function.Error{
				Op: "find", Subject: node, Class: function.ClassReject, Kind: admin.KindConflict,
				Err: fmt.Errorf("%d nodes are meant by it: %s and %s", len(found), found[0].ID, found[1].ID), Hint: "use the id",
			}
		}
	}
	return admin.Member{}, &function.Error{
		Op: "find", Subject: node, Class: function.ClassReject, Kind: admin.KindNotFound, Err: errors.New("there is no such node"), Hint: "mayfly nodes ls",
	}
}

// change changes what operators want of a node.
func (n nodes) change(ctx context.Context, op, node string, with func(*wish)) (admin.Member, error) {
	a := n.agent
	if a.pool == nil {
		return admin.Member{}, admin.Alone(op)
	}
	m, err := n.find(ctx, node)
	if err != nil {
		return m, err
	}
	w := wishOf(a.catalog.Snapshot(), m.ID)
	with(&w)
	text, err := json.Marshal(w)
	if err == nil {
		_, err = a.catalog.Set(ctx, catalog.KindConfig, nodeWish+m.ID, text)
	}
	if m.Self && function.KindOf(err) == "unsigned" {
		return m, a.wishHere(ctx, with) // whoever may use this node's own door may say so about this node, and about no other
	}
	return m, err
}

// ownWishKey holds what was wished of this node at its own door, where no operator's key is.
func ownWishKey() []byte { return store.Trigger.Key("", []byte("wish")) }

func (a *Agent) wishHere(ctx context.Context, with func(*wish)) error {
	w, err := a.ownWish()
	if err != nil {
		return err
	}
	with(&w)
	text, err := json.Marshal(w)
	if err == nil {
		err = a.save([]store.Op{{Key: ownWishKey(), Value: text}})
	}
	if err == nil {
		a.obey(ctx, wishOf(a.catalog.Snapshot(), a.node.ID))
	}
	return err
}

// ownWish returns what was wished at this node's own door.
func (a *Agent) ownWish() (w wish, err error) {
	text, version, err := a.store.Get(ownWishKey())
	if err != nil || version == 0 {
		return w, err
	}
	return w, json.Unmarshal(text, &w)
}

// Label implements admin.Nodes.
func (n nodes) Label(ctx context.Context, node string, r admin.LabelRequest) (admin.Member, error) {
	without := func(all []string, gone []string) []string {
		return slices.DeleteFunc(slices.Clone(all), func(s string) bool { return slices.Contains(gone, s) })
	}
	m, err := n.change(ctx, "label a node", node, func(w *wish) {
		w.Labels = append(without(without(w.Labels, r.Add), r.Remove), r.Add...)
		w.Without = append(without(without(w.Without, r.Add), r.Remove), r.Remove...)
		slices.Sort(w.Labels)
		slices.Sort(w.Without)
	})
	m.Labels = append(without(without(m.Labels, r.Add), r.Remove), r.Add...)
	slices.Sort(m.Labels)
	return m, err
}

// Drain implements admin.Nodes.
func (n nodes) Drain(ctx context.Context, node string, on bool) (admin.Member, error) {
	m, err := n.change(ctx, "drain a node", node, func(w *wish) { w.Drain = on })
	m.Draining = on
	return m, err
}

// Revoke implements admin.Nodes. The key of gossip is changed as well, within seconds (turnKeys), which the revoked node does not hear of.
func (n nodes) Revoke(ctx context.Context, node string) error {
	a := n.agent
	s, err := a.signing("revoke a node")
	if err != nil {
		return err
	}
	m, err := n.find(ctx, node)
	if err != nil {
		return err
	}
	if _, err := s.Revoke(m.ID); err != nil {
		return &function.Error{Op: "revoke", Subject: node, Class: function.ClassReject, Kind: admin.KindInvalid, Err: err}
	}
	a.log.Warn("a node was revoked", "node", m.ID, "name", m.Name)
	a.pool.words.say()
	a.pool.gossip.Recheck()
	a.pool.peers.Forget(m.ID)
	return nil
}

// rotate begins a change of the keys of gossip.
func (a *Agent) rotate(s *identity.Authority) error {
	if _, err := s.StageKey(); err != nil {
		return &function.Error{Op: "rotate the keys of gossip", Subject: "keyring", Class: function.ClassReject, Kind: admin.KindConflict, Err: err}
	}
	a.pool.words.say()
	return nil
}

// owned lists the triggers that a node owns, "overheat mqtt[0]", as the claims at the brokers say.
func (a *Agent) owned(node string) (all []string) {
	for trigger, owner := range a.subs.owners() {
		if owner == node {
			all = append(all, strings.Replace(trigger, "/", " ", 1))
		}
	}
	slices.Sort(all)
	return all
}

// owners returns who owns which trigger of the cluster, by the id of the trigger; "" when nobody says so.
func (s *subscriptions) owners() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[string]string{}
	for key, o := range s.owned {
		id, _, _ := strings.Cut(strings.TrimPrefix(key, o.broker+"/"), " ")
		all[id] = o.board.Owner(o.session.ClientID())
	}
	return all
}
