package testcluster

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"mayfly/admin"
	"mayfly/agent"
	"mayfly/cluster"
	"mayfly/function"
	"mayfly/internal/settings"
	"mayfly/internal/simnet"
	"mayfly/wasm"
)

// Ports of a node.
const (
	portGossip = 7946
	portCalls  = 7947
	portDials  = 1 // what it dials from: a port takes what comes as well, and nothing does
)

// Node is one agent. It starts anew by itself when it has become a member.
type Node struct {
	Name string

	site   *Site
	index  int
	config agent.Config
	dials  *simnet.Port
	now    atomic.Pointer[agent.Agent]
	cancel context.CancelFunc
	done   chan struct{}
}

// Agent is the agent that runs now, nil between two.
func (n *Node) Agent() *agent.Agent { return n.now.Load() }

// Grow adds nodes until there are so many, one every gap: the first makes the cluster, and the others join it with one token.
func (s *Site) Grow(many int, gap time.Duration) {
	var token string
	for len(s.Nodes) < many {
		n := s.add()
		if n.index == 0 {
			n.must(n.Agent().Init(s.ctx, admin.InitRequest{Name: "site"}))
			s.Until("the first node is a member", time.Minute, n.member)
			continue
		}
		if token == "" {
			t, err := s.Nodes[0].Agent().CreateToken(s.ctx, admin.TokenRequest{TTLMS: time.Hour.Milliseconds(), Uses: 1000})
			if err != nil {
				s.t.Fatal(err)
			}
			token = t.Token
		}
		n.must(n.Agent().Join(s.ctx, admin.JoinRequest{Token: token, Via: addr(0, portCalls).String()}))
		s.Until(n.Name+" is a member", time.Minute, n.member)
		time.Sleep(gap)
	}
}

func (n *Node) must(_ admin.Cluster, err error) {
	n.site.t.Helper()
	if err != nil {
		n.site.t.Fatalf("%s: %v", n.Name, err)
	}
}

func (n *Node) member() bool {
	a := n.Agent()
	if a == nil {
		return false
	}
	s, err := a.Status(n.site.ctx)
	return err == nil && s.Cluster != nil && s.Ready
}

// Members is how many nodes this one sees, itself included.
func (n *Node) Members() int {
	if a := n.Agent(); a != nil {
		if s, err := a.Status(n.site.ctx); err == nil && s.Cluster != nil {
			return s.Cluster.Members
		}
	}
	return 0
}

// Whole says whether every running node sees every running node, and nobody else.
func (s *Site) Whole() bool {
	want := 0
	for _, n := range s.Nodes {
		if n.running() {
			want++
		}
	}
	for _, n := range s.Nodes {
		if n.running() && n.Members() != want {
			return false
		}
	}
	return true
}

// Named returns the node of that name, which there must be.
func (s *Site) Named(name string) *Node {
	s.t.Helper()
	for _, n := range s.Nodes {
		if n.Name == name {
			return n
		}
	}
	s.t.Fatalf("there is no node %q", name)
	return nil
}

func (n *Node) running() bool {
	select {
	case <-n.done:
		return false
	default:
		return true
	}
}

func (s *Site) add() *Node {
	i := len(s.Nodes)
	n := &Node{Name: fmt.Sprintf("node-%d", i), site: s, index: i, config: s.configure(i)}
	s.Nodes = append(s.Nodes, n)
	n.Start()
	return n
}

// configure makes the configuration of the i-th node, as a device reads it.
func (s *Site) configure(i int) (c agent.Config) {
	dir := filepath.Join(s.dir, fmt.Sprint(i))
	text := fmt.Sprintf(`[node]
name = "node-%d"
data = %q
[admin]
socket = %q
[cluster]
listen = "%s"
[broker.site]
urls = ["tcp://%s"]
[limits]
slots = %d
memory = "%dMiB"
[store]
floor = "16MiB"
ballast = "1MiB"
`, i, dir, filepath.Join(dir, "socket"), addr(i, portGossip), brokerAt(), slots, slotMemory>>20)
	file := filepath.Join(s.dir, fmt.Sprintf("%d.toml", i))
	err := os.WriteFile(file, []byte(text), 0o600)
	if err == nil {
		_, err = settings.Load(&c, settings.Sources{File: file})
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// Start starts the agent with what is on its disk, and returns when it is ready.
func (n *Node) Start() {
	s := n.site
	var ctx context.Context
	ctx, n.cancel = context.WithCancel(context.Background())
	n.done = make(chan struct{})
	port, err := s.net.Host(addr(n.index, portDials)).Listen()
	if err != nil {
		s.t.Fatal(err)
	}
	n.dials = port
	go func() {
		defer close(n.done)
		defer func() { _ = port.Close() }() // nobody dials any more
		if err := n.serve(ctx); err != nil {
			s.t.Errorf("%s: %v", n.Name, err)
		}
	}()
	s.Until(n.Name+" is ready", time.Minute, func() bool {
		a := n.Agent()
		if a == nil {
			return false
		}
		status, err := a.Status(s.ctx)
		return err == nil && status.Ready
	})
}

// serve runs one agent after the other, as mayflyd does, until ctx ends.
func (n *Node) serve(ctx context.Context) error {
	for ctx.Err() == nil {
		life, reload := context.WithCancelCause(ctx)
		a, err := agent.New(n.config, agent.Options{
			Log: n.site.Log.With("node", n.Name), World: n.world(), Restart: func() { reload(agent.ErrReload) },
		})
		if err != nil {
			reload(nil)
			return err
		}
		n.now.Store(a)
		err = a.Run(life)
		n.now.Store(nil)
		reload(nil)
		if err != nil {
			return err
		}
	}
	return nil
}

// Stop stops the agent, which drains and says goodbye.
func (n *Node) Stop() {
	n.cancel()
	<-n.done
}

// Kill ends the node as a power cut does as far as others can tell: nobody hears of it any more. It stays cut off until Revive.
func (n *Node) Kill() {
	n.site.isolate(n, true)
	n.Stop()
}

// Revive plugs a killed node in and starts it.
func (n *Node) Revive() {
	n.site.isolate(n, false)
	n.Start()
}

// world is the machine the agent believes to be on.
func (n *Node) world() agent.World {
	s := n.site
	return agent.World{
		Dial: func(ctx context.Context, _, address string) (net.Conn, error) {
			return n.dials.DialContext(ctx, address)
		},
		Listen: func(_, address string) (net.Listener, error) {
			at, err := netip.ParseAddrPort(address)
			if err != nil {
				return nil, err
			}
			return s.net.Host(at).ListenStreams()
		},
		Socket: func(string, string) (net.Listener, error) { return &closedDoor{closed: make(chan struct{})}, nil },
		Gossip: func(bind netip.AddrPort, _ netip.Addr) (cluster.Network, error) { return s.net.Host(bind).Listen() },
		Engine: func(c wasm.Config, _ *slog.Logger) (agent.Engine, error) { return newEngine(c.Modules, s.Guests), nil },
	}
}

// Deploy deploys a manifest with a guest on this node and returns the version it got.
func (n *Node) Deploy(manifest, guest string) uint64 {
	n.site.t.Helper()
	m, err := function.ParseManifest("function.toml", []byte(manifest))
	if err != nil {
		n.site.t.Fatal(err)
	}
	module := []byte(guest)
	f, err := n.Agent().Deploy(n.site.ctx, admin.Deployment{
		Manifest: m, Source: []byte(manifest), Module: module, Digest: function.DigestOf(module),
	}, func(admin.Progress) {})
	if err != nil {
		n.site.t.Fatalf("%s: %v", n.Name, err)
	}
	return f.Revision
}

// Remove removes a function on this node.
func (n *Node) Remove(name string) {
	n.site.t.Helper()
	if err := n.Agent().Remove(n.site.ctx, name); err != nil {
		n.site.t.Fatalf("%s: %v", n.Name, err)
	}
}

// Has says whether this node has a function in this version or a newer one; 0 stands for any.
func (n *Node) Has(name string, version uint64) bool {
	a := n.Agent()
	if a == nil {
		return false
	}
	f, err := a.Get(n.site.ctx, name)
	return err == nil && f.Revision >= version
}

// Everywhere says whether all running nodes have a function in this version or a newer one.
func (s *Site) Everywhere(name string, version uint64) bool {
	for _, n := range s.Nodes {
		if n.running() && !n.Has(name, version) {
			return false
		}
	}
	return true
}

// Nowhere says whether no running node has the function.
func (s *Site) Nowhere(name string) bool {
	for _, n := range s.Nodes {
		if n.running() && n.Has(name, 0) {
			return false
		}
	}
	return true
}

// closedDoor is an operators' socket that nobody comes to: a simulation calls the agent itself.
type closedDoor struct{ closed chan struct{} }

// Accept implements net.Listener.
func (d *closedDoor) Accept() (net.Conn, error) {
	<-d.closed
	return nil, net.ErrClosed
}

// Close implements net.Listener.
func (d *closedDoor) Close() error {
	select {
	case <-d.closed:
		return net.ErrClosed
	default:
		close(d.closed)
		return nil
	}
}

// Addr implements net.Listener.
func (d *closedDoor) Addr() net.Addr { return &net.UnixAddr{Net: "unix", Name: "nobody"} }
