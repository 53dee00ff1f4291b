package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"mayfly/admin"
)

// agent is the process under test, started again by a supervisor as systemd would.
type agent struct {
	program string
	wrap    []string // what it runs under, such as strace
	env     []string
	dir     string
	client  *admin.Client

	mu         sync.Mutex
	cmd        *exec.Cmd
	gone       chan struct{} // closed when cmd has ended
	asked      bool          // its end was asked for
	supervised bool
	exits      []string // ends nobody asked for
	starts     int
	stopped    bool
}

// start starts the process. It returns at once; ready waits.
func (a *agent) start() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.launch()
}

func (a *agent) launch() error {
	log, err := os.OpenFile(filepath.Join(a.dir, "agent.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	line := append(append([]string(nil), a.wrap...), a.program, "run", "--config", filepath.Join(a.dir, "mayfly.toml"))
	cmd := exec.Command(line[0], line[1:]...)
	cmd.Env = append(os.Environ(), a.env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	fmt.Fprintf(log, "--- start %d\n", a.starts)
	if err := cmd.Start(); err != nil {
		return err
	}
	a.starts++
	a.cmd, a.gone, a.asked = cmd, make(chan struct{}), false
	go a.reap(cmd, a.gone)
	return nil
}

// reap notes how the process ended, and starts it again if nobody asked for its end.
func (a *agent) reap(cmd *exec.Cmd, gone chan struct{}) {
	err := cmd.Wait()
	a.mu.Lock()
	defer a.mu.Unlock()
	close(gone)
	if a.asked {
		return
	}
	a.exits = append(a.exits, fmt.Sprint(err))
	if !a.supervised {
		return
	}
	a.mu.Unlock()
	<-time.After(100 * time.Millisecond)
	a.mu.Lock()
	if !a.stopped && !a.asked {
		_ = a.launch() // if not, the case does not get any further and fails
	}
}

// signal sends s to the process and to what it runs under.
func (a *agent) signal(s syscall.Signal) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.cmd == nil {
		return errors.New("the agent was not started")
	}
	return syscall.Kill(-a.cmd.Process.Pid, s)
}

// unwrap lets the next start be an ordinary one.
func (a *agent) unwrap() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.wrap = nil
}

// expectEnd says that its end is asked for.
func (a *agent) expectEnd() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked = true
}

// kill ends it at once and waits until it is gone.
func (a *agent) kill() error { return a.end(syscall.SIGKILL) }

// stop asks it to end and waits.
func (a *agent) stop() error { return a.end(syscall.SIGTERM) }

func (a *agent) end(s syscall.Signal) error {
	a.mu.Lock()
	if a.cmd == nil {
		a.mu.Unlock()
		return nil
	}
	a.asked = true
	gone, group := a.gone, -a.cmd.Process.Pid
	a.mu.Unlock()
	select {
	case <-gone:
		return nil
	default:
	}
	if err := syscall.Kill(group, s); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	select {
	case <-gone:
		if s == syscall.SIGKILL {
			bury(group)
		}
		return nil
	case <-time.After(30 * time.Second):
		return errors.Join(fmt.Errorf("it did not end within 30 s of %v", s), syscall.Kill(group, syscall.SIGKILL))
	}
}

// bury waits for what ran under the process of a killed group: it comes to us as an orphan, and holds the store until it is gone.
func bury(group int) {
	for {
		if _, err := unix.Wait4(group, nil, 0, nil); err != nil && !errors.Is(err, unix.EINTR) {
			return // there is none left
		}
	}
}

// close ends it for good.
func (a *agent) close() {
	a.mu.Lock()
	a.stopped = true
	a.mu.Unlock()
	_ = a.signal(syscall.SIGCONT)
	_ = a.kill()
	a.client.Close()
}

// died waits until it has killed itself.
func (a *agent) died(patience time.Duration) error {
	a.mu.Lock()
	gone := a.gone
	a.mu.Unlock()
	select {
	case <-gone:
	case <-time.After(patience):
		return fmt.Errorf("the agent did not end within %v", patience)
	}
	if ends := a.ends(); len(ends) == 0 || ends[len(ends)-1] != "signal: killed" {
		return fmt.Errorf("the agent ended otherwise than by its own kill: %v", ends)
	}
	return nil
}

// ends returns how it ended without being asked to.
func (a *agent) ends() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]string(nil), a.exits...)
}

// started is the number of its last start, as in its log.
func (a *agent) started() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.starts - 1
}

// pid is that of the process started, 0 before.
func (a *agent) pid() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.cmd == nil {
		return 0
	}
	return a.cmd.Process.Pid
}

// ready waits until the agent says it is as wanted.
func (a *agent) ready(ctx context.Context, patience time.Duration, ok func(*admin.Status) bool) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var last error
	for {
		one, done := context.WithTimeout(ctx, 2*time.Second)
		s, err := a.client.Status(one)
		done()
		if err == nil && ok(&s) {
			return nil
		}
		last = err
		if err == nil {
			last = fmt.Errorf("%+v, journal %+v, outbox %+v", s.Reasons, s.Journal, s.Outbox)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the agent is not as wanted after %v: %w", patience, last)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func isReady(s *admin.Status) bool { return s.Ready }
