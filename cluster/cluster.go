package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

// Errors a caller may want to tell apart.
var (
	ErrOpen      = errors.New("gossip without a key is for loopback addresses only")
	ErrNoAddress = errors.New("this machine has no address that others could reach")
	errOversize  = errors.New("larger than gossip carries")
)

// Config of a member. What is marked optional may be left zero.
type Config struct {
	Name    string // of this node: its id, unique in the cluster, 1 to 32 bytes
	Cluster string // name of the pool, 1 to 64 bytes: members of other pools are not listened to
	// Keys of gossip, 32 bytes each, the first encrypts, all decrypt. None is allowed on loopback only.
	Keys   [][]byte
	Listen func() (Network, error) // opens the network; again after the address changed
	Seeds  []Peer                  // optional: members to begin with, tried for ever
	Store  PeerStore               // optional: remembers peers over restarts

	// Small is for pools of some thirty members: they are probed twice as often, and a death is known in half the time.
	Small bool

	Meta      Meta           // what others shall know about this node to begin with
	Admission Admission      // optional: a last word on who is a member
	Allowed   []netip.Prefix // optional: where members may be
	// NameOf is the only name a key may have; optional. With it a member whose name is not that of the fingerprint in
	// its Meta is not admitted.
	NameOf func(fingerprint [16]byte) string

	Woke func(asleep time.Duration) // optional: the machine slept, or its clock was set; must not block
	Wall func() time.Time           // optional: the wall clock, which goes on while the machine sleeps
}

// Peer is a member's name and address, "ip:port" or "host:port".
type Peer struct{ Name, Addr string }

// PeerStore keeps the peers a node has met over its restarts. It is called from one goroutine.
type PeerStore interface {
	LoadPeers() ([]byte, error) // nil when there are none
	SavePeers([]byte) error
}

// Admission has a last word on who is a member: revoked nodes, for example. It is called for every message about a member, under
// locks: it must be quick and not call the cluster.
type Admission interface {
	Admit(Member) error
}

// Member is one live member. Gossip says all this, so all of it may be a lie of somebody who has the key of gossip.
type Member struct {
	Name string
	Addr netip.AddrPort // of gossip; calls between nodes go to Meta.Port at the same address
	Meta Meta
}

// Cluster is this node's membership. Safe for concurrent use.
type Cluster struct {
	config  Config
	log     *slog.Logger
	keyring *memberlist.Keyring // nil = no encryption
	traffic traffic
	view    *view
	loads   loads
	peers   *peers
	states  states
	queue   *memberlist.TransmitLimitedQueue
	inbox   inbox
	streams chan []byte // frames too large for packets, to be spread over streams
	news    chan []byte // frames of this node's own that fit, for a few members at once

	mu        sync.Mutex
	meta      Meta
	current   *memberlist.Memberlist // of the running session
	addresses map[netip.AddrPort]struct{}
	conflicts int64
	dirty     chan struct{} // Meta or load changed
	wake      chan struct{} // rejoin now
	returned  chan struct{} // a peer that was missing is live
	doubt     chan struct{} // somebody believes that we are at another address
	pending   pending
	running   atomic.Bool
}

// New checks the configuration. It starts nothing.
func New(config Config, log *slog.Logger) (*Cluster, error) {
	if err := config.check(); err != nil {
		return nil, fmt.Errorf("cluster: configuration: %w", err)
	}
	if config.Wall == nil {
		config.Wall = func() time.Time { return time.Now().Round(0) }
	}
	c := &Cluster{
		config: config, log: log, meta: config.Meta,
		streams: make(chan []byte, 64), news: make(chan []byte, 64), dirty: make(chan struct{}, 1), wake: make(chan struct{}, 1), returned: make(chan struct{}, 1),
		doubt:     make(chan struct{}, 1),
		addresses: map[netip.AddrPort]struct{}{},
	}
	if len(config.Keys) > 0 {
		ring, err := memberlist.NewKeyring(config.Keys, config.Keys[0])
		if err != nil {
			return nil, fmt.Errorf("cluster: configuration: %w", err)
		}
		c.keyring = ring
	}
	c.loads.own.boot = uint16(rand.N(1<<16-1)) + 1
	c.loads.known = map[string]known{}
	c.view = newView(c.admit)
	c.peers = newPeers(config.Name, config.Seeds)
	c.states.byKey = map[string]State{}
	c.inbox.items = make(chan item, inboxItems)
	c.queue = &memberlist.TransmitLimitedQueue{NumNodes: c.view.count, RetransmitMult: retransmitMult}
	return c, nil
}

func (c Config) check() error {
	switch {
	case len(c.Name) == 0 || len(c.Name) > nameMax:
		return fmt.Errorf("a name has 1 to %d bytes, not %d", nameMax, len(c.Name))
	case len(c.Cluster) == 0 || len(c.Cluster) > labelMax:
		return fmt.Errorf("a cluster's name has 1 to %d bytes, not %d", labelMax, len(c.Cluster))
	case c.Listen == nil:
		return errors.New("there is no network")
	}
	for _, k := range c.Keys {
		if len(k) != 32 {
			return fmt.Errorf("a key has 32 bytes, not %d", len(k))
		}
	}
	for _, s := range c.Seeds {
		if s.Name == "" || s.Addr == "" {
			return errors.New("a seed has a name and an address")
		}
	}
	return nil
}

// SmallSite is from how many members on Small is not worth its bytes.
const SmallSite = 32

const (
	nameMax  = 32
	labelMax = 64
)

// Run is a member until ctx ends; then it says goodbye, which hands over what it owns at once, and returns nil. It returns an
// error when it could not begin, but for want of an address: a device may start with its cable out. An address that changes, a network
// that breaks and peers that are away are no errors: it goes on. Run may be called once.
func (c *Cluster) Run(ctx context.Context) error {
	if !c.running.CompareAndSwap(false, true) {
		return errors.New("cluster: it runs, or has run, already")
	}
	c.loadPeers()
	pause := time.Second
	for first := true; ; first = false {
		began := time.Now()
		err := c.session(ctx)
		switch {
		case ctx.Err() != nil:
			c.savePeers()
			return nil
		case err != nil && first && !errors.Is(err, ErrNoAddress):
			return fmt.Errorf("cluster: %w", err)
		case err != nil:
			c.log.Warn("the cluster's network cannot be opened; trying again", "error", err, "in", pause)
		}
		if time.Since(began) > time.Minute {
			pause = time.Second
		}
		if err != nil && !sleep(ctx, pause) {
			return nil
		}
		pause = min(2*pause, 30*time.Second)
	}
}

// sleep waits and says whether ctx goes on.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// Members returns the live members, this node included while it runs, sorted by name. The slice belongs to everybody: it is not to
// be changed.
func (c *Cluster) Members() []Member { return c.view.members() }

// Watch returns a channel that is closed when Members has changed since this call. To follow: Watch, Members, wait, again.
func (c *Cluster) Watch() <-chan struct{} { return c.view.watch() }

// Load returns the last known load of a member, how old it is and the last measured round trip to it (0 = none). ok is false
// when nothing is known.
func (c *Cluster) Load(name string) (load Load, age, rtt time.Duration, ok bool) {
	if name == c.config.Name {
		return c.loads.mine(), 0, 0, true
	}
	k, ok := c.loads.of(name)
	return k.load, time.Since(k.at), k.rtt, ok
}

// SetLoad says how busy this node is. It is cheap: call it as often as the load changes.
func (c *Cluster) SetLoad(load Load) {
	if c.loads.set(load) {
		c.mu.Lock()
		c.pending.load = true
		c.mu.Unlock()
		signal(c.dirty)
	}
}

// UpdateMeta changes what others know about this node. Changes are collected: the first leaves at once, the next ten seconds
// later; Draining never waits. change must not call the cluster.
func (c *Cluster) UpdateMeta(change func(*Meta)) {
	c.mu.Lock()
	before := c.meta
	change(&c.meta)
	after := c.meta
	if before != after {
		c.pending.meta = true
		c.pending.urgent = c.pending.urgent || before.Draining != after.Draining
	}
	c.mu.Unlock()
	if before != after {
		signal(c.dirty)
	}
}

// Forget forgets where a member was that will not come back: it is not looked for any more. If it does, it is met like anybody.
func (c *Cluster) Forget(name string) { c.peers.forget(name) }

// Drain says that this node takes no new work, or takes it again.
func (c *Cluster) Drain(draining bool) { c.UpdateMeta(func(m *Meta) { m.Draining = draining }) }

// Rekey replaces the keys of gossip: the first encrypts, all decrypt. A cluster that began without keys stays without.
func (c *Cluster) Rekey(keys [][]byte) error {
	if c.keyring == nil || len(keys) == 0 {
		return errors.New("cluster: rekey: gossip is either encrypted from the start or not at all")
	}
	for _, k := range keys {
		if err := c.keyring.AddKey(k); err != nil {
			return fmt.Errorf("cluster: rekey: %w", err)
		}
	}
	if err := c.keyring.UseKey(keys[0]); err != nil {
		return fmt.Errorf("cluster: rekey: %w", err)
	}
	keep := map[string]bool{}
	for _, k := range keys {
		keep[string(k)] = true
	}
	for _, k := range append([][]byte(nil), c.keyring.GetKeys()...) {
		if keep[string(k)] {
			continue
		}
		if err := c.keyring.RemoveKey(k); err != nil {
			return fmt.Errorf("cluster: rekey: %w", err)
		}
	}
	return nil
}

// Recheck asks Admission again about every member, after somebody was revoked. Who is not admitted any more is no member at once.
func (c *Cluster) Recheck() {
	for _, name := range c.view.recheck() {
		c.peers.forget(name)
	}
}

// Rejoin looks for peers that are missing now instead of in a while.
func (c *Cluster) Rejoin() { signal(c.wake) }

// Traffic returns the counters since New.
func (c *Cluster) Traffic() Traffic { return c.traffic.read() }

// Conflicts is how often another node was seen with a member's name at another address.
func (c *Cluster) Conflicts() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.conflicts
}

func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
