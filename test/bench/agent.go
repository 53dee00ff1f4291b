package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"mayfly/admin"
	"mayfly/function"
	"mayfly/internal/mosquitto"
)

// agent is a mayflyd that is measured.
type agent struct {
	cmd    *exec.Cmd
	dir    string
	client *admin.Client
}

// startAgent starts mayflyd on dir, which keeps what an earlier one left there, and waits until it answers.
func (b *bench) startAgent(dir, broker string, window int) (*agent, error) {
	more := "[gateway]\nlisten = \"127.0.0.1:0\"\n"
	if broker != "" {
		more = fmt.Sprintf("[broker.site]\nurls = [%q]\nwindow = %d\nin_flight = 4096\n", broker, max(window, 1))
	}
	return b.startAgentWith(dir, more)
}

// startAgentWith does the same with more lines of configuration.
func (b *bench) startAgentWith(dir, more string) (*agent, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	socket := filepath.Join(dir, "admin.sock")
	config := fmt.Sprintf("[node]\nname = \"bench\"\ndata = %q\n[admin]\nsocket = %q\n[log]\nlevel = \"warn\"\n", filepath.Join(dir, "data"), socket)
	config += more
	file := filepath.Join(dir, "mayfly.toml")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		return nil, err
	}
	a := &agent{cmd: exec.Command(filepath.Join(b.bin, "mayflyd"), "run", "--config", file), dir: dir, client: admin.NewClient(socket)}
	a.cmd.Stderr = os.Stderr
	if err := a.cmd.Start(); err != nil {
		return nil, err
	}
	return a, a.wait(func(s *admin.Status) bool { return s.Ready })
}

// wait polls the agent's status until it is as wanted.
func (a *agent) wait(ok func(*admin.Status) bool) error {
	deadline := time.Now().Add(30 * time.Second)
	for {
		s, err := a.client.Status(context.Background())
		if err == nil && ok(&s) {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the agent is not as wanted after 30 s: %w, %+v", err, s.Reasons)
		}
		time.Sleep(time.Millisecond)
	}
}

func (a *agent) stop() error {
	a.client.Close()
	if err := a.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	return a.cmd.Wait()
}

// deploy deploys an example under a name, with its topics moved below that name when it is not the example's own.
func (a *agent) deploy(example, name string) error {
	return a.deployEdited(example, name, func(manifest string) string {
		if name == example {
			return manifest
		}
		manifest = strings.Replace(manifest, fmt.Sprintf("= %q", example), fmt.Sprintf("= %q", name), 1)
		return strings.Replace(manifest, "\"bench/", fmt.Sprintf("\"bench/%s/", name), 1)
	})
}

// deployQoS deploys an example that is subscribed with that QoS.
func (a *agent) deployQoS(example string, qos byte) error {
	return a.deployEdited(example, example, func(manifest string) string {
		return regexp.MustCompile(`(?m)^qos\s*=.*$`).ReplaceAllString(manifest, fmt.Sprintf("qos = %d", qos))
	})
}

// deployEdited deploys an example with a manifest that was changed, without its tests, and waits until it is ready.
func (a *agent) deployEdited(example, name string, edit func(string) string) error {
	dir := filepath.Join("examples", example)
	text, err := os.ReadFile(filepath.Join(dir, "function.toml"))
	if err != nil {
		return err
	}
	manifest := edit(strings.Split(string(text), "[[test]]")[0])
	m, err := function.ParseManifest("function.toml", []byte(manifest))
	if err != nil {
		return err
	}
	module, err := os.ReadFile(filepath.Join(dir, m.Module.Path))
	if err != nil {
		return err
	}
	_, err = a.client.Deploy(context.Background(), admin.DeployRequest{File: "function.toml", Manifest: manifest}, module, nil)
	if err != nil {
		return err
	}
	return a.wait(func(s *admin.Status) bool {
		for _, f := range s.Functions {
			if f.Name == name {
				return f.State == admin.StateReady
			}
		}
		return false
	})
}

// written returns the bytes the agent caused to be written, by the kernel's accounting.
func (a *agent) written() (float64, error) { return procField(a.cmd.Process.Pid, "io", "write_bytes:") }

// rss returns the agent's resident memory in bytes.
func (a *agent) rss() (float64, error) {
	kib, err := procField(a.cmd.Process.Pid, "status", "VmRSS:")
	return kib * 1024, err
}

func procField(pid int, file, name string) (float64, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/%s", pid, file))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), name); ok {
			return strconv.ParseFloat(strings.Fields(rest)[0], 64)
		}
	}
	return 0, errors.New(name + " is not in /proc")
}

// broker starts a fresh mosquitto for one measurement.
func (b *bench) broker(inFlight int) (*mosquitto.Broker, error) {
	dir, err := os.MkdirTemp(b.dir, "mosquitto-")
	if err != nil {
		return nil, err
	}
	m, err := mosquitto.New(dir, mosquitto.Options{NoDelay: true, MaxInflight: max(inFlight, 20), MaxQueued: 100_000})
	if err != nil {
		return nil, err
	}
	return m, m.Start()
}
