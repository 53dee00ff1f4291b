package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"mayfly/admin"
)

// identities are the files that say who a node is and where it belongs, below the data directory, and what the status says when one is
// missing; "" = the agent does not start without it.
func identities() [][2]string {
	return [][2]string{
		{"node.key", ""},
		{"cluster/membership", ""},
		{"cluster/authority", "authority-missing"},
	}
}

// misidentified are one case for each way to spoil those files.
func misidentified() []torment {
	var all []torment
	for i, d := range damages() {
		all = append(all, torment{
			"damage-identity-" + d.name, "the node's key and the files of its cluster: " + d.name, i == 1 || i == 2,
			func(t *trial) error { return spoilIdentities(t, d) },
		})
	}
	return all
}

// spoilIdentities damages one file after the other. The agent refuses to start and names the file and what to do, or serves and says what
// is missing; it never becomes another node. With the file restored it is what it was, and everything is there.
func spoilIdentities(t *trial, d damage) error {
	listen, err := freeAddress()
	if err != nil {
		return err
	}
	found := func() error {
		if _, err := t.agent.client.Init(t.ctx, admin.InitRequest{Name: "torture"}); err != nil {
			return err
		}
		return t.agent.ready(t.ctx, 20*time.Second, func(s *admin.Status) bool { return s.Ready && s.Cluster != nil })
	} // before anything is deployed: what the broker holds for a node alone is not handed over to the cluster
	if err := t.begin(world{config: fmt.Sprintf("[cluster]\nlisten = %q\nadvertise = \"127.0.0.1\"\n", listen), first: found}); err != nil {
		return err
	}
	t.expectExits = true
	t.rules.Durable = false // what the broker promised before the trigger had an owner, and a subscription
	before, err := t.agent.client.Status(t.ctx)
	if err != nil {
		return err
	}
	for _, f := range identities() {
		for range pick(t.workshop, 2, 20) {
			if err := t.spoilIdentity(d, f[0], f[1], before.Node.ID); err != nil {
				return fmt.Errorf("%s: %w", f[0], err)
			}
		}
	}
	t.bounds.recovery = soon
	return t.settle()
}

func (t *trial) spoilIdentity(d damage, name, code, id string) error {
	t.sleep(t.between(50*time.Millisecond, 300*time.Millisecond))
	if err := t.agent.kill(); err != nil {
		return err
	}
	file := filepath.Join(t.dir, "data", name)
	whole, err := os.ReadFile(file)
	if err == nil {
		err = d.spoil(t, file)
	}
	if err != nil {
		return err
	}
	spoiled, gone := os.ReadFile(file)
	refused, err := t.refused(name)
	if err != nil {
		return err
	}
	if !refused {
		if err := t.sameNode(id, code, gone != nil); err != nil {
			return err
		}
	}
	now, goneNow := os.ReadFile(file)
	if refused && (string(now) != string(spoiled) || (gone == nil) != (goneNow == nil)) {
		return errors.New("the agent refused to start and changed the file")
	}
	if err := t.agent.kill(); err != nil {
		return err
	}
	if err := os.WriteFile(file, whole, 0o600); err != nil {
		return err
	}
	if err := t.again(); err != nil {
		return err
	}
	return t.sameNode(id, "", false)
}

// refused starts the agent and says whether it ended; its last words must then name the file and what to do about it.
func (t *trial) refused(name string) (bool, error) {
	log := filepath.Join(t.dir, "agent.log")
	info, err := os.Stat(log)
	if err != nil {
		return false, err
	}
	ends := len(t.agent.ends())
	if err := t.agent.start(); err != nil {
		return false, err
	}
	for until := time.Now().Add(2 * soon); time.Now().Before(until); t.sleep(10 * time.Millisecond) {
		if s, err := t.agent.client.Status(t.ctx); err == nil && s.Ready {
			return false, nil
		}
		all := t.agent.ends()
		if len(all) == ends {
			continue
		}
		text, err := os.ReadFile(log)
		if err != nil {
			return true, err
		}
		words := string(text[info.Size():])
		if all[len(all)-1] != "exit status 1" || !strings.Contains(words, name) || !strings.Contains(words, "backup") {
			return true, fmt.Errorf("the agent ended with %s and said: %s", all[len(all)-1], words)
		}
		return true, nil
	}
	return false, errors.New("the agent neither serves nor ends")
}

// sameNode wants the agent to be the node it was, and to say what it misses.
func (t *trial) sameNode(id, code string, missing bool) error {
	s, err := t.agent.client.Status(t.ctx)
	if err != nil {
		return err
	}
	told := false
	for _, r := range s.Reasons {
		told = told || r.Code == code
	}
	switch {
	case s.Node.ID != id:
		return fmt.Errorf("the node became %s", s.Node.ID)
	case missing && (code == "" || !told):
		return fmt.Errorf("it serves without its file and does not say so: %+v", s.Reasons)
	case !missing && s.Cluster == nil:
		return fmt.Errorf("it left its cluster: %+v", s.Reasons)
	}
	return nil
}
