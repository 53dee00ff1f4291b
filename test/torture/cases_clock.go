package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// clock is the wall clock of the agent alone, set from outside; the monotonic one is the machine's.
type clock struct {
	tool, file string
}

// newClock builds the program that deceives the agent: test/e2e/testdata/oldclock.c says how.
func newClock(t *trial) (*clock, error) {
	c := &clock{filepath.Join(t.dir, "oldclock"), filepath.Join(t.dir, "clock")}
	if out, err := exec.CommandContext(t.ctx, "gcc", "-O2", "-o", c.tool, "test/e2e/testdata/oldclock.c").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("gcc: %w\n%s", err, out)
	}
	return c, c.set(time.Now())
}

// set lets it jump.
func (c *clock) set(to time.Time) error {
	f, err := os.OpenFile(c.file, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	shift := to.Unix() - time.Now().Unix()
	_, err = f.WriteAt(binary.NativeEndian.AppendUint64(nil, uint64(shift)), 0) // it is mapped: never truncated
	return err
}

// clockJumps: the wall clock jumps a year ahead, back, a year behind and to 1970 under load, and the agent dies and starts with each.
// Nothing is lost or turned around, retries come, and the first boot may have been in 1970 too.
func clockJumps(t *trial) error {
	c, err := newClock(t)
	if err != nil {
		return err
	}
	const year = 365 * 24 * time.Hour
	if err := c.set(time.Unix(60, 0)); err != nil {
		return err
	}
	if err := t.begin(world{wrap: []string{c.tool, c.file}}); err != nil {
		return err
	}
	now := time.Now()
	jumps := []time.Time{now, now.Add(year), now, now.Add(-year), now, time.Unix(60, 0), now.Add(year)}
	for range pick(t.workshop, 1, max(2, int(3*t.minutes))) {
		for _, to := range jumps {
			if err := c.set(to); err != nil {
				return err
			}
			if err := t.flowing(20 * time.Second); err != nil {
				return fmt.Errorf("after the jump to %s: %w", to.UTC().Format(time.DateOnly), err)
			}
			t.sleep(t.between(200*time.Millisecond, 700*time.Millisecond))
			if err := t.agent.kill(); err != nil {
				return err
			}
			if err := t.again(); err != nil {
				return fmt.Errorf("started in %s: %w", to.UTC().Format(time.DateOnly), err)
			}
		}
	}
	t.bounds.recovery = 2 * time.Second
	return t.settle()
}
