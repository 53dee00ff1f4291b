package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"path/filepath"
	"testing"
	"time"

	"mayfly/cluster/identity"
	"mayfly/function"
)

// member is a node with the identity that nodes really have.
type member struct {
	node  identity.Node
	m     *identity.Membership
	peers *Peers
}

func (s *site) member(t *testing.T, node identity.Node, m *identity.Membership) *member {
	p := NewPeers(Config{TLS: m.ClientTLS, NodeOf: identity.NodeOf, Resolve: s.resolve}, quietLog())
	t.Cleanup(func() { _ = p.Close() })
	return &member{node, m, p}
}

func (s *site) open(t *testing.T, m *member, config func() *tls.Config, doors Doors) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.at(m.node.ID, ln.Addr().String())
	trust := Trust{TLS: config, NodeOf: identity.NodeOf, Admitted: func(node string) bool { return !m.m.Revoked(node) }}
	running(t, NewServer(trust, doors, Limits{}, quietLog()), ln)
}

// desks are those of a signer.
func desks(a *identity.Authority) (join, renew Desk) {
	join = func(_ context.Context, from Stranger, b []byte) ([]byte, error) {
		r, err := identity.DecodeJoinRequest(b)
		if err != nil || !identity.Joining(from.TLS) {
			return nil, errors.Join(err, errors.New("not a request to join"))
		}
		g, err := a.Admit(r)
		return g.Encode(), err
	}
	renew = func(_ context.Context, from Stranger, csr []byte) ([]byte, error) {
		id, ok := identity.RenewerOf(from.TLS)
		if !ok {
			return nil, errors.New("nobody who could renew")
		}
		g, err := a.Renew(id, csr)
		return g.Encode(), err
	}
	return join, renew
}

// A node joins with a token, calls and is called, renews its certificate, and is turned away once it is revoked: with the keys,
// certificates and rules that nodes really have.
func TestWithRealIdentities(t *testing.T) {
	s := newSite(t)
	ctx := context.Background()
	dirs := [2]string{t.TempDir(), t.TempDir()}
	var nodes [2]identity.Node
	for i, d := range dirs {
		n, err := identity.Load(d)
		if err != nil {
			t.Fatal(err)
		}
		nodes[i] = n
	}
	founded, err := identity.Found(filepath.Join(dirs[0], "identity"), nodes[0], "plant", time.Now)
	if err != nil {
		t.Fatal(err)
	}
	authority, err := identity.OpenAuthority(filepath.Join(dirs[0], "identity"), founded)
	if err != nil {
		t.Fatal(err)
	}
	signer := s.member(t, nodes[0], founded)
	join, renew := desks(authority)
	s.open(t, signer, authority.ServerTLS, Doors{Exec: exec(echo), Join: join, Renew: renew})
	address, _ := s.resolve(nodes[0].ID)

	token, err := authority.CreateToken(identity.TokenOptions{TTL: time.Hour, Uses: 1})
	if err != nil {
		t.Fatal(err)
	}
	request, err := token.Request(nodes[1])
	if err != nil {
		t.Fatal(err)
	}
	b, err := Signer{Address: address, TLS: token.TLS(time.Now)}.Join(ctx, request.Encode())
	if err != nil {
		t.Fatal(err)
	}
	grant, err := identity.DecodeGrant(b)
	if err != nil {
		t.Fatal(err)
	}
	joined, err := identity.Join(filepath.Join(dirs[1], "identity"), nodes[1], token, grant, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	thief, err := identity.Load(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if request, err = token.Request(thief); err != nil {
		t.Fatal(err)
	}
	if _, err := (Signer{Address: address, TLS: token.TLS(time.Now)}).Join(ctx, request.Encode()); err == nil {
		t.Error("a token of one use was used twice")
	}
	second := s.member(t, nodes[1], joined)
	s.open(t, second, joined.ServerTLS, Doors{Exec: exec(echo)})
	for _, pair := range [][2]*member{{signer, second}, {second, signer}} {
		res, err := invoke(t, pair[0].peers, pair[1].node.ID, callOf("1"))
		if err != nil || res.Publishes[0].Topic != "from/"+pair[0].node.ID {
			t.Fatalf("%+v, %v", res, err)
		}
	}
	csr, err := joined.RenewalRequest()
	if err != nil {
		t.Fatal(err)
	}
	if b, err = (Signer{Address: address, TLS: joined.SignerTLS()}).Renew(ctx, csr); err != nil {
		t.Fatal(err)
	}
	if grant, err = identity.DecodeGrant(b); err != nil {
		t.Fatal(err)
	}
	if err := joined.Renewed(grant); err != nil {
		t.Fatal(err)
	}
	if _, err := authority.Revoke(nodes[1].ID); err != nil {
		t.Fatal(err)
	}
	_, err = invoke(t, second.peers, nodes[0].ID, callOf("2")) // on the connection it has
	wantClass(t, err, function.ClassNotHere, KindDenied)
	if _, err := (Signer{Address: address, TLS: joined.SignerTLS()}).Renew(ctx, csr); err == nil {
		t.Error("a revoked node renewed its certificate")
	}
	signer.peers.Forget(nodes[1].ID)
	_, err = invoke(t, signer.peers, nodes[1].ID, callOf("3"))
	wantClass(t, err, function.ClassNotHere, KindUnreachable)
}

// A call travels once: what came from another node is not sent on, and a request that says it travelled further is refused. [N5]
func TestOneHop(t *testing.T) {
	s := newSite(t)
	var hop int
	s.serve(t, "b", Doors{Exec: exec(func(_ context.Context, _ string, r *ExecRequest) (*function.Result, error) {
		hop = r.Hop
		return nil, nil
	})}, Limits{})
	p := s.peers(t, "a")
	if _, err := invoke(t, p, "b", callOf("1")); err != nil || hop != 1 {
		t.Errorf("hop %d, %v", hop, err)
	}
	for _, hop := range []int{0, 2, 100} {
		r := requestOf(callOf("2"))
		r.Hop = hop
		err := p.Exec(context.Background(), "b", r, &function.Result{})
		wantClass(t, err, function.ClassNotHere, KindProtocol)
	}
}
