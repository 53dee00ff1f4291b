package main

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// form: with one token a device is in, and with any other it is not.
func form(t *trial) error {
	if err := t.world(pick(t, 5, 7)); err != nil {
		return err
	}
	began := time.Now()
	members, strange := t.nodes[:len(t.nodes)-1], t.nodes[len(t.nodes)-1]
	if err := t.unite(members); err != nil {
		return err
	}
	t.figures["form_ms"] = float64(time.Since(began).Milliseconds())
	if err := t.refused(members[0], strange); err != nil {
		return err
	}
	began = time.Now()
	if err := t.deploy(members[0], relay); err != nil {
		return err
	}
	if err := t.deployed(relay.name, 20*time.Second, members...); err != nil {
		return err
	}
	visible := time.Since(began)
	t.figures["deploy_visible_ms"] = float64(visible.Milliseconds())
	if visible > 3*time.Second {
		t.fault("a deployment was visible everywhere after %v only; 3 s are promised", visible)
	}
	return t.quiet(members)
}

// deployed waits until nodes have a function.
func (t *trial) deployed(name string, patience time.Duration, nodes ...*node) error {
	return t.all(name, patience, true, nodes)
}

// removed waits until nodes do not have a function.
func (t *trial) removed(name string, patience time.Duration, nodes ...*node) error {
	return t.all(name, patience, false, nodes)
}

func (t *trial) all(name string, patience time.Duration, want bool, nodes []*node) error {
	var last string
	err := t.until(patience, func() bool {
		for _, n := range nodes {
			if has, err := n.has(name); err != nil || has != want {
				last = fmt.Sprintf("%s has it: %v, %v", n.name, has, err)
				return false
			}
		}
		return true
	})
	if err != nil {
		return fmt.Errorf("function %s: want %v everywhere within %v: %s", name, want, patience, last)
	}
	return nil
}

func (n *node) has(name string) (bool, error) {
	all, err := n.client.Functions(n.t.ctx)
	for i := range all {
		if all[i].Name == name {
			return true, nil
		}
	}
	return false, err
}

// refused: tokens that are used up, over, taken back, of another cluster, or nonsense.
func (t *trial) refused(signer, strange *node) error {
	used, err := signer.token("--uses", "1")
	if err != nil {
		return err
	}
	short, err := signer.token("--ttl", "1s")
	if err != nil {
		return err
	}
	back, err := signer.token()
	if err != nil {
		return err
	}
	if err := t.takeBack(signer, back); err != nil {
		return err
	}
	other, err := t.add()
	if err != nil {
		return err
	}
	if err := other.ready(); err != nil {
		return err
	}
	if _, err := other.mayfly("join", used, "--via", signer.calls()); err != nil {
		return err
	}
	if err := other.member(); err != nil {
		return err
	}
	foreign, err := t.foreign()
	if err != nil {
		return err
	}
	t.sleep(time.Second)
	for what, token := range map[string]string{
		"used up": used, "expired": short, "revoked": back, "of another cluster": foreign,
		"made up": used[:len(used)-6] + "AAAAAA",
	} {
		if text, err := strange.mayfly("join", token, "--via", signer.calls()); err == nil {
			t.fault("a token that is %s was accepted: %s", what, text)
		}
	}
	if s, err := strange.client.Status(t.ctx); err != nil || s.Cluster != nil {
		return fmt.Errorf("the stranger is in cluster %+v, %w", s.Cluster, err)
	}
	good, err := signer.token()
	if err != nil {
		return err
	}
	_, err = strange.mayfly("join", good, "--via", signer.calls()) // or it was refused for another reason
	return err
}

// takeBack revokes a token that was made before.
func (t *trial) takeBack(signer *node, token string) error {
	list, err := signer.client.Tokens(t.ctx)
	if err != nil {
		return err
	}
	for _, k := range list {
		if strings.Contains(token, k.ID) {
			_, err := signer.mayfly("token", "revoke", k.ID)
			return err
		}
	}
	return errors.New("the token that was just made is not listed")
}

// foreign founds another cluster on one more node and returns a token of it.
func (t *trial) foreign() (string, error) {
	n, err := t.add()
	if err != nil {
		return "", err
	}
	if err := n.ready(); err != nil {
		return "", err
	}
	if _, err := n.mayfly("init", "--cluster", "elsewhere"); err != nil {
		return "", err
	}
	if err := n.member(); err != nil {
		return "", err
	}
	return n.token()
}

// quiet measures what a cluster without work sends.
func (t *trial) quiet(nodes []*node) error {
	carried := func() (bytes int64) {
		for _, a := range nodes {
			for _, b := range nodes {
				if a != b {
					_, n := t.net.Carried(a.name, b.name)
					bytes += n
				}
			}
		}
		return bytes
	}
	before, long := carried(), pick(t, 10*time.Second, 60*time.Second)
	t.sleep(long)
	t.figures["idle_bytes_per_node_per_s"] = float64(carried()-before) / long.Seconds() / float64(len(nodes))
	return t.ctx.Err()
}
