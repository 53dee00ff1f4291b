package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"mayfly/admin"
	"mayfly/internal/mosquitto"
	"mayfly/test/torture/faultlink"
	"mayfly/test/torture/history"
	"mayfly/test/torture/sender"
)

// trial is one run of one case: broker, link with faults, agent, publisher, history.
type trial struct {
	*workshop
	name string
	seed uint64
	rng  *rand.Rand
	dir  string

	log    *history.Log
	rules  history.Rules
	broker *mosquitto.Broker
	proxy  *faultlink.Proxy
	agent  *agent
	sender *sender.Sender
	load   *load

	expectExits bool // the agent may end by itself
	bounds      struct {
		recovery   time.Duration // of 99 % of the recoveries; 0 = any
		duplicates int           // of publishes; 0 = any
	}
	recoveries []time.Duration
	notes      []string
	faults     []string // what fails the case besides the verdict

	excused     bool   // the agent reported a loss: what is missing is not a silent loss
	mutated     string // the mutant that is tried, "" = none
	mutantFlags []string

	cancel  context.CancelFunc
	running sync.WaitGroup
}

// world says how a case differs from the usual surroundings.
type world struct {
	broker   mosquitto.Options
	data     string // data directory; "" = below the case's own
	variant  string // of the agent, with its build flags
	flags    []string
	wrap     []string
	env      []string
	config   string       // further lines of the agent's configuration, beginning with a section
	guests   []deploy     // default: ledger, relay and flaky
	limits   string       // further lines of [limits] of the usual guests
	embedded bool         // the broker is the agent's own, and no link is in between
	byID     bool         // the ledger goes by the senders' ids, because the sender repeats itself when the broker dies
	unsteady bool         // the broker forgets what it promised
	first    func() error // what comes before functions are deployed; nil = nothing
	expect   bool         // the agent is expected to end by itself and is started again
}

func (t *trial) prepare() (err error) {
	t.rng = rand.New(rand.NewPCG(t.seed, uint64(len(t.name))))
	t.dir = filepath.Join(t.workshop.dir, t.name)
	t.log = history.New()
	return os.MkdirAll(filepath.Join(t.dir, "broker"), 0o755)
}

// begin starts everything but the load.
func (t *trial) begin(w world) error {
	ctx, cancel := context.WithCancel(t.ctx)
	t.cancel = cancel
	if w.variant == "" {
		w.variant = "release"
	}
	if t.mutated != "" {
		w.variant, w.flags = w.variant+"-"+t.mutated, append(w.flags, t.mutantFlags...)
	}
	program, err := t.workshop.agent(w.variant, w.flags...)
	if err != nil {
		return err
	}
	if w.embedded {
		err = t.inside(&w)
	} else {
		err = t.outside(ctx, &w)
	}
	if err == nil {
		err = t.configure(w)
	}
	if err != nil {
		return err
	}
	t.running.Go(func() { t.sender.Run(ctx) })
	t.expectExits = w.expect
	t.agent = &agent{
		program: program, wrap: w.wrap, env: w.env, dir: t.dir, supervised: w.expect,
		client: admin.NewClient(filepath.Join(t.dir, "admin.sock")),
	}
	if err := t.agent.start(); err != nil {
		return err
	}
	if err := t.agent.ready(ctx, 30*time.Second, isReady); err != nil {
		return err
	}
	if w.first != nil {
		if err := w.first(); err != nil {
			return err
		}
	}
	if w.guests == nil {
		w.guests = usual(w.byID)
		for i := range w.guests {
			w.guests[i].limits = w.limits
		}
	}
	t.rules.Durable = !w.unsteady
	for _, g := range w.guests {
		if err := t.deploy(g); err != nil {
			return err
		}
		if g.guest == "ledger" {
			t.rules.Ledger = g.name
		}
	}
	t.load = newLoad(t, w.guests)
	t.running.Go(func() { t.load.run(ctx) })
	return t.flowing(20 * time.Second)
}

// outside starts mosquitto, the link to it and the publisher.
func (t *trial) outside(ctx context.Context, w *world) (err error) {
	w.broker.NoDelay = true
	if t.broker, err = mosquitto.New(filepath.Join(t.dir, "broker"), w.broker); err == nil {
		err = t.broker.Start()
	}
	if err != nil {
		return err
	}
	if t.proxy, err = faultlink.New(t.broker.Addr(), t.log); err != nil {
		return err
	}
	t.running.Go(func() { t.proxy.Run(ctx) })
	t.sender = sender.New(t.broker.Addr(), 64, t.log)
	w.config = fmt.Sprintf("[broker.site]\nurls = [%q]\nkeep_alive = \"5s\"\n", t.proxy.URL()) + w.config
	return nil
}

// inside makes the agent the broker: its acknowledgement is all that is seen of an event, and stands for its effect.
func (t *trial) inside(w *world) error {
	addr, err := freeAddress()
	if err != nil {
		return err
	}
	t.sender = sender.New(addr, 64, t.log)
	t.sender.Notes = []history.Sight{history.Promised, history.Delivered, history.Acked, history.Published, history.Confirmed}
	w.config = fmt.Sprintf("[embedded]\nlisten = [%q]\n", addr) + w.config
	return nil
}

func (t *trial) configure(w world) error {
	if w.data == "" {
		w.data = filepath.Join(t.dir, "data")
	}
	if !strings.Contains(w.config, "[store]") {
		w.config += "[store]\nfloor = \"16MiB\"\nballast = \"1MiB\"\n"
	}
	text := fmt.Sprintf("[node]\nname = \"torture\"\ndata = %q\n[admin]\nsocket = %q\n%s", w.data, filepath.Join(t.dir, "admin.sock"), w.config)
	return os.WriteFile(filepath.Join(t.dir, "mayfly.toml"), []byte(text), 0o644)
}

// flowing waits until an effect comes through.
func (t *trial) flowing(patience time.Duration) error {
	seen := make(chan struct{}, 1)
	t.log.Watch(func(_ history.Event, s history.Sight) {
		if s == history.Confirmed {
			select {
			case seen <- struct{}{}:
			default:
			}
		}
	})
	defer t.log.Watch(nil)
	select {
	case <-seen:
		return nil
	case <-time.After(patience):
		return fmt.Errorf("no effect came through within %v", patience)
	case <-t.ctx.Done():
		return t.ctx.Err()
	}
}

// recovered waits until effects come through again and notes how long that took since the moment given.
func (t *trial) recovered(since time.Time, patience time.Duration) error {
	if err := t.flowing(patience); err != nil {
		return err
	}
	took := time.Since(since)
	if t.recoveries = append(t.recoveries, took); took > time.Second {
		t.notes = append(t.notes, fmt.Sprintf("recovery %d took %v; the agent's start %d", len(t.recoveries), took.Round(time.Millisecond), t.agent.started()))
	}
	return nil
}

// sleep waits while the load goes on.
func (t *trial) sleep(d time.Duration) {
	select {
	case <-time.After(d):
	case <-t.ctx.Done():
	}
}

// between returns a random duration.
func (t *trial) between(lo, hi time.Duration) time.Duration {
	return lo + time.Duration(t.rng.Int64N(int64(hi-lo)))
}

// patience is how long nothing may happen before what is missing counts as lost. What is said to be lost is not waited for.
func (t *trial) patience() time.Duration {
	if t.excused {
		return 3 * time.Second
	}
	return 25 * time.Second
}

// settle ends the load, waits until nothing is on its way any more, and reads the state.
func (t *trial) settle() error { return t.settleFor(20 * time.Second) }

// settleFor is settle that gives the agent that long to work off its journal.
func (t *trial) settleFor(long time.Duration) error {
	t.load.stop()
	began := time.Now()
	for {
		waiting, since := t.waiting()
		if waiting == 0 && t.rules.Durable || waiting == 0 && time.Since(since) > 2*time.Second {
			break
		}
		if patience := t.patience(); time.Since(since) > patience && time.Since(began) > patience {
			t.notes = append(t.notes, fmt.Sprintf("%d events were still on their way after %v without any progress", waiting, patience))
			break
		}
		t.sleep(20 * time.Millisecond)
		if t.ctx.Err() != nil {
			return t.ctx.Err()
		}
	}
	err := t.agent.ready(t.ctx, long, func(s *admin.Status) bool { return s.Ready && s.Journal.Count == 0 && s.Outbox.Count == 0 })
	if err != nil {
		t.faults = append(t.faults, err.Error())
	}
	return t.readBank()
}

// waiting counts what is on its way.
func (t *trial) waiting() (n int, since time.Time) {
	n, since = t.log.Waiting(history.Acked, history.Confirmed)
	if t.rules.Durable {
		more, _ := t.log.Waiting(history.Promised, history.Acked)
		n += more
	}
	return n + t.sender.Unacknowledged(), since
}

func (t *trial) readBank() error {
	if t.rules.Ledger == "" {
		return nil
	}
	ran, err := t.agent.client.Invoke(t.ctx, t.rules.Ledger, admin.InvokeRequest{Topic: "torture/report"})
	if err == nil && (ran.Response == nil || ran.Error != nil) {
		err = fmt.Errorf("the ledger's report: %s %+v", ran.Failure, ran.Error)
	}
	if err != nil {
		return err
	}
	t.rules.State, err = history.ReadBank(ran.Response.Bytes())
	return err
}

// result judges the case. It is called after close.
func (t *trial) result(err error) result {
	v := t.log.Judge(t.rules)
	if err != nil {
		t.faults = append(t.faults, err.Error())
	}
	if t.agent != nil && !t.expectExits {
		for _, e := range t.agent.ends() {
			t.faults = append(t.faults, "the agent ended by itself: "+e)
		}
	}
	if t.excused && v.Lost+v.StateViolations > 0 {
		t.notes = append(t.notes, fmt.Sprintf("%d events and %d traces in the state are missing, and the loss was reported", v.Lost, v.StateViolations))
		v.Lost, v.StateViolations = 0, 0
	}
	t.bounded(&v)
	t.notes = append(append(t.notes, v.Notes...), t.faults...)
	r := result{
		Case: t.name, Sent: v.Sent, Acknowledged: v.Acknowledged, Executed: v.Executed, Duplicates: v.Duplicates,
		Lost: v.Lost, OrderViolations: v.OrderViolations, StateViolations: v.StateViolations,
		RecoveryP50: quantile(t.recoveries, 0.5), RecoveryP99: quantile(t.recoveries, 0.99), OK: v.Clean() && len(t.faults) == 0,
	}
	if len(t.notes) > 0 {
		r.Note = t.notes[0]
	}
	return r
}

// bounded compares what is allowed to happen with how much of it may.
func (t *trial) bounded(v *history.Verdict) {
	if most := t.bounds.recovery; most > 0 && quantile(t.recoveries, 0.99) > float64(most.Milliseconds()) {
		t.faults = append(t.faults, fmt.Sprintf("recovery p99 is %.0f ms, at most %v is allowed", quantile(t.recoveries, 0.99), most))
	}
	if len(v.Again) > 0 && t.bounds.duplicates > 0 {
		t.notes = append(t.notes, fmt.Sprintf("duplicates by function: %v", v.Again))
	}
	if most := t.bounds.duplicates; most > 0 && v.Duplicates > most {
		t.faults = append(t.faults, fmt.Sprintf("%d duplicates, at most %d are allowed", v.Duplicates, most))
	}
}

// quantile returns a quantile in milliseconds, 0 of nothing.
func quantile(all []time.Duration, q float64) float64 {
	if len(all) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(all))
	return float64(sorted[min(len(sorted)-1, int(q*float64(len(sorted))))].Microseconds()) / 1000
}

func (t *trial) close() {
	if t.cancel == nil {
		return
	}
	t.log.Freeze()
	if t.agent != nil {
		t.agent.close()
	}
	t.cancel()
	t.running.Wait()
	if t.broker != nil {
		_ = t.broker.Kill() // nothing of it is needed any more
	}
}
