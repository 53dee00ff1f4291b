package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"mayfly/function"
	"mayfly/wasm"
	"mayfly/wasm/enginebench"
)

// shelf is a store of one module.
type shelf []byte

// Module implements wasm.Modules.
func (s shelf) Module(context.Context, function.Digest) ([]byte, error) { return s, nil }

// guest is a module with an engine of its own and two functions of it: one that gets a fresh instance for every event, one that
// keeps its instance.
type guest struct {
	module      []byte
	engine      *wasm.Engine
	fresh, warm *function.Function
}

func (b *bench) guest(module []byte) (*guest, error) {
	dir, err := os.MkdirTemp(b.dir, "native-")
	if err != nil {
		return nil, err
	}
	compiler, err := filepath.Abs(filepath.Join(b.bin, "mayflyd"))
	if err != nil {
		return nil, err
	}
	engine, err := wasm.New(wasm.Config{
		CacheDir: dir, Modules: shelf(module), CompileCommand: []string{compiler, "compile-module"},
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	// The limits that a manifest gets by default, but for time to be compiled in.
	m, err := function.ParseManifest("bench", []byte("manifest = 1\nname = \"fresh\"\nversion = \"1.0.0\"\n[module]\npath = \"x.wasm\"\n"+
		"[permissions]\npublish = [\"#\"]\n[limits]\ntimeout = \"10s\"\n"))
	if err != nil {
		engine.Close()
		return nil, err
	}
	fresh := &function.Function{Module: function.DigestOf(module), Manifest: m}
	warm := *fresh
	warm.Manifest.Name, warm.Manifest.Module.Reuse = "warm", true
	return &guest{module, engine, fresh, &warm}, nil
}

// echoModule is the C guest.
const echoModule = "examples/echo/echo.wasm"

// sandbox measures an event in the engine alone: read, published, limits, deadline and metering included.
func (b *bench) sandbox() error {
	module, err := os.ReadFile(echoModule)
	if err != nil {
		return err
	}
	c, err := b.guest(module)
	if err != nil {
		return err
	}
	defer c.engine.Close()
	if err := b.cGuest(c); err != nil {
		return err
	}
	if module, err = b.goModule(); err != nil {
		return err
	}
	g, err := b.guest(module)
	if err != nil {
		return err
	}
	defer g.engine.Close()
	var fresh samples
	for range pick(b, 3, 5) {
		if err := fresh.add(enginebench.Calls(g.engine, g.fresh, make([]byte, 200), pick(b, 200, 1000), 1)); err != nil {
			return err
		}
	}
	b.add("Go guest, fresh instance: p50", median(fresh.p50)/1000, "ms", 0, limit{atMost: 1.5})
	return nil
}

// cGuest measures the C guest. The numbers are medians over rounds, in which the ways to run it take turns.
func (b *bench) cGuest(c *guest) error {
	data, n := make([]byte, 200), pick(b, 20_000, 100_000)
	var fresh, plain, warm samples
	for range pick(b, 3, 5) {
		err := errors.Join(
			fresh.add(enginebench.Calls(c.engine, c.fresh, data, n, 1)),
			plain.add(enginebench.Plain(c.fresh, c.module, data, n/10)),
			warm.add(enginebench.Calls(c.engine, c.warm, data, n, 1)),
		)
		if err != nil {
			return err
		}
	}
	b.add("C guest, fresh instance: p50", median(fresh.p50), "us", 0, limit{atMost: 6})
	b.add("C guest, fresh instance: p99", median(fresh.p99), "us", 0, limit{atMost: 20})
	b.add("C guest, fresh: beside the library's own calls", median(fresh.p50), "us", median(plain.p50), limit{ratioAtMost: 0.1})
	b.add("C guest, warm call: p50", median(warm.p50), "us", 0, limit{atMost: 1.5})
	return b.twoThreads(c)
}

// samples are the figures of several rounds, times in microseconds.
type samples struct{ p50, p99 []float64 }

func (s *samples) add(l enginebench.Latency, err error) error {
	us := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }
	s.p50, s.p99 = append(s.p50, us(l.P50)), append(s.p99, us(l.P99))
	return err
}

// goModule builds a function written in Go, whose runtime starts anew for every event.
func (b *bench) goModule() ([]byte, error) {
	out := filepath.Join(b.dir, "go.wasm")
	build := exec.CommandContext(b.ctx, "go", "build", "-buildmode=c-shared", "-ldflags=-s -w", "-o", out, "./wasm/enginebench/testdata/goguest")
	build.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0")
	if text, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the Go guest: %w\n%s", err, text)
	}
	return os.ReadFile(out)
}
