package cluster_test

import (
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"mayfly/cluster"
	"mayfly/cluster/clustertest"
	"mayfly/internal/simnet"
)

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// What does not fit into a packet would sit in a queue for ever; it goes over streams instead and reaches everybody too.
func TestALargeAnnouncementArrives(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := grown(t, 30, lossy(), nil)
		time.Sleep(time.Minute)
		all := s.Rumoured()
		for _, size := range []int{600, 5_000, 60_000} {
			took := s.Spread(all, 2, size, 40*time.Second)
			t.Logf("%d bytes: p50 %v, last %v", size, clustertest.Quantile(took, 0.5), took[len(took)-1])
			if took[len(took)-1] >= 40*time.Second && size < 5_000 {
				t.Errorf("%d bytes did not reach everybody", size)
			}
			if p95 := clustertest.Quantile(took, 0.95); size >= 5_000 && p95 >= 20*time.Second {
				t.Errorf("%d bytes took %v to 95 of 100", size, p95)
			}
		}
		if err := s.Nodes[0].Announce("rumours", make([]byte, 65<<10)); err == nil {
			t.Error("65 KiB were taken")
		}
		if err := s.Nodes[0].Announce("nobody's", []byte("x")); err == nil {
			t.Error("an announcement of no state was taken")
		}
	})
}

// Who was away when something was announced learns it from the digests.
func TestDigestsReachWhoWasAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := grown(t, 6, lossy(), nil)
		all := s.Rumoured()
		away := s.Nodes[5]
		s.Isolate(away, true)
		time.Sleep(time.Minute)
		if err := s.Nodes[0].Announce("rumours", []byte("news")); err != nil {
			t.Fatal(err)
		}
		if _, err := all[0].Heard("", []byte("news")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		s.Isolate(away, false)
		t.Log("known after", s.Until("the news", 2*time.Minute, func() bool { _, ok := all[5].Has("news"); return ok }))
	})
}

// Right after a partition a node gossips to the dead as well, so that they can say that they live; what it announces must not be used up on
// them. The two of five that are left hear of everything at once.
func TestAnAnnouncementIsNotLostOnTheDead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := grown(t, 5, simnet.Link{Delay: time.Millisecond}, clustertest.Sized(5))
		all := s.Rumoured()
		s.Split(func(a netip.Addr) int {
			if a == s.Nodes[0].Host.Addr().Addr() || a == s.Nodes[1].Host.Addr().Addr() {
				return 1
			}
			return 2
		})
		s.Until("the two are alone", time.Minute, func() bool { return clustertest.Full(s.Nodes[:2], 2) })
		const n = 100
		for i := range n {
			if err := s.Nodes[0].Announce("rumours", fmt.Append(nil, i)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(200 * time.Millisecond)
		}
		missed := 0
		for i := range n {
			if _, ok := all[1].Has(fmt.Sprint(i)); !ok {
				missed++
			}
		}
		if missed > 0 {
			t.Errorf("%d of %d announcements did not reach the only other member", missed, n)
		}
	})
}

// Loads come with answers to probes, and at once when their level changes; not more often than every half minute.
func TestLoadsAreKnown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := grown(t, 10, lossy(), nil)
		time.Sleep(time.Minute)
		busy := s.Nodes[6]
		want := cluster.Load{Queued: 9, Running: 4, CPU: 7, Memory: 3, Battery: 7, Modules: 0xF00D}
		known := func(queued uint16) func() bool {
			return func() bool {
				for _, n := range s.Nodes {
					if l, _, _, ok := n.Load(busy.Name); !ok || l.Queued != queued || l.Modules != want.Modules {
						return false
					}
				}
				return true
			}
		}
		busy.SetLoad(want)
		if took := s.Until("the load", 10*time.Second, known(9)); took > 5*time.Second {
			t.Errorf("a load took %v", took)
		}
		before := busy.Host.Traffic().PacketBytes
		for i := range 3000 { // a level change every 10 ms
			want.Queued = uint16(1 + 400*(i%2))
			busy.SetLoad(want)
			time.Sleep(10 * time.Millisecond)
		}
		if sent := float64(busy.Host.Traffic().PacketBytes-before) / 30; sent > 600 {
			t.Errorf("a nervous node sends %.0f B/s", sent)
		}
		want.Queued = 77
		busy.SetLoad(want)
		s.Until("the last load", 40*time.Second, known(77))
		if _, age, rtt, _ := s.Nodes[0].Load(s.Nodes[1].Name); age > time.Minute || rtt == 0 || rtt > time.Second {
			t.Errorf("age %v, round trip %v", age, rtt)
		}
	})
}

// Descriptions are gossiped to everybody, so they wait for each other.
func TestDescriptionsDoNotChangeTooOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := grown(t, 5, lossy(), nil)
		time.Sleep(30 * time.Second)
		n, other := s.Nodes[1], s.Nodes[2]
		seen := map[uint16]bool{}
		for i := range 600 {
			n.UpdateMeta(func(m *cluster.Meta) { m.Slots = uint16(100 + i) })
			time.Sleep(100 * time.Millisecond)
			m, _ := other.Sees(n.Name)
			seen[m.Meta.Slots] = true
		}
		if len(seen) > 9 {
			t.Errorf("%d descriptions in a minute", len(seen))
		}
		s.Until("the last one", 20*time.Second, func() bool { m, _ := other.Sees(n.Name); return m.Meta.Slots == 699 })
	})
}

// Over real sockets, and nothing is left running.
func TestThreeNodesOnLoopback(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	first := freePort(t)
	var stops []func()
	var nodes []*cluster.Cluster
	for i := range 3 {
		bind := netip.MustParseAddrPort("127.0.0.1:0")
		if i == 0 {
			bind = first
		}
		config := cluster.Config{
			Name: clustertest.Name(i), Cluster: "site", Meta: clustertest.Meta(),
			Listen: func() (cluster.Network, error) { return cluster.ListenUDP(bind, netip.Addr{}) },
		}
		if i > 0 {
			config.Seeds = []cluster.Peer{{Name: clustertest.Name(0), Addr: strings.Replace(first.String(), "127.0.0.1", "localhost", 1)}}
		}
		c, stop := running(t, config)
		nodes, stops = append(nodes, c), append(stops, stop)
	}
	deadline := time.After(20 * time.Second)
	for _, c := range nodes {
		for {
			changed := c.Watch()
			if len(c.Members()) == 3 {
				break
			}
			select {
			case <-changed:
			case <-deadline:
				t.Fatalf("only %d members", len(c.Members()))
			}
		}
	}
	for _, stop := range stops {
		stop()
	}
	if tr := nodes[0].Traffic(); tr.PacketBytesIn == 0 || tr.StreamBytesIn == 0 || tr.PacketBytesOut == 0 || tr.PacketsOversize > 0 {
		t.Errorf("traffic: %+v", tr)
	}
}
