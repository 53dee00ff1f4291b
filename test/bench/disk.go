package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"time"

	"mayfly/event"
	"mayfly/test/bench/load"
)

// disk measures the bytes the agent causes to be written to disk per event, by the kernel's accounting (/proc/<pid>/io). The
// usage ledger is not per event: it writes some 100 bytes a minute for each function that ran, first a minute after the start, which
// is later than this.
func (b *bench) disk() error {
	events := pick(b, 10_000, 50_000)
	m, err := b.broker(512)
	if err != nil {
		return err
	}
	defer m.Kill()
	a, err := b.startAgent(filepath.Join(b.dir, "disk"), m.URL(), 512)
	if err != nil {
		return err
	}
	for _, example := range []string{"echo", "counter"} {
		if err := a.deploy(example, example); err != nil {
			return err
		}
	}
	time.Sleep(time.Second) // what the deployments wrote
	before, err := a.written()
	if err != nil {
		return err
	}
	t := load.Target{Broker: m.URL(), In: "bench/in/1", Out: "out/bench/in/1", QoS: 1, Size: 256, PID: a.cmd.Process.Pid}
	if _, err := load.Closed(b.ctx, t, 256, events); err != nil {
		return err
	}
	after, err := a.written()
	if err != nil {
		return err
	}
	b.add("bytes written per event without state", (after-before)/float64(events), "B", 0, limit{atMost: 0})
	if err := b.stateful(a, m.URL(), events); err != nil {
		return err
	}
	return a.stop()
}

func (b *bench) stateful(a *agent, url string, events int) error {
	before, err := a.written()
	if err != nil {
		return err
	}
	// Readings that cannot be compressed, of more sensors than events are ever on their way: none is overwritten before it is
	// on disk.
	var seed [32]byte
	noise := rand.NewChaCha8(seed)
	reading := func(i int) event.Message {
		data := make([]byte, 256)
		_, _ = noise.Read(data) // never fails
		return event.Message{Topic: fmt.Sprintf("bench/count/%d", i%10_000), Data: data, QoS: 1}
	}
	ctx, cancel := context.WithTimeout(b.ctx, 2*time.Minute)
	defer cancel()
	if err := load.Publish(ctx, url, reading, events, 256); err != nil {
		return err
	}
	done := func() (uint64, error) {
		f, err := a.client.Function(ctx, "counter")
		return f.Counters.Done, err
	}
	for n, err := done(); n < uint64(events); n, err = done() {
		if err != nil {
			return fmt.Errorf("%d of %d events were counted: %w", n, events, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	time.Sleep(time.Second) // for what is still being written
	after, err := a.written()
	if err != nil {
		return err
	}
	b.add("bytes written per stateful 256 B event", (after-before)/float64(events), "B", 0, limit{atMost: 1000})
	return nil
}
