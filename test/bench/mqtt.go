package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"mayfly/test/bench/load"
)

// subject is something that answers messages: the agent, or a baseline.
type subject struct {
	name string
	// start starts it at a broker and returns its process id and how to end it.
	start func(b *bench, url string, qos byte, inFlight int) (pid int, stop func() error, err error)
	in    string
	out   string
}

// The subjects: an echo that promises nothing, one that acknowledges a message when the broker accepted its answer, and the agent.
const (
	plain     = "plain"
	confirmed = "confirmed"
	mayfly    = "mayfly"
)

func subjects() []subject {
	return []subject{
		{plain, baseline(plain), "bench/in/1", "bench/out"},
		{confirmed, baseline(confirmed), "bench/in/1", "bench/out"},
		{mayfly, deployed, "bench/in/1", "out/bench/in/1"},
	}
}

// baseline builds and starts one of the bare programs of test/bench/echo.
func baseline(which string) func(*bench, string, byte, int) (int, func() error, error) {
	return func(b *bench, url string, qos byte, _ int) (int, func() error, error) {
		program := filepath.Join(b.dir, which)
		if _, err := os.Stat(program); err != nil {
			build := exec.CommandContext(b.ctx, "go", "build", "-o", program, "./test/bench/echo/"+which)
			build.Stderr = os.Stderr
			if err := build.Run(); err != nil {
				return 0, nil, err
			}
		}
		c := exec.Command(program, "-broker", url, "-in", "bench/in/#", "-out", "bench/out", "-qos", fmt.Sprint(qos))
		if err := c.Start(); err != nil {
			return 0, nil, err
		}
		return c.Process.Pid, func() error {
			_ = c.Process.Signal(syscall.SIGTERM)
			_ = c.Wait() // ended by the signal: that is no failure
			return nil
		}, nil
	}
}

// deployed starts an agent with the echo example.
func deployed(b *bench, url string, qos byte, inFlight int) (int, func() error, error) {
	dir, err := os.MkdirTemp(b.dir, "agent-")
	if err != nil {
		return 0, nil, err
	}
	a, err := b.startAgent(dir, url, inFlight)
	if err != nil {
		return 0, nil, err
	}
	if err := a.deployQoS("echo", qos); err != nil {
		return 0, nil, err
	}
	return a.cmd.Process.Pid, a.stop, nil
}

// side is a subject that is up, at a broker of its own.
type side struct {
	subject
	target load.Target
	stop   func() error
}

func (b *bench) side(s subject, qos byte, size, inFlight int) (*side, error) {
	m, err := b.broker(inFlight)
	if err != nil {
		return nil, err
	}
	pid, stop, err := s.start(b, m.URL(), qos, inFlight)
	if err != nil {
		m.Kill()
		return nil, fmt.Errorf("%s: %w", s.name, err)
	}
	return &side{s, load.Target{Broker: m.URL(), In: s.in, Out: s.out, QoS: qos, Size: size, PID: pid}, func() error {
		defer m.Kill()
		return stop()
	}}, nil
}

// sides starts subjects at fresh brokers.
func (b *bench) sides(all []subject, qos byte, size, inFlight int) (up []*side, stop func() error, err error) {
	stop = func() (err error) {
		for _, s := range up {
			err = errors.Join(err, s.stop())
		}
		return err
	}
	for _, s := range all {
		one, err := b.side(s, qos, size, inFlight)
		if err != nil {
			return nil, nil, errors.Join(err, stop())
		}
		up = append(up, one)
	}
	return up, stop, nil
}

// answer measures subjects in turns with one load. At QoS 1 nothing may be lost.
func (b *bench) answer(sides []*side, n int, drive func(context.Context, load.Target) (load.Result, error)) (rounds[load.Result], error) {
	return turns(sides, n, func(s *side) (string, load.Result, error) {
		r, err := drive(b.ctx, s.target)
		if err == nil && s.target.QoS > 0 && r.Lost > 0 {
			err = fmt.Errorf("lost %d of %d QoS 1 messages", r.Lost, r.Sent)
		}
		return s.name, r, err
	})
}

// throughput compares messages a second and CPU per message in closed loops.
func (b *bench) throughput() error {
	n := pick(b, 9, 15) // many short ones: two of the same program, one after the other, differ by up to a half on a machine that is shared
	fmt.Printf("  mosquitto with set_tcp_nodelay true; the agent's sandbox and delivery promise included; %d rounds in turns\n", n)
	type shape struct {
		qos            byte
		size, inFlight int
	}
	shapes := []shape{{1, 200, 64}, {1, 200, 512}, {1, 4096, 64}, {1, 4096, 512}, {0, 200, 64}, {0, 200, 512}, {0, 4096, 64}, {0, 4096, 512}}
	for _, s := range pick(b, []shape{shapes[0], shapes[1], shapes[4]}, shapes) {
		sides, stop, err := b.sides(subjects(), s.qos, s.size, s.inFlight)
		if err != nil {
			return err
		}
		r, err := b.answer(sides, n, func(ctx context.Context, t load.Target) (load.Result, error) {
			return load.Closed(ctx, t, s.inFlight, pick(b, 4_000, 6_000))
		})
		if err = errors.Join(err, stop()); err != nil {
			return err
		}
		name := fmt.Sprintf("QoS %d, %d B, %d in flight", s.qos, s.size, s.inFlight)
		b.compare(name+": throughput", "/s", r.versus(mayfly, plain, perSecond), limit{ratioAtLeast: 1})
		b.compare(name+": beside confirmed", "/s", r.versus(mayfly, confirmed, perSecond), limit{ratioAtLeast: 1})
		if s.qos == 1 {
			b.compare(name+": CPU per message", "us", r.versus(mayfly, plain, cpuPerMessage), limit{ratioAtMost: 1.1})
		}
	}
	return nil
}

// latency compares the 99th percentile at a steady rate, counted from when each message was to be sent.
func (b *bench) latency() error {
	n := pick(b, 7, 11)
	fmt.Printf("  %d rounds in turns\n", n)
	for _, qos := range pick(b, []byte{1}, []byte{1, 0}) {
		sides, stop, err := b.sides(slices.DeleteFunc(subjects(), func(s subject) bool { return s.name == confirmed }), qos, 200, 64)
		if err != nil {
			return err
		}
		r, err := b.answer(sides, n, func(ctx context.Context, t load.Target) (load.Result, error) {
			return load.Open(ctx, t, 1000, pick(b, 1500*time.Millisecond, 3*time.Second))
		})
		if err = errors.Join(err, stop()); err != nil {
			return err
		}
		b.compare(fmt.Sprintf("QoS %d, 1,000/s: p99", qos), "ms", r.versus(mayfly, plain, p99), limit{ratioAtMost: 1.2})
	}
	return nil
}
