package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	retransmitMult = 6
	leaveBudget    = 5 * time.Second
	metaPause      = 10 * time.Second // between two changes of Meta: each is gossiped to everybody
	loadPause      = 30 * time.Second // between two broadcasts of a load
	loadMembers    = 300              // above so many members loads are not broadcast: it would cost kilobytes a second
	clockTick      = time.Second
	clockJump      = 5 * time.Second
	addressTick    = time.Second
	staleAfter     = 30 * time.Second // members of the session before that this one has not met
)

// edge is the profile for small devices on links that lose packets: measured with 30 to 1,000 nodes, see docs/RATIONALE.md.
func (c *Cluster) edge(w *wire) *memberlist.Config {
	m := memberlist.DefaultLANConfig()
	m.Name, m.Label, m.Transport, m.Keyring = c.config.Name, c.config.Cluster, w, c.keyring
	m.BindPort = int(w.addr.Port()) // what memberlist takes for a peer's that says none
	m.ProbeInterval, m.ProbeTimeout = 2*time.Second, 700*time.Millisecond
	m.SuspicionMult, m.SuspicionMaxTimeoutMult = 4, 4
	m.PushPullInterval = 75 * time.Second // five times that among 300: most of what an idle member sends
	if c.config.Small {                   // few members can confirm a suspicion, and there are bytes to spare
		m.ProbeInterval, m.SuspicionMult = time.Second, 3
		m.PushPullInterval = time.Minute
	}
	m.RetransmitMult = retransmitMult
	m.GossipInterval, m.GossipNodes = 400*time.Millisecond, 3
	m.GossipToTheDeadTime = time.Minute
	m.DeadNodeReclaimTime = reclaimAfter
	m.TCPTimeout = 20 * time.Second
	m.UDPBufferSize = packetTarget
	m.HandoffQueueDepth = 1024
	m.EnableCompression = false // 78 KB of garbage for a ping of 60 bytes
	m.RequireNodeNames = true
	d := &delegate{c}
	m.Delegate, m.Ping, m.Alive, m.Conflict = d, d, d, d
	m.LogOutput = &lines{log: c.log}
	return m
}

// session is a member at one address, until ctx ends or the address has changed.
func (c *Cluster) session(ctx context.Context) error {
	network, err := c.config.Listen()
	if err != nil {
		return err
	}
	addr := network.Addr()
	if err := c.safe(addr); err != nil {
		return errors.Join(err, network.Close())
	}
	w := newWire(network, addr, &c.traffic)
	defer w.drain()
	generation := c.view.begin()
	config := c.edge(w)
	config.Events = &events{c, generation}
	list, err := memberlist.Create(config)
	if err != nil {
		return errors.Join(err, network.Close())
	}
	c.mu.Lock()
	c.current = list
	c.addresses[addr] = struct{}{}
	c.mu.Unlock()
	c.log.Info("a member of the cluster at this address", "address", addr.String(), "cluster", c.config.Cluster)
	rejoined := c.serve(ctx, list, network, addr)
	err = list.Leave(leaveBudget)
	c.mu.Lock()
	c.current = nil
	c.mu.Unlock()
	if ctx.Err() != nil {
		c.view.end()
	}
	if err != nil {
		c.log.Debug("the cluster may not have heard our goodbye", "error", err)
	}
	err = list.Shutdown()
	<-rejoined
	return err
}

// safe refuses to gossip in the clear where strangers may listen.
func (c *Cluster) safe(addr netip.AddrPort) error {
	switch {
	case !addr.IsValid():
		return ErrNoAddress
	case c.keyring == nil && !addr.Addr().IsLoopback():
		return fmt.Errorf("%w, and this is %s", ErrOpen, addr)
	}
	return nil
}

// serve runs the loops of a session until it is over. They end before memberlist is left: none of them calls it after its shutdown.
// The exception is closed last: a join under way ends with the network.
func (c *Cluster) serve(ctx context.Context, list *memberlist.Memberlist, network Network, addr netip.AddrPort) (rejoined chan struct{}) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wait sync.WaitGroup
	wait.Go(func() { c.receive(ctx) })
	wait.Go(func() { c.publish(ctx, list) })
	wait.Go(func() { c.stream(ctx, list) })
	wait.Go(func() { c.tell(ctx, list) })
	rejoined = make(chan struct{})
	moved := c.peers.at(addr.String())
	go func() {
		defer close(rejoined)
		c.rejoin(ctx, list, moved)
	}()
	wait.Go(func() {
		defer cancel()
		c.watchAddress(ctx, network, addr)
	})
	wait.Go(func() { c.watchClock(ctx) })
	wait.Go(func() {
		if sleep(ctx, staleAfter) {
			c.view.purge()
		}
	})
	wait.Wait()
	return rejoined
}

// pending is what has changed and was not said yet.
type pending struct{ meta, urgent, load bool }

// publish tells the others what has changed, not too often.
func (c *Cluster) publish(ctx context.Context, list *memberlist.Memberlist) {
	metaNext, loadNext := time.Time{}, time.Time{}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.dirty:
		case <-timer.C:
		}
		now := time.Now()
		c.mu.Lock()
		p := c.pending
		meta := p.meta && (p.urgent || !now.Before(metaNext))
		load := p.load && !now.Before(loadNext)
		if meta {
			c.pending.meta, c.pending.urgent = false, false
		}
		if load {
			c.pending.load = false
		}
		c.mu.Unlock()
		if meta {
			metaNext = now.Add(metaPause)
			// It is queued when this returns. Waiting for its last retransmission would hold up what changes next; the
			// only error is that nobody waited.
			_ = list.UpdateNode(time.Nanosecond)
		}
		if load {
			loadNext = now.Add(loadPause)
			c.broadcastLoad()
		}
		wait := time.Hour
		if p.meta && !meta {
			wait = min(wait, time.Until(metaNext))
		}
		if p.load && !load {
			wait = min(wait, time.Until(loadNext))
		}
		timer.Reset(max(wait, time.Millisecond))
	}
}

// watchAddress returns when the node is reached at another address. One look is not enough: while an interface comes up its
// addresses come one after the other. No address at all is no change: the cable will be plugged in again.
func (c *Cluster) watchAddress(ctx context.Context, network Network, addr netip.AddrPort) {
	last := addr
	for sleep(ctx, addressTick) {
		now := network.Addr()
		if now != addr && now == last && now.IsValid() && (addr.Addr().IsLoopback() || !now.Addr().IsLoopback()) {
			c.log.Info("the address of this node has changed", "from", addr.String(), "to", now.String())
			return
		}
		last = now
	}
}

// watchClock notices that the machine slept: the wall clock went on and the monotonic one did not. A clock that was set looks the
// same and costs a rejoin.
func (c *Cluster) watchClock(ctx context.Context) {
	wall, mono := c.config.Wall(), time.Now()
	for sleep(ctx, clockTick) {
		w, m := c.config.Wall(), time.Now()
		jump := w.Sub(wall) - m.Sub(mono)
		wall, mono = w, m
		if jump.Abs() <= clockJump {
			continue
		}
		c.log.Info("this machine slept, or its clock was set", "by", jump)
		if c.config.Woke != nil {
			c.config.Woke(jump)
		}
		signal(c.wake)
	}
}
