package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"mayfly/admin"
	"mayfly/test/bench/load"
)

// door is something that answers requests with their bodies.
type door struct {
	name string
	web  load.Web
	stop func() error
}

// gateway compares a fresh sandbox for each request with a handler of net/http that does the same natively: requests a second on busy
// connections, and the 99th percentile at a rate both can hold. Both are up at once and take turns.
func (b *bench) gateway() error {
	native, err := b.nativeDoor()
	if err != nil {
		return err
	}
	ours, err := b.ownDoor()
	if err != nil {
		return errors.Join(err, native.stop())
	}
	doors := []*door{native, ours}
	err = b.closedLoop(doors)
	if err == nil {
		err = b.openLoop(doors)
	}
	if err == nil {
		err = b.remembered()
	}
	return errors.Join(err, native.stop(), ours.stop())
}

func (b *bench) closedLoop(doors []*door) error {
	for _, conns := range pick(b, []int{32}, []int{1, 32, 128}) {
		r, err := b.requests(doors, pick(b, 9, 15), conns, pick(b, 5_000, 10_000)*min(conns, 4)/4, 0)
		if err != nil {
			return err
		}
		name := fmt.Sprintf("%d connections", conns)
		b.compare(name+": requests a second", "/s", r.versus(mayfly, plain, perSecond), limit{ratioAtLeast: 0.8})
		b.compare(name+": p99", "ms", r.versus(mayfly, plain, p99), limit{ratioAtMost: 1.3})
		b.compare(name+": CPU per request", "us", r.versus(mayfly, plain, cpuPerMessage), limit{ratioAtMost: 2})
	}
	return nil
}

func (b *bench) openLoop(doors []*door) error {
	const rate = 2000
	r, err := b.requests(doors, pick(b, 9, 21), 32, rate/2, rate)
	if err == nil {
		b.compare("2,000/s: p99", "ms", r.versus(mayfly, plain, p99), limit{ratioAtMost: 1.3})
	}
	return err
}

// requests measures doors in turns with one load.
func (b *bench) requests(doors []*door, n, conns, total, rate int) (rounds[load.Result], error) {
	return turns(doors, n, func(d *door) (string, load.Result, error) {
		r, err := load.Requests(b.ctx, d.web, conns, total, rate)
		return d.name, r, err
	})
}

func (b *bench) nativeDoor() (*door, error) {
	program, ready := filepath.Join(b.dir, "http"), filepath.Join(b.dir, "http.address")
	build := exec.CommandContext(b.ctx, "go", "build", "-o", program, "./test/bench/echo/http")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return nil, err
	}
	c := exec.Command(program, "-ready", ready)
	c.Stderr = os.Stderr
	c.Env = append(os.Environ(), "GOGC=50") // as the agent runs
	if err := c.Start(); err != nil {
		return nil, err
	}
	stop := func() error {
		_ = c.Process.Kill()
		_ = c.Wait() // killed: that is no failure
		return nil
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		if address, err := os.ReadFile(ready); err == nil {
			return &door{plain, load.Web{Address: string(address), Path: "/echo/7", Size: 200, PID: c.Process.Pid}, stop}, nil
		}
		if time.Now().After(deadline) {
			return nil, errors.Join(errors.New("the native server does not start"), stop())
		}
	}
}

func (b *bench) ownDoor() (*door, error) {
	const port = "127.0.0.1:18480"
	module := filepath.Join(b.dir, "handler.wasm")
	if text, err := exec.CommandContext(b.ctx, "sdk/c/build.sh", "test/bench/handler/handler.c", module).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build handler: %w\n%s", err, text)
	}
	code, err := os.ReadFile(module)
	if err != nil {
		return nil, err
	}
	a, err := b.startAgentWith(filepath.Join(b.dir, "door"), fmt.Sprintf("[gateway]\nlisten = %q\nconcurrency = 512\n", port))
	if err != nil {
		return nil, err
	}
	manifest := strings.Join([]string{
		"manifest = 1", `name = "handler"`, "[module]", `path = "handler.wasm"`, "[[trigger.http]]", `route = "POST /echo/{line}"`, `auth = "public"`,
		"[limits]", `memory = "1MiB"`, "concurrency = 64",
	}, "\n")
	if _, err := a.client.Deploy(b.ctx, admin.DeployRequest{File: "function.toml", Manifest: manifest}, code, nil); err != nil {
		return nil, errors.Join(err, a.stop())
	}
	return &door{mayfly, load.Web{Address: port, Path: "/echo/7", Size: 200, PID: a.cmd.Process.Pid}, a.stop}, nil
}
