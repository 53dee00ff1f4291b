package main

import (
	"context"
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

// measure runs one subject at a fresh broker.
func (b *bench) measure(s subject, qos byte, size, inFlight int, drive func(context.Context, load.Target) (load.Result, error)) (load.Result, error) {
	m, err := b.broker(inFlight)
	if err != nil {
		return load.Result{}, err
	}
	defer m.Kill()
	pid, stop, err := s.start(b, m.URL(), qos, inFlight)
	if err != nil {
		return load.Result{}, fmt.Errorf("%s: %w", s.name, err)
	}
	r, err := drive(b.ctx, load.Target{Broker: m.URL(), In: s.in, Out: s.out, QoS: qos, Size: size, PID: pid})
	if stopErr := stop(); err == nil {
		err = stopErr
	}
	if err == nil && qos > 0 && r.Lost > 0 {
		err = fmt.Errorf("%s lost %d of %d QoS 1 messages", s.name, r.Lost, r.Sent)
	}
	return r, err
}

// rounds lets the subjects take turns, in changing order because other work on the machine comes and goes, and hands on what
// came out.
func (b *bench) rounds(n int, run func(who subject) error) error {
	for i := range n {
		turn := subjects()
		if i%2 == 1 {
			slices.Reverse(turn)
		}
		for _, who := range turn {
			if err := run(who); err != nil {
				return err
			}
		}
	}
	return nil
}

// throughput compares messages a second and CPU per message in closed loops; medians of the rounds count.
func (b *bench) throughput() error {
	fmt.Println("  mosquitto with set_tcp_nodelay true; the agent's sandbox and delivery promise included")
	type shape struct {
		qos            byte
		size, inFlight int
	}
	shapes := []shape{{1, 200, 64}, {1, 200, 512}, {1, 4096, 64}, {1, 4096, 512}, {0, 200, 64}, {0, 200, 512}, {0, 4096, 64}, {0, 4096, 512}}
	for _, s := range pick(b, []shape{shapes[0], shapes[1], shapes[4]}, shapes) {
		rate, cpu := map[string][]float64{}, map[string][]float64{}
		err := b.rounds(pick(b, 1, 3), func(who subject) error {
			r, err := b.measure(who, s.qos, s.size, s.inFlight, func(ctx context.Context, t load.Target) (load.Result, error) {
				return load.Closed(ctx, t, s.inFlight, pick(b, 15_000, 30_000))
			})
			rate[who.name] = append(rate[who.name], r.PerSecond)
			cpu[who.name] = append(cpu[who.name], float64(r.CPUPerMessage.Nanoseconds())/1000)
			return err
		})
		if err != nil {
			return err
		}
		name := fmt.Sprintf("QoS %d, %d B, %d in flight", s.qos, s.size, s.inFlight)
		b.add(name+": throughput", median(rate[mayfly]), "/s", median(rate[plain]), limit{ratioAtLeast: 1})
		b.add(name+": beside confirmed", median(rate[mayfly]), "/s", median(rate[confirmed]), limit{ratioAtLeast: 1})
		if s.qos == 1 {
			b.add(name+": CPU per message", median(cpu[mayfly]), "us", median(cpu[plain]), limit{ratioAtMost: 1.1})
		}
	}
	return nil
}

// latency compares the 99th percentile at a steady rate, counted from when each message was to be sent.
func (b *bench) latency() error {
	for _, qos := range pick(b, []byte{1}, []byte{1, 0}) {
		p99 := map[string][]float64{}
		err := b.rounds(pick(b, 1, 3), func(who subject) error {
			r, err := b.measure(who, qos, 200, 64, func(ctx context.Context, t load.Target) (load.Result, error) {
				return load.Open(ctx, t, 1000, pick(b, 3*time.Second, 5*time.Second))
			})
			p99[who.name] = append(p99[who.name], float64(r.P99.Nanoseconds())/1e6)
			return err
		})
		if err != nil {
			return err
		}
		b.add(fmt.Sprintf("QoS %d, 1,000/s: p99", qos), median(p99[mayfly]), "ms", median(p99[plain]), limit{ratioAtMost: 1.2})
	}
	return nil
}

func median(xs []float64) float64 {
	xs = slices.Sorted(slices.Values(xs))
	return xs[len(xs)/2]
}
