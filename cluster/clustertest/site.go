// Package clustertest has whole clusters in one process for tests: members on a network in memory, in a testing/synctest bubble where
// minutes pass in milliseconds; and the conformance test of a cluster's network.
package clustertest

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mayfly/cluster"
	"mayfly/internal/simnet"
)

// Site is a number of members on one network. It must be made inside a bubble; what it started has ended when the test has.
type Site struct {
	Net   *simnet.Net
	Nodes []*Node

	t     testing.TB
	mu    sync.Mutex
	link  simnet.Link
	alone map[netip.Addr]bool
	side  func(netip.Addr) int
	over  func(from, to netip.Addr) bool
}

// Node is one member.
type Node struct {
	*cluster.Cluster
	Name  string
	Host  *simnet.Host
	Store *Peers
	Skew  atomic.Int64 // of its wall clock, in nanoseconds

	stop context.CancelFunc
	done chan struct{}
}

// New makes a site with links like link.
func New(t testing.TB, link simnet.Link) *Site {
	s := &Site{Net: simnet.New(1), t: t, link: link, alone: map[netip.Addr]bool{}}
	s.Net.Shape(s.shape)
	t.Cleanup(s.StopAll)
	return s
}

func (s *Site) shape(from, to netip.Addr) simnet.Link {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.link
	if s.side != nil {
		l.Down = s.side(from) != s.side(to)
	}
	if s.over != nil && s.over(from, to) {
		l.Down = true
	}
	l.Down = l.Down || s.alone[from] || s.alone[to]
	return l
}

// Split parts the site by a number for each address; nil heals it.
func (s *Site) Split(side func(netip.Addr) int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.side = side
}

// Block lets nothing pass in the directions block says; nil ends it.
func (s *Site) Block(block func(from, to netip.Addr) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = block
}

// Isolate pulls the cable of a node, or plugs it in again.
func (s *Site) Isolate(n *Node, alone bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.alone[n.Host.Addr().Addr()] = alone
}

// Addr is the address of the i-th node.
func Addr(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), 7946)
}

// Key is a key of gossip.
func Key() []byte { return []byte("0123456789abcdef0123456789abcdef") }

// Name is that of the i-th node: as long as a real one's, because every exchange of states carries all names.
func Name(i int) string { return fmt.Sprintf("node-%011d", i) }

// Sized configures members as those of a site of n are.
func Sized(n int) func(*cluster.Config) {
	return func(c *cluster.Config) { c.Small = n < cluster.SmallSite }
}

// Add starts one more member, which knows the first one. change may change its configuration; nil does not.
func (s *Site) Add(change func(*cluster.Config)) *Node {
	i := len(s.Nodes)
	n := &Node{Name: Name(i), Host: s.Net.Host(Addr(i)), Store: &Peers{}}
	s.Start(n, change)
	s.Nodes = append(s.Nodes, n)
	return n
}

// Start starts a member that is not running, with what its store remembers.
func (s *Site) Start(n *Node, change func(*cluster.Config)) {
	config := cluster.Config{
		Meta: Meta(),
		Name: n.Name, Cluster: "site", Keys: [][]byte{Key()}, Store: n.Store,
		Listen: func() (cluster.Network, error) { return n.Host.Listen() },
		Wall:   func() time.Time { return time.Now().Round(0).Add(time.Duration(n.Skew.Load())) },
	}
	if n.Name != Name(0) {
		config.Seeds = []cluster.Peer{{Name: Name(0), Addr: Addr(0).String()}}
	}
	if change != nil {
		change(&config)
	}
	c, err := cluster.New(config, slog.New(slog.DiscardHandler))
	if err != nil {
		s.t.Fatal(err)
	}
	n.Cluster = c
	ctx, stop := context.WithCancel(context.Background())
	n.stop, n.done = stop, make(chan struct{})
	go func() {
		defer close(n.done)
		if err := c.Run(ctx); err != nil {
			s.t.Errorf("%s: %v", n.Name, err)
		}
	}()
}

// Grow adds members up to n, one every gap.
func (s *Site) Grow(n int, gap time.Duration, change func(*cluster.Config)) {
	for len(s.Nodes) < n {
		s.Add(change)
		time.Sleep(gap)
	}
}

// Leave stops a member, which says goodbye.
func (n *Node) Leave() {
	n.stop()
	<-n.done
}

// Kill stops a member as a power cut does: nobody hears of it any more. It stays cut off until Isolate.
func (s *Site) Kill(n *Node) {
	s.Isolate(n, true)
	n.Leave()
}

// StopAll stops everybody at once, and waits for what memberlist leaves running: the end of a probe takes up to its interval, which
// grows eightfold on a node that is cut off.
func (s *Site) StopAll() {
	for _, n := range s.Nodes {
		n.stop()
	}
	for _, n := range s.Nodes {
		<-n.done
	}
	time.Sleep(time.Minute)
}

// Until waits for cond, asked every step, and returns how long that took. It fails the test after limit.
func (s *Site) Until(what string, limit time.Duration, cond func() bool) time.Duration {
	s.t.Helper()
	began := time.Now()
	for !cond() {
		if time.Since(began) > limit {
			s.t.Fatalf("%s: not within %v\n%s", what, limit, s.views())
		}
		time.Sleep(step)
	}
	return time.Since(began)
}

// views says who does not see whom.
func (s *Site) views() string {
	var b strings.Builder
	for _, n := range s.Nodes {
		fmt.Fprintf(&b, "%s sees %d; not:", n.Name, len(n.Members()))
		for _, other := range s.Nodes {
			if _, ok := n.Sees(other.Name); !ok {
				b.WriteString(" " + other.Name)
			}
		}
		b.WriteString("\n")
	}
	return b.String()
}

const step = 100 * time.Millisecond

// Full says whether every one of these nodes sees exactly want members.
func Full(nodes []*Node, want int) bool {
	for _, n := range nodes {
		if len(n.Members()) != want {
			return false
		}
	}
	return true
}

// Sees says whether n sees a member of that name, and where.
func (n *Node) Sees(name string) (cluster.Member, bool) {
	for _, m := range n.Members() {
		if m.Name == name {
			return m, true
		}
	}
	return cluster.Member{}, false
}

// Sent returns what all nodes have sent so far.
func (s *Site) Sent() (t simnet.Traffic) {
	for _, n := range s.Nodes {
		h := n.Host.Traffic()
		t.Packets += h.Packets
		t.PacketBytes += h.PacketBytes
		t.Streams += h.Streams
		t.StreamBytes += h.StreamBytes
	}
	return t
}

// Peers is a store in memory.
type Peers struct {
	mu    sync.Mutex
	b     []byte
	Saves int
	Err   error // what both methods return
}

// LoadPeers implements cluster.PeerStore.
func (p *Peers) LoadPeers() ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.b, p.Err
}

// SavePeers implements cluster.PeerStore.
func (p *Peers) SavePeers(b []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.b = append([]byte(nil), b...)
	p.Saves++
	return p.Err
}

// Rumours is a state that is a set of short texts: announced when they are new here, and exchanged whole.
type Rumours struct {
	mu    sync.Mutex
	heard map[string]time.Time
}

// Has says when the text was heard first.
func (r *Rumours) Has(text string) (time.Time, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	at, ok := r.heard[text]
	return at, ok
}

// Heard implements cluster.State.
func (r *Rumours) Heard(_ string, b []byte) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.heard == nil {
		r.heard = map[string]time.Time{}
	}
	if _, ok := r.heard[string(b)]; ok {
		return false, nil
	}
	r.heard[string(b)] = time.Now()
	return true, nil
}

// MarshalBinary implements cluster.State: texts of at most 255 bytes, the others are only announced.
func (r *Rumours) MarshalBinary() ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var b []byte
	for text := range r.heard {
		if len(text) < 256 {
			b = append(append(b, byte(len(text))), text...)
		}
	}
	return b, nil
}

// Merge implements cluster.State.
func (r *Rumours) Merge(from string, b []byte) error {
	for len(b) > 0 {
		n := 1 + int(b[0])
		if len(b) < n {
			return fmt.Errorf("a digest of %s ends in the middle", from)
		}
		if _, err := r.Heard(from, b[1:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}
