// Command demo shows what Mayfly does on this machine: it starts mayflyd with its embedded broker in a temporary directory,
// deploys the example overheat, publishes readings and prints what comes out, how fast, and where it ran. With --once it ends
// by itself and fails if anything is missing.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"mayfly/admin"
)

func main() {
	once := flag.Bool("once", false, "publish four readings, check what comes out, and end")
	bin := flag.String("bin", "bin", "directory of mayflyd and mayfly")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *bin, *once); err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		stop()
		os.Exit(1)
	}
}

// demo is one run: an agent of its own and where to find it.
type demo struct {
	bin, dir, socket, broker string
	client                   *admin.Client
	out                      io.Writer
}

func run(ctx context.Context, bin string, once bool) error {
	dir, err := os.MkdirTemp("", "mayfly-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	d := &demo{bin: bin, dir: dir, socket: filepath.Join(dir, "admin.sock"), out: os.Stdout}
	d.client = admin.NewClient(d.socket)
	defer d.client.Close()
	agent, err := d.start(ctx)
	if err != nil {
		return err
	}
	defer func() {
		_ = agent.Process.Signal(syscall.SIGTERM)
		_ = agent.Wait()
	}()
	if err := d.deploy(ctx); err != nil {
		return err
	}
	t, err := d.watch(ctx)
	if err != nil {
		return err
	}
	return d.publish(ctx, t, once)
}

// start writes a configuration, starts the agent and waits until it answers.
func (d *demo) start(ctx context.Context) (*exec.Cmd, error) {
	broker, err := freeAddress("127.0.0.1:1883")
	if err != nil {
		return nil, err
	}
	d.broker = broker
	config := fmt.Sprintf("[node]\nname = \"demo\"\ndata = %q\n\n[embedded]\nlisten = [%q]\n\n[admin]\nsocket = %q\n",
		filepath.Join(d.dir, "data"), broker, d.socket)
	file := filepath.Join(d.dir, "mayfly.toml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(d.dir, "mayflyd.log"))
	if err != nil {
		return nil, err
	}
	began := time.Now()
	fmt.Fprintf(d.out, "$ mayflyd run --config mayfly.toml\n")
	// Not CommandContext: the agent gets its SIGTERM from us, so that it can finish what it has.
	agent := exec.Command(filepath.Join(d.bin, "mayflyd"), "run", "--config", file)
	agent.Stdout, agent.Stderr = log, log
	agent.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := agent.Start(); err != nil {
		return nil, err
	}
	for {
		status, err := d.client.Status(ctx)
		if err == nil && status.Ready {
			fmt.Fprintf(d.out, "  ready in %d ms, its broker listens on %s\n\n", time.Since(began).Milliseconds(), broker)
			return agent, nil
		}
		if time.Since(began) > 20*time.Second {
			text, _ := os.ReadFile(log.Name())
			_ = agent.Process.Kill()
			_ = agent.Wait()
			if err == nil {
				err = errors.New("it answers and does not become ready")
			}
			return nil, fmt.Errorf("mayflyd is not ready after 20 s: %w; its log:\n%s", err, text)
		}
		select {
		case <-ctx.Done():
			_ = agent.Process.Kill()
			return nil, errors.Join(ctx.Err(), agent.Wait())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// freeAddress returns preferred if nobody listens there, else a free port.
func freeAddress(preferred string) (string, error) {
	for _, address := range []string{preferred, "127.0.0.1:0"} {
		if l, err := net.Listen("tcp", address); err == nil {
			defer l.Close()
			return l.Addr().String(), nil
		}
	}
	return "", errors.New("no free port on 127.0.0.1")
}

func (d *demo) deploy(ctx context.Context) error {
	fmt.Fprintf(d.out, "$ mayfly deploy examples/overheat\n")
	c := exec.CommandContext(ctx, filepath.Join(d.bin, "mayfly"), "--socket", d.socket, "deploy", "--wait", "examples/overheat")
	text, err := c.CombinedOutput()
	for line := range strings.Lines(strings.TrimSpace(string(text)) + "\n") {
		fmt.Fprint(d.out, "  ", line)
	}
	if err != nil {
		return fmt.Errorf("mayfly deploy: %w", err)
	}
	return nil
}

// traffic is what came out: messages, and the stories of events.
type traffic struct {
	messages chan admin.Received
	stories  chan admin.EventRecord
}

func (d *demo) watch(ctx context.Context) (*traffic, error) {
	t := &traffic{make(chan admin.Received, 100), make(chan admin.EventRecord, 100)}
	ready := make(chan error, 2)
	go func() {
		ready <- d.client.Subscribe(ctx, admin.SubscribeQuery{Filter: "plant/#"}, func(f admin.Frame[admin.Received]) error {
			if f.Ready {
				ready <- nil
			} else if f.Record != nil {
				t.messages <- *f.Record
			}
			return nil
		})
	}()
	go func() {
		ready <- d.client.Events(ctx, admin.EventQuery{Follow: true}, func(f admin.Frame[admin.EventRecord]) error {
			if f.Ready {
				ready <- nil
			} else if f.Record != nil {
				t.stories <- *f.Record
			}
			return nil
		})
	}()
	for range 2 {
		select {
		case err := <-ready:
			if err != nil {
				return nil, err
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return t, nil
}

type reading struct{ topic, payload, want string }

func (d *demo) publish(ctx context.Context, t *traffic, once bool) error {
	readings := []reading{
		{"plant/7/temp", `{"t": 98.6}`, `plant/7/celsius {"c":37.0}`},
		{"plant/8/temp", `{"t": 122}`, `plant/8/celsius {"c":50.0}`},
		{"plant/7/temp", `{"t": 195.8}`, `plant/7/alarm {"c":91.0,"limit":70.0}`},
		{"plant/8/temp", `{"t": 68}`, `plant/8/celsius {"c":20.0}`},
	}
	fmt.Fprintf(d.out, "\nReadings go in on plant/{line}/temp; the function answers on plant/{line}/celsius and plant/{line}/alarm.\n\n")
	if !once {
		fmt.Fprintf(d.out, "%s\nCtrl-C stops it all.\n\n", d.next())
	}
	for i := 0; ctx.Err() == nil; i++ {
		r := readings[i%len(readings)]
		if err := d.one(ctx, t, r); err != nil {
			return err
		}
		if once && i == len(readings)-1 {
			fmt.Fprintf(d.out, "\nEverything that was to come out came out.\n")
			return nil
		}
		select {
		case <-ctx.Done():
		case <-time.After(map[bool]time.Duration{true: 50 * time.Millisecond, false: time.Second}[once]):
		}
	}
	return nil
}

// one publishes a reading and prints what came of it, until the message it must lead to is there and the event is settled.
func (d *demo) one(ctx context.Context, t *traffic, r reading) error {
	began := time.Now()
	payload := r.payload
	err := d.client.Publish(ctx, admin.Message{Topic: r.topic, QoS: 1, Body: admin.Body{Payload: &payload}})
	if err != nil {
		return err
	}
	fmt.Fprintf(d.out, "%s  in   %-17s %s\n", began.Format("15:04:05.000"), r.topic, r.payload)
	patience := time.After(5 * time.Second)
	arrived, settled := false, false
	for !arrived || !settled {
		select {
		case m := <-t.messages:
			if m.Topic == r.topic {
				continue
			}
			text := m.Topic + " " + string(m.Bytes())
			arrived = arrived || text == r.want
			fmt.Fprintf(d.out, "%s  out  %-17s %-26s %6.2f ms after the reading was sent\n", m.Time.Format("15:04:05.000"), m.Topic, m.Bytes(),
				float64(m.Time.Sub(began).Microseconds())/1000)
		case s := <-t.stories:
			settled = true
			fmt.Fprintf(d.out, "%14s%s ran on %s in %d us of CPU time (%s)\n", "", s.Function, s.Node, s.Usage.CPUUS, s.Why)
		case <-patience:
			return fmt.Errorf("%s %s: %q did not come out within 5 s", r.topic, r.payload, r.want)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (d *demo) next() string {
	host, port, _ := net.SplitHostPort(d.broker)
	return fmt.Sprintf(`Try in another terminal, in this directory:
  export MAYFLY_SOCKET=%s
  bin/mayfly status                                    how the agent is
  bin/mayfly pub plant/9/temp '{"t": 212}'             a reading of your own
  bin/mayfly events tail                               what became of each event, where and why there
  bin/mayfly invoke overheat --topic plant/1/temp -d '{"t": 50}'
  bin/mayfly test examples/overheat                    the function's own tests
  mosquitto_sub -h %s -p %s -t 'plant/#' -v     any MQTT client will do`, d.socket, host, port)
}
