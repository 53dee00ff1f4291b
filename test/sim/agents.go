package main

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"mayfly/cluster/clustertest"
	"mayfly/internal/simnet"
	"mayfly/internal/testcluster"
)

// agentsMost is the largest site of whole agents that is simulated: each has a store on disk, sessions at the broker and TLS to the others.
const agentsMost = 100

const aFunction = `manifest = 1
name = %q
[module]
path = "a.wasm"
[config]
variant = %d
[permissions]
publish = ["out/#"]
`

// simulateAgents lets n whole agents deploy, lose the owner of a trigger, part, deploy and remove meanwhile, and heal.
func simulateAgents(t *testing.T, n int) []row {
	r := &report{n: n}
	s := testcluster.New(t, testcluster.Disk(t), simnet.Link{Delay: 20 * time.Millisecond, Jitter: 20 * time.Millisecond, Loss: 0.05})
	s.Guests["echo"] = testcluster.Echo(5 * time.Millisecond)
	s.Grow(n, 100*time.Millisecond)
	r.at("agents: everybody sees everybody after the last came", s.Until("everybody sees everybody", 10*time.Minute, s.Whole).Seconds(), "s", 120)
	time.Sleep(settled(n))

	most, heal := 3.0, 60.0
	if n > 30 {
		most, heal = 10, 180
	}
	var took []time.Duration
	for i := range 40 {
		took = append(took, deployed(s, "f", fmt.Sprintf(aFunction, "f", i)))
	}
	slices.Sort(took)
	r.shown("agents: a deployment known everywhere, p50 of 40", clustertest.Quantile(took, 0.5).Seconds(), "s")
	r.at("agents: a deployment known everywhere, p95 of 40", clustertest.Quantile(took, 0.95).Seconds(), "s", most)

	takeovers(r, s)

	deployed(s, "old", fmt.Sprintf(aFunction, "old", 0))
	s.Split(func(i int) int { return i % 2 })
	time.Sleep(5 * time.Minute)
	s.Nodes[0].Remove("old")
	version := s.Nodes[0].Deploy(fmt.Sprintf(aFunction, "new", 0), "echo")
	time.Sleep(5 * time.Minute)
	s.Split(nil)
	equal := func() bool { return s.Whole() && s.Everywhere("new", version) && s.Nowhere("old") }
	r.at("agents: whole again, one catalog, after a partition of 10m", s.Until("all know the same", 10*time.Minute, equal).Seconds(), "s", heal)
	back := 0
	for range 60 {
		time.Sleep(10 * time.Second)
		if !s.Nowhere("old") {
			back++
		}
	}
	r.at("agents: looks in ten minutes that found a removed function", float64(back), "", 0)
	return r.rows
}

// deployed returns how long it takes until all agents know of a deployment.
func deployed(s *testcluster.Site, name, manifest string) time.Duration {
	began := time.Now()
	version := s.Nodes[0].Deploy(manifest, "echo") // the founder has the operator's key
	s.Until(name+" is everywhere", 5*time.Minute, func() bool { return s.Everywhere(name, version) })
	return time.Since(began)
}

// takeovers kills the owner of a trigger nine times while a device publishes fifty numbers a second.
func takeovers(r *report, s *testcluster.Site) {
	deployed(s, "echo", fmt.Sprintf(aFunction, "echo", 0)+"[[trigger.mqtt]]\ntopic = \"in/a\"\nqos = 1\n")
	time.Sleep(90 * time.Second) // until the nodes are said to have a good connection to the broker
	f := s.Flow("in/a", "out/in/a", 20*time.Millisecond)
	s.Until("results come", time.Minute, func() bool { return f.Owner() != "" })
	var took []time.Duration
	for range 9 {
		took = append(took, s.KillOwner(f))
	}
	f.Stop()
	time.Sleep(time.Minute)
	slices.Sort(took)
	confirmed, again := f.Count()
	r.shown("agents: after an owner's death the next result, p50 of 9", clustertest.Quantile(took, 0.5).Seconds(), "s")
	r.shown("agents: after an owner's death the next result, the slowest of 9", took[len(took)-1].Seconds(), "s")
	r.at(fmt.Sprintf("agents: events lost of %d in 9 takeovers", confirmed), float64(len(f.Missing())), "", 0)
	r.shown("agents: results that came twice", float64(again), "")
}
