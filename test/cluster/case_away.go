package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// away: two nodes are away for longer than deletions are remembered, one switched off, one with its cable out. They bring nothing back. A
// month of these agents is over in a minute.
func away(t *trial) error {
	if err := t.hasty(); err != nil {
		return err
	}
	if err := t.site(5); err != nil {
		return err
	}
	rest, off, out := t.nodes[:3], t.nodes[3], t.nodes[4]
	for _, name := range []string{"doomed", "stays"} {
		if err := errors.Join(t.deploy(rest[0], guest{name: name, source: relay.source}), t.deployed(name, 10*time.Second, t.nodes...)); err != nil {
			return err
		}
	}
	t.sleep(10 * time.Second) // for all to be acquainted
	if err := off.end(syscall.SIGTERM); err != nil {
		return err
	}
	t.net.Unplug(out.name, true)
	if _, err := rest[0].mayfly("fn", "rm", "doomed", "--yes"); err != nil {
		return err
	}
	if err := errors.Join(t.deploy(rest[0], guest{name: "late", source: relay.source}), t.deployed("late", 10*time.Second, rest...)); err != nil {
		return err
	}
	began := time.Now()
	for _, n := range rest {
		if err := t.until(3*time.Minute, n.forgot); err != nil {
			return fmt.Errorf("%s has not forgotten that something was removed: the case shows nothing: %w", n.name, err)
		}
	}
	t.figures["forgotten_after_ms"] = float64(time.Since(began).Milliseconds())
	t.net.Unplug(out.name, false)
	if err := errors.Join(off.start(), off.member()); err != nil {
		return err
	}
	began = time.Now()
	if err := t.together(2*time.Minute, t.nodes...); err != nil {
		return err
	}
	if err := t.nothingBack(rest, off, out); err != nil {
		return err
	}
	t.figures["equal_after_ms"] = float64(time.Since(began).Milliseconds())
	return nil
}

// nothingBack checks for a while that what was removed is nowhere, nor was for a moment where it had been removed, and that what was
// deployed meanwhile is everywhere.
func (t *trial) nothingBack(rest []*node, returned ...*node) error {
	clean := func() bool { return t.removed("doomed", 0, returned...) == nil }
	if err := t.until(time.Minute, clean); err != nil {
		return fmt.Errorf("who was away still has what was removed: %w", err)
	}
	for range pick(t, 10, 60) {
		if err := t.removed("doomed", 0, rest...); err != nil {
			return fmt.Errorf("who was away has brought it back: %w", err)
		}
		t.sleep(time.Second)
	}
	return errors.Join(t.removed("doomed", 0, t.nodes...), t.deployed("late", 10*time.Second, t.nodes...), t.deployed("stays", 0, t.nodes...))
}

// forgot says whether the node has said that it does not remember deletions any more.
func (n *node) forgot() bool {
	text, err := os.ReadFile(n.data() + ".log")
	return err == nil && strings.Contains(string(text), "deletions were forgotten")
}

// hasty builds an agent whose month is over in a minute.
func (t *trial) hasty() error {
	t.agent = filepath.Join(t.workshop.dir, "mayflyd-hasty")
	text, err := exec.CommandContext(t.ctx, "go", "build", "-tags", "hasty", "-o", t.agent, "./cmd/mayflyd").CombinedOutput()
	if err != nil {
		return fmt.Errorf("an agent in a hurry: %w\n%s", err, text)
	}
	return nil
}
