package cluster_test

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"mayfly/cluster"
	"mayfly/cluster/clustertest"
	"mayfly/internal/simnet"
)

// lossy is a bad day on a radio link.
func lossy() simnet.Link {
	return simnet.Link{Delay: 20 * time.Millisecond, Jitter: 20 * time.Millisecond, Loss: 0.05}
}

// grown is a site of n members that see each other.
func grown(t *testing.T, n int, link simnet.Link, change func(*cluster.Config)) *clustertest.Site {
	t.Helper()
	s := clustertest.New(t, link)
	s.Grow(n, 50*time.Millisecond, change)
	took := s.Until("everybody sees everybody", 3*time.Minute, func() bool { return clustertest.Full(s.Nodes, n) })
	t.Logf("%d nodes formed %v after the last came", n, took)
	return s
}

func TestThirtyFormSpreadDieAndHeal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := grown(t, 30, lossy(), nil)
		time.Sleep(time.Minute) // what the coming of so many has to say
		all := s.Rumoured()
		took := s.Spread(all, 10, 200, 30*time.Second)
		t.Logf("spread: p50 %v, p99 %v, last %v", clustertest.Quantile(took, 0.5), clustertest.Quantile(took, 0.99), took[len(took)-1])
		if p99 := clustertest.Quantile(took, 0.99); p99 > 4*time.Second {
			t.Errorf("an announcement takes %v to 99 of 100 members", p99)
		}
		healed := s.Heal(10*time.Minute, time.Minute)
		t.Logf("healed %v after a partition of 10 minutes", healed)
		first, last := s.Death(90 * time.Second)
		t.Logf("a death is known to the first after %v, to all after %v", first, last)
	})
}

func TestHundredFormSpreadAndDie(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := grown(t, 100, lossy(), nil)
		time.Sleep(time.Minute) // what the coming of so many has to say
		all := s.Rumoured()
		took := s.Spread(all, 3, 200, 30*time.Second)
		t.Logf("spread: p50 %v, p99 %v, last %v", clustertest.Quantile(took, 0.5), clustertest.Quantile(took, 0.99), took[len(took)-1])
		if p99 := clustertest.Quantile(took, 0.99); p99 > 5*time.Second {
			t.Errorf("an announcement takes %v to 99 of 100 members", p99)
		}
		first, last := s.Death(2 * time.Minute)
		t.Logf("a death is known to the first after %v, to all after %v", first, last)
		packets, streams := s.Idle(30 * time.Second)
		t.Logf("idle: %.0f + %.0f B/s a node", packets, streams)
		if packets+streams > 600 {
			t.Errorf("an idle node sends %.0f B/s", packets+streams)
		}
	})
}

func TestNobodyIsThoughtDeadOnALossyLink(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := grown(t, 30, lossy(), nil)
		lost, stop := s.Losses()
		time.Sleep(10 * time.Minute)
		stop()
		if lost.Load() > 0 {
			t.Errorf("%d times a member lost sight of another", lost.Load())
		}
		if !clustertest.Full(s.Nodes, 30) {
			t.Error("not everybody sees everybody")
		}
	})
}

// A node that can send but hears nothing is no member worth having: it must not stay in the others' view half of the time, and
// must be back when the link is whole.
func TestOneWayLossEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := grown(t, 10, lossy(), nil)
		deaf := s.Nodes[4]
		s.Block(func(_, to netip.Addr) bool { return to == deaf.Host.Addr().Addr() })
		s.Until("the deaf node is given up", 2*time.Minute, func() bool {
			_, seen := s.Nodes[0].Sees(deaf.Name)
			return !seen
		})
		s.Block(nil)
		t.Log("back after", s.Until("everybody sees everybody again", time.Minute, func() bool { return clustertest.Full(s.Nodes, 10) }))
	})
}

// Whoever asks leaves at once, and the word of it travels like an announcement.
func TestGoodbyeAndDrainAreQuick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := grown(t, 30, lossy(), nil)
		drained := s.Nodes[7]
		drained.UpdateMeta(func(m *cluster.Meta) { m.Slots = 2 }) // uses up the quick turn
		time.Sleep(time.Second)
		drained.Drain(true)
		took := s.Until("everybody knows of the drain", 10*time.Second, func() bool {
			for _, n := range s.Nodes {
				if m, ok := n.Sees(drained.Name); !ok || !m.Meta.Draining || m.Meta.Slots != 2 {
					return false
				}
			}
			return true
		})
		t.Log("drain known after", took)
		began := time.Now()
		go drained.Leave()
		s.Nodes = append(s.Nodes[:7:7], s.Nodes[8:]...)
		s.Until("everybody knows of the goodbye", 10*time.Second, func() bool { return clustertest.Full(s.Nodes, 29) })
		t.Log("goodbye known after", time.Since(began))
		drained.Leave()
	})
}
