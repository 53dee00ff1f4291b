package main

import (
	"fmt"
	"path/filepath"
	"time"

	"mayfly/test/bench/load"
)

// soak lets a million events pass and looks at the slope of the resident memory in the second half: until then the heap, the
// sandbox's slots and the libraries' caches fill.
func (b *bench) soak() error {
	m, err := b.broker(64)
	if err != nil {
		return err
	}
	defer m.Kill()
	a, err := b.startAgent(filepath.Join(b.dir, "soak"), m.URL(), 64)
	if err != nil {
		return err
	}
	if err := a.deploy("echo", "echo"); err != nil {
		return err
	}
	rounds, events := 10, pick(b, 10_000, 100_000)
	t := load.Target{Broker: m.URL(), In: "bench/in/1", Out: "out/bench/in/1", QoS: 1, Size: 200, PID: a.cmd.Process.Pid}
	var at, size []float64
	began := time.Now()
	for i := range rounds {
		if _, err := load.Closed(b.ctx, t, 64, events); err != nil {
			return err
		}
		rss, err := a.rss()
		if err != nil {
			return err
		}
		if i >= rounds/2 {
			at, size = append(at, time.Since(began).Hours()), append(size, rss/1e6)
		}
	}
	// A short soak cannot tell a slope from noise: what it shows is the growth itself.
	grown := size[len(size)-1] - size[0]
	b.add(fmt.Sprintf("memory grown over the last %d events", events*len(size)), grown, "MB", 0, limit{atMost: 2})
	if !b.short {
		b.add("slope of memory", slope(at, size), "MB/h", 0, limit{atMost: 1})
	}
	return a.stop()
}

// slope is that of the least-squares line.
func slope(xs, ys []float64) float64 {
	var mx, my, num, den float64
	for i := range xs {
		mx, my = mx+xs[i]/float64(len(xs)), my+ys[i]/float64(len(ys))
	}
	for i := range xs {
		num, den = num+(xs[i]-mx)*(ys[i]-my), den+(xs[i]-mx)*(xs[i]-mx)
	}
	return num / den
}
