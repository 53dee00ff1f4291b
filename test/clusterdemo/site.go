package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"mayfly/admin"
)

// site is the agents of one place.
type site struct {
	bin, dir, broker string
	nodes            []*node
}

// node is one agent.
type node struct {
	name, socket, calls string
	log                 string
	client              *admin.Client
	process             *exec.Cmd
}

// add starts one more agent, alone.
func (s *site) add() error {
	n := &node{name: fmt.Sprintf("n%d", len(s.nodes)+1)}
	n.socket, n.log = filepath.Join(s.dir, n.name+".sock"), filepath.Join(s.dir, n.name+".log")
	gossip, err := pair()
	if err != nil {
		return err
	}
	n.calls = fmt.Sprintf("127.0.0.1:%d", gossip+1)
	text := fmt.Sprintf(`[node]
name = %q
data = %q
[broker.site]
urls = ["tcp://%s"]
[admin]
socket = %q
[cluster]
listen = "127.0.0.1:%d"
`, n.name, filepath.Join(s.dir, n.name), s.broker, n.socket, gossip)
	config := filepath.Join(s.dir, n.name+".toml")
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return err
	}
	log, err := os.Create(n.log)
	if err != nil {
		return err
	}
	defer log.Close()
	n.process = exec.Command(filepath.Join(s.bin, "mayflyd"), "run", "--config", config)
	n.process.Stdout, n.process.Stderr = log, log
	n.process.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := n.process.Start(); err != nil {
		return err
	}
	n.client = admin.NewClient(n.socket)
	s.nodes = append(s.nodes, n)
	return n.ready(context.Background())
}

// pair returns a free port whose successor is free as well: gossip and calls.
func pair() (int, error) {
	for range 100 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return 0, err
		}
		port := l.Addr().(*net.TCPAddr).Port
		second, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port+1))
		_ = l.Close()
		if err == nil {
			_ = second.Close()
			return port, nil
		}
	}
	return 0, fmt.Errorf("no two free ports on 127.0.0.1")
}

// ready waits until the agent answers and is ready; after an init or a join it starts anew.
func (n *node) ready(ctx context.Context) error {
	err := eventually(ctx, 20*time.Second, n.name+" is not ready after 20 s", func() bool {
		status, err := n.client.Status(ctx)
		return err == nil && status.Ready
	})
	if err != nil {
		text, _ := os.ReadFile(n.log)
		return fmt.Errorf("%w; its log:\n%s", err, text)
	}
	return nil
}

func (n *node) kill() {
	if n.process != nil {
		_ = n.process.Process.Kill()
		_ = n.process.Wait()
		n.process = nil
	}
}

// stop ends all agents, as systemd would.
func (s *site) stop() {
	for _, n := range s.nodes {
		if n.process != nil {
			_ = n.process.Process.Signal(syscall.SIGTERM)
		}
	}
	for _, n := range s.nodes {
		if n.process != nil {
			_ = n.process.Wait()
		}
		n.client.Close()
	}
}

// say runs a command of the command line against a node and shows both.
func (s *site) say(ctx context.Context, n *node, args ...string) error {
	shown := strings.Join(args, " ")
	if len(shown) > 60 {
		shown = shown[:36] + "... " + strings.Join(args[2:], " ")
	}
	fmt.Printf("%s$ mayfly %s\n", n.name, shown)
	c := exec.CommandContext(ctx, filepath.Join(s.bin, "mayfly"), append([]string{"--socket", n.socket}, args...)...)
	text, err := c.CombinedOutput()
	for line := range strings.Lines(strings.TrimSpace(string(text)) + "\n") {
		fmt.Print("    ", line)
	}
	if err != nil {
		return fmt.Errorf("mayfly %s: %w", args[0], err)
	}
	return nil
}

// owner returns the node that has the function's trigger.
func (s *site) owner(ctx context.Context) (*node, error) {
	var found *node
	err := eventually(ctx, 20*time.Second, "nobody has the trigger", func() bool {
		for _, asked := range s.nodes {
			if asked.process == nil {
				continue
			}
			e, err := asked.client.Explain(ctx, admin.ExplainQuery{Function: "overheat"})
			if err != nil {
				return false
			}
			for _, row := range e.Rows {
				for _, n := range s.nodes {
					if len(row.Owns) > 0 && n.name == row.Name && n.process != nil {
						found = n
					}
				}
			}
			return found != nil
		}
		return false
	})
	return found, err
}
