package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"time"

	"mayfly/admin"
	"mayfly/test/cluster/lan"
)

// served is the relay with an address of its own.
var served = guest{name: "served", source: "test/cluster/guests/answer.c", more: "[[trigger.http]]\nroute = \"GET /served\"\nauth = \"public\"\n"}

// cable: a device that starts without any network runs its functions at once, and is found again when it has one.
func cable(t *trial) error {
	if err := t.site(5); err != nil {
		return err
	}
	n := t.nodes[4]
	if err := errors.Join(t.deploy(t.nodes[0], served), t.deployed(served.name, 10*time.Second, t.nodes...)); err != nil {
		return err
	}
	var last string
	serves := func() bool {
		code, text := n.get(n.host, "127.0.0.1:"+gatewayPort, "/served")
		last = fmt.Sprintf("%d %s", code, text)
		return code == http.StatusOK
	}
	if err := t.until(10*time.Second, serves); err != nil {
		return fmt.Errorf("before anything happened: %s", last)
	}
	if err := errors.Join(n.kill(), n.host.Readdress(""), n.host.Cable(false)); err != nil {
		return err
	}
	began := time.Now()
	if err := n.start(); err != nil {
		return err
	}
	err := t.until(20*time.Second, serves)
	took := time.Since(began)
	t.figures["serves_after_ms"] = float64(took.Milliseconds())
	if err != nil {
		return fmt.Errorf("without a network it serves nothing: %s", last)
	}
	if took > time.Second {
		t.fault("without a network it served after %v; 1 s is promised", took)
	}
	t.sleep(pick(t, 5*time.Second, time.Minute))
	if err := errors.Join(n.host.Cable(true), n.host.Readdress(n.host.Address)); err != nil {
		return err
	}
	began = time.Now()
	if err := t.together(90*time.Second, t.nodes...); err != nil {
		return fmt.Errorf("with its cable in: %w", err)
	}
	t.figures["rejoined_after_ms"] = float64(time.Since(began).Milliseconds())
	return nil
}

// get asks a gateway for a page, from a host.
func (n *node) get(from *lan.Host, address, path string) (code int, text string) {
	c := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return from.Dial(ctx, network, address)
		},
	}}
	r, err := http.NewRequestWithContext(n.t.ctx, http.MethodGet, "http://"+address+path, http.NoBody)
	if err != nil {
		return 0, err.Error()
	}
	answer, err := c.Do(r)
	if err != nil {
		return 0, err.Error()
	}
	defer answer.Body.Close()
	body := make([]byte, 300)
	size, _ := answer.Body.Read(body) // a short answer comes at once
	return answer.StatusCode, string(body[:size])
}

// moves: the owner's address changes under it, as DHCP does.
func moves(t *trial) error {
	if err := t.flowing(300); err != nil {
		return err
	}
	n, err := t.owner(relay.name)
	if err != nil {
		return err
	}
	t.flow.mark()
	began := time.Now()
	if err := n.host.Readdress("10.77.0.99"); err != nil {
		return err
	}
	if _, err := t.through(2 * time.Minute); err != nil {
		return err
	}
	err = t.until(2*time.Minute, func() bool {
		for _, other := range t.nodes {
			if all, err := other.client.Nodes(t.ctx); err != nil || other != n && !slices.ContainsFunc(all, knownAt(n)) {
				return false
			}
		}
		return true
	})
	if err != nil {
		return fmt.Errorf("%s is not seen at its new address: %w", n.name, err)
	}
	t.figures["seen_at_new_address_ms"] = float64(time.Since(began).Milliseconds())
	if err := t.together(time.Minute, t.nodes...); err != nil {
		return err
	}
	took, err := t.through(time.Minute)
	t.takeovers = append(t.takeovers, took)
	t.settle(60 * time.Second)
	return err
}

// knownAt says whether a member is that node at the address it has now.
func knownAt(n *node) func(admin.Member) bool {
	return func(m admin.Member) bool {
		return m.ID == n.id && m.State == admin.MemberAlive && strings.HasPrefix(m.Address, n.host.Address+":")
	}
}

// pause: the owner sleeps for longer than it takes to be given up, and wakes up believing that it owns.
func pause(t *trial) error {
	if err := t.flowing(500); err != nil {
		return err
	}
	seen, err := t.watchClaims()
	if err != nil {
		return err
	}
	for range pick(t, 1, 5) {
		n, err := t.owner(relay.name)
		if err != nil {
			return err
		}
		t.flow.mark()
		asleep := time.Now()
		if err := n.signal(syscall.SIGSTOP); err != nil {
			return err
		}
		t.sleep(20 * time.Second)
		if err := n.signal(syscall.SIGCONT); err != nil {
			return err
		}
		took, err := t.through(60 * time.Second)
		if err != nil {
			return err
		}
		t.takeovers = append(t.takeovers, took)
		if err := t.together(60*time.Second, t.nodes...); err != nil {
			return err
		}
		if _, err := t.owner(relay.name); err != nil {
			return err
		}
		t.noted("claims: %s", strings.ReplaceAll(seen.story(t, asleep), "\n", ", "))
	}
	t.settle(60 * time.Second)
	return seen.once()
}

// keyring: a node is away while the key of gossip is changed, and comes back.
func keyring(t *trial) error {
	if err := t.site(4); err != nil {
		return err
	}
	away, rest := t.nodes[3], t.nodes[:3]
	if err := away.end(syscall.SIGTERM); err != nil {
		return err
	}
	for range pick(t, 1, 2) {
		took, err := t.rotate(rest)
		if err != nil {
			return err
		}
		t.figures["rotation_ms"] = float64(took.Milliseconds())
	}
	if err := t.together(30*time.Second, rest...); err != nil {
		return err
	}
	began := time.Now()
	if err := errors.Join(away.start(), away.member(), t.together(2*time.Minute, t.nodes...)); err != nil {
		return fmt.Errorf("who was away: %w", err)
	}
	t.figures["back_after_ms"] = float64(time.Since(began).Milliseconds())
	return nil
}

// rotate changes the key of gossip and waits until nodes send with the new one.
func (t *trial) rotate(nodes []*node) (time.Duration, error) {
	before, err := nodes[0].client.Keyring(t.ctx)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	if _, err := nodes[0].mayfly("keyring", "rotate"); err != nil {
		return 0, err
	}
	var k admin.Keyring
	err = t.until(3*time.Minute, func() bool {
		k, err = nodes[0].client.Keyring(t.ctx)
		return err == nil && k.Keys[0].ID != before.Keys[0].ID && everybodyUses(k.Keys[0].ID, nodes, k.Nodes)
	})
	if err != nil {
		text, _ := json.Marshal(k)
		return 0, fmt.Errorf("the key was not changed: %w: %s", err, text)
	}
	return time.Since(began), nil
}

// everybodyUses says whether nodes send with that key.
func everybodyUses(key string, nodes []*node, holders []admin.KeyHolder) bool {
	return !slices.ContainsFunc(nodes, func(n *node) bool {
		return !slices.ContainsFunc(holders, func(h admin.KeyHolder) bool { return h.Node == n.id && h.Primary == key })
	})
}

// revoked: who is shut out gets nothing any more, and the others go on. It is the owner, so that somebody has to take over from it.
func revoked(t *trial) error {
	if err := t.flowing(200); err != nil {
		return err
	}
	out, err := t.ownerBesides(t.nodes[0])
	if err != nil {
		return err
	}
	if err := t.lendKey(out); err != nil { // the thief has the operator's key too, until that is exchanged
		return err
	}
	if err := t.until(30*time.Second, func() bool { return slices.Equal(t.owners(relay.name), []*node{out}) }); err != nil {
		return fmt.Errorf("%s was away for a moment and does not get its trigger back: %w", out.name, err)
	}
	rest := slices.DeleteFunc(slices.Clone(t.nodes), func(n *node) bool { return n == out })
	t.flow.mark()
	if _, err := rest[0].mayfly("nodes", "revoke", out.name, "--yes"); err != nil {
		return err
	}
	if err := t.shutOut(out, rest); err != nil {
		return err
	}
	for _, restart := range []bool{false, true} {
		if restart {
			if err := errors.Join(out.end(syscall.SIGTERM), out.start()); err != nil {
				return err
			}
			_ = out.ready() // perhaps it refuses to be, which is as good
		}
		if err := t.givenNothing(out, rest, map[bool]string{false: "after", true: "later"}[restart]); err != nil {
			return err
		}
	}
	if err := t.together(30*time.Second, rest...); err != nil {
		return err
	}
	if _, err := t.through(10 * time.Second); err != nil {
		return err
	}
	t.settle(30 * time.Second)
	return nil
}

// ownerBesides makes somebody else than n the relay's owner, and returns who it is.
func (t *trial) ownerBesides(n *node) (*node, error) {
	now, err := t.owner(relay.name)
	if err != nil || now != n {
		return now, err
	}
	if _, err := t.handover(n, true); err != nil {
		return nil, err
	}
	return t.owner(relay.name)
}

// shutOut waits until nobody of rest sees a node any more, until one of them has its trigger, and until it sees nobody because the key
// was changed.
func (t *trial) shutOut(out *node, rest []*node) error {
	began := time.Now()
	err := t.until(30*time.Second, func() bool {
		for _, n := range rest {
			if alive, err := n.sees(); err != nil || slices.Contains(alive, out.id) {
				return false
			}
		}
		return true
	})
	if err != nil {
		return fmt.Errorf("the others still see who was revoked: %w", err)
	}
	t.figures["shut_out_ms"] = float64(time.Since(began).Milliseconds())
	err = t.until(2*time.Minute, func() bool {
		return slices.ContainsFunc(rest, func(n *node) bool { return n.owns(relay.name) }) && !out.owns(relay.name)
	})
	if err != nil {
		return fmt.Errorf("who was revoked keeps the trigger: %w", err)
	}
	t.figures["trigger_moved_ms"] = float64(time.Since(began).Milliseconds())
	if t.short {
		return nil
	}
	err = t.until(2*time.Minute, func() bool {
		alive, err := out.sees()
		return err != nil || len(alive) <= 1
	})
	if err != nil {
		return fmt.Errorf("who was revoked still sees others: %w", err)
	}
	t.figures["blind_ms"] = float64(time.Since(began).Milliseconds())
	return nil
}

// givenNothing checks that what is deployed now does not reach a node, nor what it deploys the others.
func (t *trial) givenNothing(out *node, rest []*node, name string) error {
	if err := t.deploy(rest[0], guest{name: name, source: relay.source}); err != nil {
		return err
	}
	if err := t.deployed(name, 10*time.Second, rest...); err != nil {
		return err
	}
	if err := t.deploy(out, guest{name: "smuggled", source: relay.source}); err != nil {
		t.noted("it cannot deploy at its own door either: %v", err)
	}
	t.sleep(pick(t, 5*time.Second, 60*time.Second))
	if has, err := out.has(name); err == nil && has {
		t.fault("who was revoked was given %q, deployed afterwards", name)
	}
	if err := t.removed("smuggled", 0, rest...); err != nil {
		t.fault("what the revoked node deploys reaches the others: %v", err)
	}
	return nil
}
