package clustertest

import (
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"mayfly/cluster"
)

// Rumoured gives every member that is started with it a Rumours under the key "rumours", in the order they are added.
func (s *Site) Rumoured() (all []*Rumours) {
	for _, n := range s.Nodes {
		r := &Rumours{}
		if err := n.AddState("rumours", r); err != nil {
			s.t.Fatal(err)
		}
		all = append(all, r)
	}
	return all
}

// Spread lets every step-th node announce size bytes, one after the other, and returns the times at which the other nodes heard, sorted. A
// node that has not heard after limit counts as limit.
func (s *Site) Spread(all []*Rumours, times, size int, limit time.Duration) []time.Duration {
	var took []time.Duration
	for i := range times {
		from := i * len(s.Nodes) / times
		text := fmt.Sprintf("%0*d", size, time.Now().UnixNano())
		began := time.Now()
		if err := s.Nodes[from].Announce("rumours", []byte(text)); err != nil {
			s.t.Fatal(err)
		}
		heard := func() bool {
			for j, r := range all {
				if _, ok := r.Has(text); !ok && j != from {
					return false
				}
			}
			return true
		}
		for !heard() && time.Since(began) < limit {
			time.Sleep(step)
		}
		for j, r := range all {
			if j == from {
				continue
			}
			at, ok := r.Has(text)
			if !ok {
				at = began.Add(limit)
			}
			took = append(took, at.Sub(began))
		}
	}
	slices.Sort(took)
	return took
}

// Quantile returns the q-th of sorted times.
func Quantile(sorted []time.Duration, q float64) time.Duration {
	return sorted[int(q*float64(len(sorted)-1))]
}

// Losses follows all nodes and counts how often one of them loses sight of a member, until stop is called.
func (s *Site) Losses() (count *atomic.Int64, stop func()) {
	count = new(atomic.Int64)
	end := make(chan struct{})
	done := make(chan struct{}, len(s.Nodes))
	for _, n := range s.Nodes {
		go func() {
			defer func() { done <- struct{}{} }()
			before := len(n.Members())
			for {
				changed := n.Watch()
				now := len(n.Members())
				count.Add(int64(max(0, before-now)))
				before = now
				select {
				case <-changed:
				case <-end:
					return
				}
			}
		}()
	}
	return count, func() {
		close(end)
		for range s.Nodes {
			<-done
		}
	}
}

// Idle returns the payload bytes each node sends per second while nothing happens for d, in packets and in streams.
func (s *Site) Idle(d time.Duration) (packets, streams float64) {
	before := s.Sent()
	time.Sleep(d)
	after := s.Sent()
	per := d.Seconds() * float64(len(s.Nodes))
	return float64(after.PacketBytes-before.PacketBytes) / per, float64(after.StreamBytes-before.StreamBytes) / per
}

// Death kills the last node and returns when the first and the last of the others knew.
func (s *Site) Death(limit time.Duration) (first, all time.Duration) {
	victim := s.Nodes[len(s.Nodes)-1]
	rest := s.Nodes[:len(s.Nodes)-1]
	began := time.Now()
	s.Kill(victim)
	s.Nodes = rest
	knows := func(n *Node) bool {
		_, ok := n.Sees(victim.Name)
		return !ok
	}
	s.Until("somebody knows of the death", limit, func() bool { return slices.ContainsFunc(rest, knows) })
	first = time.Since(began)
	s.Until("everybody knows of the death", limit, func() bool {
		return !slices.ContainsFunc(rest, func(n *Node) bool { return !knows(n) })
	})
	return first, time.Since(began)
}

// Heal parts the site into two halves for d, heals it and returns how long it took until everybody saw everybody.
func (s *Site) Heal(d, limit time.Duration) time.Duration {
	n := len(s.Nodes)
	half := map[netip.Addr]bool{}
	for _, node := range s.Nodes[:n/2] {
		half[node.Host.Addr().Addr()] = true
	}
	s.Split(func(a netip.Addr) int {
		if half[a] {
			return 1
		}
		return 2
	})
	time.Sleep(d)
	if Full(s.Nodes[:1], n) {
		s.t.Fatal("the halves did not lose sight of each other: the test shows nothing")
	}
	s.Split(nil)
	return s.Until("everybody sees everybody again", limit, func() bool { return Full(s.Nodes, n) })
}

// Meta describes the device all simulated members are.
func Meta() cluster.Meta {
	return cluster.Meta{Arch: cluster.ArchARM64, OS: cluster.OSLinux, Slots: 4, Speed: 16, Memory: 10, Port: 7947}
}
