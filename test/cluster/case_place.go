package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// crunch costs about 20 ms of processor time an event. The limit is far above what a fifth of a processor makes of that.
func crunch(name, placement string) guest {
	return guest{
		name: name, source: "test/cluster/guests/crunch.c", limits: "timeout = \"20s\"\n",
		more: placement + "[config]\nmillions = 16\n",
	}
}

const (
	boxes   = 5
	share   = 0.2 // of one processor for each node, so that two processors are enough for all of them and what is around them
	inHand  = 300 // events that wait at the broker while it is measured: nobody runs out of work
	enough  = 0.8 // of what the nodes do alone is promised
	warm    = 5 * time.Second
	crowded = 2 // sandboxes at once for a processor: who crunches gains nothing by more, and what waits can go elsewhere
)

// place: each of five nodes has its share of the processor. One has the only trigger of a function that needs all it can get: together they do
// nearly as much as when each has a trigger of its own.
func place(t *trial) error {
	t.slots = crowded
	if err := t.boxed(); err != nil {
		return err
	}
	var solos []string
	for _, n := range t.nodes {
		solos = append(solos, "solo-"+n.name)
		g := crunch("solo-"+n.name, fmt.Sprintf("[placement]\nrequire = [%q]\n", "label:"+n.name))
		if err := errors.Join(t.deploy(t.nodes[0], g), t.deployed(g.name, 20*time.Second, t.nodes...)); err != nil {
			return err
		}
	}
	g := crunch("crunch", "")
	if err := errors.Join(t.deploy(t.nodes[0], g), t.deployed(g.name, 20*time.Second, t.nodes...)); err != nil {
		return err
	}
	for _, name := range append([]string{g.name}, solos...) {
		if _, err := t.owner(name); err != nil {
			return err
		}
	}
	for _, n := range t.nodes {
		if err := n.confine(share); err != nil {
			return err
		}
	}
	if err := t.begin(20, append([]string{g.name}, solos...)...); err != nil {
		return err
	}
	alone, err := t.saturated(solos...)
	if err != nil {
		return err
	}
	together, err := t.saturated(g.name)
	if err != nil {
		return err
	}
	t.figures["alone_per_s"], t.figures["together_per_s"], t.figures["ratio"] = alone, together, together/alone
	t.noted("each by itself %.1f/s in all, one trigger for all of them %.1f/s: %.2f; at least %.1f is promised", alone, together, together/alone, enough)
	if together < enough*alone {
		t.fault("the cluster does %.2f of what its nodes do alone", together/alone)
	}
	return nil
}

// boxed is a site of nodes that carry their own names as labels.
func (t *trial) boxed() error {
	if err := t.world(0); err != nil {
		return err
	}
	for i := range boxes {
		if _, err := t.add(fmt.Sprintf("n%d", i+1)); err != nil {
			return err
		}
	}
	for _, n := range t.nodes {
		if err := n.ready(); err != nil {
			return err
		}
	}
	return t.unite(t.nodes)
}

// saturated sends events of functions so that some always wait, and returns how many of them have an effect in a second. Then it waits for
// the rest.
func (t *trial) saturated(functions ...string) (perSecond float64, err error) {
	t.flow.aim(functions...)
	defer t.flow.rate.Store(0)
	measured := func(long time.Duration) (float64, error) {
		began, before := time.Now(), t.flow.effects(functions)
		err := t.until(long+time.Minute, func() bool {
			n, _ := t.flow.waiting()
			t.flow.rate.Store(map[bool]int64{true: 1000}[n < inHand])
			return time.Since(began) >= long
		})
		return float64(t.flow.effects(functions)-before) / time.Since(began).Seconds(), err
	}
	if _, err := measured(warm); err != nil {
		return 0, err
	}
	perSecond, err = measured(pick(t, 15*time.Second, 60*time.Second))
	t.settle(60 * time.Second)
	return perSecond, err
}

// cages is where the processor is shared out, and whether that is version 1 of the kernel's interface.
func cages() (dir string, one bool) {
	const first = "/sys/fs/cgroup/cpu"
	if _, err := os.Stat(filepath.Join(first, "cgroup.procs")); err == nil {
		return first, true
	}
	return "/sys/fs/cgroup", false
}

// confine holds the agent to its share of one processor from now on, in slices of 20 ms, and with it what it starts.
func (n *node) confine(share float64) error {
	const period = 20_000 // microseconds
	quota := fmt.Sprint(int(share * period))
	root, one := cages()
	n.cage = filepath.Join(root, fmt.Sprintf("mayfly-hosts-%d-%s", os.Getpid(), n.name))
	files := [][2]string{{"cpu.max", quota + " " + fmt.Sprint(period)}}
	if one {
		files = [][2]string{{"cpu.cfs_period_us", fmt.Sprint(period)}, {"cpu.cfs_quota_us", quota}}
	}
	files = append(files, [2]string{"cgroup.procs", fmt.Sprint(n.cmd.Process.Pid)})
	if err := os.Mkdir(n.cage, 0o755); err != nil {
		return fmt.Errorf("a share of the processor for %s: %w; the controller cpu has to be there, and writable", n.name, err)
	}
	for _, f := range files {
		if err := os.WriteFile(filepath.Join(n.cage, f[0]), []byte(f[1]), 0); err != nil {
			return fmt.Errorf("a share of the processor for %s: %w", n.name, err)
		}
	}
	return nil
}

// release removes the cage of an agent that has ended.
func (n *node) release() {
	if n.cage != "" {
		_ = os.Remove(n.cage) // it is empty
	}
}

// effects counts the events of functions that had an effect.
func (f *flow) effects(functions []string) (n int) {
	for _, name := range functions {
		n += f.log.Effects(name)
	}
	return n
}

// aim makes the flow send events of these functions only. Pause it before.
func (f *flow) aim(functions ...string) {
	names := streams(functions)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.names = names
}

// streams are the names of the streams of functions.
func streams(functions []string) (names []string) {
	for _, name := range functions {
		for k := range keys {
			names = append(names, strings.Join([]string{name, fmt.Sprint(k + 1)}, "/"))
		}
	}
	return names
}
