package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"mayfly/function"
	"mayfly/internal/sdnotify"
)

// readiness says why the agent does not serve yet, or no more.
type readiness struct {
	mu  sync.Mutex
	why error
	ok  bool
}

var errStarting = errors.New("the agent is starting")

func (r *readiness) set(ok bool, why error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ok, r.why = ok, why
}

func (r *readiness) err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.ok:
		return nil
	case r.why == nil:
		return errStarting
	}
	return r.why
}

// ErrReload is the cause of a context that ends one agent because another one, with a new configuration, follows in this process.
var ErrReload = errors.New("the configuration changed")

// stage is something that runs until it is told to stop and then finishes what it holds.
type stage struct {
	name   string
	cancel context.CancelFunc
	done   chan struct{}
}

// crew runs stages and remembers the first that failed by itself.
type crew struct {
	failed chan error
}

func (c *crew) start(name string, run func(context.Context) error) *stage {
	ctx, cancel := context.WithCancel(context.Background())
	s := &stage{name, cancel, make(chan struct{})}
	go func() {
		defer close(s.done)
		err := run(ctx)
		if err == nil && ctx.Err() == nil {
			err = errors.New("it ended by itself")
		}
		if err != nil && ctx.Err() == nil {
			select {
			case c.failed <- fmt.Errorf("%s: %w", name, err):
			default:
			}
		}
	}()
	return s
}

// stop tells the stage to finish and waits for it, at most until ctx ends.
func (s *stage) stop(ctx context.Context) error {
	s.cancel()
	select {
	case <-s.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s did not finish in time", s.name)
	}
}

// Run serves until ctx ends, then stops in the direction of the flow within Limits.Drain: no new events, what is running
// finishes, publishes leave, the disk is closed. The error says what failed, or did not finish in time; what was not finished is
// not acknowledged, or on disk, and goes on at the next start.
func (a *Agent) Run(ctx context.Context) error {
	c := &crew{failed: make(chan error, 1)}
	flow := a.startInward(c)
	err := a.open()
	if err == nil {
		flow = a.startOutward(c, flow)
		err = a.listening(ctx, c)
	}
	if err == nil {
		a.ready.set(true, nil)
		if err := a.notify.Ready(); err != nil {
			a.log.Warn("systemd was not told", "err", err)
		}
		a.log.Info("ready", "node", a.cfg.Node.Name, "id", a.node.ID, "functions", len(a.catalog.List()), "store", a.report.Took.Round(time.Millisecond), "took", time.Since(a.began).Round(time.Millisecond))
		err = a.attend(ctx, c)
	}
	return errors.Join(err, a.drain(flow))
}

// startInward starts what events flow towards, and returns it in the order in which it is to be stopped.
func (a *Agent) startInward(c *crew) []*stage {
	disk := c.start("store", a.store.Run)
	flow := []*stage{c.start("dispatcher", a.dispatch.Run), c.start("outbox", a.outbox.Run), c.start("usage", a.meter.Run)}
	for name, s := range a.sites {
		if s.local == nil {
			flow = append(flow, c.start("broker "+name, s.Run))
		}
	}
	flow = append(flow, a.startPool(c)...)
	return append(flow, disk)
}

// startPool makes this node a member of its cluster. The goodbye comes when everything that others may wait for has ended; that this node
// takes nothing new they are told before anything ends.
func (a *Agent) startPool(c *crew) []*stage {
	if a.pool == nil {
		return nil
	}
	a.pool.openCalls(a.doors())
	return []*stage{
		c.start("calls between nodes", func(ctx context.Context) error { return a.pool.calls.Run(ctx, a.pool.door) }),
		c.start("view of the cluster", a.viewer.Run),
		c.start("modules of other nodes", a.prefetch),
		c.start("catalog's copy", a.pool.replica.Run),
		c.start("membership", func(ctx context.Context) error { return a.pool.keep(ctx, a.save) }),
		c.start("brokers' state", a.watchBrokers),
		c.start("gossip", a.pool.gossip.Run),
	}
}

// open deploys what the catalog holds, queues what the journal holds, and only then lets events in.
func (a *Agent) open() error {
	functions := a.functions()
	_, routes := a.routes(functions)
	a.dispatch.Deploy(functions, routes)
	waiting, err := a.journal.Pending()
	if err != nil {
		return err
	}
	a.dispatch.Restore(waiting)
	if a.orders != nil {
		if err := a.orders.adopt(a.store, a.save); err != nil {
			return err
		}
	}
	if err := a.reconcile(); err != nil {
		return err
	}
	return a.subs.retireForgotten()
}

// startOutward starts what brings events in, and the operator's door. The sources end first and the embedded broker, which
// publishes leave through, just before the disk.
func (a *Agent) startOutward(c *crew, inward []*stage) []*stage {
	flow := []*stage{c.start("triggers", func(ctx context.Context) error {
		<-ctx.Done()
		a.ticks.close()
		a.subs.close()
		return nil
	})}
	flow = append(flow, c.start("versions on trial", a.watchCanaries))
	if a.pool != nil {
		flow = append(flow, c.start("catalog's changes", a.follow), c.start("schedules' owners", a.watchSchedules), c.start("secrets", a.vault.Run),
			c.start("usage of others", a.copyUsage))
	}
	flow = append(flow, c.start("budgets", func(ctx context.Context) error { return a.budgets.watch(ctx, a.reconcile) }))
	if a.gateway != nil {
		flow = append(flow, c.start("gateway", a.runGateway))
	}
	flow = append(flow, inward[:len(inward)-1]...)
	flow = append(flow, c.start("admin", func(ctx context.Context) error { return a.door.Run(ctx, a.socket) }))
	if a.afar != nil {
		flow = append(flow, c.start("admin from afar", a.runRemote))
	}
	if s := a.sites[EmbeddedName]; s != nil && s.local != nil {
		flow = append(flow, c.start("embedded broker", s.Run))
	}
	return append(flow, inward[len(inward)-1])
}

// listening waits until devices can connect to the embedded broker: who is told that the agent is ready may send them.
func (a *Agent) listening(ctx context.Context, c *crew) error {
	s := a.sites[EmbeddedName]
	if s == nil || s.local == nil {
		return nil
	}
	select {
	case <-s.local.Listening():
	case <-ctx.Done():
	case err := <-c.failed:
		return err
	}
	return nil
}

// attend waits for the end, and feeds the watchdog as long as the agent does what it is for.
func (a *Agent) attend(ctx context.Context, c *crew) error {
	every, err := sdnotify.WatchdogInterval()
	if err != nil {
		a.log.Warn("no watchdog", "err", err)
	}
	beat := make(<-chan time.Time)
	if every > 0 {
		ticker := time.NewTicker(every / 2)
		defer ticker.Stop()
		beat = ticker.C
	}
	for {
		select {
		case <-ctx.Done():
			a.leave(context.Cause(ctx))
			return nil
		case err := <-c.failed:
			a.log.Error("a part of the agent failed; stopping", "err", err)
			return err
		case <-beat:
			if err := a.selfCheck(ctx); err != nil {
				a.log.Error("self-check failed; systemd will restart the agent unless this passes", "err", err)
			} else if err := a.notify.Watchdog(); err != nil {
				a.log.Warn("systemd was not told", "err", err)
			}
		}
	}
}

// leave tells the service manager that the process ends, unless another agent follows in it.
func (a *Agent) leave(why error) {
	a.log.Info("stopping", "why", why)
	if errors.Is(why, ErrReload) {
		return
	}
	if err := a.notify.Stopping(); err != nil {
		a.log.Warn("systemd was not told", "err", err)
	}
}

// selfCheck says whether events could flow now: the dispatcher takes its lock and answers, the store can be read and has not
// failed. It writes nothing, so a device that idles wears no flash.
func (a *Agent) selfCheck(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	checked := make(chan error, 1)
	go func() {
		a.dispatch.Stats()
		_, _, err := a.store.Get(memberKey("", "self-check"))
		if err == nil && a.store.Stats().Failed != nil {
			err = a.store.Stats().Failed
		}
		checked <- err
	}()
	select {
	case err := <-checked:
		return err
	case <-ctx.Done():
		return errors.New("dispatcher or store did not answer within 5 s")
	}
}

// drain stops the stages in the order of the flow, within the budget.
func (a *Agent) drain(flow []*stage) error {
	a.ready.set(false, errors.New("the agent is stopping"))
	if a.pool != nil {
		a.pool.gossip.Drain(true)
	}
	ctx, cancel := context.WithTimeout(context.Background(), a.cfg.Limits.Drain)
	defer cancel()
	var faults []error
	for _, s := range flow {
		if s.name == "outbox" {
			a.flush(ctx)
		}
		began := time.Now()
		faults = append(faults, s.stop(ctx))
		a.log.Debug("stopped", "stage", s.name, "took", time.Since(began).Round(time.Millisecond))
	}
	faults = append(faults, a.close())
	return errors.Join(faults...)
}

// flush gives publishes that wait a moment to be confirmed; the disk keeps what is not.
func (a *Agent) flush(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, a.cfg.Limits.Drain/4)
	defer cancel()
	if err := a.outbox.Drain(ctx); err != nil {
		a.log.Info("some publishes are not confirmed yet; they leave after the next start", "err", err)
	}
}

// eligible are the functions whose requirements this node meets; the others are not subscribed here.
func (a *Agent) eligible(functions []*function.Function) []*function.Function {
	var here []*function.Function
	for _, f := range functions {
		if len(a.unmet(f)) == 0 {
			here = append(here, f)
		}
	}
	return here
}
