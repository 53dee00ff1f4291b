package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"mayfly/admin"
	"mayfly/function"
)

// mayflyd finds the agent's program: MAYFLYD, beside this one, or in PATH.
func (a *app) mayflyd() (string, error) {
	if path := a.Getenv("MAYFLYD"); path != "" {
		return path, nil
	}
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), "mayflyd")
		if _, err := os.Stat(beside); err == nil {
			return beside, nil
		}
	}
	path, err := exec.LookPath("mayflyd")
	if err != nil {
		return "", &function.Error{
			Op: "find", Subject: "mayflyd", Class: function.ClassReject, Kind: "no-engine",
			Err:  errors.New("it is neither beside mayfly nor in PATH"),
			Hint: "install it, or set MAYFLYD to its path",
		}
	}
	return path, nil
}

// startTimeout is how long a child may take to open its socket.
const startTimeout = 20 * time.Second

// trialAgent starts `mayflyd serve-test` on a socket of its own and returns a client of it. stop ends the child and removes
// what it left. The child also ends when its standard input does, so that it cannot outlive this process.
func (a *app) trialAgent(ctx context.Context) (c *admin.Client, stop func(), err error) {
	path, err := a.mayflyd()
	if err != nil {
		return nil, nil, err
	}
	dir, err := os.MkdirTemp("", "mayfly-test")
	if err != nil {
		return nil, nil, err
	}
	socket := filepath.Join(dir, "admin.sock")
	child, err := startChild(path, "serve-test", "--socket", socket)
	if err != nil {
		return nil, nil, errors.Join(err, os.RemoveAll(dir))
	}
	c = admin.NewClient(socket)
	stop = func() {
		c.Close()
		child.end()
		_ = os.RemoveAll(dir) // a leftover in /tmp is no reason to fail
	}
	if err := child.answers(ctx, c); err != nil {
		stop()
		return nil, nil, err
	}
	return c, stop, nil
}

// child is a running mayflyd.
type child struct {
	path   string
	cmd    *exec.Cmd
	stdin  io.Closer
	said   *tail
	exited chan struct{}
}

func startChild(path string, args ...string) (*child, error) {
	cmd := exec.Command(path, args...) //nolint:noctx // it ends with its standard input and then tidies up; a context would kill it
	c := &child{path: path, cmd: cmd, said: &tail{}, exited: make(chan struct{})}
	c.cmd.Stdout, c.cmd.Stderr = c.said, c.said
	stdin, err := c.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	c.stdin = stdin
	if err := c.cmd.Start(); err != nil {
		return nil, &function.Error{
			Op: "start", Subject: path, Class: function.ClassReject, Kind: "no-engine", Err: err, Hint: "install mayflyd, or set MAYFLYD to its path",
		}
	}
	go func() {
		_ = c.cmd.Wait() // how it ended is in said
		close(c.exited)
	}()
	return c, nil
}

// answers waits until the child's socket is open.
func (c *child) answers(ctx context.Context, client *admin.Client) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, errTimeout)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	failed := &function.Error{
		Op: "start", Subject: c.path + " serve-test", Class: function.ClassReject, Kind: "no-engine",
		Hint: "see what it says by hand: " + c.path + " serve-test --socket /tmp/mayfly.sock",
	}
	for {
		if _, err := client.Status(ctx); function.KindOf(err) != admin.KindNotRunning {
			if function.KindOf(err) == admin.KindUnsupported {
				return nil // it answers, and that is all that was asked
			}
			return err
		}
		select {
		case <-c.exited:
			failed.Err = fmt.Errorf("it ended at once:\n%s", c.said)
			return failed
		case <-ctx.Done():
			if !errors.Is(context.Cause(ctx), errTimeout) {
				return ctx.Err()
			}
			failed.Err = fmt.Errorf("no answer within %v:\n%s", startTimeout, c.said)
			return failed
		case <-tick.C:
		}
	}
}

// end asks the child to stop, and insists after a while.
func (c *child) end() {
	_ = c.stdin.Close()
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	timer := time.NewTimer(5 * time.Second)
	defer timer.Stop()
	select {
	case <-c.exited:
	case <-timer.C:
		_ = c.cmd.Process.Kill()
		<-c.exited
	}
}

// tail keeps the last of what was written to it.
type tail struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

const tailBytes = 4096

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf.Write(p)
	if over := t.buf.Len() - tailBytes; over > 0 {
		t.buf.Next(over)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(t.buf.String())
}
