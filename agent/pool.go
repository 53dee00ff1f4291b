package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"mayfly/cluster"
	"mayfly/cluster/catalog"
	"mayfly/cluster/identity"
	"mayfly/cluster/peer"
)

// pool is what this node has of its cluster: who it is there, who else is, and how they call each other. A node that is alone has
// none.
type pool struct {
	cfg     *ClusterConfig
	member  *identity.Membership
	signer  *identity.Authority // nil on most nodes
	gossip  *cluster.Cluster
	replica *catalog.Replica
	peers   *peer.Peers
	dial    peer.Dial
	calls   *peer.Server
	door    net.Listener // of calls
	words   *statements
	known   *addresses
	catalog *catalog.Catalog
	fetch   *peer.Fetcher
	said    atomic.Pointer[described]
	bell    bell
	meta    cluster.Meta // to begin with
	turning time.Time    // since when a staged key waits; keep's own
	asked   time.Time    // when it last asked others because gossip showed nobody; inquire's own
	log     *slog.Logger

	patience time.Duration // until it asks again; inquire's own
	once     sync.Once
}

// catalogState is under which name the catalog is spread.
const catalogState = "catalog"

// pulls is how the replica calls others.
type pulls struct{ *peer.Peers }

// Pull implements catalog.Peers.
func (p pulls) Pull(ctx context.Context, node string, request []byte) ([]byte, error) {
	return p.Peers.Pull(ctx, node, catalogState, request)
}

// Roles in the gossip of a member.
const roleSigner = 1

// openPool makes this node a member of the cluster it belongs to, if there is one. It starts nothing but listens for calls, so that a port
// that is taken is an error at once.
func (a *Agent) openPool(*Options) (err error) {
	if a.member == nil {
		return nil
	}
	p := &pool{cfg: &a.cfg.Cluster, member: a.member, catalog: a.catalog, dial: a.world.Dial, log: a.log.With("part", "cluster")}
	a.pool = p
	p.signer, err = identity.OpenAuthority(a.path("cluster"), p.member)
	if err != nil && !errors.Is(err, identity.ErrNotSigner) {
		return err
	}
	if p.known, err = openAddresses(a.store); err != nil {
		return err
	}
	bind, advertise, err := p.listenAt()
	if err != nil {
		return err
	}
	if p.door, err = a.world.Listen("tcp", netip.AddrPortFrom(bind.Addr(), callsPort(bind.Port())).String()); err != nil {
		return fmt.Errorf("calls between nodes: %w", err)
	}
	p.meta = p.describe(a)
	if p.gossip, err = cluster.New(p.gossipConfig(a, bind, advertise), p.log); err != nil {
		return err
	}
	p.peers = peer.NewPeers(peer.Config{TLS: p.member.ClientTLS, NodeOf: nodeOf, Resolve: p.resolve, Dial: p.dial}, p.log)
	p.words = newStatements(p)
	p.fetch = peer.NewFetcher(a.modules, p.peers, peer.FetchConfig{Nodes: p.names, Keep: a.deployed}, p.log)
	p.replica = catalog.NewReplica(a.catalog, catalog.Exchange{
		Cluster: p.member.Cluster(), Peers: pulls{p.peers}, Log: p.log,
		Announce: func(b []byte) error { return p.gossip.Announce(catalogState, b) },
	})
	return errors.Join(p.gossip.AddState(wordsState, p.words), p.gossip.AddState(catalogState, p.replica))
}

// callsPort is the port of calls beside that of gossip.
func callsPort(gossip uint16) uint16 {
	if gossip == 0 {
		return 0
	}
	return gossip + 1
}

// listenAt reads the addresses of the configuration, which was validated.
func (p *pool) listenAt() (bind netip.AddrPort, advertise netip.Addr, err error) {
	bind, err = netip.ParseAddrPort(p.cfg.Listen)
	if err == nil && p.cfg.Advertise != "" {
		advertise, err = netip.ParseAddr(p.cfg.Advertise)
	}
	return bind, advertise, err
}

func (p *pool) gossipConfig(a *Agent, bind netip.AddrPort, advertise netip.Addr) cluster.Config {
	c := cluster.Config{
		Name: a.node.ID, Cluster: p.member.Cluster(), Keys: p.member.Keys().At(time.Now()),
		Listen:    func() (cluster.Network, error) { return a.world.Gossip(bind, advertise) },
		Seeds:     p.known.seeds(),
		Store:     peersFile{a.path("peers")},
		Admission: bouncer{p.member},
		NameOf:    identity.IDOf,
		Woke: func(asleep time.Duration) {
			p.log.Info("the device slept, or its clock was set", "for", asleep.Round(time.Second))
		},
		Meta:  p.meta,
		Small: len(p.known.copy()) < cluster.SmallSite, // as many as are known at the start
	}
	for _, s := range p.cfg.Seeds {
		if name, address, ok := strings.Cut(s, "@"); ok {
			c.Seeds = append(c.Seeds, cluster.Peer{Name: name, Addr: address})
		}
	}
	for _, s := range p.cfg.Allowed {
		if prefix, err := netip.ParsePrefix(s); err == nil {
			c.Allowed = append(c.Allowed, prefix)
		}
	}
	return c
}

// describe is what gossip says of this node to begin with.
func (p *pool) describe(a *Agent) cluster.Meta {
	m := cluster.Meta{
		OS: cluster.OSLinux, Slots: uint16(min(a.engine.Info().Slots, 1<<16-1)), Speed: 16, Fingerprint: a.node.Fingerprint(),
		Memory: log2(a.engine.Info().SlotMemory >> 20),
	}
	switch runtime.GOARCH {
	case "amd64":
		m.Arch = cluster.ArchAMD64
	case "arm64":
		m.Arch = cluster.ArchARM64
	case "arm":
		m.Arch = cluster.ArchARM
	case "riscv64":
		m.Arch = cluster.ArchRISCV64
	}
	if p.signer != nil {
		m.Roles = roleSigner
	}
	if at, ok := p.door.Addr().(*net.TCPAddr); ok {
		m.Port = uint16(at.Port)
	}
	return m
}

func log2(n int64) (class uint8) {
	for ; n > 1; n >>= 1 {
		class++
	}
	return class
}

// bouncer keeps revoked nodes out of the membership.
type bouncer struct{ member *identity.Membership }

// Admit implements cluster.Admission.
func (d bouncer) Admit(m cluster.Member) error {
	if d.member.Revoked(m.Name) {
		return identity.ErrRevoked
	}
	return nil
}

// nodeOf is identity.NodeOf, also while the handshake is being judged: who asks then has had the certificate verified.
func nodeOf(s *tls.ConnectionState) (string, bool) {
	done := *s
	done.HandshakeComplete = true
	return identity.NodeOf(&done)
}

// resolve returns where a node takes calls: as gossip says, else where it was last.
func (p *pool) resolve(node string) (string, bool) {
	if m, ok := p.live(node); ok {
		return callsAt(m), true
	}
	return p.known.calls(node)
}

func callsAt(m cluster.Member) string {
	return net.JoinHostPort(m.Addr.Addr().String(), strconv.Itoa(int(m.Meta.Port)))
}

func (p *pool) live(node string) (cluster.Member, bool) {
	for _, m := range p.gossip.Members() {
		if m.Name == node {
			return m, true
		}
	}
	return cluster.Member{}, false
}

// others are the live members besides this node.
func (p *pool) others() (all []cluster.Member) {
	for _, m := range p.gossip.Members() {
		if m.Name != p.member.ID() {
			all = append(all, m)
		}
	}
	return all
}

// names are the ids of the other live members.
func (p *pool) names() (all []string) {
	for _, m := range p.others() {
		all = append(all, m.Name)
	}
	return all
}

// openCalls makes the server that other nodes call.
func (p *pool) openCalls(doors peer.Doors) {
	trust := peer.Trust{
		TLS: p.member.ServerTLS, NodeOf: nodeOf, Admitted: func(node string) bool { return !p.member.Revoked(node) },
	}
	if doors.State == nil {
		doors.State = map[string]peer.Answer{}
	}
	doors.State[wordsState] = p.words.answer
	if p.signer != nil {
		trust.TLS = p.signer.ServerTLS
		doors.Join, doors.Renew = p.admit, p.renew
	}
	p.calls = peer.NewServer(trust, doors, peer.Limits{}, p.log)
}

// close gives up what openPool opened.
func (p *pool) close() (err error) {
	if p == nil {
		return nil
	}
	p.once.Do(func() {
		if p.door != nil {
			err = ignoreClosed(p.door.Close())
		}
		if p.fetch != nil {
			err = errors.Join(err, p.fetch.Close())
		}
		if p.peers != nil {
			err = errors.Join(err, p.peers.Close())
		}
	})
	return err
}
