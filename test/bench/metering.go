package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"mayfly/agent/dispatch"
	"mayfly/agent/journal"
	"mayfly/agent/meter"
	"mayfly/agent/outbox"
	"mayfly/agent/placement"
	"mayfly/event"
	"mayfly/function"
	"mayfly/store"
	"mayfly/triggers"
)

// metering measures what counting usage takes from the throughput of one node: a dispatcher that counts, with a ledger that takes a sample every second
// instead of every minute, beside one that does not count. Both have the same engine and disk, are up at once, and take turns in short rounds, so
// that what else the machine does hits both.
func (b *bench) metering() error {
	g, err := b.handlerGuest()
	if err != nil {
		return err
	}
	defer g.engine.Close()
	log := slog.New(slog.DiscardHandler)
	disk, _, err := store.Open(store.Config{Dir: filepath.Join(b.dir, "metering")}, log)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(b.ctx)
	var running sync.WaitGroup
	run := func(stage func(context.Context) error) {
		running.Go(func() { _ = stage(ctx) }) // what fails shows as a round that fails
	}
	run(disk.Run)
	counted, err := b.dispatcher(g, disk, false)
	if err == nil {
		run(counted.Run)
		var ledger *meter.Meter
		totals := func() map[meter.Subject]meter.Usage {
			all := map[meter.Subject]meter.Usage{}
			for name, c := range counted.Counters() {
				all[meter.Subject{Function: name}] = meter.Usage{
					Events: uint64(c.Done.Load()), CPU: uint64(c.CPUNanos.Load()), Wall: uint64(c.RunNanos.Load()), Memory: uint64(c.MemoryTime.Load()),
					BytesIn: uint64(c.BytesIn.Load()), BytesOut: uint64(c.BytesOut.Load()),
				}
			}
			return all
		}
		if ledger, err = meter.Open(meter.Config{Node: "bench", Totals: totals, Every: time.Second}, disk, log); err == nil {
			run(ledger.Run)
			err = b.meteringRounds(g, disk, counted, run)
		}
	}
	stop()
	running.Wait()
	return errors.Join(err, disk.Close())
}

func (b *bench) meteringRounds(g *guest, disk *store.Store, counted *dispatch.Dispatcher, run func(func(context.Context) error)) error {
	plain, err := b.dispatcher(g, disk, true)
	if err != nil {
		return err
	}
	run(plain.Run)
	arms := []*dispatch.Dispatcher{plain, counted}
	var alone, ratios []float64
	for i := range pick(b, 101, 201) {
		pair := make([]float64, len(arms))
		for n := range arms {
			at := (n + i) % len(arms) // who is first changes
			if pair[at], err = b.round(arms[at], 5000); err != nil {
				return err
			}
		}
		if i == 0 {
			continue // it warms up
		}
		alone, ratios = append(alone, pair[0]), append(ratios, pair[1]/pair[0])
	}
	used := counted.Counters()["fresh"]
	if used == nil || used.CPUNanos.Load() == 0 || plain.Counters()["fresh"].CPUNanos.Load() != 0 {
		return errors.New("what was to be counted was not, or the other way round")
	}
	// Rounds that are neighbours met the same machine: their ratios say more than two medians over all of them.
	b.add("events a second, usage counted", median(ratios)*median(alone), "/s", median(alone), limit{ratioAtLeast: 0.98})
	return nil
}

// handlerGuest is the function that answers with its event.
func (b *bench) handlerGuest() (*guest, error) {
	module := filepath.Join(b.dir, "handler.wasm")
	if text, err := exec.CommandContext(b.ctx, "sdk/c/build.sh", "test/bench/handler/handler.c", module).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build handler: %w\n%s", err, text)
	}
	code, err := os.ReadFile(module)
	if err != nil {
		return nil, err
	}
	return b.guest(code)
}

// nobody looks on: it is the observer and the view of a node that is alone.
type nobody struct{ view placement.View }

func (*nobody) Observed(*dispatch.Record)                                        {}
func (*nobody) Placed(*placement.Decision)                                       {}
func (*nobody) Logged(*function.Function, *event.Event, []function.LogLine, int) {}
func (n *nobody) View(*function.Function) *placement.View                        { return &n.view }

func (b *bench) dispatcher(g *guest, disk *store.Store, unmetered bool) (*dispatch.Dispatcher, error) {
	log := slog.New(slog.DiscardHandler)
	j, err := journal.Open(journal.Config{Quota: 1 << 20, DeadQuota: 1 << 20}, disk, log)
	if err != nil {
		return nil, err
	}
	o, err := outbox.Open(outbox.Config{Quota: 1 << 20}, map[string]outbox.Publisher{}, disk, log)
	if err != nil {
		return nil, err
	}
	looks := &nobody{placement.View{Self: placement.Node{ID: "bench", Name: "bench", Slots: 64, Speed: 1, Memory: 64 << 20}, Epoch: 1}}
	d := dispatch.New(dispatch.Config{Node: "bench", Unmetered: unmetered}, dispatch.Deps{
		Local: g.engine, Store: disk, Journal: j, Loader: j, Graves: j, Outbox: o, View: looks, Observer: looks, Log: log,
	})
	d.Deploy([]*function.Function{g.fresh}, nil)
	return d, nil
}

// told is the receipt of a caller who waits.
type told chan error

// Settle implements triggers.Receipt.
func (c told) Settle(s triggers.Settlement) { c <- s.Err }

// round runs n events for two callers at a time and returns how many that were a second.
func (b *bench) round(d *dispatch.Dispatcher, n int) (float64, error) {
	const callers = 2
	faults := make(chan error, callers)
	data := make([]byte, 200)
	began := time.Now()
	for c := range callers {
		go func() {
			wait := make(told, 1)
			for i := range n / callers {
				ev := &event.Event{ID: fmt.Sprintf("%d-%d", c, i), Time: time.Now(), Topic: "bench", Data: data}
				if err := d.Invoke(b.ctx, dispatch.Request{Function: "fresh", Event: ev, Here: 30 * time.Second}, wait); err != nil {
					faults <- err
					return
				}
				if err := <-wait; err != nil {
					faults <- err
					return
				}
			}
			faults <- nil
		}()
	}
	var err error
	for range callers {
		err = errors.Join(err, <-faults)
	}
	return float64(n) / time.Since(began).Seconds(), err
}
