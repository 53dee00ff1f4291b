package main

import (
	"errors"
	"fmt"
	"syscall"
	"time"

	"mayfly/test/torture/powercut"
)

// powerCut: the agent's disk is an ext4 on a drive with a volatile cache. What the agent acknowledged before the power went has
// its effect afterwards, and the store opens.
func powerCut(t *trial) error {
	drive, err := powercut.New(t.ctx, t.dir, 256<<20)
	if err != nil {
		return err
	}
	defer func() {
		if t.agent != nil {
			t.agent.close()
		}
		if err := drive.Close(t.ctx); err != nil {
			t.faults = append(t.faults, err.Error())
		}
	}()
	if err := t.begin(world{data: drive.Dir + "/data"}); err != nil {
		return err
	}
	t.load.rate.Store(2000)
	cuts, stake := pick(t.workshop, 5, max(10, int(12*t.minutes))), 0
	for range cuts {
		t.sleep(t.between(200*time.Millisecond, 3*time.Second))
		n, err := drive.Cut(t.ctx, t.rng, func() error { t.agent.expectEnd(); return t.agent.signal(syscall.SIGKILL) }, t.agent.kill)
		if err != nil {
			return err
		}
		stake += n
		if err := t.again(); err != nil {
			return err
		}
	}
	t.notes = append(t.notes, fmt.Sprintf("%d cuts, %d writes at stake, %d flushes", cuts, stake, drive.Flushes()))
	t.bounds.recovery, t.bounds.duplicates = 2*time.Second, cuts*atOnce
	err = t.settle()
	return errors.Join(err, t.unrepaired())
}

// unrepaired says whether the store had to report a loss: after a power cut there must be none.
func (t *trial) unrepaired() error {
	s, err := t.agent.client.Status(t.ctx)
	if err != nil {
		return err
	}
	for _, f := range s.Store.Findings {
		if f.Lost > 0 {
			return fmt.Errorf("the store reports a loss: %s", f.Text)
		}
	}
	return nil
}
