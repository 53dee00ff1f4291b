// Package catalogtest has whole clusters of catalogs in one process for tests: members with real gossip and replicas that call each
// other over the same simulated network, in a testing/synctest bubble.
package catalogtest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"mayfly/cluster"
	"mayfly/cluster/catalog"
	"mayfly/cluster/clustertest"
	"mayfly/function"
	"mayfly/internal/simnet"
)

// Site is a number of nodes with catalogs.
type Site struct {
	*clustertest.Site
	Nodes []*Node

	t    testing.TB
	stop context.CancelFunc
	ctx  context.Context //nolint:containedctx // the life of what the site started
	wg   sync.WaitGroup
}

// Node is one of them.
type Node struct {
	*clustertest.Node
	Catalog *catalog.Catalog
	Replica *catalog.Replica
	Disk    *Disk
	Calls   *simnet.Host // what its calls cost is counted here

	port *simnet.Port
}

// New makes a site of n nodes that joined one after the other. change may change the options of their catalogs; nil does not.
func New(t testing.TB, link simnet.Link, n int, change func(i int, o *catalog.Options)) *Site {
	s := &Site{Site: clustertest.New(t, link), t: t}
	s.ctx, s.stop = context.WithCancel(context.Background())
	t.Cleanup(func() {
		s.stop()
		for _, n := range s.Nodes {
			if err := n.port.Close(); err != nil {
				t.Error(err)
			}
		}
		s.wg.Wait()
	})
	for i := range n {
		s.add(i, clustertest.Sized(n), change)
		time.Sleep(50 * time.Millisecond)
	}
	return s
}

func (s *Site) add(i int, sized func(*cluster.Config), change func(i int, o *catalog.Options)) {
	n := &Node{Node: s.Add(sized), Disk: NewDisk()}
	o := catalog.Options{
		Node: n.Name, Log: slog.New(slog.DiscardHandler),
		Now: func() time.Time { return time.Now().Round(0).Add(time.Duration(n.Skew.Load())) },
	}
	if change != nil {
		change(i, &o)
	}
	var err error
	if n.Catalog, err = catalog.Open(n.Disk, o); err != nil {
		s.t.Fatal(err)
	}
	n.Calls = s.Net.Host(callAddr(i))
	if n.port, err = n.Calls.Listen(); err != nil {
		s.t.Fatal(err)
	}
	n.Replica = catalog.NewReplica(n.Catalog, catalog.Exchange{
		Cluster: "site", Peers: caller{n}, Log: o.Log,
		Announce: func(b []byte) error { return n.Announce("catalog", b) },
	})
	n.port.Start(func([]byte, net.Addr, time.Time) {}, func(c net.Conn) { s.wg.Go(func() { n.answer(s.ctx, c) }) })
	if err := n.AddState("catalog", n.Replica); err != nil {
		s.t.Fatal(err)
	}
	s.wg.Go(func() {
		if err := n.Replica.Run(s.ctx); err != nil {
			s.t.Error(err)
		}
	})
	s.Nodes = append(s.Nodes, n)
}

func callAddr(i int) netip.AddrPort { return netip.AddrPortFrom(clustertest.Addr(i).Addr(), 7947) }

// caller carries requests: one connection per call, the name of the caller, a length and the request; back comes a length and the answer.
type caller struct{ n *Node }

const callMax = 4 << 20

// Pull implements catalog.Peers.
func (c caller) Pull(ctx context.Context, node string, request []byte) ([]byte, error) {
	var i int
	if _, err := fmt.Sscanf(node, "node-%d", &i); err != nil {
		return nil, err
	}
	conn, err := c.dial(ctx, callAddr(i).String())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if err := send(conn, append([]byte(c.n.Name), request...)); err != nil {
		return nil, err
	}
	return receive(conn)
}

// dial gives up when ctx ends, as the real one does.
func (c caller) dial(ctx context.Context, to string) (net.Conn, error) {
	type dialled struct {
		conn net.Conn
		err  error
	}
	done := make(chan dialled, 1)
	go func() {
		conn, err := c.n.port.Dial(to, 5*time.Second)
		done <- dialled{conn, err}
	}()
	select {
	case d := <-done:
		return d.conn, d.err
	case <-ctx.Done():
		go func() {
			if d := <-done; d.err == nil {
				d.conn.Close()
			}
		}()
		return nil, ctx.Err()
	}
}

func (n *Node) answer(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	b, err := receive(conn)
	if err != nil || len(b) < len(n.Name) {
		return
	}
	answer, err := n.Replica.Serve(ctx, string(b[:len(n.Name)]), b[len(n.Name):])
	if err != nil {
		return
	}
	_ = send(conn, answer) // the caller notices
}

func send(conn net.Conn, b []byte) error {
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	_, err := conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...))
	return err
}

func receive(conn net.Conn) ([]byte, error) {
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return nil, err
	}
	var size [4]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > callMax {
		return nil, errors.New("too long")
	}
	b := make([]byte, n)
	_, err := io.ReadFull(conn, b)
	return b, err
}

// Function makes a function of that name whose record takes about 2 KiB; variant makes another version of it.
func Function(t testing.TB, name string, variant int) function.Function {
	text := fmt.Sprintf("manifest = 1\nname = %q\n[module]\npath = \"a.wasm\"\n[[trigger.mqtt]]\ntopic = \"plant/{line}/%s\"\n[config]\nvariant = %d\n", name, name, variant)
	m, err := function.ParseManifest("f.toml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	m.Source = text
	return function.Function{Manifest: m, Module: function.DigestOf([]byte(name))}
}

// Deploy deploys a function on a node and returns its version.
func (s *Site) Deploy(n *Node, name string, variant int) uint64 {
	f, err := n.Catalog.Put(s.ctx, Function(s.t, name, variant))
	if err != nil {
		s.t.Fatalf("%s on %s: %v", name, n.Name, err)
	}
	return f.Version
}

// Remove removes a function on a node.
func (s *Site) Remove(n *Node, name string) {
	if err := n.Catalog.Delete(s.ctx, name); err != nil {
		s.t.Fatalf("%s on %s: %v", name, n.Name, err)
	}
}

// Equal says whether all nodes hold the same.
func (s *Site) Equal() bool {
	for _, n := range s.Nodes[1:] {
		if n.Catalog.Snapshot().Root() != s.Nodes[0].Catalog.Snapshot().Root() {
			return false
		}
	}
	return true
}

// Visible says whether every node has a function in this version or a newer one.
func (s *Site) Visible(name string, version uint64) bool {
	for _, n := range s.Nodes {
		if f, ok := n.Catalog.Get(name); !ok || f.Version < version {
			return false
		}
	}
	return true
}

// Halves parts the site in two; Split(nil) heals it.
func (s *Site) Halves() {
	first := map[netip.Addr]bool{}
	for i := range s.Nodes[:len(s.Nodes)/2] {
		first[clustertest.Addr(i).Addr()] = true
	}
	s.Split(func(a netip.Addr) int {
		if first[a] {
			return 1
		}
		return 2
	})
}

// Called returns how many bytes all nodes have sent in calls.
func (s *Site) Called() (bytes int64) {
	for _, n := range s.Nodes {
		bytes += n.Calls.Traffic().StreamBytes
	}
	return bytes
}
