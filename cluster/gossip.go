package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

// State is something replicated on top of gossip: what travels here are digests and announcements, what they are about is pulled
// elsewhere. Merge and Heard are called by one goroutine, one after the other; what they are told may come from anybody who has
// the key of gossip, twice, late, or never.
type State interface {
	// MarshalBinary returns the digest, at most 8 KiB. It is called in exchanges of state and must not wait for anything.
	MarshalBinary() ([]byte, error)
	// Merge compares a member's digest with ours.
	Merge(from string, digest []byte) error
	// Heard takes an announcement that origin made. News are passed on, what was known is not.
	Heard(origin string, announcement []byte) (news bool, err error)
}

type states struct {
	mu    sync.Mutex
	byKey map[string]State
	order []string
}

// AddState adds a state under a key of 1 to 32 bytes that is the same on all members.
func (c *Cluster) AddState(key string, s State) error {
	c.states.mu.Lock()
	defer c.states.mu.Unlock()
	switch {
	case len(key) == 0 || len(key) > keyMax:
		return fmt.Errorf("cluster: state %q: a key has 1 to %d bytes", key, keyMax)
	case c.states.byKey[key] != nil:
		return fmt.Errorf("cluster: state %q: it was added before", key)
	}
	c.states.byKey[key] = s
	c.states.order = append(c.states.order, key)
	slices.Sort(c.states.order)
	return nil
}

func (s *states) of(key string) State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byKey[key]
}

// Announce tells all members something about a state, at most 64 KiB: in packets when it fits (about half a KiB), else over streams
// from member to member. Both are best effort; who missed it learns from the next exchange of digests.
func (c *Cluster) Announce(key string, announcement []byte) error {
	if len(announcement) > announceMax {
		return fmt.Errorf("cluster: announce %s: %d bytes: %w", key, len(announcement), errOversize)
	}
	if c.states.of(key) == nil {
		return fmt.Errorf("cluster: announce %q: there is no such state", key)
	}
	b := frame{kind: kindAnnounce, origin: c.config.Name, key: key, body: announcement}.encode()
	c.spread(b)
	if len(b) <= frameMax {
		select {
		case c.news <- b:
		default: // gossip has it
		}
	}
	return nil
}

// spread sends a frame to everybody, by one way or the other.
func (c *Cluster) spread(b []byte) {
	if len(b) <= frameMax {
		c.queue.QueueBroadcast(announcement(b))
		c.queue.Prune(queueMax)
		return
	}
	select {
	case c.streams <- b:
	default:
		c.traffic.announcesLate.Add(1)
	}
}

const (
	queueMax   = 1000       // broadcasts waiting: the oldest give way
	fanOut     = 6          // members a large announcement is handed to by each who hears it first: 1 in 400 does not hear it
	sendingMax = 3 * fanOut // streams with announcements that are open at once
)

// tell hands what is announced here to a few live members at once. Gossip goes to the dead of the last minute too, so that who is not dead
// hears that he is thought to be; where more have died than live on, all that it repeats of an announcement may go to them.
func (c *Cluster) tell(ctx context.Context, list *memberlist.Memberlist) {
	for {
		select {
		case <-ctx.Done():
			return
		case b := <-c.news:
			for _, m := range c.some(fanOut) {
				if err := list.SendToAddress(memberlist.Address{Addr: m.Addr.String(), Name: m.Name}, b); err != nil {
					c.log.Debug("an announcement did not leave for a member", "member", m.Name, "error", err)
				}
			}
		}
	}
}

// some returns live members besides this one, n at most, by chance.
func (c *Cluster) some(n int) []Member {
	others := slices.DeleteFunc(slices.Clone(c.view.members()), func(m Member) bool { return m.Name == c.config.Name })
	rand.Shuffle(len(others), func(i, j int) { others[i], others[j] = others[j], others[i] })
	return others[:min(n, len(others))]
}

// stream hands large announcements to a few members each, to all of them at the same time: who is dead and not known to be costs the others
// nothing.
func (c *Cluster) stream(ctx context.Context, list *memberlist.Memberlist) {
	var sending sync.WaitGroup
	defer sending.Wait()
	room := make(chan struct{}, sendingMax)
	for {
		var b []byte
		select {
		case <-ctx.Done():
			return
		case b = <-c.streams:
		}
		nodes := slices.DeleteFunc(list.Members(), func(n *memberlist.Node) bool { return n.Name == c.config.Name })
		rand.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
		for _, n := range nodes[:min(fanOut, len(nodes))] {
			select {
			case <-ctx.Done():
				return
			case room <- struct{}{}:
			}
			sending.Go(func() {
				defer func() { <-room }()
				if err := list.SendReliable(n, b); err != nil {
					c.log.Debug("an announcement did not reach a member", "member", n.Name, "error", err)
				}
			})
		}
	}
}

func (c *Cluster) broadcastLoad() {
	if c.view.count() > loadMembers {
		return
	}
	b, err := c.loads.mine().MarshalBinary()
	if err == nil {
		c.queue.QueueBroadcast(&loadBroadcast{c.config.Name, frame{kind: kindLoad, origin: c.config.Name, body: b}.encode()})
	}
}

// announcement is a broadcast that replaces no other.
type announcement []byte

func (a announcement) Invalidates(memberlist.Broadcast) bool { return false }
func (a announcement) Message() []byte                       { return a }
func (a announcement) Finished()                             {}

// UniqueBroadcast implements memberlist.UniqueBroadcast.
func (a announcement) UniqueBroadcast() {}

// loadBroadcast replaces an older one of the same member.
type loadBroadcast struct {
	name string
	b    []byte
}

func (l *loadBroadcast) Invalidates(other memberlist.Broadcast) bool {
	o, ok := other.(*loadBroadcast)
	return ok && o.name == l.name
}
func (l *loadBroadcast) Name() string    { return l.name }
func (l *loadBroadcast) Message() []byte { return l.b }
func (l *loadBroadcast) Finished()       {}

// inbox is what was received and not handled yet, bounded by number and by bytes.
type inbox struct {
	items chan item
	bytes atomic.Int64
}

type item []byte

const (
	inboxItems = 256
	inboxBytes = 1 << 20
)

// put copies and enqueues: memberlist handles nothing else while it is called.
func (c *Cluster) put(b []byte) {
	if len(b) > announceMax+digestMax {
		c.traffic.messagesInvalid.Add(1)
		return
	}
	if c.inbox.bytes.Add(int64(len(b))) > inboxBytes {
		c.inbox.bytes.Add(-int64(len(b)))
		c.traffic.messagesDropped.Add(1)
		return
	}
	select {
	case c.inbox.items <- slices.Clone(b):
	default:
		c.inbox.bytes.Add(-int64(len(b)))
		c.traffic.messagesDropped.Add(1)
	}
}

// receive handles what was received, one after the other.
func (c *Cluster) receive(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case b := <-c.inbox.items:
			c.inbox.bytes.Add(-int64(len(b)))
			if err := c.handle(b); err != nil {
				c.traffic.messagesInvalid.Add(1)
				c.log.Debug("a message of the cluster had no effect", "error", err)
			}
		}
	}
}

func (c *Cluster) handle(b []byte) error {
	f, err := decode(b)
	if err != nil || f.origin == c.config.Name {
		return err // our own come back to us
	}
	switch f.kind {
	case kindLoad:
		var l Load
		if err := l.UnmarshalBinary(f.body); err != nil {
			return err
		}
		if c.view.has(f.origin) && c.loads.heard(f.origin, l) {
			c.queue.QueueBroadcast(&loadBroadcast{f.origin, b})
		}
	case kindAnnounce:
		s := c.states.of(f.key)
		if s == nil {
			return nil // a later version has it
		}
		news, err := s.Heard(f.origin, f.body)
		if err != nil {
			return fmt.Errorf("%s from %s: %w", f.key, f.origin, err)
		}
		if news {
			c.spread(b)
		}
	case kindSync:
		var errs []error
		err := digests(f.body, func(key string, digest []byte) {
			if s := c.states.of(key); s != nil {
				errs = append(errs, s.Merge(f.origin, digest))
			}
		})
		return errors.Join(append(errs, err)...)
	}
	return nil
}

// delegate is what memberlist calls. None of its methods waits.
type delegate struct{ c *Cluster }

// NodeMeta implements memberlist.Delegate.
func (d *delegate) NodeMeta(int) []byte {
	d.c.mu.Lock()
	defer d.c.mu.Unlock()
	b, _ := d.c.meta.MarshalBinary() // it never fails
	return b
}

// NotifyMsg implements memberlist.Delegate.
func (d *delegate) NotifyMsg(b []byte) {
	if len(b) > 1 && b[1] == kindSync {
		d.c.traffic.messagesInvalid.Add(1) // digests come in exchanges only
		return
	}
	d.c.put(b)
}

// GetBroadcasts implements memberlist.Delegate.
func (d *delegate) GetBroadcasts(overhead, limit int) [][]byte {
	return d.c.queue.GetBroadcasts(overhead, limit)
}

// LocalState implements memberlist.Delegate.
func (d *delegate) LocalState(bool) []byte {
	s := &d.c.states
	s.mu.Lock()
	defer s.mu.Unlock()
	var body []byte
	for _, key := range s.order {
		digest, err := s.byKey[key].MarshalBinary()
		if err != nil || len(digest) > digestMax || len(body)+len(digest) > announceMax {
			d.c.traffic.statesOversize.Add(1)
			continue
		}
		body = appendDigest(body, key, digest)
	}
	return frame{kind: kindSync, origin: d.c.config.Name, body: body}.encode()
}

// MergeRemoteState implements memberlist.Delegate.
func (d *delegate) MergeRemoteState(b []byte, _ bool) {
	if f, err := decode(b); err != nil || f.kind != kindSync {
		d.c.traffic.messagesInvalid.Add(1)
		return
	}
	d.c.put(b)
}

// AckPayload implements memberlist.PingDelegate.
func (d *delegate) AckPayload() []byte {
	b, _ := d.c.loads.mine().MarshalBinary() // it never fails
	return b
}

// NotifyPingComplete implements memberlist.PingDelegate.
func (d *delegate) NotifyPingComplete(n *memberlist.Node, rtt time.Duration, payload []byte) {
	var l Load
	if l.UnmarshalBinary(payload) == nil && d.c.view.has(n.Name) { // a probe that was answered over a stream brings none
		d.c.loads.answered(n.Name, l, rtt)
	}
}
