package e2e_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"mayfly/admin"
)

// patience bounds every wait: far more than anything takes on a busy machine of two cores.
const patience = 2 * time.Minute

// node is one agent: a directory, a configuration, and the process, which can be ended and started again.
type node struct {
	t      testing.TB
	dir    string
	config string
	socket string
	broker string // address of the embedded broker; "" = it has none
	client *admin.Client
	env    []string // of the process, besides the test's own
	within []string // command in front of mayflyd

	cmd    *exec.Cmd
	exited chan struct{}
	log    *speech
}

// speech is what a process says.
type speech struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write implements io.Writer.
func (s *speech) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(p)
}

func (s *speech) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.String()
}

// newNode makes the directory and the configuration of an agent; more is added to its configuration. It does not run yet.
func newNode(t testing.TB, more string) *node {
	t.Helper()
	dir, err := os.MkdirTemp("", "mfe-") //nolint:usetesting // short: the path of a socket has at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	n := &node{t: t, dir: dir, config: filepath.Join(dir, "mayfly.toml"), socket: filepath.Join(dir, "admin.sock"), log: &speech{}}
	n.client = admin.NewClient(n.socket)
	n.configure(more)
	t.Cleanup(func() {
		n.client.Close()
		n.kill()
		if t.Failed() {
			t.Logf("the agent said:\n%s", tail(n.log.String(), 6000))
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return n
}

func tail(s string, n int) string {
	if len(s) > n {
		return "..." + s[len(s)-n:]
	}
	return s
}

// configure writes the configuration file; more may begin with settings of [node].
func (n *node) configure(more string) {
	n.t.Helper()
	text := fmt.Sprintf("[admin]\nsocket = %q\n\n[node]\nname = \"e2e\"\ndata = %q\n", n.socket, filepath.Join(n.dir, "data"))
	if err := os.WriteFile(n.config, []byte(text+more), 0o600); err != nil {
		n.t.Fatal(err)
	}
}

// withBroker is an agent with an embedded broker, running.
func withBroker(t testing.TB, more string) *node {
	t.Helper()
	n := newNode(t, "")
	n.broker = freeAddress(t)
	n.configure(fmt.Sprintf("[embedded]\nlisten = [%q]\n\n%s", n.broker, more))
	n.start()
	return n
}

// atBroker is an agent at a broker of somebody else, running.
func atBroker(t testing.TB, url, more string) *node {
	t.Helper()
	n := newNode(t, brokerAt(url)+more)
	n.start()
	return n
}

func brokerAt(url string) string { return fmt.Sprintf("[broker.site]\nurls = [%q]\n", url) }

// launch starts the process and does not wait.
func (n *node) launch() {
	n.t.Helper()
	bin, err := programs()
	if err != nil {
		n.t.Fatal(err)
	}
	args := append(append([]string(nil), n.within...), filepath.Join(bin, "mayflyd"), "run", "--config", n.config)
	n.cmd = exec.Command(args[0], args[1:]...)
	n.cmd.Env = append(os.Environ(), n.env...)
	n.cmd.Stdout, n.cmd.Stderr = n.log, n.log
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := n.cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.exited = make(chan struct{})
	go func(cmd *exec.Cmd, exited chan struct{}) {
		_ = cmd.Wait() // its state says how it ended
		close(exited)
	}(n.cmd, n.exited)
}

// start starts the process and waits until it serves.
func (n *node) start() {
	n.t.Helper()
	n.launch()
	n.ready()
}

func (n *node) ready() {
	n.t.Helper()
	until(n.t, "the agent is ready", func() (bool, string) {
		select {
		case <-n.exited:
			n.t.Fatalf("the agent ended instead of getting ready: %v", n.cmd.ProcessState)
		default:
		}
		s, err := n.client.Status(n.t.Context())
		if err != nil {
			return false, err.Error()
		}
		return s.Ready, fmt.Sprint(s.Reasons)
	})
}

// kill ends the process as a power cut would.
func (n *node) kill() {
	if n.cmd == nil {
		return
	}
	_ = syscall.Kill(-n.cmd.Process.Pid, syscall.SIGKILL) // gone already is as well
	<-n.exited
	n.cmd = nil
	n.client.Close()
}

// end waits for the process to end by itself and returns its exit code.
func (n *node) end() int {
	n.t.Helper()
	select {
	case <-n.exited:
	case <-time.After(patience):
		n.t.Fatalf("the agent does not end")
	}
	code := n.cmd.ProcessState.ExitCode()
	n.cmd = nil
	n.client.Close()
	return code
}

// signal sends s to the agent itself.
func (n *node) signal(s syscall.Signal) {
	n.t.Helper()
	if err := n.cmd.Process.Signal(s); err != nil {
		n.t.Fatal(err)
	}
}

// stop asks the process to end, and returns how long that took.
func (n *node) stop() time.Duration {
	n.t.Helper()
	began := time.Now()
	n.signal(syscall.SIGTERM)
	if code := n.end(); code != 0 {
		n.t.Errorf("SIGTERM: exit code %d", code)
	}
	return time.Since(began)
}

func (n *node) status() admin.Status {
	n.t.Helper()
	s, err := n.client.Status(n.t.Context())
	if err != nil {
		n.t.Fatal(err)
	}
	return s
}

func (n *node) function(name string) admin.Function {
	n.t.Helper()
	f, err := n.client.Function(n.t.Context(), name)
	if err != nil {
		n.t.Fatal(err)
	}
	return f
}

// ran is how a call of mayfly ended.
type ran struct {
	args     string
	out, err string
	code     int
}

// mayfly runs the command line against this agent.
func (n *node) mayfly(args ...string) ran {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), patience)
	defer cancel()
	return n.command(ctx, append([]string{"--socket", n.socket}, args...)...)
}

func (n *node) command(ctx context.Context, args ...string) ran {
	n.t.Helper()
	bin, err := programs()
	if err != nil {
		n.t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "mayfly"), args...)
	cmd.Dir = n.dir
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	err = cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && (!ok || exit.ExitCode() < 0) {
		n.t.Fatalf("mayfly %v: %v\n%s", args, err, complaint.String())
	}
	return ran{strings.Join(args, " "), out.String(), complaint.String(), cmd.ProcessState.ExitCode()}
}

// must runs the command line and wants exit code 0.
func (n *node) must(args ...string) ran {
	n.t.Helper()
	return n.mayfly(args...).want(n.t, 0)
}

// want checks the exit code, and that each of texts is in what was printed.
func (r ran) want(t testing.TB, code int, texts ...string) ran {
	t.Helper()
	if r.code != code {
		t.Fatalf("mayfly %s: exit code %d, want %d\n%s%s", r.args, r.code, code, r.out, r.err)
	}
	for _, text := range texts {
		if !strings.Contains(r.out+r.err, text) {
			t.Errorf("mayfly %s: %q is not in\n%s%s", r.args, text, r.out, r.err)
		}
	}
	return r
}

// until asks again and again until condition holds; it fails with the last reason.
func until(t testing.TB, what string, condition func() (ok bool, why string)) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, why := condition()
		if ok {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within %v: %s: %s", patience, what, why)
		}
	}
}
