// Package mosquitto starts a real mosquitto broker on a loopback port, for tests and benchmarks: what the project says
// about brokers is shown against one that nobody here wrote.
package mosquitto

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// readyWithin bounds how long a broker may take to listen, and to save its sessions and leave.
const readyWithin = 10 * time.Second

// Options say how the broker differs from the default: plain TCP, anonymous, nothing kept over a restart, the
// in-flight limit of 20 and the queue limit of 1000 that mosquitto ships with.
type Options struct {
	Persistence bool              // sessions and queues are saved by Stop and survive Start; Kill loses what was not saved
	Users       map[string]string // name to password; when not empty, anonymous clients are refused
	CertFile    string            // with KeyFile: the listener speaks TLS
	KeyFile     string
	ClientCA    string   // with CertFile: clients must show a certificate signed by it
	NoDelay     bool     // set_tcp_nodelay true; the default of 2.0 is false
	MaxInflight int      // max_inflight_messages; 0 keeps 20
	MaxQueued   int      // max_queued_messages; 0 keeps 1000, negative means no limit
	Lines       []string // further lines of mosquitto.conf
	Listen      string   // host:port; default: a free port of the loopback interface
	Within      []string // what its command line begins with, such as "ip netns exec NAME"; it must end as the broker itself
}

// Broker is one mosquitto with its own directory and port. The port stays the same over Start and Stop. Methods must not
// be called concurrently.
type Broker struct {
	addr   string
	conf   string
	tls    bool
	within []string

	cmd  *exec.Cmd
	done chan struct{} // closed when the process is gone

	mu  sync.Mutex
	log []string
}

// New writes the configuration of a broker below dir and chooses its port; nothing runs before Start.
func New(dir string, o Options) (*Broker, error) {
	addr, err := o.Listen, error(nil)
	if addr == "" {
		addr, err = freePort()
	}
	if err != nil {
		return nil, err
	}
	b := &Broker{addr: addr, conf: filepath.Join(dir, "mosquitto.conf"), tls: o.CertFile != "", within: o.Within}
	text, err := config(dir, addr, o)
	if err != nil {
		return nil, err
	}
	return b, os.WriteFile(b.conf, []byte(text), 0o600)
}

// Run starts a broker for the duration of a test; on failure of the test its log is shown.
func Run(t testing.TB, o Options) *Broker {
	t.Helper()
	b, err := New(t.TempDir(), o)
	if err == nil {
		err = b.Start()
	}
	if err != nil {
		t.Fatalf("mosquitto: %v", err)
	}
	t.Cleanup(func() {
		if err := b.Kill(); err != nil {
			t.Errorf("mosquitto: %v", err)
		}
		if t.Failed() {
			t.Logf("mosquitto said:\n%s", strings.Join(b.Log(), "\n"))
		}
	})
	return b
}

// Addr returns host:port.
func (b *Broker) Addr() string { return b.addr }

// URL returns the broker's address as clients write it: tcp:// or tls://.
func (b *Broker) URL() string {
	if b.tls {
		return "tls://" + b.addr
	}
	return "tcp://" + b.addr
}

// PID returns the process id, 0 when it does not run.
func (b *Broker) PID() int {
	if b.cmd == nil {
		return 0
	}
	return b.cmd.Process.Pid
}

// Log returns what the broker said so far.
func (b *Broker) Log() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.log...)
}

// Start runs the broker and returns when it listens.
func (b *Broker) Start() error {
	if b.cmd != nil {
		return errors.New("already started")
	}
	line := append(slices.Clone(b.within), "/usr/sbin/mosquitto", "-c", b.conf)
	cmd := exec.Command(line[0], line[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	b.cmd, b.done = cmd, make(chan struct{})
	running := make(chan struct{})
	go b.read(stderr, running)
	select {
	case <-running:
		return nil
	case <-b.done:
		b.cmd = nil
		return fmt.Errorf("it ended at once: %s", strings.Join(b.Log(), "; "))
	case <-time.After(readyWithin):
		return errors.Join(errors.New("it does not listen"), b.Kill())
	}
}

// Stop asks the broker to end, which saves its sessions when they are persistent, and waits for it.
func (b *Broker) Stop() error { return b.end(syscall.SIGTERM) }

// Kill ends the broker at once, as a power cut would. Ending a broker that does not run is no error.
func (b *Broker) Kill() error { return b.end(syscall.SIGKILL) }

// Restart stops and starts it again.
func (b *Broker) Restart() error {
	if err := b.Stop(); err != nil {
		return err
	}
	return b.Start()
}

func (b *Broker) end(s syscall.Signal) error {
	if b.cmd == nil {
		return nil
	}
	again := time.NewTicker(time.Second) // a signal just after the start is lost: mosquitto forgets it when its main loop begins
	defer again.Stop()
	for late := time.After(readyWithin); ; {
		if err := b.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
		select {
		case <-b.done:
			b.cmd = nil
			return nil
		case <-again.C:
		case <-late:
			return fmt.Errorf("process %d does not end after %v", b.cmd.Process.Pid, s)
		}
	}
}

// read collects the log, says when the broker is up, and reaps the process when the log ends.
func (b *Broker) read(stderr io.Reader, running chan<- struct{}) {
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		b.mu.Lock()
		b.log = append(b.log, lines.Text())
		b.mu.Unlock()
		if running != nil && strings.HasSuffix(lines.Text(), " running") {
			close(running)
			running = nil
		}
	}
	_ = b.cmd.Wait() // how it ended is the caller's doing
	close(b.done)
}

func config(dir, addr string, o Options) (string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", err
	}
	account, err := user.Current() // otherwise mosquitto, started as root, changes to one that cannot write to dir
	if err != nil {
		return "", err
	}
	lines := []string{
		"user " + account.Username,
		"log_dest stderr", "log_type error", "log_type warning", "log_type notice", "log_type information",
		fmt.Sprintf("set_tcp_nodelay %t", o.NoDelay),
		fmt.Sprintf("persistence %t", o.Persistence),
		"persistence_location " + dir + "/",
	}
	if o.MaxInflight != 0 {
		lines = append(lines, fmt.Sprintf("max_inflight_messages %d", o.MaxInflight))
	}
	if o.MaxQueued != 0 {
		lines = append(lines, fmt.Sprintf("max_queued_messages %d", max(o.MaxQueued, 0)))
	}
	lines = append(lines, fmt.Sprintf("listener %s %s", port, host), fmt.Sprintf("allow_anonymous %t", len(o.Users) == 0))
	if len(o.Users) > 0 {
		file, err := passwords(dir, o.Users)
		if err != nil {
			return "", err
		}
		lines = append(lines, "password_file "+file)
	}
	if o.CertFile != "" {
		lines = append(lines, "certfile "+o.CertFile, "keyfile "+o.KeyFile)
	}
	if o.ClientCA != "" {
		lines = append(lines, "cafile "+o.ClientCA, "require_certificate true")
	}
	return strings.Join(append(lines, o.Lines...), "\n") + "\n", nil
}

func passwords(dir string, users map[string]string) (string, error) {
	file := filepath.Join(dir, "passwords")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		return "", err
	}
	for name, password := range users {
		out, err := exec.Command("/usr/bin/mosquitto_passwd", "-b", file, name, password).CombinedOutput()
		if err != nil {
			return "", fmt.Errorf("mosquitto_passwd: %w: %s", err, out)
		}
	}
	return file, nil
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
