package agent

import (
	"cmp"
	"context"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"mayfly/agent/dispatch"
	"mayfly/agent/placement"
	"mayfly/cluster"
	"mayfly/cluster/catalog"
	"mayfly/cluster/peer"
	"mayfly/function"
)

// viewAge is how old the view of the cluster may be that placement looks at. Loads in it are older anyway; what decides is what a peer
// answers.
const viewAge = 50 * time.Millisecond

// viewer makes what placement sees of the cluster out of gossip, calls and the catalog. Safe for concurrent use.
type viewer struct {
	pool  *pool // nil = alone
	made  atomic.Pointer[dated]
	stale chan struct{} // somebody found it too old

	mu   sync.Mutex
	self placement.Node
}

type dated struct {
	view placement.View
	at   time.Time
}

func newViewer(p *pool, self placement.Node) *viewer {
	v := &viewer{pool: p, self: self, stale: make(chan struct{}, 1)}
	v.made.Store(&dated{view: placement.View{Self: self, Epoch: 1}})
	return v
}

// View implements dispatch.Viewer. It answers with what it has; who finds that too old has it made anew, beside the events.
func (v *viewer) View(*function.Function) *placement.View {
	d := v.made.Load()
	if v.pool != nil && time.Since(d.at) >= viewAge {
		select {
		case v.stale <- struct{}{}:
		default:
		}
	}
	return &d.view
}

// Run makes the view anew when somebody found it too old or the members changed, until ctx ends.
func (v *viewer) Run(ctx context.Context) error {
	for {
		members := v.pool.gossip.Watch()
		v.now()
		select {
		case <-ctx.Done():
			return nil
		case <-v.stale:
		case <-members:
		}
	}
}

// now makes the view anew.
func (v *viewer) now() *placement.View {
	if v.pool == nil {
		return &v.made.Load().view
	}
	next := &dated{at: time.Now(), view: placement.View{Peers: v.pool.placed()}}
	v.mu.Lock()
	defer v.mu.Unlock()
	old := v.made.Load()
	next.view.Self = v.self
	next.view.Epoch = old.view.Epoch
	if !alike(&old.view, &next.view) {
		next.view.Epoch++
	}
	v.made.Store(next)
	return &next.view
}

// alike says whether two views are of one epoch.
func alike(a, b *placement.View) bool {
	lasting := func(n *placement.Node) placement.Node {
		l := *n
		l.Running, l.Queued, l.RTT, l.Cold, l.Age = 0, 0, 0, 0, 0
		return l
	}
	same := func(x, y placement.Node) bool { return reflect.DeepEqual(lasting(&x), lasting(&y)) }
	return same(a.Self, b.Self) && slices.EqualFunc(a.Peers, b.Peers, same)
}

// here is this node as it is now. It is not to be changed.
func (v *viewer) here() *placement.Node { return &v.made.Load().view.Self }

// change changes what is said of this node.
func (v *viewer) change(with func(*placement.Node)) {
	v.mu.Lock()
	with(&v.self)
	next := *v.made.Load()
	next.view.Self, next.at = v.self, time.Time{}
	next.view.Epoch++
	v.made.Store(&next)
	v.mu.Unlock()
}

// placed is every other live member as placement sees it.
func (p *pool) placed() []placement.Node {
	said := p.described()
	others := p.others()
	all := make([]placement.Node, 0, len(others))
	for i := range others {
		all = append(all, p.node(&others[i], said[others[i].Name]))
	}
	return all
}

// described is what nodes say of themselves, by id.
func (p *pool) described() map[string]catalog.Node {
	s := p.catalog.Snapshot()
	if known := p.said.Load(); known != nil && known.from == s {
		return known.by
	}
	by := map[string]catalog.Node{}
	for _, n := range s.Nodes() {
		by[n.ID] = n
	}
	p.said.Store(&described{s, by})
	return by
}

// described is what one snapshot of the catalog says of the nodes.
type described struct {
	from *catalog.Snapshot
	by   map[string]catalog.Node
}

func (p *pool) node(m *cluster.Member, said catalog.Node) placement.Node {
	n := placement.Node{
		ID: m.Name, Name: cmp.Or(said.Name, m.Name), Arch: archOf(m.Meta.Arch), OS: "linux", Labels: said.Labels, Zone: said.Zone,
		Capabilities: said.Capabilities, Untrusted: p.member.Revoked(m.Name), Draining: m.Meta.Draining, Slots: int(m.Meta.Slots),
		Speed: float64(m.Meta.Speed) / 16, Memory: 1 << (m.Meta.Memory + 20),
	}
	if load, age, rtt, ok := p.gossip.Load(m.Name); ok {
		n.Running, n.Queued, n.Age, n.RTT = int(load.Running), int(load.Queued), age, rtt
	}
	if s, ok := p.peers.Load(m.Name); ok && (n.Age == 0 || s.Age < n.Age) {
		n.Running, n.Queued, n.Age = s.Load.Running, s.Load.Queued, s.Age
		n.RTT = cmp.Or(s.RTT, n.RTT)
	}
	return n
}

func archOf(a cluster.Arch) string {
	switch a {
	case cluster.ArchAMD64:
		return "amd64"
	case cluster.ArchARM64:
		return "arm64"
	case cluster.ArchARM:
		return "arm"
	case cluster.ArchRISCV64:
		return "riscv64"
	case cluster.ArchUnknown:
	}
	return "unknown"
}

// invokers gives dispatch the peers to run calls on; nil on a node that is alone.
func (p *pool) invokers() func(node string) (dispatch.Invoker, bool) {
	if p == nil {
		return nil
	}
	return func(node string) (dispatch.Invoker, bool) { return p.peers.To(node) }
}

// prober asks peers how busy they are; nil on a node that is alone.
func (p *pool) prober() dispatch.Prober {
	if p == nil {
		return nil
	}
	return func(ctx context.Context, node string) (placement.Load, error) {
		s, err := p.peers.Probe(ctx, node)
		return placement.Load(s.Load), err
	}
}

// guests runs calls of other nodes here. It implements peer.Executor.
type guests struct{ agent *Agent }

// Exec implements peer.Executor.
func (g guests) Exec(ctx context.Context, _ string, r *peer.ExecRequest) (*function.Result, error) {
	f, _ := g.agent.catalog.Get(r.Function)
	call, err := r.Call(meant(f, r.Version), g.agent.cfg.Node.Name)
	if err != nil {
		return nil, err
	}
	res, _, err := g.agent.dispatch.ExecuteHere(ctx, call)
	return res, err
}

// doors are what other nodes may ask of this one.
func (a *Agent) doors() peer.Doors {
	return peer.Doors{
		Exec:  guests{a},
		Load:  func() peer.Load { return peer.Load(a.dispatch.Load()) },
		Blob:  a.blob,
		State: map[string]peer.Answer{catalogState: a.pool.replica.Serve, usageState: a.answerUsage, secretState: a.vault.Answer},
	}
}
