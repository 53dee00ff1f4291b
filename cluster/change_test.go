package cluster_test

import (
	"bytes"
	"errors"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"mayfly/cluster"
	"mayfly/cluster/clustertest"
	"mayfly/internal/simnet"
)

// A laptop lid closed for five minutes: the others give the node up; when its wall clock has jumped it is back within seconds.
func TestANodeThatSleptIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asleep atomic.Int64
		s := clustertest.New(t, lossy())
		s.Grow(9, 50*time.Millisecond, nil)
		sleeper := s.Add(func(c *cluster.Config) { c.Woke = func(d time.Duration) { asleep.Store(int64(d)) } })
		s.Until("everybody sees everybody", time.Minute, func() bool { return clustertest.Full(s.Nodes, 10) })
		s.Isolate(sleeper, true)
		time.Sleep(5 * time.Minute)
		if _, seen := s.Nodes[0].Sees(sleeper.Name); seen {
			t.Fatal("the sleeper was not missed: the test shows nothing")
		}
		sleeper.Skew.Add(int64(5 * time.Minute))
		s.Isolate(sleeper, false)
		took := s.Until("everybody sees everybody again", 20*time.Second, func() bool { return clustertest.Full(s.Nodes, 10) })
		t.Log("back after", took)
		if d := time.Duration(asleep.Load()); d < 4*time.Minute {
			t.Errorf("the node was told it slept %v", d)
		}
	})
}

// DHCP hands out another address. The others follow within seconds, and nobody sees the old one any more: on a site and in a large pool, and
// with links that lose packets.
func TestAnAddressThatChanges(t *testing.T) {
	for _, size := range []int{10, 40} {
		synctest.Test(t, func(t *testing.T) {
			s := grown(t, size, lossy(), clustertest.Sized(size))
			for i, mover := range []*clustertest.Node{s.Nodes[3], s.Nodes[3], s.Nodes[0], s.Nodes[7]} {
				to := moveTo(byte(i))
				mover.Host.Move(to)
				if took := s.Until("everybody sees the new address", time.Minute, knownAt(s, mover, to)); took > 15*time.Second {
					t.Errorf("of %d: known after %v", size, took)
				} else {
					t.Logf("of %d: known after %v", size, took)
				}
				if n := mover.Conflicts(); n > 0 {
					t.Errorf("%d conflicts with its own old address", n)
				}
				time.Sleep(90 * time.Second) // nor does the old one come back
				if !knownAt(s, mover, to)() {
					t.Error("the new address was forgotten")
				}
			}
		})
	}
}

func moveTo(i byte) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, 9, 9 + i}), 7946)
}

// knownAt says whether everybody sees everybody, and one at an address.
func knownAt(s *clustertest.Site, mover *clustertest.Node, at netip.AddrPort) func() bool {
	return func() bool {
		for _, n := range s.Nodes {
			if m, ok := n.Sees(mover.Name); !ok || m.Addr != at {
				return false
			}
		}
		return clustertest.Full(s.Nodes, len(s.Nodes))
	}
}

// The same with the goodbye lost, because the device was without a network meanwhile: for a moment, so that the others have to find out first that the old
// address is dead; or for so long that they know.
func TestAnAddressThatChangesWhileCutOff(t *testing.T) {
	for _, c := range []struct{ away, most time.Duration }{
		{2 * time.Second, 20 * time.Second},
		{6 * time.Second, 15 * time.Second},
		{20 * time.Second, 8 * time.Second},
		{2 * time.Minute, 25 * time.Second}, // it has given up everybody: the next round of rejoining
	} {
		synctest.Test(t, func(t *testing.T) {
			s := grown(t, 10, lossy(), clustertest.Sized(10))
			mover := s.Nodes[3]
			s.Isolate(mover, true)
			to := moveTo(0)
			s.Block(func(from, _ netip.Addr) bool { return from == to.Addr() })
			mover.Host.Move(to)
			time.Sleep(c.away)
			s.Block(nil)
			took := s.Until("everybody sees the new address", 3*time.Minute, knownAt(s, mover, to))
			if t.Logf("away for %v: known after %v", c.away, took); took > c.most {
				t.Errorf("away for %v: known after %v", c.away, took)
			}
		})
	}
}

// A device that was switched off for a moment gets another address with its next start, and remembers nothing of the one before.
func TestAnAddressThatChangesWithARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := grown(t, 10, lossy(), clustertest.Sized(10))
		mover := s.Nodes[3]
		s.Kill(mover)
		to := moveTo(0)
		mover.Host = s.Net.Host(to)
		time.Sleep(time.Second)
		s.Start(mover, clustertest.Sized(10))
		took := s.Until("everybody sees the new address", 3*time.Minute, knownAt(s, mover, to))
		if t.Log("known after", took); took > 25*time.Second {
			t.Errorf("known after %v", took)
		}
	})
}

// Two devices with one key, a copied card: the first stays, the second is refused, and both sides say so.
func TestANameIsTakenOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := grown(t, 5, lossy(), nil)
		twin := s.Add(func(c *cluster.Config) { c.Name = clustertest.Name(2) })
		time.Sleep(3 * time.Minute)
		for _, n := range s.Nodes[:5] {
			if m, ok := n.Sees(clustertest.Name(2)); !ok || m.Addr != clustertest.Addr(2) {
				t.Errorf("%s sees %v at %v", n.Name, ok, m.Addr)
			}
		}
		if s.Nodes[0].Conflicts()+s.Nodes[1].Conflicts() == 0 || twin.Conflicts() == 0 {
			t.Error("nobody noticed")
		}
	})
}

// After a power cut of the whole site every node finds the others by what it remembers, whatever became of the first one.
func TestASiteComesBackWithoutItsSeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := grown(t, 6, lossy(), nil)
		time.Sleep(3 * time.Minute) // what is remembered is saved once a minute
		for _, n := range s.Nodes {
			s.Kill(n)
		}
		s.Nodes = s.Nodes[1:]
		for _, n := range s.Nodes {
			s.Isolate(n, false)
			s.Start(n, func(c *cluster.Config) { c.Seeds = nil })
		}
		t.Log("whole after", s.Until("everybody sees everybody", 2*time.Minute, func() bool { return clustertest.Full(s.Nodes, 5) }))
		for _, n := range s.Nodes {
			if n.Store.Saves > 6 {
				t.Errorf("%s saved its peers %d times in minutes", n.Name, n.Store.Saves)
			}
		}
	})
}

// A store that fails costs the memory of peers, nothing else.
func TestAStoreThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := clustertest.New(t, lossy())
		s.Add(nil)
		n := s.Add(func(c *cluster.Config) { c.Store = &clustertest.Peers{Err: errors.New("read-only disk")} })
		s.Until("both see both", time.Minute, func() bool { return clustertest.Full(s.Nodes, 2) })
		time.Sleep(2 * time.Minute)
		if len(n.Members()) != 2 {
			t.Error("the member is gone")
		}
	})
}

// Who has another key, another pool's name or no permission is not a member, and a flood of his costs nothing.
func TestStrangersStayOutside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := clustertest.New(t, lossy())
		allowed := func(c *cluster.Config) {
			c.Allowed = []netip.Prefix{netip.MustParsePrefix("10.1.0.0/29")}
			c.Admission = refuse(clustertest.Name(5))
		}
		s.Grow(3, time.Second, allowed)
		s.Add(func(c *cluster.Config) { c.Keys = [][]byte{bytes.Repeat([]byte{1}, 32)} }) // 3
		s.Add(func(c *cluster.Config) { c.Cluster = "another" })                          // 4
		s.Add(nil)                                                                        // 5: revoked
		s.Grow(8, time.Second, nil)                                                       // 6 and 7
		s.Grow(9, time.Second, nil)                                                       // 8: outside the prefix
		time.Sleep(2 * time.Minute)
		var want strings.Builder
		for _, i := range []int{0, 1, 2, 6, 7} {
			want.WriteString(clustertest.Name(i) + " ")
		}
		for _, n := range s.Nodes[:3] {
			var names strings.Builder
			for _, m := range n.Members() {
				names.WriteString(m.Name + " ")
			}
			if names.String() != want.String() {
				t.Errorf("%s sees %s", n.Name, names.String())
			}
		}
	})
}

type refuse string

func (r refuse) Admit(m cluster.Member) error {
	if m.Name == string(r) {
		return errors.New("revoked")
	}
	return nil
}

type revoked struct{ name atomic.Pointer[string] }

func (r *revoked) Admit(m cluster.Member) error {
	if name := r.name.Load(); name != nil && *name == m.Name {
		return errors.New("revoked")
	}
	return nil
}

// A name belongs to a key, and who is revoked while it is a member is none from that moment on.
func TestNamesBelongToKeysAndRevocationHoldsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &revoked{}
		s := clustertest.New(t, lossy())
		checked := func(c *cluster.Config) {
			c.Admission = out
			c.Meta.Fingerprint = [16]byte([]byte(c.Name))
			c.NameOf = func(f [16]byte) string { return string(f[:]) }
		}
		s.Grow(4, time.Second, checked)
		s.Add(func(c *cluster.Config) { checked(c); c.Meta.Fingerprint[3] = 'X' })
		s.Until("the four see each other", time.Minute, func() bool { return clustertest.Full(s.Nodes[:4], 4) })
		time.Sleep(2 * time.Minute)
		if !clustertest.Full(s.Nodes[:4], 4) {
			t.Fatal("a name without its key was admitted")
		}
		name := clustertest.Name(2)
		out.name.Store(&name)
		s.Nodes[0].Recheck()
		if _, ok := s.Nodes[0].Sees(name); ok {
			t.Error("the revoked node is still a member")
		}
		time.Sleep(3 * time.Minute)
		if _, ok := s.Nodes[0].Sees(name); ok {
			t.Error("the revoked node is a member again")
		}
	})
}

// Keys change while everybody is there: first all can read the new one, then it is used, then the old one goes.
func TestKeysChangeUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := grown(t, 5, lossy(), nil)
		lost, stop := s.Losses()
		next := bytes.Repeat([]byte{9}, 32)
		for _, keys := range [][][]byte{{clustertest.Key(), next}, {next, clustertest.Key()}, {next}} {
			for _, n := range s.Nodes {
				if err := n.Rekey(keys); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(2 * time.Minute)
		}
		stop()
		if lost.Load() > 0 || !clustertest.Full(s.Nodes, 5) {
			t.Errorf("members were lost %d times", lost.Load())
		}
		s.Add(nil)
		time.Sleep(time.Minute)
		if !clustertest.Full(s.Nodes[:5], 5) {
			t.Error("somebody with the old key came in")
		}
	})
}

// Gossip in the clear is for one machine.
func TestWithoutAKeyOnlyOnLoopback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := simnet.New(1).Host(clustertest.Addr(0))
		c, err := cluster.New(cluster.Config{
			Name: "a", Cluster: "site", Listen: func() (cluster.Network, error) { return host.Listen() },
		}, discard())
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Run(t.Context()); !errors.Is(err, cluster.ErrOpen) {
			t.Fatalf("it ran: %v", err)
		}
	})
}
