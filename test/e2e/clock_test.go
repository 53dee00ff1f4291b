package e2e_test

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"mayfly/internal/guests"
	"mayfly/internal/mosquitto"
)

// clock is a wall clock for one process, set from outside.
type clock struct {
	t    testing.TB
	file string
}

// newClock makes n's process start with a clock of its own, which shows a time of January 1970: what a board without a battery
// starts with. The programs are the ones of this run; testdata/oldclock.c says how they are deceived.
func newClock(t testing.TB, n *node) *clock {
	t.Helper()
	c := &clock{t, filepath.Join(n.dir, "clock")}
	tool := filepath.Join(n.dir, "oldclock")
	cmd := exec.CommandContext(t.Context(), "gcc", "-O2", "-Wall", "-Werror", "-o", tool, filepath.Join(guests.Root(t), "test/e2e/testdata/oldclock.c"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	c.set(time.Unix(60, 0))
	n.within = []string{tool, c.file}
	return c
}

// set lets the clock jump.
func (c *clock) set(to time.Time) {
	c.t.Helper()
	f, err := os.OpenFile(c.file, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		c.t.Fatal(err)
	}
	defer f.Close()
	shift := to.Unix() - time.Now().Unix()
	if _, err := f.WriteAt(binary.NativeEndian.AppendUint64(nil, uint64(shift)), 0); err != nil { // mapped: never truncated
		c.t.Fatal(err)
	}
}

const stubbornManifest = `[retry]
max_attempts = 10
backoff = "200ms..400ms"
[state]
scope = "node"
[permissions]
publish = ["good/#"]
[[trigger.mqtt]]
topic = "stubborn/{x}"
`

// A board without a battery starts in 1970, gets the time from the network later, and starts in 1970 again after the next power
// cut. Events are handled all the same, retries come when they are due, the order per key stands, state is exact, and a
// deployment of 1970 replaces one of today.
func TestClockOf1970(t *testing.T) {
	t.Parallel()
	b := mosquitto.Run(t, mosquitto.Options{MaxQueued: -1})
	n := newNode(t, brokerAt(b.URL())+"[limits]\nspill_after = \"20ms\"\n")
	c := newClock(t, n)
	n.start()
	if year := n.status().Node.Started.UTC().Year(); year != 1970 {
		t.Fatalf("the agent believes it is %d", year)
	}
	n.teller("1.0.0", "")
	n.must("deploy", "--wait", n.dir+"/teller")
	// Asks for a retry as long as its attempt is not the third.
	n.deploy("stubborn", stubbornManifest, guests.C(t, "test/e2e/testdata/stubborn.c"))
	listener := connect(t, b.Addr(), "listener")
	listener.subscribe(t, "told/#")
	listener.subscribe(t, "good/#")
	d := connect(t, b.Addr(), "device")
	say := func(key string, first, last int) {
		for i := first; i <= last; i++ {
			d.say(t, "ask/"+key, number(i))
		}
	}
	say("a", 1, 50)
	told(t, listener, "a", 50)
	d.say(t, "stubborn/1", "in 1970")
	listener.hears(t, "good/topic", "in 1970")

	n.must("fn", "pause", "teller")
	say("a", 51, 100)
	until(t, "they are journaled", func() (bool, string) { s := n.status(); return s.Journal.Count >= 30, fmt.Sprint(s.Journal) })
	d.say(t, "stubborn/1", "over the jump")
	c.set(time.Now())
	n.must("fn", "resume", "teller")
	say("a", 101, 150)
	told(t, listener, "a", 150)
	listener.hears(t, "good/topic", "over the jump")
	n.teller("2.0.0", "")

	n.must("fn", "pause", "teller")
	say("a", 151, 200)
	until(t, "they are journaled", func() (bool, string) { s := n.status(); return s.Journal.Count >= 30, fmt.Sprint(s.Journal) })
	n.kill()
	c.set(time.Unix(60, 0))
	n.start()
	n.must("fn", "show", "teller").want(t, 0, "2.0.0")
	n.teller("3.0.0", "")
	n.must("fn", "resume", "teller")
	say("a", 201, 250)
	told(t, listener, "a", 250)
	n.must("fn", "show", "teller").want(t, 0, "3.0.0")
	n.kill()
	n.start()
	n.must("fn", "show", "teller").want(t, 0, "3.0.0")
	n.clean()
}
