package main

import (
	"fmt"
	"slices"
	"time"

	"mayfly/admin"
	"mayfly/internal/crashpoint"
	"mayfly/test/torture/history"
)

// crashes are one case for each crash point: the agent dies exactly there, once, early and late.
func crashes() []torment {
	var all []torment
	for _, p := range crashpoint.All() {
		all = append(all, torment{"crash-" + string(p), "the agent dies at the point " + string(p), false, func(t *trial) error { return crashAt(t, p) }})
	}
	return all
}

// crashAt lets the agent die at p and judges what is left. Each point needs the load that comes by.
func crashAt(t *trial, p crashpoint.Point) error {
	w := world{variant: "crashpoints", flags: []string{"-tags", "crashpoints"}}
	graves := false
	switch { // the usual load comes by the other points
	case slices.Contains([]crashpoint.Point{crashpoint.Spill, crashpoint.Spilling, crashpoint.Spilled}, p):
		w.guests = []deploy{{name: "slow", guest: "slow", limits: "concurrency = 1\n", config: "work_ms = 8\n"}, {name: "relay", guest: "relay"}}
		w.config = "[limits]\nspill_after = \"50ms\"\n"
	case slices.Contains([]crashpoint.Point{crashpoint.Bury, crashpoint.Buried, crashpoint.Replay, crashpoint.Replayed}, p):
		w.guests = []deploy{rejecting("0"), {name: "relay", guest: "relay"}}
		graves = true
	}
	if err := t.begin(w); err != nil {
		return err
	}
	t.expectExits = true
	for _, nth := range pick(t.workshop, []int{3}, []int{1, 2, 20, 100}) {
		if err := t.dieAt(p, nth); err != nil {
			return err
		}
	}
	if graves {
		t.sleep(300 * time.Millisecond)
		if err := t.raise(); err != nil {
			return err
		}
	}
	t.bounds.recovery = 2 * time.Second
	return t.settle()
}

func rejecting(accept string) deploy {
	return deploy{name: "reject", guest: "reject", config: fmt.Sprintf("accept = %q\n", accept)}
}

// dieAt restarts the agent with the point armed, waits for its death and starts it again.
func (t *trial) dieAt(p crashpoint.Point, nth int) error {
	replays := p == crashpoint.Replay || p == crashpoint.Replayed
	if replays {
		nth = 1 // a replay of one batch passes it once
		t.load.rate.Store(150)
	}
	t.sleep(300 * time.Millisecond)
	if err := t.agent.stop(); err != nil {
		return err
	}
	t.agent.env = []string{fmt.Sprintf("CRASHPOINT=%s@%d", p, nth)}
	if err := t.agent.start(); err != nil {
		return err
	}
	if replays {
		if err := t.replayHeld(); err != nil {
			return err
		}
	}
	if err := t.agent.died(20 * time.Second); err != nil {
		return fmt.Errorf("point %s@%d: %w", p, nth, err)
	}
	t.agent.env = nil
	if replays {
		t.load.resume() // what comes now is behind what was replayed
	}
	return t.again()
}

// replayHeld replays every dead letter at an agent that dies under it, and leaves the load held. A replayed event is a new arrival, and
// buried again it is behind all that was buried before: nothing may be buried between the look at the dead letters and the death,
// and one batch takes them all, or the replay that counts finds them in another order than they came in.
func (t *trial) replayHeld() error {
	if err := t.agent.ready(t.ctx, 20*time.Second, func(s *admin.Status) bool { return s.Ready && s.DeadLetters.Count > 20 }); err != nil {
		return err
	}
	t.load.hold()
	if err := t.buried(); err != nil {
		return err
	}
	s, err := t.agent.client.Status(t.ctx)
	if err == nil && s.DeadLetters.Count > 200 {
		err = fmt.Errorf("%d dead letters are more than a batch of a replay", s.DeadLetters.Count)
	}
	if err == nil {
		_, _ = t.agent.client.Replay(t.ctx, admin.DeadLetterQuery{All: true}) // it dies under this call
	}
	return err
}

// buried waits, while nothing is sent, until every event is acknowledged and none waits in the journal.
func (t *trial) buried() error {
	deadline := time.Now().Add(30 * time.Second)
	for {
		waiting, _ := t.log.Waiting(history.Sent, history.Acked)
		if waiting == 0 {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d events are not acknowledged", waiting)
		}
		t.sleep(20 * time.Millisecond)
	}
	return t.agent.ready(t.ctx, 20*time.Second, func(s *admin.Status) bool { return s.Journal.Count == 0 })
}

// raise lets the function accept what it rejected so far and replays every dead letter.
func (t *trial) raise() error {
	t.load.stop()
	// What was acknowledged is buried, or waits to be: in the journal, behind what was replayed.
	if err := t.buried(); err != nil {
		return err
	}
	if err := t.deploy(rejecting("1")); err != nil {
		return err
	}
	n, err := t.agent.client.Replay(t.ctx, admin.DeadLetterQuery{All: true})
	t.notes = append(t.notes, fmt.Sprintf("%d dead letters replayed", n))
	return err
}
