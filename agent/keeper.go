package agent

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"mayfly/cluster/catalog"
	"mayfly/cluster/identity"
	"mayfly/cluster/peer"
	"mayfly/store"
)

// keep keeps this node a member until ctx ends: its certificate good, its keys of gossip the newest, its peers known. Who owns triggers hears of
// members by it, so it waits for nobody.
func (p *pool) keep(ctx context.Context, save func([]store.Op) error) error {
	var asking sync.WaitGroup
	asking.Go(func() { p.inquire(ctx) })
	defer asking.Wait()
	soon := time.NewTicker(turnEvery)
	defer soon.Stop()
	changed, members := p.member.Watch(), p.gossip.Watch() // each is replaced only when it was heard, so that nothing is missed
	for {
		p.rekey()
		p.remember(save)
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
			changed = p.member.Watch()
			p.gossip.Recheck()
		case <-members:
			members = p.gossip.Watch()
			p.bell.ring()
		case <-soon.C:
			p.turnKeys()
		}
	}
}

// inquire asks other nodes for what this one lacks, until ctx ends. Those it asks may be dead or out of reach, which takes seconds to find out.
func (p *pool) inquire(ctx context.Context) {
	minute := time.NewTicker(time.Minute)
	defer minute.Stop()
	soon := time.NewTicker(turnEvery)
	defer soon.Stop()
	p.renewSoon(ctx)
	for {
		select {
		case <-ctx.Done():
			return
		case <-soon.C:
			p.alone(ctx)
		case node := <-p.words.ask:
			if err := p.words.learn(ctx, node); err != nil {
				p.log.Debug("what the authority says could not be had from a node", "node", node, "err", err)
			}
		case <-minute.C:
			p.renewSoon(ctx)
			p.lonely(ctx)
		}
	}
}

// rekey makes gossip use the keys it should. An old key ends by time, so this is also asked for every few seconds.
func (p *pool) rekey() {
	if err := p.gossip.Rekey(p.member.Keys().At(time.Now())); err != nil {
		p.log.Error("the keys of gossip cannot be changed", "err", err)
	}
}

const (
	turnEvery = 5 * time.Second
	turnLate  = 2 * time.Minute // how long a change of keys waits for live members that do not say that they have heard of it
)

// turnKeys goes on with a change of the keys of gossip, on the signer: the staged key is used when every live member has it, and the one
// before is dropped when nobody can need it. A member that slept through it asks over mutual TLS.
func (p *pool) turnKeys() {
	keys := p.member.Keys()
	if p.signer == nil {
		return
	}
	if keys.Staged == nil && p.betrayed(keys) {
		if _, err := p.signer.StageKey(); err != nil {
			p.log.Error("the key of gossip that a revoked node knows cannot be replaced", "err", err)
			return
		}
		p.words.say()
		return
	}
	if keys.Staged == nil {
		p.dropKey(keys)
		return
	}
	if missing := p.without(keys.Epoch); len(missing) > 0 {
		if p.turning.IsZero() {
			p.turning = time.Now()
		}
		if time.Since(p.turning) < turnLate {
			return
		}
		p.log.Warn("the new key of gossip comes into use; some live nodes have not said that they have it", "nodes", missing)
	}
	p.turning = time.Time{}
	if _, err := p.signer.UseKey(); err != nil {
		p.log.Error("the new key of gossip cannot be used", "err", err)
		return
	}
	p.log.Info("gossip uses a new key", "epoch", p.member.Keys().Epoch)
	p.words.say()
}

// betrayed says whether somebody was shut out who knows the current key.
func (p *pool) betrayed(keys identity.Keys) bool {
	return slices.ContainsFunc(p.member.Revocations(), func(r identity.Revocation) bool { return !r.At.Before(keys.Used) })
}

// dropKey ends the time of the old key early when it was replaced because somebody was shut out who knows it, and all live members have
// the new one.
func (p *pool) dropKey(keys identity.Keys) {
	if keys.Old == nil || len(p.without(keys.Epoch)) > 0 {
		return
	}
	for _, r := range p.member.Revocations() {
		if age := keys.Used.Sub(r.At); age < 0 || age > rotationLasts {
			continue
		}
		if _, err := p.signer.DropOldKey(); err != nil {
			p.log.Error("the key of gossip that a revoked node knows cannot be dropped; it ends by itself within a day", "err", err)
			return
		}
		p.words.say()
		return
	}
}

// rotationLasts is how long after a revocation the new key comes into use at the latest.
const rotationLasts = time.Hour

// without are the live members that have not said that they have the keys of that epoch.
func (p *pool) without(epoch uint64) (missing []string) {
	for _, m := range p.others() {
		if h, ok := p.words.of(m.Name); !ok || h.keys < epoch {
			missing = append(missing, m.Name)
		}
	}
	return missing
}

// remember writes down where the members are now.
func (p *pool) remember(save func([]store.Op) error) {
	now := map[string]whereabouts{}
	for _, m := range p.others() {
		now[m.Name] = whereabouts{Gossip: m.Addr.String(), Calls: callsAt(m), Signer: m.Meta.Roles&roleSigner != 0}
	}
	ops := p.known.saw(now)
	for node := range p.known.copy() {
		if p.left(node, now) {
			ops = append(ops, p.known.forget(node)...)
			p.gossip.Forget(node)
			p.peers.Forget(node)
		}
		if p.member.Revoked(node) {
			ops = append(ops, p.known.forget(node)...)
			p.peers.Forget(node)
		}
	}
	if len(ops) == 0 {
		return
	}
	if err := save(ops); err != nil {
		p.log.Warn("where the other nodes are could not be written down", "err", err)
	}
}

// left says whether a node has taken back what it said of itself, and is not there any more.
func (p *pool) left(node string, live map[string]whereabouts) bool {
	_, there := live[node]
	_, gone := p.catalog.Snapshot().Gone(catalog.KindNode, node)
	return gone && !there
}

// alone asks sooner than every minute while gossip shows nobody at all: after a start that is what a device finds that slept through a
// change of keys. The time doubles up to a minute.
func (p *pool) alone(ctx context.Context) {
	switch {
	case len(p.others()) > 0:
		p.patience = 0
	case time.Since(p.asked) >= p.patience && p.patience < time.Minute:
		p.asked, p.patience = time.Now(), max(turnEvery, 2*p.patience)
		p.lonely(ctx)
	}
}

// lonely asks a node that gossip does not see what the authority says, or three when gossip sees nobody: the keys may have changed while
// this device, and perhaps some others with it, slept, and then they do not understand the rest.
func (p *pool) lonely(ctx context.Context) {
	live := map[string]bool{}
	for _, m := range p.others() {
		live[m.Name] = true
	}
	left := 1
	if len(live) == 0 {
		left = 3
	}
	for node := range p.known.copy() { // in no order, so not always the same ones
		if live[node] {
			continue
		}
		if left--; left < 0 || ctx.Err() != nil {
			return
		}
		if err := p.words.learn(ctx, node); err == nil {
			p.gossip.Rejoin()
			return
		}
	}
}

// renewSoon renews this node's certificate when two thirds of its life are over, by a signer, or by itself if it is one.
func (p *pool) renewSoon(ctx context.Context) {
	if !p.member.RenewalDue() {
		return
	}
	if p.signer != nil {
		if err := p.signer.RenewOwn(); err != nil {
			p.log.Error("this signer cannot renew its own certificate", "err", err)
		}
		return
	}
	err := errors.New("no signer is known")
	for _, w := range p.known.copy() {
		if !w.Signer || w.Calls == "" {
			continue
		}
		if err = p.renewAt(ctx, w.Calls); err == nil {
			p.log.Info("certificate renewed", "until", p.member.Certificate().NotAfter)
			return
		}
	}
	if rand.N(10) == 0 { // it is due for days: not a line a minute
		p.log.Warn("the certificate is due for renewal and no signer renews it; other nodes will refuse this one when it has expired",
			"until", p.member.Certificate().NotAfter, "err", err)
	}
}

func (p *pool) renewAt(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	csr, err := p.member.RenewalRequest()
	if err != nil {
		return err
	}
	text, err := peer.Signer{Address: address, TLS: p.member.SignerTLS(), Dial: p.dial}.Renew(ctx, csr)
	if err != nil {
		return err
	}
	g, err := identity.DecodeGrant(text)
	if err != nil {
		return err
	}
	return p.member.Renewed(g)
}

// renew is the signer's side: a member, perhaps one whose certificate has expired, wants a new one.
func (p *pool) renew(_ context.Context, from peer.Stranger, csr []byte) ([]byte, error) {
	node, ok := identity.RenewerOf(from.TLS)
	if !ok {
		return nil, fmt.Errorf("renew: %w", identity.ErrPeer)
	}
	g, err := p.signer.Renew(node, csr)
	if err != nil {
		return nil, err
	}
	return g.Encode(), nil
}
