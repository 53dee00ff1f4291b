package main

import (
	"fmt"
	"time"

	"mayfly/agent/placement"
)

// Three policies for the model: what agent/placement decides, driven as dispatch drives it; everything where it arrives; and the
// obvious rule, the node that gossip says is least loaded.

// recommended is agent/placement's.
func recommended(m *model, c *modelCall) {
	n := c.owner
	if n.running < n.slots && len(n.queue) == 0 {
		m.enqueue(n, c)
		return
	}
	choice := placement.Choose(m.query(c))
	if choice.Here {
		m.enqueue(n, c)
		return
	}
	m.send(c, choice.Node, false)
}

// query is what is asked about c at its owner.
func (m *model) query(c *modelCall) *placement.Query {
	n := c.owner
	for _, place := range n.rings[c.f].Members {
		p := &n.view.Self
		if place != placement.Here {
			p = &n.view.Peers[place]
		}
		if p.Cold = 0; !m.ids[p.ID].has(c.f) {
			p.Cold = m.cold
		}
	}
	return &placement.Query{
		Function: m.functions[c.f], View: &n.view, Ring: &n.rings[c.f], Exec: modelWork, Home: n.load(),
		Sent: func(id string) int { return n.sent[id] }, Rand: m.rng.IntN,
	}
}

// send has a peer run c. It refuses when as many wait as run there; then all of the ring are asked, and the best of them, or the
// owner, has it.
func (m *model) send(c *modelCall, to string, asked bool) {
	n, there := c.owner, m.ids[to]
	m.away++
	n.sent[to]++
	m.after(modelRTT/2, func() {
		if there.load().Full() {
			m.refused++
			m.after(modelRTT/2, func() {
				n.sent[to]--
				m.heard(n, to)
				if asked {
					m.enqueue(n, c)
				} else {
					m.probe(c)
				}
			})
			return
		}
		c.done = func() {
			m.after(modelRTT/2, func() {
				n.sent[to]--
				m.heard(n, to)
				m.over(c)
			})
		}
		m.enqueue(there, c)
	})
}

// heard takes the load that came with an answer. It is half a round trip old; that is left out.
func (m *model) heard(n *modelNode, from string) {
	for i := range n.view.Peers {
		if n.view.Peers[i].ID == from {
			m.note(&n.view.Peers[i])
		}
	}
}

// probe asks everybody c's function belongs to.
func (m *model) probe(c *modelCall) {
	n := c.owner
	ring := n.rings[c.f].Members
	answers := make([]placement.Answer, len(ring))
	m.after(modelRTT/2, func() {
		for i, place := range ring {
			if place != placement.Here {
				answers[i] = placement.Answer{Load: m.ids[n.view.Peers[place].ID].load(), OK: true}
			}
		}
		m.after(modelRTT/2, func() {
			choice := placement.Reconsider(m.query(c), answers)
			if choice.Here {
				m.enqueue(n, c)
				return
			}
			m.send(c, choice.Node, true)
		})
	})
}

// localOnly runs everything where it arrives.
func localOnly(m *model, c *modelCall) { m.enqueue(c.owner, c) }

// leastLoaded takes gossip at its word.
func leastLoaded(m *model, c *modelCall) {
	n := c.owner
	n.view.Self.Running, n.view.Self.Queued = n.running, len(n.queue)
	best := &n.view.Self
	for i := range n.view.Peers {
		p := &n.view.Peers[i]
		if placement.Estimate(p, modelWork).Total() < placement.Estimate(best, modelWork).Total() {
			best = p
		}
	}
	if best == &n.view.Self {
		m.enqueue(n, c)
		return
	}
	m.away++
	there := m.ids[best.ID]
	c.done = func() { m.after(modelRTT/2, func() { m.over(c) }) }
	m.after(modelRTT/2, func() { m.enqueue(there, c) })
}

// When the rule was chosen it had 83 ms in another program of this model, 113 ms with cold starts of 150 ms. It may have 1.2 of that,
// whatever the age of gossip.
const (
	placementMost     = 1.2 * 83
	placementMostCold = 1.2 * 113
)

// placements compares the policies and returns the figures.
func placements() []row {
	began := time.Now()
	r := &report{n: modelNodes}
	r.note("local only", simulateLoad(setting{localOnly, time.Second, 0, modelTime, 1}))
	for _, age := range []time.Duration{200 * time.Millisecond, 2 * time.Second, 10 * time.Second} {
		gossiped := simulateLoad(setting{leastLoaded, age, 0, modelTime, 1})
		r.note(fmt.Sprintf("least loaded by gossip, %v old", age), gossiped)
		ours := simulateLoad(setting{recommended, age, 0, modelTime, 1})
		name := fmt.Sprintf("placement, gossip %v old", age)
		r.note(name, ours)
		r.at(name+", p99", ours.quantile(0.99), "ms", placementMost)
		r.times(name+", p99 of least loaded over its", gossiped.quantile(0.99), ours.quantile(0.99), age)
		cold := simulateLoad(setting{recommended, age, 150 * time.Millisecond, modelTime, 1})
		name += ", cold start 150ms"
		r.note(name, cold)
		r.at(name+", p99", cold.quantile(0.99), "ms", placementMostCold)
	}
	fmt.Printf("placement took %v of real time\n", time.Since(began).Round(time.Second))
	return r.rows
}

// note prints what a run showed beyond the figures that are kept.
func (r *report) note(name string, m *model) {
	share := func(n int) float64 { return 100 * float64(n) / float64(m.calls) }
	fmt.Printf("%-60s p50 %.0f ms, p99 %.0f ms; %d calls, %.0f %% away, %.1f %% refused, %.1f %% cold\n",
		fmt.Sprintf("%d nodes: %s", r.n, name), m.quantile(0.5), m.quantile(0.99), m.calls, share(m.away), share(m.refused), share(m.colds))
}

// times keeps how many times as long the other one takes; the target is for gossip of 10 s.
func (r *report) times(name string, other, ours float64, age time.Duration) {
	f := row{Name: fmt.Sprintf("%d nodes: %s", r.n, name), Value: ours, Unit: "ms", Baseline: other, Ratio: other / ours, Target: "no target", OK: true}
	if age == 10*time.Second {
		f.Target, f.OK = "ratio at least 10", f.Ratio >= 10
	}
	fmt.Printf("%-60s %10.1f      %-14s %v\n", f.Name, f.Ratio, f.Target, f.OK)
	r.rows = append(r.rows, f)
}
