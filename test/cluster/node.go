package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"mayfly/admin"
	"mayfly/test/cluster/lan"
)

// node is one agent on a host of its own.
type node struct {
	t      *trial
	host   *lan.Host
	name   string
	id     string // as a member
	socket string
	labels []string
	cage   string // cgroup its process was put into; "" = none
	client *admin.Client
	cmd    *exec.Cmd
	gone   chan struct{}
	ended  error
}

// Ports are the agent's defaults: every host has all of them.
const (
	gossipPort  = "7946"
	callsPort   = "7947"
	gatewayPort = "8480"
)

func (n *node) data() string { return filepath.Join(n.t.dir, n.name) }

func (n *node) calls() string { return n.host.Address + ":" + callsPort }

// configure writes the agent's configuration.
func (n *node) configure() error {
	labels, err := json.Marshal(append([]string{}, n.labels...))
	if err != nil {
		return err
	}
	level := map[bool]string{true: "debug", false: "info"}[n.t.debug]
	text := fmt.Sprintf("[node]\nname = %q\ndata = %q\nlabels = %s\n[broker.site]\nurls = [%q]\n[admin]\nsocket = %q\n[gateway]\nlisten = \"0.0.0.0:%s\"\nplain = true\n[log]\nlevel = %q\n",
		n.name, n.data(), labels, "tcp://"+brokerAddress, n.socket, gatewayPort, level)
	if n.t.slots > 0 {
		text += fmt.Sprintf("[limits]\nslots = %d\n", n.t.slots)
	}
	return os.WriteFile(n.data()+".toml", []byte(text), 0o600)
}

// start starts the agent. It returns at once; ready waits.
func (n *node) start() error {
	log, err := os.OpenFile(n.data()+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	fmt.Fprintf(log, "--- started %s\n", time.Now().Format(time.RFC3339Nano))
	line := append(n.host.Within(), cmp.Or(n.t.agent, filepath.Join(n.t.bin, "mayflyd")), "run", "--config", n.data()+".toml")
	n.cmd = exec.Command(line[0], line[1:]...)
	n.cmd.Stdout, n.cmd.Stderr = log, log
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := n.cmd.Start(); err != nil {
		return err
	}
	gone := make(chan struct{})
	n.gone = gone
	go func() {
		n.ended = n.cmd.Wait()
		close(gone)
	}()
	return nil
}

func (n *node) running() bool {
	if n.gone == nil {
		return false
	}
	select {
	case <-n.gone:
		return false
	default:
		return true
	}
}

// signal sends s to the agent and its children.
func (n *node) signal(s syscall.Signal) error {
	if !n.running() {
		return errors.New(n.name + " does not run")
	}
	return syscall.Kill(-n.cmd.Process.Pid, s)
}

// end sends s and waits until the agent is gone.
func (n *node) end(s syscall.Signal) error {
	if !n.running() {
		return nil
	}
	if err := n.signal(s); err != nil {
		return err
	}
	select {
	case <-n.gone:
		n.client.Close()
		return nil
	case <-time.After(30 * time.Second):
		return errors.Join(fmt.Errorf("%s did not end within 30 s of %v", n.name, s), n.signal(syscall.SIGKILL))
	}
}

func (n *node) kill() error { return n.end(syscall.SIGKILL) }

// ready waits until the agent answers and is ready.
func (n *node) ready() error {
	return n.status(30*time.Second, func(s *admin.Status) bool { return s.Ready })
}

// member waits until the agent is a member of a cluster and ready.
func (n *node) member() error {
	err := n.status(30*time.Second, func(s *admin.Status) bool { return s.Ready && s.Cluster != nil })
	if err != nil {
		return err
	}
	s, err := n.client.Status(n.t.ctx)
	if err == nil {
		n.id = s.Cluster.Node
	}
	return err
}

// status waits until the agent's status is as wanted.
func (n *node) status(patience time.Duration, ok func(*admin.Status) bool) error {
	var last error
	err := n.t.until(patience, func() bool {
		if !n.running() {
			last = fmt.Errorf("it has ended: %w", n.ended)
			return false
		}
		ctx, cancel := context.WithTimeout(n.t.ctx, 2*time.Second)
		defer cancel()
		s, err := n.client.Status(ctx)
		if last = err; err != nil {
			return false
		}
		last = fmt.Errorf("%+v", s.Reasons)
		return ok(&s)
	})
	if err != nil {
		return fmt.Errorf("%s is not as wanted after %v: %w", n.name, patience, last)
	}
	return nil
}

// mayfly runs the command line against this node, as an operator does, and returns what it says on standard output.
func (n *node) mayfly(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(n.t.ctx, 60*time.Second)
	defer cancel()
	c := exec.CommandContext(ctx, filepath.Join(n.t.bin, "mayfly"), append([]string{"--socket", n.socket}, args...)...)
	var said strings.Builder
	c.Stderr = &said
	text, err := c.Output()
	if err != nil {
		return string(text), fmt.Errorf("%s$ mayfly %s: %w: %s", n.name, strings.Join(args, " "), err, strings.TrimSpace(said.String()))
	}
	return string(text), nil
}
