package admintest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"mayfly/admin"
	"mayfly/function"
)

// Elsewhere is the token that lets an agent in memory join the cluster of three at ElsewhereVia.
const (
	Elsewhere    = "mayflyjoin.elsewhere"
	ElsewhereVia = "10.0.0.2:7947"
)

// Site is the cluster of an agent in memory, in which nobody else runs: the other members are what was last heard of them.
type Site struct {
	agent *Agent

	mu      sync.Mutex
	cluster *admin.Cluster // nil = alone
	members []admin.Member // this node first
	tokens  []admin.JoinToken
	keys    []admin.Key // the primary first
	settled bool
	started time.Time // anew, as a member; zero = as the agent says
	made    int
	late    map[string]bool // names of those who have not heard of deployments yet
}

var (
	_ admin.Clusters  = (*Site)(nil)
	_ admin.Keys      = (*Site)(nil)
	_ admin.Explainer = (*Site)(nil)
	_ admin.Nodes     = Members{}
)

func newSite(a *Agent) *Site {
	self := admin.Member{
		ID: "4f1cqqqqqqqqqqqq", Name: "bench", Self: true, State: admin.MemberAlive, Address: "10.0.0.1:7946", AdminAddress: "10.0.0.1:7947",
		Version: "0.1.0", Arch: "amd64", OS: "linux", Slots: 64, Joined: a.Now(), LastSeen: a.Now(), Labels: []string{},
	}
	return &Site{agent: a, members: []admin.Member{self}, late: map[string]bool{}}
}

// Grow makes a cluster of three of an agent that is alone: bench, gate (arm64, gpio, 4 slots) and hall (arm64, busy, one slot).
func (s *Site) Grow() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.found("plant")
	s.meet(admin.Member{ID: "a111aaaaaaaaaaaa", Name: "gate", Labels: []string{"gpio"}, Slots: 4, Running: 1, RTTMS: 1.5, AgeMS: 400})
	s.meet(admin.Member{ID: "a222aaaaaaaaaaaa", Name: "hall", Labels: []string{}, Slots: 1, Running: 1, Queued: 3, RTTMS: 2, AgeMS: 1200})
	s.cluster.Members = 3
}

// meet adds a member that is well.
func (s *Site) meet(m admin.Member) {
	host, now := fmt.Sprintf("10.0.0.%d", 1+len(s.members)), s.agent.Now()
	m.State, m.Address, m.AdminAddress = admin.MemberAlive, host+":7946", host+":7947"
	m.Version, m.Arch, m.OS = "0.1.0", "arm64", "linux"
	m.Joined, m.LastSeen = now.Add(-48*time.Hour), now.Add(-time.Duration(m.AgeMS)*time.Millisecond)
	s.members = append(s.members, m)
}

// Delay makes a member not hear of deployments, or hear of them again.
func (s *Site) Delay(name string, late bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.late[name] = late
}

// Open makes a member the node of that id, and answer operators from afar at address.
func (s *Site) Open(name, id, address string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.members {
		if s.members[i].Name == name {
			s.members[i].ID, s.members[i].AdminAddress = id, address
		}
	}
}

// Lose makes a member be down.
func (s *Site) Lose(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.members {
		if s.members[i].Name == name {
			s.members[i].State, s.members[i].Reason = admin.MemberDown, "it has not answered for 40s"
		}
	}
}

func (s *Site) found(name string) {
	now := s.agent.Now()
	s.cluster = &admin.Cluster{ID: "c0ffee", Name: name, Node: s.members[0].ID, CA: "sha256:" + strings.Repeat("ab", 32), Since: now, Members: len(s.members)}
	s.keys, s.settled = []admin.Key{{ID: "k1", Created: now, Primary: true}}, true
}

func (s *Site) conflict(op string) error {
	return &function.Error{
		Op: op, Subject: "cluster", Class: function.ClassReject, Kind: admin.KindConflict,
		Err: fmt.Errorf("this node belongs to cluster %s already", s.cluster.Name), Hint: "mayfly nodes ls",
	}
}

// Init implements admin.Clusters.
func (s *Site) Init(_ context.Context, r admin.InitRequest) (admin.Cluster, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cluster != nil {
		return admin.Cluster{}, s.conflict("init")
	}
	if r.Name == "" {
		r.Name = "site"
	}
	s.found(r.Name)
	return s.restart(), nil
}

// restart starts the agent anew, which takes no time here.
func (s *Site) restart() admin.Cluster {
	s.started = s.agent.Now()
	c := *s.cluster
	c.Restarts = true
	return c
}

// Join implements admin.Clusters.
func (s *Site) Join(_ context.Context, r admin.JoinRequest) (admin.Cluster, error) {
	s.mu.Lock()
	member := s.cluster != nil
	s.mu.Unlock()
	refused := &function.Error{Op: "join", Subject: r.Via, Class: function.ClassReject, Kind: admin.KindDenied}
	switch {
	case member:
		return admin.Cluster{}, s.conflict("join")
	case r.Via != ElsewhereVia:
		refused.Kind, refused.Err, refused.Hint = admin.KindUnavailable, errors.New("nobody answers there"), "is it the port of calls between nodes, 7947 by default?"
		return admin.Cluster{}, refused
	case r.Token != Elsewhere:
		refused.Err, refused.Hint = errors.New("the token is spent, expired or revoked"), "make another on a member: mayfly token create"
		return admin.Cluster{}, refused
	}
	s.Grow()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.restart(), nil
}

// CreateToken implements admin.Clusters.
func (s *Site) CreateToken(_ context.Context, r admin.TokenRequest) (admin.JoinToken, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cluster == nil {
		return admin.JoinToken{}, admin.Alone("create token")
	}
	s.made++
	t := admin.JoinToken{
		ID: fmt.Sprintf("t%d", s.made), Name: r.Name, Labels: r.Labels, Created: s.agent.Now(),
		Expires: s.agent.Now().Add(time.Duration(r.TTLMS) * time.Millisecond), Uses: r.Uses,
	}
	s.tokens = append(s.tokens, t)
	t.Token = "mayflyjoin." + t.ID + ".secret"
	return t, nil
}

// Tokens implements admin.Clusters.
func (s *Site) Tokens(context.Context) ([]admin.JoinToken, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cluster == nil {
		return nil, admin.Alone("list tokens")
	}
	return slices.Clone(s.tokens), nil
}

// RevokeToken implements admin.Clusters.
func (s *Site) RevokeToken(_ context.Context, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := len(s.tokens)
	s.tokens = slices.DeleteFunc(s.tokens, func(t admin.JoinToken) bool { return t.ID == id })
	if len(s.tokens) == before {
		return notFound("revoke", "join token", id)
	}
	return nil
}

// Keyring implements admin.Keys.
func (s *Site) Keyring(context.Context) (admin.Keyring, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keyring()
}

func (s *Site) keyring() (admin.Keyring, error) {
	if s.cluster == nil {
		return admin.Keyring{}, admin.Alone("show keyring")
	}
	k := admin.Keyring{Keys: slices.Clone(s.keys), Settled: s.settled}
	for i, m := range s.members {
		h := admin.KeyHolder{Node: m.ID, Name: m.Name, Primary: s.keys[0].ID, Keys: len(s.keys), AgeMS: m.AgeMS}
		if i == len(s.members)-1 && !s.settled {
			h.Primary = s.keys[1].ID
			k.Reason, k.Hint = m.Name+" sends with the old key still", "nothing: it fetches the new one when it wakes up"
		}
		k.Nodes = append(k.Nodes, h)
	}
	return k, nil
}

// Rotate implements admin.Keys: the last member sleeps through it.
func (s *Site) Rotate(context.Context) (admin.Keyring, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cluster == nil {
		return admin.Keyring{}, admin.Alone("rotate keyring")
	}
	if !s.settled {
		return admin.Keyring{}, &function.Error{
			Op: "rotate", Subject: "keyring", Class: function.ClassReject, Kind: admin.KindConflict,
			Err: errors.New("a rotation is under way"), Hint: "mayfly keyring status",
		}
	}
	s.keys[0].Primary = false
	s.keys = append([]admin.Key{{ID: fmt.Sprintf("k%d", len(s.keys)+1), Created: s.agent.Now(), Primary: true}}, s.keys...)
	s.settled = len(s.members) == 1
	return s.keyring()
}
