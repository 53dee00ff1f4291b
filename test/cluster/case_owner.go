package main

import (
	"fmt"
	"time"
)

// flowing is a site of five nodes, or of seven, whose relay answers so many events a second.
func (t *trial) flowing(rate int64) error {
	if err := t.site(pick(t, 5, 7)); err != nil {
		return err
	}
	if err := t.deploy(t.nodes[0], relay); err != nil {
		return err
	}
	if _, err := t.settled(relay.name); err != nil {
		return err
	}
	return t.begin(rate, relay.name)
}

// kill: whoever has the trigger dies, again and again; the broker keeps what it had, and somebody else gets it.
func kill(t *trial) error {
	if err := t.flowing(1000); err != nil {
		return err
	}
	for range pick(t, 2, 40) {
		n, err := t.settled(relay.name)
		if err != nil {
			return err
		}
		t.sleep(time.Second)
		t.flow.mark()
		if err := n.kill(); err != nil {
			return err
		}
		took, err := t.through(60 * time.Second)
		if err != nil {
			return err
		}
		t.takeovers = append(t.takeovers, took)
		if err := t.caughtUp(30 * time.Second); err != nil {
			return err
		}
		if err := n.start(); err != nil {
			return err
		}
		if err := n.member(); err != nil {
			return err
		}
		if err := t.together(60*time.Second, t.nodes...); err != nil {
			return err
		}
	}
	if p50 := quantile(t.takeovers, 0.5); p50 > 10_000 {
		t.fault("half of the takeovers took longer than %.0f ms; 10 s are promised", p50)
	}
	t.settle(30 * time.Second)
	return nil
}

// caughtUp waits until what was queued at the broker has been done.
func (t *trial) caughtUp(patience time.Duration) error {
	err := t.until(patience, func() bool {
		n, _ := t.flow.waiting()
		return n < 500
	})
	if err != nil {
		n, _ := t.flow.waiting()
		return fmt.Errorf("%d events still wait after %v", n, patience)
	}
	return nil
}

// drain: who is to go hands over at once, and who comes back is given what is his.
func drain(t *trial) error {
	if err := t.flowing(1000); err != nil {
		return err
	}
	var back []time.Duration
	for range pick(t, 3, 40) {
		n, err := t.settled(relay.name)
		if err != nil {
			return err
		}
		took, err := t.handover(n, true)
		if err != nil {
			return err
		}
		t.takeovers = append(t.takeovers, took)
		took, err = t.handover(n, false)
		if err != nil {
			return err
		}
		back = append(back, took)
	}
	t.figures["undrain_interruption_p50_ms"], t.figures["undrain_interruption_p99_ms"] = quantile(back, 0.5), quantile(back, 0.99)
	if p50 := quantile(t.takeovers, 0.5); p50 > 1000 {
		t.fault("half of the takeovers on drain interrupted the flow for longer than %.0f ms; 1 s is promised", p50)
	}
	t.settle(30 * time.Second)
	return nil
}

// handover drains the owner, or lets it take part again, and returns how long the flow was interrupted.
func (t *trial) handover(n *node, drained bool) (time.Duration, error) {
	args := []string{"nodes", "drain", n.name}
	if !drained {
		args = append(args, "--off")
	}
	t.flow.mark()
	if _, err := t.nodes[0].mayfly(args...); err != nil {
		return 0, err
	}
	err := t.until(60*time.Second, func() bool {
		now := t.owners(relay.name)
		return len(now) == 1 && (now[0] == n) != drained
	})
	if err != nil {
		return 0, fmt.Errorf("%s, drained %v: the trigger did not move: %w", n.name, drained, err)
	}
	t.sleep(500 * time.Millisecond)
	return t.through(30 * time.Second)
}
