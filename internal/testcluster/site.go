// Package testcluster has whole agents in one process for tests: the composition of package agent with its store on disk, identities, mutual
// TLS, gossip, dispatch, placement and sessions at a broker, on a network in memory and in a testing/synctest bubble, where minutes pass in
// moments. Two things are not the real ones: the network, and what functions run in (see Guest). The broker is the embedded one, in a
// host of its own.
package testcluster

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"mayfly/internal/simnet"
	"mayfly/triggers/broker"
)

// Site is a number of agents on one network with a broker. It must be made inside a bubble; what it started has ended when the test has.
type Site struct {
	Nodes  []*Node
	Guests Guests // to be filled before something is deployed
	Broker *broker.Broker
	Log    *slog.Logger // of the agents; silent unless it is replaced before they start

	t    testing.TB
	net  *simnet.Net
	dir  string
	ctx  context.Context //nolint:containedctx // the life of what the site started besides the agents
	stop context.CancelFunc
	wait sync.WaitGroup

	mu    sync.Mutex
	link  simnet.Link
	alone map[netip.Addr]bool
	side  func(netip.Addr) int
	last  int // of the devices' ports
}

// Disk makes a directory for a site's disks that ends with the test: in memory where there is some, because what dozens of agents sync on
// one disk takes longer than all else they do.
func Disk(t testing.TB) string {
	dir, err := os.MkdirTemp("/dev/shm", "testcluster-") //nolint:usetesting // in memory
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// Epoch is when a site begins: agents take an earlier time for a clock that is not set.
func Epoch() time.Time { return time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC) }

// New makes a site without nodes: the broker, and links like link between all. dir holds what the agents keep on disk.
func New(t testing.TB, dir string, link simnet.Link) *Site {
	time.Sleep(time.Until(Epoch()))
	s := &Site{
		Guests: Guests{}, Log: slog.New(slog.DiscardHandler),
		t: t, net: simnet.New(1), dir: dir, link: link, alone: map[netip.Addr]bool{},
	}
	s.net.Shape(s.shape)
	s.ctx, s.stop = context.WithCancel(context.Background())
	t.Cleanup(s.close)
	s.openBroker()
	return s
}

// close stops the agents, which leave, and then the rest.
func (s *Site) close() {
	for _, n := range s.Nodes {
		n.cancel()
	}
	for _, n := range s.Nodes {
		<-n.done
	}
	s.stop()
	s.wait.Wait()
	time.Sleep(time.Minute) // for what memberlist leaves running: the end of a probe takes up to its interval
}

// run runs f until the site ends.
func (s *Site) run(what string, f func(context.Context) error) {
	s.wait.Go(func() {
		if err := f(s.ctx); err != nil {
			s.t.Errorf("%s: %v", what, err)
		}
	})
}

// brokerAt is where the broker is: on the loopback address, which asks for neither users nor TLS. The network has only one.
func brokerAt() netip.AddrPort { return netip.MustParseAddrPort("127.0.0.1:1883") }

func (s *Site) openBroker() {
	var err error
	s.Broker, err = broker.New(broker.Config{
		Listen: []broker.Listener{{Address: brokerAt().String()}},
		Limits: broker.Limits{Clients: 10_000, Sessions: 10_000, Queue: 10_000},
		Open: func(_, address string) (net.Listener, error) {
			at, err := netip.ParseAddrPort(address)
			if err != nil {
				return nil, err
			}
			return s.net.Host(at).ListenStreams()
		},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.run("broker", s.Broker.Run)
	<-s.Broker.Listening()
}

func (s *Site) shape(from, to netip.Addr) simnet.Link {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.link
	if s.side != nil {
		a, b := s.side(from), s.side(to)
		l.Down = a != b && a != Anywhere && b != Anywhere
	}
	l.Down = l.Down || s.alone[from] || s.alone[to]
	return l
}

// Anywhere is the side of who is reached from all sides.
const Anywhere = -1

// Split parts the site by a number for each node. The broker and the devices are Anywhere: what is parted are the nodes. nil heals it.
func (s *Site) Split(number func(i int) int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if number == nil {
		s.side = nil
		return
	}
	sides := map[netip.Addr]int{}
	for i := range s.Nodes {
		sides[addr(i, 0).Addr()] = number(i)
	}
	s.side = func(a netip.Addr) int {
		if n, ok := sides[a]; ok {
			return n
		}
		return Anywhere
	}
}

// isolate pulls the cable of a node, or plugs it in again.
func (s *Site) isolate(n *Node, alone bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.alone[addr(n.index, 0).Addr()] = alone
}

// addr is an address of the i-th node.
func addr(i int, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), port)
}

// Until waits for cond, asked every 50 ms, and returns how long that took. It fails the test after limit.
func (s *Site) Until(what string, limit time.Duration, cond func() bool) time.Duration {
	s.t.Helper()
	began := time.Now()
	for !cond() {
		if time.Since(began) > limit {
			s.t.Fatalf("%s: not within %v", what, limit)
		}
		time.Sleep(step)
	}
	return time.Since(began)
}

const step = 50 * time.Millisecond
