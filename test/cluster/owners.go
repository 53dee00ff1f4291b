package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"mayfly/admin"
	"mayfly/agent/ownership"
)

// owner waits until one running node is said to have the function's trigger, by itself, and has subscribed it, and returns it: what is published
// before that is nobody's.
func (t *trial) owner(function string) (*node, error) {
	var found []*node
	err := t.until(60*time.Second, func() bool {
		found = t.owners(function)
		return len(found) == 1 && found[0].subscribed(function)
	})
	if err != nil {
		return nil, fmt.Errorf("not one owner of %s but %d", function, len(found))
	}
	return found[0], nil
}

// settled waits until the trigger has stayed where it is for longer than a hold-down, and returns its owner. Whoever hears of a
// deployment first takes it while it does not know everybody yet; the best of all gets it after that.
func (t *trial) settled(function string) (*node, error) {
	last, since := (*node)(nil), time.Now()
	err := t.until(60*time.Second, func() bool {
		now := t.owners(function)
		if len(now) != 1 || now[0] != last {
			if last, since = nil, time.Now(); len(now) == 1 {
				last = now[0]
			}
		}
		return last != nil && time.Since(since) > 5*time.Second
	})
	if err != nil {
		return nil, fmt.Errorf("the trigger of %s does not stay: %w", function, err)
	}
	return last, nil
}

// owners returns the nodes that say of themselves that they have the function's trigger.
func (t *trial) owners(function string) (all []*node) {
	for _, n := range t.nodes {
		if n.running() && n.owns(function) {
			all = append(all, n)
		}
	}
	return all
}

func (n *node) owns(function string) bool {
	ctx, cancel := context.WithTimeout(n.t.ctx, 2*time.Second)
	defer cancel()
	e, err := n.client.Explain(ctx, admin.ExplainQuery{Function: function})
	if err != nil {
		return false
	}
	return slices.ContainsFunc(e.Rows, func(c admin.Candidate) bool { return c.Here && len(c.Owns) > 0 })
}

// subscribed says whether the triggers of a function that this node has get events, by its own word.
func (n *node) subscribed(function string) bool {
	ctx, cancel := context.WithTimeout(n.t.ctx, 2*time.Second)
	defer cancel()
	f, err := n.client.Function(ctx, function)
	return err == nil && f.State == admin.StateReady
}

// claims hears what nodes say at the broker of who has which session.
type claims struct {
	mu  sync.Mutex
	all []heard
}

type heard struct {
	at      time.Time
	session string
	claim   ownership.Claim
}

// watchClaims begins to hear claims, until the trial is over.
func (t *trial) watchClaims() (*claims, error) {
	conn, in, err := listen(t.ctx, brokerAddress, "mayfly/+/claims/+")
	if err != nil {
		return nil, err
	}
	t.atEnd = append(t.atEnd, func() { conn.Close() })
	c := &claims{}
	go func() {
		_ = hear(conn, in, func(topic string, payload []byte) { // ends with the connection
			h := heard{session: topic[strings.LastIndexByte(topic, '/')+1:]}
			if json.Unmarshal(payload, &h.claim) == nil && h.claim.Node != "" {
				h.at = time.Now()
				c.mu.Lock()
				c.all = append(c.all, h)
				c.mu.Unlock()
			}
		})
	}()
	return c, nil
}

// story says in words what was claimed since the time given.
func (c *claims) story(t *trial, since time.Time) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var b strings.Builder
	for _, h := range c.all {
		name := h.claim.Node
		for _, n := range t.nodes {
			if n.id == name {
				name = n.name
			}
		}
		if !h.at.Before(since) {
			fmt.Fprintf(&b, "%+.1fs %.4s %s epoch %d turn %d released %v\n", h.at.Sub(since).Seconds(), strings.TrimPrefix(h.session, "mf"), name, h.claim.Epoch, h.claim.Turn, h.claim.Released)
		}
	}
	return b.String()
}

// once checks that nobody gave signs of life as the owner under an epoch that is somebody else's. That two claim it first at the same
// time may be: one of them gives way.
func (c *claims) once() error {
	type rule struct {
		session string
		epoch   uint64
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	said := map[rule]map[string]int{}
	for _, h := range c.all {
		r := rule{h.session, h.claim.Epoch}
		if said[r] == nil {
			said[r] = map[string]int{}
		}
		said[r][h.claim.Node]++
	}
	var errs []error
	for r, by := range said {
		acting := 0
		for _, times := range by {
			if times > 1 {
				acting++
			}
		}
		if acting > 1 {
			errs = append(errs, fmt.Errorf("%d nodes act under epoch %d of %s", acting, r.epoch, r.session))
		}
	}
	return errors.Join(errs...)
}
