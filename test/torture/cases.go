package main

import (
	"slices"
	"time"
)

// cases are all of them, the cheap ones first.
func cases() []torment {
	all := []torment{
		{"kill-agent", "kill -9 of the agent at random moments under load", false, killAgent},
		{"kill-spilling", "the same while events spill to the journal all the time", false, killSpilling},
		{"kill-many", "kill -9 of the agent with a hundred functions deployed", false, killMany},
		{"kill-embedded", "kill -9 of the agent that is its own broker", false, killEmbedded},
		{"pause-embedded", "SIGSTOP of the agent that is its own broker", true, pauseEmbedded},
		{"linearizable", "kill -9 while clients read, write and swap registers in a function's state", false, linearizable},
		{"clock-jumps", "the wall clock jumps a year ahead, a year back and to 1970, also before starts", false, clockJumps},
		{"soak", "a mixed load for as long as there is time: nothing grows, and the counters add up", false, soak},
		{"stop-agent", "SIGTERM of the agent at random moments under load", false, stopAgent},
		{"pause-agent", "SIGSTOP of the agent for a second, ten and sixty", false, pauseAgent},
		{"broker-restart", "the broker ends and starts again, with persistence", false, brokerRestart},
		{"broker-amnesia", "kill -9 of a broker without persistence", false, brokerAmnesia},
		{"broker-pause", "SIGSTOP of the broker for a second, ten and sixty", false, brokerPause},
		{"link-cut", "connections are reset, some in the middle of a packet", false, linkCut},
		{"link-half-open", "nothing passes and nothing is closed, longer than the keep-alive", false, linkHalfOpen},
		{"link-slow", "1 KB/s, then 200 ms of delay", false, linkSlow},
		{"flood", "ten times what the function can do, at a broker with default limits", false, flood},
		{"slow-neighbour", "a function that cannot keep up shares the broker's window with one that can", false, slowNeighbour},
		{"hostile", "guests that loop, recurse, trap and take memory beside one that behaves", true, hostile},
		{"dead-letters", "a store full of dead letters is replayed", false, deadLetters},
		{"power-cut", "the power goes: every write since the last flush of the disk is lost, kept or torn by chance", true, powerCut},
		{"full-disk", "the disk is full, to a few bytes and to none, also at the start", true, fullDisk},
		{"failing-sync", "syncs fail with an I/O error from a random one on", true, failingSync},
	}
	return slices.Concat(all, crashes(), damaged(), misidentified())
}

// killAgent: everything the broker promised has its effect, once on state, in order, however often the agent dies.
func killAgent(t *trial) error { return kills(t, world{}) }

// killSpilling: windows are journaled as soon as they are full, so that most events pass through the journal.
func killSpilling(t *trial) error {
	return kills(t, world{config: "[limits]\nspill_after = \"10ms\"\n", limits: "concurrency = 1\n"})
}

func kills(t *trial, w world) error {
	if err := t.begin(w); err != nil {
		return err
	}
	t.load.rate.Store(4000)
	n := pick(t.workshop, 25, max(50, int(100*t.minutes)))
	for range n {
		t.sleep(t.between(10*time.Millisecond, 600*time.Millisecond))
		if err := t.agent.kill(); err != nil {
			return err
		}
		if err := t.again(); err != nil {
			return err
		}
	}
	t.bounds.recovery, t.bounds.duplicates = 2*time.Second, n*atOnce
	return t.settle()
}

// atOnce is how many publishes one crash may repeat: what the broker sent and was not acknowledged, and what the outbox sent and
// had not erased.
const atOnce = 20 + 256

// again starts the agent and waits until it works.
func (t *trial) again() error {
	began := time.Now()
	if err := t.agent.start(); err != nil {
		return err
	}
	return t.recovered(began, 20*time.Second)
}

// stopAgent: a stop in good order repeats next to nothing.
func stopAgent(t *trial) error {
	if err := t.begin(world{}); err != nil {
		return err
	}
	t.load.rate.Store(4000)
	for range pick(t.workshop, 5, 50) {
		t.sleep(t.between(10*time.Millisecond, 600*time.Millisecond))
		if err := t.agent.stop(); err != nil {
			return err
		}
		if err := t.again(); err != nil {
			return err
		}
	}
	t.bounds.recovery = 2 * time.Second
	return t.settle()
}
