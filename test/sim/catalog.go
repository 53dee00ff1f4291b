package main

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"mayfly/cluster"
	"mayfly/cluster/catalog"
	"mayfly/cluster/catalog/catalogtest"
	"mayfly/cluster/clustertest"
	"mayfly/internal/simnet"
)

// simulateCatalog lets a site of n nodes deploy, part, deploy and remove on both sides, and heal.
func simulateCatalog(t *testing.T, n int) []row {
	r := &report{n: n}
	s := catalogtest.New(t, simnet.Link{Delay: 20 * time.Millisecond, Jitter: 20 * time.Millisecond, Loss: 0.05}, n, nil)
	s.Until("everybody sees everybody", 10*time.Minute, func() bool { return clustertest.Full(s.Site.Nodes, n) })
	time.Sleep(time.Minute)

	for _, node := range s.Nodes { // what an agent has besides: small digests, whose contents do not matter here
		if err := errors.Join(node.AddState("authority", bulk(32)), node.AddState("ticks", bulk(4*16))); err != nil {
			t.Fatal(err)
		}
	}

	most, times := 10.0, 20
	if n <= 30 {
		most, times = 3, 100
	}
	var took []time.Duration
	for i := range times {
		took = append(took, deploy(s, s.Nodes[i*n/times], fmt.Sprintf("f%d", i%20), i))
	}
	slices.Sort(took)
	r.shown(fmt.Sprintf("a deployment visible everywhere, p50 of %d", times), clustertest.Quantile(took, 0.5).Seconds(), "s")
	r.at(fmt.Sprintf("a deployment visible everywhere, p95 of %d", times), clustertest.Quantile(took, 0.95).Seconds(), "s", most)
	r.shown(fmt.Sprintf("a deployment visible everywhere, the slowest of %d", times), took[times-1].Seconds(), "s")
	time.Sleep(time.Minute) // what so many changes have to say

	before, calls := s.Sent(), s.Called()
	idle := idleWindow(n)
	time.Sleep(idle)
	per := idle.Seconds() * float64(n)
	after, called := s.Sent(), s.Called()
	r.at("sent by an idle node that has a catalog", float64(after.PacketBytes+after.StreamBytes-before.PacketBytes-before.StreamBytes)/per, "B/s", idleMost(n))
	r.at("of it for catalogs that call each other", float64(called-calls)/per, "B/s", 10)

	away := 10 * time.Minute
	if n >= large {
		away = 3 * time.Minute
	}
	heal := 60.0
	if n > 30 {
		heal = 180
	}
	equal, back := part(s, away)
	r.at(fmt.Sprintf("catalogs equal after a partition of %v", away), equal.Seconds(), "s", heal)
	r.at("removed functions that came back on some node", float64(back), "", 0)
	return r.rows
}

// idleMost is what an idle node may send, in bytes a second: small sites have some to spare for more probes, and the exchange of whole
// states grows with the number of members.
func idleMost(n int) float64 {
	switch {
	case n < cluster.SmallSite:
		return 550
	case n > 300:
		return 3000
	default:
		return 400
	}
}

// bulk is a state of gossip that has nothing to say, in so many bytes.
type bulk int

// MarshalBinary implements cluster.State.
func (b bulk) MarshalBinary() ([]byte, error) { return make([]byte, b), nil }

// Merge implements cluster.State.
func (b bulk) Merge(string, []byte) error { return nil }

// Heard implements cluster.State.
func (b bulk) Heard(string, []byte) (bool, error) { return false, nil }

// deploy returns how long it takes until all nodes have a function.
func deploy(s *catalogtest.Site, from *catalogtest.Node, name string, variant int) time.Duration {
	began := time.Now()
	version := s.Deploy(from, name, variant)
	s.Until(name+" is everywhere", 5*time.Minute, func() bool { return s.Visible(name, version) })
	return time.Since(began)
}

// part lets both halves of a site deploy and remove without each other, heals it, and returns how long it took until all were equal, and on
// how many nodes something that was removed was seen in the ten minutes after.
func part(s *catalogtest.Site, away time.Duration) (equal time.Duration, back int) {
	one, two := s.Nodes[0], s.Nodes[len(s.Nodes)-1]
	for i := range 10 {
		s.Deploy(one, fmt.Sprintf("old%d", i), 0)
	}
	s.Until("the same everywhere", 10*time.Minute, s.Equal)
	s.Halves()
	time.Sleep(away / 2)
	for i := range 5 {
		s.Remove(one, fmt.Sprintf("old%d", i))
		s.Remove(two, fmt.Sprintf("old%d", i+3))
		s.Deploy(one, fmt.Sprintf("one%d", i), 0)
		s.Deploy(two, fmt.Sprintf("two%d", i), 0)
	}
	s.Deploy(one, "both", 1)
	s.Deploy(two, "both", 2)
	time.Sleep(away / 2)
	s.Split(nil)
	equal = s.Until("the same everywhere again", 10*time.Minute, s.Equal)
	for range 10 {
		for _, n := range s.Nodes {
			for i := range 8 {
				if _, ok := n.Catalog.Snapshot().Record(catalog.KindFunction, fmt.Sprintf("old%d", i)); ok {
					back++
				}
			}
		}
		time.Sleep(time.Minute)
	}
	return equal, back
}
