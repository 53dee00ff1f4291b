package catalog_test

import (
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"mayfly/cluster/catalog"
	"mayfly/cluster/catalog/catalogtest"
	"mayfly/cluster/clustertest"
	"mayfly/internal/simnet"
)

func lossy() simnet.Link {
	return simnet.Link{Delay: 20 * time.Millisecond, Jitter: 20 * time.Millisecond, Loss: 0.05}
}

// A deployment is visible on all of 30 nodes within three seconds, on all of 100 within five, but for one now and then whose packets were
// lost twice; and the node it was made on knows that.
func TestDeployIsVisibleEverywhere(t *testing.T) {
	for _, c := range []struct {
		nodes, times int
		most         time.Duration
	}{{30, 12, 3 * time.Second}, {100, 4, 5 * time.Second}} {
		t.Run(fmt.Sprint(c.nodes), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { deploys(t, c.nodes, c.times, c.most) })
		})
	}
}

func deploys(t *testing.T, nodes, times int, most time.Duration) {
	s := catalogtest.New(t, lossy(), nodes, nil)
	s.Until("everybody sees everybody", 2*time.Minute, func() bool { return clustertest.Full(s.Site.Nodes, nodes) })
	time.Sleep(time.Minute)
	var took []time.Duration
	for i := range times {
		name := fmt.Sprintf("f%d", i)
		from := s.Nodes[7*i%nodes]
		version := s.Deploy(from, name, i)
		took = append(took, s.Until(name, 10*time.Second, func() bool { return s.Visible(name, version) }))
		var others []string
		for _, n := range s.Nodes {
			if n != from {
				others = append(others, n.Name)
			}
		}
		s.Until("known to be there", 10*time.Second, func() bool { // links lose packets: a call may have no answer
			return len(from.Replica.Spread(t.Context(), catalog.KindFunction, name, version, others).Have) == nodes-1
		})
	}
	slices.Sort(took)
	if t.Log("visible after", took); took[times*3/4-1] > most {
		t.Errorf("a quarter of the deployments took longer than %v to be visible on %d nodes", most, nodes)
	}
	s.Until("digests", 3*time.Minute, s.Equal)
}

// Both sides of a partition take deployments and removals; afterwards all nodes hold the same, and what was removed stays away.
func TestPartitionHeals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := catalogtest.New(t, lossy(), 30, nil)
		s.Until("everybody sees everybody", 2*time.Minute, func() bool { return clustertest.Full(s.Site.Nodes, 30) })
		one, two := s.Nodes[1], s.Nodes[29]
		for i := range 20 {
			s.Deploy(one, fmt.Sprintf("old%d", i), 0)
		}
		s.Until("the same everywhere", time.Minute, s.Equal)
		s.Halves()
		time.Sleep(time.Minute)
		for i := range 10 {
			s.Remove(one, fmt.Sprintf("old%d", i))
			s.Deploy(one, fmt.Sprintf("one%d", i), 1)
			s.Remove(two, fmt.Sprintf("old%d", i+5))
			s.Deploy(two, fmt.Sprintf("two%d", i), 2)
		}
		s.Deploy(one, "both", 1)
		s.Deploy(two, "both", 2)
		time.Sleep(9 * time.Minute)
		s.Split(nil)
		took := s.Until("the same everywhere again", 5*time.Minute, s.Equal)
		if t.Log("equal after", took); took > time.Minute {
			t.Errorf("it took %v", took)
		}
		for range 5 {
			for _, n := range s.Nodes {
				for i := range 15 {
					if _, ok := n.Catalog.Get(fmt.Sprintf("old%d", i)); ok {
						t.Fatalf("old%d came back on %s", i, n.Name)
					}
				}
				if len(n.Catalog.List()) != 5+10+10+1 {
					t.Fatalf("%s has %d functions", n.Name, len(n.Catalog.List()))
				}
			}
			time.Sleep(time.Minute)
		}
		if c := one.Catalog.Snapshot().Conflicts(); len(c) != 1 || c[0].Lost.Key != "both" {
			t.Errorf("conflicts %+v", c)
		}
	})
}

// A node that was away catches up as soon as it is back, though the others were told long ago.
func TestWhoWasAwayCatchesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := catalogtest.New(t, lossy(), 8, nil)
		s.Until("everybody sees everybody", 2*time.Minute, func() bool { return clustertest.Full(s.Site.Nodes, 8) })
		away := s.Nodes[5]
		s.Isolate(away.Node, true)
		time.Sleep(time.Minute)
		for i := range 60 {
			s.Deploy(s.Nodes[i%5], fmt.Sprintf("f%d", i), 0)
		}
		s.Deploy(away, "alone", 0)
		time.Sleep(5 * time.Minute)
		s.Isolate(away.Node, false)
		if took := s.Until("the same everywhere", 3*time.Minute, s.Equal); took > time.Minute {
			t.Errorf("it took %v", took)
		}
		if n := len(away.Catalog.List()); n != 61 {
			t.Errorf("it has %d functions", n)
		}
		for _, p := range away.Replica.Status().Peers {
			if p.Stale {
				t.Errorf("%+v", p)
			}
		}
	})
}

// What an operator was told is on the disk at that moment, and what a power cut would leave on any node can be read [C1].
func TestWhatWasAnsweredIsOnTheDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := catalogtest.New(t, lossy(), 5, nil)
		s.Until("everybody sees everybody", 2*time.Minute, func() bool { return clustertest.Full(s.Site.Nodes, 5) })
		for i := range 10 {
			s.Deploy(s.Nodes[i%5], fmt.Sprintf("f%d", i), 0)
			time.Sleep(time.Duration(3*i) * time.Millisecond)
			victim := s.Nodes[(i+1)%5].Disk.Copy() // what a power cut would leave
			c, err := catalog.Open(victim, catalog.Options{Node: "x", Now: time.Now, Log: slog.New(slog.DiscardHandler)})
			if err != nil || len(c.Snapshot().Damaged()) != 0 {
				t.Fatal(err)
			}
			own := s.Nodes[i%5].Disk.Copy()
			if c, err = catalog.Open(own, catalog.Options{Node: "x", Now: time.Now, Log: slog.New(slog.DiscardHandler)}); err != nil {
				t.Fatal(err)
			}
			if _, ok := c.Get(fmt.Sprintf("f%d", i)); !ok {
				t.Errorf("f%d was answered and is not on the disk", i)
			}
		}
		s.Until("the same everywhere", time.Minute, s.Equal)
	})
}
