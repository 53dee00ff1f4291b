package agent

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"mayfly/admin"
	"mayfly/cluster/identity"
	"mayfly/cluster/peer"
	"mayfly/function"
	"mayfly/store"
)

// welcome is what a signer tells a node that joins: what makes it a member, and whom to look for.
type welcome struct {
	Grant []byte                 `json:"grant"`
	Nodes map[string]whereabouts `json:"nodes"`
}

// admit is the signer's side of joining.
func (p *pool) admit(_ context.Context, from peer.Stranger, request []byte) ([]byte, error) {
	r, err := identity.DecodeJoinRequest(request)
	if err != nil {
		return nil, err
	}
	g, err := p.signer.Admit(r)
	if err != nil {
		p.log.Warn("somebody may not join", "from", from.Address, "err", err)
		return nil, &function.Error{Op: "join", Subject: p.member.Cluster(), Class: function.ClassReject, Kind: admin.KindDenied, Err: err}
	}
	w := welcome{Grant: g.Encode(), Nodes: map[string]whereabouts{}}
	for _, m := range p.gossip.Members() {
		if len(w.Nodes) < maxWelcome {
			w.Nodes[m.Name] = whereabouts{Gossip: m.Addr.String(), Calls: callsAt(m), Signer: m.Meta.Roles&roleSigner != 0}
		}
	}
	p.log.Info("a node joins", "from", from.Address)
	return json.Marshal(w)
}

// maxWelcome is how many members a new one is told of: gossip brings the rest.
const maxWelcome = 32

// Init implements admin.Clusters.
func (a *Agent) Init(ctx context.Context, r admin.InitRequest) (admin.Cluster, error) {
	a.joining.Lock()
	defer a.joining.Unlock()
	if a.pool != nil || a.member != nil {
		return admin.Cluster{}, a.taken("init")
	}
	name := cmp.Or(r.Name, "site")
	if f := a.subs.mixed(a.catalog.List()); f != "" {
		return admin.Cluster{}, &function.Error{
			Op: "init", Subject: name, Class: function.ClassReject, Kind: admin.KindConflict,
			Err:  fmt.Errorf("function %s has a trigger that would get a broker session of the cluster, out of one that others of scope node stay in: what the broker holds cannot be parted", f),
			Hint: "make the cluster before you deploy; or let nothing be published for a moment, then: mayfly fn rm " + f + " --yes, mayfly init, mayfly deploy",
		}
	}
	_, err := os.Stat(a.path(filepath.Join("cluster", identity.AuthorityFile)))
	first := errors.Is(err, fs.ErrNotExist) // what another founding began may have members
	m, err := identity.Found(a.path("cluster"), a.node, name, nil)
	if err != nil {
		return admin.Cluster{}, &function.Error{Op: "init", Subject: name, Class: function.ClassReject, Kind: admin.KindInvalid, Err: err, Hint: "mayfly init --cluster NAME"}
	}
	if first {
		if err := a.catalog.Founded(ctx); err != nil {
			a.log.Warn("it takes a month until what is deleted is forgotten", "err", err)
		}
	}
	orders, err := openOrders(a.path("cluster"), a.node, m)
	if err == nil {
		err = orders.adopt(a.store, a.save) // what was deployed here is the cluster's now
	}
	if err != nil {
		a.log.Warn("what is deployed here could not be signed; the next start does it", "err", err)
	}
	a.log.Info("a cluster was founded; the agent starts anew as its first member", "cluster", name)
	return a.becomes(m), nil
}

func (a *Agent) taken(op string) error {
	return &function.Error{
		Op: op, Subject: "cluster", Class: function.ClassReject, Kind: admin.KindConflict,
		Err:  errors.New("this node belongs to a cluster already"),
		Hint: "mayfly nodes ls; to leave it, empty: mayfly leave",
	}
}

// becomes restarts the agent as a member.
func (a *Agent) becomes(m *identity.Membership) admin.Cluster {
	a.member = m
	a.restart()
	c := a.describe(m, 1)
	c.Restarts = true
	return c
}

func (a *Agent) describe(m *identity.Membership, members int) admin.Cluster {
	sum := sha256.Sum256(m.CA())
	return admin.Cluster{
		ID: m.Cluster(), Name: m.Cluster(), Node: a.node.ID, CA: "sha256:" + hex.EncodeToString(sum[:]), Since: m.Certificate().NotBefore, Members: members,
	}
}

// Join implements admin.Clusters.
func (a *Agent) Join(ctx context.Context, r admin.JoinRequest) (admin.Cluster, error) {
	a.joining.Lock()
	defer a.joining.Unlock()
	if a.pool != nil || a.member != nil {
		return admin.Cluster{}, a.taken("join")
	}
	if own := a.catalog.List(); len(own) > 0 {
		return admin.Cluster{}, joinFailed(r.Via, function.ClassReject, admin.KindConflict,
			fmt.Errorf("this node has %d functions of its own, which nobody of the cluster has signed", len(own)),
			"mayfly fn rm "+own[0].Name()+", and after joining: mayfly deploy")
	}
	token, err := identity.ParseToken(strings.TrimSpace(r.Token))
	if err != nil {
		return admin.Cluster{}, joinFailed(r.Via, function.ClassReject, admin.KindInvalid, err, "mayfly token create, on the node that made the cluster, prints one")
	}
	request, err := token.Request(a.node)
	if err != nil {
		return admin.Cluster{}, joinFailed(r.Via, function.ClassReject, admin.KindInvalid, err, "")
	}
	via := r.Via
	if _, _, err := net.SplitHostPort(via); err != nil {
		via = net.JoinHostPort(strings.Trim(via, "[]"), defaultCalls)
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	text, err := peer.Signer{Address: via, TLS: token.TLS(nil), Dial: a.world.Dial}.Join(ctx, request.Encode())
	if err != nil {
		class, kind, hint := function.ClassRetry, admin.KindUnavailable, "is that the node that made the cluster, and the port of calls (the one after that of gossip)?"
		if function.ClassOf(err) == function.ClassReject {
			class, kind, hint = function.ClassReject, admin.KindDenied, "mayfly token create makes a new one"
		}
		return admin.Cluster{}, joinFailed(via, class, kind, err, hint)
	}
	return a.admitted(token, via, text)
}

// defaultCalls is the port of calls when [cluster] listen is not set otherwise.
const defaultCalls = "7947"

func joinFailed(via string, class function.Class, kind string, err error, hint string) error {
	return &function.Error{Op: "join", Subject: via, Class: class, Kind: kind, Err: err, Hint: hint}
}

// admitted makes this node a member of what welcomed it.
func (a *Agent) admitted(token identity.Token, via string, text []byte) (admin.Cluster, error) {
	var w welcome
	if err := json.Unmarshal(text, &w); err != nil {
		return admin.Cluster{}, joinFailed(via, function.ClassRetry, admin.KindUnavailable, fmt.Errorf("its answer: %w", err), "")
	}
	g, err := identity.DecodeGrant(w.Grant)
	if err != nil {
		return admin.Cluster{}, joinFailed(via, function.ClassRetry, admin.KindUnavailable, err, "")
	}
	known, err := openAddresses(a.store)
	if err == nil {
		err = a.save(known.saw(w.Nodes)) // before the membership: a member that knows nobody would search for ever
	}
	if err != nil {
		return admin.Cluster{}, joinFailed(via, function.ClassOf(err), function.KindOf(err), err, "")
	}
	m, err := identity.Join(a.path("cluster"), a.node, token, g, nil)
	if err != nil {
		return admin.Cluster{}, joinFailed(via, function.ClassReject, admin.KindDenied, err, "")
	}
	a.log.Info("joined a cluster; the agent starts anew as its member", "cluster", m.Cluster())
	return a.becomes(m), nil
}

// save writes ops and returns when they are synced.
func (a *Agent) save(ops []store.Op) error {
	if len(ops) == 0 {
		return nil
	}
	synced := make(chan error, 1)
	if err := a.store.Submit(ops, func(err error) { synced <- err }); err != nil {
		return err
	}
	return <-synced
}

// signing returns the authority, or why it is not here.
func (a *Agent) signing(op string) (*identity.Authority, error) {
	switch {
	case a.pool == nil:
		return nil, admin.Alone(op)
	case a.pool.signer == nil:
		e := &function.Error{
			Op: op, Subject: "cluster", Class: function.ClassReject, Kind: admin.KindUnsupported,
			Err: errors.New("only the node that made the cluster can do this: it holds the authority's key"),
		}
		for node, w := range a.pool.known.copy() {
			if w.Signer {
				e.Hint = "ask there: node " + node + " at " + w.Calls
			}
		}
		return nil, e
	}
	return a.pool.signer, nil
}

// CreateToken implements admin.Clusters.
func (a *Agent) CreateToken(_ context.Context, r admin.TokenRequest) (admin.JoinToken, error) {
	s, err := a.signing("create a join token")
	if err != nil {
		return admin.JoinToken{}, err
	}
	o := identity.TokenOptions{TTL: time.Duration(r.TTLMS) * time.Millisecond, Uses: r.Uses, Labels: r.Labels}
	if r.Uses == 1 {
		o.Name = r.Name
	}
	t, err := s.CreateToken(o)
	if err != nil {
		return admin.JoinToken{}, &function.Error{Op: "create a join token", Class: function.ClassReject, Kind: admin.KindInvalid, Err: err}
	}
	for _, shown := range joinTokens(s) {
		if shown.ID == t.ID() {
			shown.Token = t.Text()
			return shown, nil
		}
	}
	return admin.JoinToken{ID: t.ID(), Token: t.Text()}, nil
}

func joinTokens(s *identity.Authority) (all []admin.JoinToken) {
	now := time.Now()
	for _, t := range s.Tokens() {
		if len(t.Admitted) < t.Uses && t.Expires.After(now) {
			all = append(all, admin.JoinToken{ID: t.ID, Name: t.Name, Labels: t.Labels, Expires: t.Expires, Uses: t.Uses, Used: len(t.Admitted)})
		}
	}
	slices.SortStableFunc(all, func(x, y admin.JoinToken) int { return x.Expires.Compare(y.Expires) })
	return all
}

// Tokens implements admin.Clusters.
func (a *Agent) Tokens(context.Context) ([]admin.JoinToken, error) {
	s, err := a.signing("list join tokens")
	if err != nil {
		return nil, err
	}
	return joinTokens(s), nil
}

// RevokeToken implements admin.Clusters.
func (a *Agent) RevokeToken(_ context.Context, id string) error {
	s, err := a.signing("revoke a join token")
	if err != nil {
		return err
	}
	if err := s.RevokeToken(id); err != nil {
		return &function.Error{Op: "revoke a join token", Subject: id, Class: function.ClassReject, Kind: admin.KindNotFound, Err: err, Hint: "mayfly token ls"}
	}
	return nil
}
