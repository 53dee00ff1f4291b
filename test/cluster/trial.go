package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"mayfly/admin"
	"mayfly/internal/mosquitto"
	"mayfly/test/cluster/lan"
	"mayfly/test/torture/history"
)

// Where everything is. Nodes are 10.77.0.11 and up.
const (
	labAddress    = "10.77.0.1"
	brokerHost    = "broker"
	brokerIP      = "10.77.0.2"
	brokerAddress = brokerIP + ":1883"
)

// trial is one run of one case: a network, a broker, nodes, a flow of events.
type trial struct {
	*workshop
	name string
	dir  string

	net    *lan.Switch
	lab    *lan.Host // this process
	broker *mosquitto.Broker
	nodes  []*node
	flow   *flow

	slots int    // of every node; 0 = what is the default
	agent string // the program; "" = mayflyd of -bin

	takeovers []time.Duration
	kicks     int // that are allowed; -1 = any number
	figures   map[string]float64
	notes     []string
	faults    []string // what fails the case besides what was lost
	atEnd     []func()
}

func newTrial(w *workshop, name string) *trial {
	return &trial{workshop: w, name: name, dir: filepath.Join(w.dir, name), kicks: -1, figures: map[string]float64{}}
}

// world makes the network, the broker and n agents that know nothing of each other.
func (t *trial) world(n int) error {
	t.net = lan.NewSwitch(t.seed)
	var err error
	if t.lab, err = lan.Here(t.net, "lab", labAddress); err != nil {
		return err
	}
	at, err := lan.NewHost(t.net, brokerHost, brokerIP)
	if err != nil {
		return err
	}
	t.broker, err = mosquitto.New(t.dir, mosquitto.Options{
		Listen: brokerAddress, Within: at.Within(), MaxQueued: -1, NoDelay: true, // the default limit of 1000 is the broker's loss, not ours
	})
	if err == nil {
		err = t.broker.Start()
	}
	if err != nil {
		return err
	}
	for range n {
		if _, err := t.add(); err != nil {
			return err
		}
	}
	for _, n := range t.nodes {
		if err := n.ready(); err != nil {
			return err
		}
	}
	return nil
}

// add starts one more agent, alone.
func (t *trial) add(labels ...string) (*node, error) {
	i := len(t.nodes) + 1
	n := &node{t: t, name: fmt.Sprintf("n%d", i), labels: labels}
	n.socket = n.data() + ".sock"
	n.client = admin.NewClient(n.socket)
	var err error
	if n.host, err = lan.NewHost(t.net, n.name, fmt.Sprintf("10.77.0.%d", 10+i)); err != nil {
		return nil, err
	}
	t.nodes = append(t.nodes, n)
	if err := n.configure(); err != nil {
		return nil, err
	}
	return n, n.start()
}

// site is a world whose nodes are one cluster.
func (t *trial) site(n int) error {
	if err := t.world(n); err != nil {
		return err
	}
	return t.unite(t.nodes)
}

// unite founds a cluster and lets the others join, with the commands that people type.
func (t *trial) unite(nodes []*node) error {
	first := nodes[0]
	if _, err := first.mayfly("init", "--cluster", "hosts"); err != nil {
		return err
	}
	if err := first.member(); err != nil {
		return err
	}
	if len(nodes) == 1 {
		return nil
	}
	token, err := first.token("--uses", fmt.Sprint(len(nodes)-1))
	if err != nil {
		return err
	}
	for _, n := range nodes[1:] {
		if _, err := n.mayfly("join", token, "--via", first.calls()); err != nil {
			return err
		}
	}
	for _, n := range nodes[1:] {
		if err := n.member(); err != nil {
			return err
		}
	}
	return t.together(30*time.Second, nodes...)
}

// token makes a join token.
func (n *node) token(args ...string) (string, error) {
	text, err := n.mayfly(append([]string{"token", "create"}, args...)...)
	return strings.TrimSpace(text), err
}

// together waits until each of nodes sees all of them alive and knows what they are.
func (t *trial) together(patience time.Duration, nodes ...*node) error {
	var missing string
	err := t.until(patience, func() bool {
		for _, n := range nodes {
			alive, err := n.sees()
			if err != nil {
				missing = err.Error()
				return false
			}
			for _, m := range nodes {
				if !slices.Contains(alive, m.id) {
					missing = fmt.Sprintf("%s does not see %s", n.name, m.name)
					return false
				}
			}
		}
		return true
	})
	if err != nil {
		return fmt.Errorf("the nodes do not all see each other after %v: %s", patience, missing)
	}
	return nil
}

// sees returns the ids of the members that a node takes for alive.
func (n *node) sees() (alive []string, err error) {
	ctx, cancel := context.WithTimeout(n.t.ctx, 5*time.Second)
	defer cancel()
	all, err := n.client.Nodes(ctx)
	for _, m := range all {
		if m.State == admin.MemberAlive && m.Version != "" {
			alive = append(alive, m.ID)
		}
	}
	return alive, err
}

// until waits until ok.
func (t *trial) until(patience time.Duration, ok func() bool) error {
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			return fmt.Errorf("not within %v", patience)
		}
		t.sleep(20 * time.Millisecond)
		if t.ctx.Err() != nil {
			return t.ctx.Err()
		}
	}
	return nil
}

// sleep waits while everything goes on.
func (t *trial) sleep(d time.Duration) {
	select {
	case <-time.After(d):
	case <-t.ctx.Done():
	}
}

// guest is a function as a case deploys it.
type guest struct {
	name, source string
	more         string // further lines of its manifest
	trigger      string // further lines of its MQTT trigger
	limits       string // further lines of its limits
}

var relay = guest{name: "relay", source: "test/torture/guests/relay.c"}

// deploy writes a function's folder and deploys it with the command line.
func (t *trial) deploy(n *node, g guest) error {
	module, err := t.module(g.source)
	if err != nil {
		return err
	}
	text := fmt.Sprintf("manifest = 1\nname = %q\nversion = \"1.0.0\"\n[module]\npath = %q\n"+
		"[[trigger.mqtt]]\ntopic = \"in/%s/{key}\"\nqos = 1\n%s[limits]\nmemory = \"2MiB\"\n%s[permissions]\npublish = [\"out/#\"]\n%s",
		g.name, module, g.name, g.trigger, g.limits, g.more)
	dir := filepath.Join(t.dir, "functions", g.name)
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "function.toml"), []byte(text), 0o644)); err != nil {
		return err
	}
	_, err = n.mayfly("deploy", dir, "--nodes-timeout", "0")
	return err
}

// module builds a guest once.
func (w *workshop) module(source string) (string, error) {
	if file := w.guests[source]; file != "" {
		return file, nil
	}
	out := filepath.Join(w.dir, strings.TrimSuffix(filepath.Base(source), ".c")+".wasm")
	if text, err := exec.CommandContext(w.ctx, "sdk/c/build.sh", source, out).CombinedOutput(); err != nil {
		return "", fmt.Errorf("guest %s: %w\n%s", source, err, text)
	}
	w.guests[source] = out
	return out, nil
}

// begin makes events flow through the functions named, at so many a second, and waits until effects are seen.
func (t *trial) begin(rate int64, functions ...string) error {
	f, err := newFlow(t.ctx, t.seed, functions...)
	if err != nil {
		return err
	}
	t.flow = f
	f.mark()
	f.rate.Store(rate)
	_, err = t.through(30 * time.Second)
	return err
}

// through waits until an event sent after the last mark has had its effect, and returns the longest interruption since.
func (t *trial) through(patience time.Duration) (interrupted time.Duration, err error) {
	err = t.until(patience, func() bool {
		var ok bool
		interrupted, ok = t.flow.through()
		return ok
	})
	if err != nil {
		return 0, fmt.Errorf("nothing sent after the mark came through within %v", patience)
	}
	return interrupted, nil
}

// settle ends the flow and waits until nothing is on its way any more, or nothing has been new for the time given.
func (t *trial) settle(patience time.Duration) {
	t.flow.rate.Store(0)
	began := time.Now()
	for t.ctx.Err() == nil {
		n, since := t.flow.waiting()
		if n == 0 {
			break
		}
		if time.Since(since) > patience && time.Since(began) > patience {
			t.notes = append(t.notes, fmt.Sprintf("%d events were still on their way after %v without any progress", n, patience))
			break
		}
		t.sleep(20 * time.Millisecond)
	}
	t.sleep(500 * time.Millisecond) // for what comes twice
}

// fault notes what fails the case.
func (t *trial) fault(format string, args ...any) {
	t.faults = append(t.faults, fmt.Sprintf(format, args...))
}

// noted adds a line to what is printed of the case.
func (t *trial) noted(format string, args ...any) {
	t.notes = append(t.notes, strings.TrimSpace(fmt.Sprintf(format, args...)))
}

// kicked counts how often the broker ended a session's connection for another one, and says whose.
func (t *trial) kicked() (n int) {
	for _, line := range t.broker.Log() {
		if strings.Contains(line, "already connected, closing old connection") {
			n++
		}
	}
	return n
}

func (t *trial) result(err error) result {
	r := result{Case: t.name, Takeovers: len(t.takeovers), Figures: t.figures}
	if err != nil {
		t.faults = append(t.faults, err.Error())
	}
	if t.flow != nil {
		if err != nil {
			t.settle(10 * time.Second) // what is on its way when a case gives up is not lost
		}
		if err := t.flow.broken.Load(); err != nil {
			t.fault("the witness was cut off: %v", *err)
		}
		v := t.flow.log.Judge(history.Rules{Durable: true})
		r.Sent, r.Executed, r.Duplicates, r.Lost, r.OrderViolations = v.Sent, v.Executed, v.Duplicates, v.Lost, v.OrderViolations
		t.notes = append(t.notes, v.Notes...)
		if v.Lost+v.OrderViolations+v.StateViolations > 0 {
			t.fault("%d lost, %d out of order, %d never sent", v.Lost, v.OrderViolations, v.StateViolations)
		}
	}
	if t.broker != nil {
		r.Kicks = t.kicked()
	}
	if t.kicks >= 0 && r.Kicks > t.kicks {
		t.fault("%d kicks, at most %d are allowed", r.Kicks, t.kicks)
	}
	r.TakeoverP50, r.TakeoverP99 = quantile(t.takeovers, 0.5), quantile(t.takeovers, 0.99)
	r.OK = len(t.faults) == 0
	t.notes = append(t.notes, t.faults...)
	r.Note = strings.Join(t.notes, "; ")
	return r
}

// quantile returns a quantile in milliseconds, 0 of nothing.
func quantile(all []time.Duration, q float64) float64 {
	if len(all) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(all))
	return float64(sorted[min(len(sorted)-1, int(q*float64(len(sorted))))].Milliseconds())
}

func (t *trial) close() {
	if t.flow != nil {
		t.flow.close()
	}
	for _, end := range slices.Backward(t.atEnd) {
		end()
	}
	for _, n := range t.nodes {
		if n.running() {
			_ = n.signal(syscall.SIGCONT)
			_ = n.kill()
		}
		n.release()
	}
	if t.broker != nil {
		_ = t.broker.Kill() // nothing of it is needed any more
		_ = os.WriteFile(filepath.Join(t.dir, "broker.log"), []byte(strings.Join(t.broker.Log(), "\n")), 0o644)
	}
	if t.net != nil {
		_ = t.net.Close()
		t.clear()
	}
}

// clear removes the namespaces, for the next case has hosts of the same names.
func (t *trial) clear() {
	for _, name := range append([]string{brokerHost}, t.names()...) {
		_ = exec.Command("ip", "netns", "delete", name).Run() // what is not there is no matter
	}
}

func (t *trial) names() (all []string) {
	for _, n := range t.nodes {
		all = append(all, n.name)
	}
	return all
}
