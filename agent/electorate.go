package agent

import (
	"context"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"mayfly/agent/ownership"
	"mayfly/agent/placement"
	"mayfly/cluster"
	"mayfly/function"
)

// electorate is the nodes that may own triggers. It implements Membership.
type electorate struct {
	pool   *pool
	viewer *viewer
}

// brokerWord is how a node says in its description that it has a broker of that name. The places of these words among each other
// are those of the bits in its gossip that say which connections are good.
const brokerWord = "broker:"

// Nodes implements Membership.
func (e *electorate) Nodes(f *function.Function, broker string) []ownership.Node {
	said := e.pool.described()
	members := e.pool.gossip.Members()
	all := make([]ownership.Node, 0, len(members)+1)
	self := e.pool.member.ID()
	met := false
	for i := range members {
		m := &members[i]
		n := e.pool.node(m, said[m.Name])
		if m.Name == self {
			met = true
			n = *e.viewer.here()
			n.Slots, n.Speed = int(m.Meta.Slots), float64(m.Meta.Speed)/16 // as the others see it: all compute the same
			n.Untrusted = e.Revoked(self)
		}
		all = append(all, candidate(f, &n, m, broker))
	}
	if !met { // gossip has not begun: this node would own nothing, with its cable out for ever
		here := *e.viewer.here()
		own := cluster.Member{Name: self, Meta: e.pool.meta}
		here.Slots, here.Speed = int(own.Meta.Slots), float64(own.Meta.Speed)/16
		all = append(all, candidate(f, &here, &own, broker))
	}
	return all
}

func candidate(f *function.Function, n *placement.Node, m *cluster.Member, broker string) ownership.Node {
	draining := n.Draining || m.Meta.Draining
	n.Draining = false // it is no rule of the manifest
	has, up := brokerOf(n.Capabilities, m.Meta.Brokers, broker)
	return ownership.Node{
		ID: m.Name, Weight: float64(n.Slots) * n.Speed, Eligible: has && !n.Untrusted && len(placement.Failed(f, n)) == 0, BrokerUp: up, Draining: draining,
	}
}

// brokerOf says whether a node has a broker, and whether its connection there is good.
func brokerOf(capabilities []string, bits uint16, broker string) (has, up bool) {
	place := 0
	for _, c := range capabilities {
		name, ok := strings.CutPrefix(c, brokerWord)
		if !ok {
			continue
		}
		if name == broker {
			return true, place < maxBrokers && bits&(1<<place) != 0
		}
		place++
	}
	return false, false
}

// adminWord is how a node says at which port operators from afar come in.
const adminWord = "admin:"

// capabilities are what a node says of itself besides its labels.
func (a *Agent) capabilities() (words []string) {
	for _, name := range a.brokerNames() {
		words = append(words, brokerWord+name)
	}
	if a.afar != nil {
		if _, port, err := net.SplitHostPort(a.afar.Addr().String()); err == nil {
			words = append(words, adminWord+port)
		}
	}
	return words
}

// adminAddress is where a node lets operators from afar in, "" when it does not.
func adminAddress(capabilities []string, gossip string) string {
	for _, c := range capabilities {
		if port, ok := strings.CutPrefix(c, adminWord); ok {
			if host, _, err := net.SplitHostPort(gossip); err == nil {
				return net.JoinHostPort(host, port)
			}
		}
	}
	return ""
}

// maxBrokers is for how many brokers of one node gossip has bits.
const maxBrokers = 16

// Watch implements Membership.
func (e *electorate) Watch() <-chan struct{} { return e.pool.bell.wait() }

// Revoked implements Membership.
func (e *electorate) Revoked(node string) bool { return e.pool.member.Revoked(node) }

// bell tells everybody who waits that something about the nodes has changed.
type bell struct {
	mu sync.Mutex
	ch chan struct{}
}

func (b *bell) wait() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch == nil {
		b.ch = make(chan struct{})
	}
	return b.ch
}

func (b *bell) ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch != nil {
		close(b.ch)
		b.ch = nil
	}
}

// brokers are the names of the brokers that triggers of the cluster can be at, in the order of their bits.
func (a *Agent) brokerNames() (names []string) {
	for name, at := range a.sites {
		if at.local == nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// watchBrokers tells the other nodes which brokers this one reaches, until ctx ends: whoever has lost his does not own triggers there.
func (a *Agent) watchBrokers(ctx context.Context) error {
	names := a.brokerNames()
	var bits uint16
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		next := uint16(0)
		for _, name := range a.subs.links(time.Now()) {
			if i := slices.Index(names, name); i >= 0 && i < maxBrokers {
				next |= 1 << i
			}
		}
		if next != bits {
			bits = next
			a.pool.gossip.UpdateMeta(func(m *cluster.Meta) { m.Brokers = next })
			a.pool.bell.ring()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
