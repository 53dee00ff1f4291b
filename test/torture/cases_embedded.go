package main

import (
	"fmt"
	"net"
	"syscall"
	"time"
)

// The embedded broker keeps sessions and queues in memory: what it sent to other subscribers and they did not acknowledge is gone when
// the agent dies. What it promises to who publishes is all of it: it acknowledges when the event is settled. So these cases
// judge by the state, where every acknowledged event must have acted once, in order; the sender repeats what was not acknowledged on
// a new session, so the ledger goes by its ids.

// killEmbedded: the agent dies with the broker inside it.
func killEmbedded(t *trial) error {
	if err := t.beginEmbedded(""); err != nil {
		return err
	}
	for range pick(t.workshop, 15, max(30, int(60*t.minutes))) {
		t.sleep(t.between(10*time.Millisecond, 600*time.Millisecond))
		if err := t.agent.kill(); err != nil {
			return err
		}
		if err := t.again(); err != nil {
			return err
		}
	}
	t.bounds.recovery = 2 * time.Second
	return t.settle()
}

// pauseEmbedded: both sleep, and the events in the window are journaled when they wake.
func pauseEmbedded(t *trial) error {
	if err := t.beginEmbedded("[limits]\nspill_after = \"10ms\"\n"); err != nil {
		return err
	}
	for _, d := range t.pauses() {
		t.sleep(time.Second)
		if err := t.agent.signal(syscall.SIGSTOP); err != nil {
			return err
		}
		t.sleep(d)
		if err := t.agent.signal(syscall.SIGCONT); err != nil {
			return err
		}
		if err := t.recovered(time.Now(), time.Minute); err != nil {
			return err
		}
	}
	return t.settle()
}

func (t *trial) beginEmbedded(config string) error {
	if err := t.begin(world{embedded: true, guests: usual(true)[:1], config: config}); err != nil {
		return err
	}
	t.load.rate.Store(2000)
	return nil
}

// freeAddress is one on the loopback interface where nobody listens now.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("no free port: %w", err)
	}
	return l.Addr().String(), l.Close()
}
