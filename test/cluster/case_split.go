package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"mayfly/cluster/identity"
	"mayfly/test/cluster/lan"
)

// split: two halves that do not see each other but both reach the broker. What has an owner keeps it, and what was deployed and removed
// on either side is so on both sides afterwards.
func split(t *trial) error {
	t.kicks = 2
	if err := t.flowing(500); err != nil {
		return err
	}
	if err := t.lendKey(t.nodes[2]); err != nil {
		return err
	}
	if err := t.deploy(t.nodes[0], guest{name: "doomed", source: relay.source}); err != nil {
		return err
	}
	if err := t.deployed("doomed", 10*time.Second, t.nodes...); err != nil {
		return err
	}
	seen, err := t.watchClaims()
	if err != nil {
		return err
	}
	left, right := t.nodes[:2], t.nodes[2:]
	t.net.Between(names(left), names(right), lan.Fault{Block: true})
	parted := time.Now()
	if err := t.apart(left, right); err != nil {
		return err
	}
	t.figures["parted_ms"] = float64(time.Since(parted).Milliseconds())
	if err := t.changesOnBothSides(left, right); err != nil {
		return err
	}
	t.sleep(time.Until(parted.Add(pick(t, 25*time.Second, 10*time.Minute))))
	t.noted("claims while parted: %s", strings.ReplaceAll(seen.story(t, parted), "\n", ", "))
	t.net.Heal()
	healed := time.Now()
	if err := t.together(time.Minute, t.nodes...); err != nil {
		return fmt.Errorf("healed for a minute: %w", err)
	}
	t.figures["heal_ms"] = float64(time.Since(healed).Milliseconds())
	if err := t.equal(time.Minute); err != nil {
		return err
	}
	t.figures["equal_ms"] = float64(time.Since(healed).Milliseconds())
	if _, err := t.owner(relay.name); err != nil {
		return err
	}
	t.sleep(pick(t, 5*time.Second, time.Minute)) // what was deleted might come back later
	if err := t.removed("doomed", 0, t.nodes...); err != nil {
		return err
	}
	t.settle(30 * time.Second)
	return seen.once()
}

// lendKey gives a node the operator's key, which is where the cluster was founded: somebody has to sign on either side.
func (t *trial) lendKey(to *node) error {
	key, err := os.ReadFile(filepath.Join(t.nodes[0].data(), "cluster", identity.OperatorFile))
	if err != nil {
		return err
	}
	if err := to.end(syscall.SIGTERM); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(to.data(), "cluster", identity.OperatorFile), key, 0o600); err != nil {
		return err
	}
	if err := to.start(); err != nil {
		return err
	}
	if err := to.member(); err != nil {
		return err
	}
	return t.together(30*time.Second, t.nodes...)
}

func names(nodes []*node) (all []string) {
	for _, n := range nodes {
		all = append(all, n.name)
	}
	return all
}

// apart waits until nobody of one side sees anybody of the other.
func (t *trial) apart(left, right []*node) error {
	blind := func(viewers, others []*node) bool {
		for _, v := range viewers {
			alive, err := v.sees()
			if err != nil || slices.ContainsFunc(others, func(o *node) bool { return slices.Contains(alive, o.id) }) {
				return false
			}
		}
		return true
	}
	err := t.until(time.Minute, func() bool { return blind(left, right) && blind(right, left) })
	if err != nil {
		return fmt.Errorf("the two sides still see each other: %w", err)
	}
	return nil
}

// changesOnBothSides deploys something on each side, and removes on one what the other one still has.
func (t *trial) changesOnBothSides(left, right []*node) error {
	for name, n := range map[string]*node{"leftist": left[0], "rightist": right[0]} {
		if err := t.deploy(n, guest{name: name, source: relay.source}); err != nil {
			return err
		}
	}
	if _, err := left[0].mayfly("fn", "rm", "doomed", "--yes"); err != nil {
		return err
	}
	if err := t.removed("doomed", 10*time.Second, left...); err != nil {
		return err
	}
	if err := t.deployed("rightist", 10*time.Second, right...); err != nil {
		return err
	}
	return t.deployed("leftist", 10*time.Second, left...)
}

// equal waits until all nodes have the same functions, those of both sides.
func (t *trial) equal(patience time.Duration) error {
	var last string
	err := t.until(patience, func() bool {
		var first string
		for i, n := range t.nodes {
			has, err := n.catalog()
			if err != nil {
				last = err.Error()
				return false
			}
			if i == 0 {
				first = has
			}
			if last = first + " and " + has; has != first || !strings.Contains(has, "leftist") || !strings.Contains(has, "rightist") {
				return false
			}
		}
		return true
	})
	if err != nil {
		return fmt.Errorf("the catalogs are not equal after %v: %s", patience, last)
	}
	return nil
}

// catalog is what a node has deployed, as text.
func (n *node) catalog() (string, error) {
	ctx, cancel := context.WithTimeout(n.t.ctx, 5*time.Second)
	defer cancel()
	all, err := n.client.Functions(ctx)
	var has []string
	for i := range all {
		has = append(has, all[i].Name+" "+all[i].Version+" "+all[i].Digest)
	}
	slices.Sort(has)
	return strings.Join(has, ", "), err
}
