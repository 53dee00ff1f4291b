package main

import (
	"container/heap"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"mayfly/agent/placement"
	"mayfly/function"
)

// The load of placement: a model of 50 nodes in virtual time. Ten gateways run four calls at once at twice the speed, forty devices
// two; 40 functions of 20 ms of work, exponentially distributed, have owners by Zipf's law, so that a few nodes get most events; a
// call to another node and back takes 10 ms; each node keeps ten modules. The load is 0.6 of what all nodes do together.
const (
	modelGateways = 10
	modelNodes    = 50
	modelFuncs    = 40
	modelModules  = 10
	modelWork     = 20 * time.Millisecond
	modelRTT      = 10 * time.Millisecond
	modelLoad     = 0.6
	modelTime     = 120 * time.Second
	modelWarm     = 10 * time.Second // what arrives before is not counted
)

// modelCall is one event on its way through one function.
type modelCall struct {
	f     int
	owner *modelNode
	at    time.Duration // arrived
	work  time.Duration // on a node of speed 1
	done  func()        // when it ran, at the node where it ran; nil = nothing more
}

// modelNode is one node as it is, not as others take it to be.
type modelNode struct {
	id      string
	slots   int
	speed   float64
	running int
	queue   []*modelCall
	modules []int // used last at the end

	view  placement.View // how it takes the others to be
	rings []placement.Ring
	sent  map[string]int
}

func (n *modelNode) load() placement.Load {
	return placement.Load{Running: n.running, Queued: len(n.queue), Slots: n.slots}
}

// moment is something that happens.
type moment struct {
	at time.Duration
	do func()
}

type moments []moment

func (q moments) Len() int           { return len(q) }
func (q moments) Less(i, j int) bool { return q[i].at < q[j].at }
func (q moments) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }

// Push is for container/heap.
func (q *moments) Push(x any) { *q = append(*q, x.(moment)) }

// Pop is for container/heap.
func (q *moments) Pop() any {
	old := *q
	x := old[len(old)-1]
	old[len(old)-1] = moment{}
	*q = old[:len(old)-1]
	return x
}

// setting is what a run of the model is about.
type setting struct {
	policy func(*model, *modelCall)
	age    time.Duration // of what gossip says, at most
	cold   time.Duration // what a module that is not kept takes
	lasts  time.Duration // events arrive for so long
	seed   uint64
}

// model is the site.
type model struct {
	setting
	now       time.Duration
	next      moments
	rng       *rand.Rand
	nodes     []*modelNode
	ids       map[string]*modelNode
	functions []*function.Function
	took      []time.Duration
	calls     int
	colds     int
	away      int
	refused   int
}

// simulateLoad runs the model until everything that arrived is done.
func simulateLoad(s setting) *model {
	m := &model{setting: s, rng: rand.New(rand.NewPCG(s.seed, 2)), ids: map[string]*modelNode{}}
	m.build()
	m.arrivals()
	m.gossip()
	for len(m.next) > 0 {
		x := heap.Pop(&m.next).(moment)
		m.now = x.at
		x.do()
	}
	slices.Sort(m.took)
	return m
}

func (m *model) build() {
	for i := range modelFuncs {
		m.functions = append(m.functions, &function.Function{Manifest: function.Manifest{Name: "f" + strconv.Itoa(i)}})
	}
	var all []placement.Node
	for i := range modelNodes {
		n := &modelNode{id: fmt.Sprintf("node-%02d", i), slots: 2, speed: 1, sent: map[string]int{}}
		if i < modelGateways {
			n.slots, n.speed = 4, 2
		}
		m.nodes, m.ids[n.id] = append(m.nodes, n), n
		all = append(all, placement.Node{ID: n.id, Slots: n.slots, Speed: n.speed, RTT: modelRTT})
	}
	for i, n := range m.nodes {
		n.view = placement.View{Self: all[i], Peers: slices.Delete(slices.Clone(all), i, i+1), Epoch: 1}
		n.view.Self.RTT = 0
		for _, f := range m.functions {
			n.rings = append(n.rings, placement.RingOf(f, &n.view))
		}
	}
}

func (m *model) after(d time.Duration, do func()) { heap.Push(&m.next, moment{m.now + d, do}) }

// arrivals lets every function's events arrive at its owner, at random times.
func (m *model) arrivals() {
	capacity := 0.0
	for _, n := range m.nodes {
		capacity += float64(n.slots) * n.speed
	}
	every := float64(modelWork) * modelFuncs / (modelLoad * capacity)
	ranks := m.rng.Perm(len(m.nodes))
	for f := range m.functions {
		owner := m.nodes[ranks[m.zipf(len(m.nodes))]]
		var arrive func()
		arrive = func() {
			if m.now >= m.lasts {
				return
			}
			m.calls++
			m.policy(m, &modelCall{f: f, owner: owner, at: m.now, work: m.random(float64(modelWork))})
			m.after(m.random(every), arrive)
		}
		m.after(m.random(every), arrive)
	}
}

// zipf draws a rank below n with a probability proportional to 1/(rank+1).
func (m *model) zipf(n int) int {
	sum := 0.0
	for i := range n {
		sum += 1 / float64(i+1)
	}
	x := m.rng.Float64() * sum
	for i := range n {
		if x -= 1 / float64(i+1); x < 0 {
			return i
		}
	}
	return n - 1
}

func (m *model) random(mean float64) time.Duration {
	return time.Duration(-mean * math.Log(1-m.rng.Float64()))
}

// gossip brings everybody's load to everybody, again and again.
func (m *model) gossip() {
	for _, n := range m.nodes {
		for i := range n.view.Peers {
			m.note(&n.view.Peers[i])
		}
	}
	if m.now < m.lasts {
		m.after(m.age, m.gossip)
	}
}

// note makes p what its node is now.
func (m *model) note(p *placement.Node) {
	there := m.ids[p.ID]
	p.Running, p.Queued = there.running, len(there.queue)
}

// enqueue puts c into n's queue and starts what has a slot.
func (m *model) enqueue(n *modelNode, c *modelCall) {
	n.queue = append(n.queue, c)
	m.start(n)
}

func (m *model) start(n *modelNode) {
	for n.running < n.slots && len(n.queue) > 0 {
		c := n.queue[0]
		n.queue = n.queue[1:]
		n.running++
		run := time.Duration(float64(c.work) / n.speed)
		if !n.has(c.f) {
			m.colds++
			run += m.cold
		}
		n.use(c.f)
		m.after(run, func() {
			n.running--
			m.start(n)
			if c.done != nil {
				c.done()
			} else {
				m.over(c)
			}
		})
	}
}

// over counts c: its owner has its result.
func (m *model) over(c *modelCall) {
	if c.at >= modelWarm {
		m.took = append(m.took, m.now-c.at)
	}
}

// has says whether n keeps the module of f.
func (n *modelNode) has(f int) bool { return slices.Contains(n.modules, f) }

func (n *modelNode) use(f int) {
	if i := slices.Index(n.modules, f); i >= 0 {
		n.modules = slices.Delete(n.modules, i, i+1)
	}
	n.modules = append(n.modules, f)
	if len(n.modules) > modelModules {
		n.modules = slices.Delete(n.modules, 0, 1)
	}
}

// quantile returns in milliseconds what the share q of the calls took at most.
func (m *model) quantile(q float64) float64 {
	return float64(m.took[int(q*float64(len(m.took)-1))]) / float64(time.Millisecond)
}
