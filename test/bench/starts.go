package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"mayfly/admin"
)

// starts measures what a hundred deployed functions cost at rest, and how long it takes from the process's start to the first
// answer when everything is in the cache.
func (b *bench) starts() error {
	for _, n := range []int{1, 100} {
		dir := filepath.Join(b.dir, fmt.Sprint("start-", n))
		m, err := b.broker(20)
		if err != nil {
			return err
		}
		a, err := b.startAgent(dir, m.URL(), 20)
		if err != nil {
			return err
		}
		for i := range n {
			if err := a.deploy("echo", fmt.Sprintf("echo-%03d", i)); err != nil {
				return err
			}
		}
		if err := a.stop(); err != nil {
			return err
		}
		if err := b.startOf(dir, m.URL(), n); err != nil {
			return err
		}
		if err := m.Kill(); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) startOf(dir, url string, n int) error {
	best := time.Hour
	for range pick(b, 2, 5) {
		if err := os.Remove(filepath.Join(dir, "admin.sock")); err != nil && !os.IsNotExist(err) {
			return err
		}
		began := time.Now()
		a, err := b.startAgent(dir, url, 20)
		if err != nil {
			return err
		}
		ran, err := a.client.Invoke(context.Background(), "echo-000", admin.InvokeRequest{Topic: "bench/echo-000/in/1"})
		if err != nil {
			return err
		}
		if ran.Error != nil {
			return ran.Error.Err()
		}
		best = min(best, time.Since(began))
		if err := b.idle(a, n); err != nil {
			return err
		}
		if err := a.stop(); err != nil {
			return err
		}
	}
	target := map[int]float64{1: 100, 100: 500}[n]
	b.add(fmt.Sprintf("process start to first reply, %d functions", n), float64(best.Microseconds())/1000, "ms", 0, limit{atMost: target})
	return nil
}

// idle measures the resident memory of an agent that has nothing to do.
func (b *bench) idle(a *agent, n int) error {
	if b.seen(fmt.Sprintf("idle memory, %d functions", n)) {
		return nil
	}
	time.Sleep(3 * time.Second) // for the garbage of the start to be collected and given back
	rss, err := a.rss()
	if err != nil {
		return err
	}
	b.add(fmt.Sprintf("idle memory, %d functions", n), rss/1e6, "MB", 0, limit{atMost: 40})
	if one := b.value("idle memory, 1 functions"); n > 1 && one > 0 {
		b.add("idle memory per further function", (rss/1e6-one)*1e3/float64(n-1), "KB", 0, limit{atMost: 20})
	}
	return nil
}

func (b *bench) value(name string) float64 {
	for _, r := range b.rows {
		if r.Name == name {
			return r.Value
		}
	}
	return 0
}

func (b *bench) seen(name string) bool {
	for _, r := range b.rows {
		if r.Name == name {
			return true
		}
	}
	return false
}
