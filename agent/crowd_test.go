package agent

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mayfly/agent/ownership"
	"mayfly/event"
	"mayfly/function"
	"mayfly/internal/mosquitto"
	"mayfly/triggers"
	"mayfly/triggers/mqtt"
)

// owning is a member of a site: what New makes of a node, as far as triggers are concerned.
type owning struct {
	id     string
	subs   *subscriptions
	runner *runner
	cable  *cable
	stop   func()
}

// crowd is the nodes of a site, their broker, and what is published there.
type crowd struct {
	t      *testing.T
	broker *mosquitto.Broker
	gossip *gossip
	tally  *tally
	peers  map[string]*owning
	fn     *function.Function
	sent   atomic.Int64
}

// quickly are rules with which a test does not take minutes.
func quickly() ownership.Rules {
	return ownership.Rules{
		HoldDown: 100 * time.Millisecond, Jitter: 20 * time.Millisecond, Stranger: 100 * time.Millisecond, Object: 100 * time.Millisecond,
		Grace: time.Second, Refresh: time.Second, Fresh: 3 * time.Second, SettleLo: 50 * time.Millisecond, SettleHi: 100 * time.Millisecond,
	}
}

func newCrowd(t *testing.T, bound bool, ids ...string) *crowd {
	t.Helper()
	c := &crowd{
		t: t, broker: mosquitto.Run(t, mosquitto.Options{MaxQueued: -1}), gossip: &gossip{changed: make(chan struct{})},
		tally: &tally{runs: map[int][]string{}, first: map[string]int{}, began: map[string]time.Time{}, arrived: map[string]int{}}, peers: map[string]*owning{}, fn: on(t, "f", "in/+"),
	}
	c.gossip.set(everybody(ids...))
	for _, id := range ids {
		c.start(id, bound)
	}
	return c
}

func everybody(ids ...string) map[string][]ownership.Node {
	views := map[string][]ownership.Node{}
	for _, id := range ids {
		for _, other := range ids {
			views[id] = append(views[id], ownership.Node{ID: other, Eligible: true, BrokerUp: true})
		}
	}
	return views
}

func (c *crowd) start(id string, bound bool) {
	c.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s, _ := opened(c.t, c.t.TempDir())
	p := &owning{id: id, cable: newCable(c.t, c.broker.Addr()), runner: &runner{node: id, tally: c.tally, wake: make(chan struct{}, 1)}}
	url := "tcp://" + p.cable.listener.Addr().String()
	all, err := sites(&Config{Brokers: map[string]BrokerConfig{"site": {URLs: []string{url}, BindClientID: bound}}}, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		c.t.Fatal(err)
	}
	p.subs = newSubscriptions(id, all, "site", s, slog.New(slog.DiscardHandler))
	p.subs.join(&team{cluster: "c", self: id, members: seenBy{c.gossip, id}, events: p.runner, rules: quickly()})
	var running sync.WaitGroup
	running.Go(func() { _ = all["site"].Run(ctx) })
	running.Go(func() { p.runner.run(ctx) })
	p.stop = sync.OnceFunc(func() { p.subs.close(); cancel(); running.Wait() })
	c.t.Cleanup(p.stop)
	c.peers[id] = p
	c.deploy(p, c.fn)
}

func (c *crowd) deploy(p *owning, functions ...*function.Function) {
	c.t.Helper()
	p.subs.everywhere(functions)
	groups, claims := p.subs.plan(functions)
	if err := p.subs.apply(groups, claims, func(string) triggers.Sink { return p.runner }); err != nil {
		c.t.Fatal(err)
	}
}

// owner returns who is connected with the trigger's session.
func (c *crowd) owner() string {
	var all []string
	for id, p := range c.peers {
		p.subs.mu.Lock()
		for _, o := range p.subs.owned {
			if o.session.Status().Connected {
				all = append(all, id)
			}
		}
		p.subs.mu.Unlock()
	}
	slices.Sort(all)
	return strings.Join(all, "+")
}

func (c *crowd) until(what string, ok func() bool) {
	c.t.Helper()
	(&rig{t: c.t}).until(what, ok)
}

// best is who should own among the nodes of a view.
func (c *crowd) best(nodes []ownership.Node) string {
	top, _ := ownership.Top(c.session(), nodes)
	return top.ID
}

// session is the name of the only one there is.
func (c *crowd) session() string {
	return mqtt.ClientID(mqtt.Subscription{Cluster: "c", Session: "site/f/mqtt[0] in/+ qos 1"})
}

// hundredMore waits until a hundred more events have run.
func (c *crowd) hundredMore() {
	c.t.Helper()
	count := func() int {
		c.tally.mu.Lock()
		defer c.tally.mu.Unlock()
		return len(c.tally.runs)
	}
	to := count() + 100
	c.until("a hundred more", func() bool { return count() >= to })
}

// without is everybody's view in which one node drains.
func without(drained string, ids ...string) map[string][]ownership.Node {
	views := everybody(ids...)
	for _, nodes := range views {
		for i := range nodes {
			nodes[i].Draining = nodes[i].ID == drained
		}
	}
	return views
}

// speak publishes a thousand messages a second over ten topics until the returned function is called, which waits until all have run and
// tells what became of them.
func (c *crowd) speak() (stop func() (lost, twice int)) {
	c.t.Helper()
	p, err := mqtt.NewPublisher(mqtt.Broker{Name: "site", URLs: []string{c.broker.URL()}}, "", slog.New(slog.DiscardHandler))
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = p.Run(ctx) })
	c.until("publisher is up", p.Ready)
	quiet := make(chan struct{})
	told := make(confirmation, 1<<20)
	var speaking sync.WaitGroup
	speaking.Go(func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for n := 0; ; {
			select {
			case <-quiet:
				return
			case <-tick.C:
			}
			for range 5 {
				m := event.Message{Topic: fmt.Sprintf("in/%d", n%10), Data: fmt.Append(nil, n), QoS: 1}
				if p.Publish(&m, told) == nil {
					n++
					c.sent.Add(1)
				}
			}
		}
	})
	return func() (lost, twice int) {
		close(quiet)
		speaking.Wait()
		sent := int(c.sent.Load())
		for range sent {
			if err := <-told; err != nil {
				c.t.Errorf("not confirmed: %v", err)
			}
		}
		c.until("everything has run", func() bool {
			c.tally.mu.Lock()
			defer c.tally.mu.Unlock()
			return len(c.tally.runs) == sent
		})
		cancel()
		running.Wait()
		c.tally.mu.Lock()
		defer c.tally.mu.Unlock()
		for n := range sent {
			if ran := len(c.tally.runs[n]); ran == 0 {
				lost++
			} else {
				twice += ran - 1
			}
		}
		return lost, twice
	}
}

// kicks counts the connections that the broker cut off because another one came with the same client id.
func (c *crowd) kicks() (n int) {
	for _, line := range c.broker.Log() {
		if strings.Contains(line, "already connected, closing old connection") {
			n++
		}
	}
	return n
}

// began returns when a node ran its first event of this turn.
func (c *crowd) began(id string, after time.Time) (at time.Time) {
	c.t.Helper()
	c.until("events at "+id, func() bool {
		c.tally.mu.Lock()
		defer c.tally.mu.Unlock()
		at = c.tally.began[id]
		return c.tally.last == id && at.After(after)
	})
	return at
}

func median(all []time.Duration) (p50, longest time.Duration) {
	slices.Sort(all)
	return all[len(all)/2], all[len(all)-1]
}
