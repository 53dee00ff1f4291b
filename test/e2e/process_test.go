package e2e_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"mayfly/internal/guests"
)

// manager is a service manager's end of sd_notify(3).
type manager struct {
	path string
	mu   sync.Mutex
	said []string
}

func newManager(t testing.TB, dir string) *manager {
	t.Helper()
	m := &manager{path: filepath.Join(dir, "notify.sock")}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			m.mu.Lock()
			m.said = append(m.said, string(buf[:n]))
			m.mu.Unlock()
		}
	}()
	return m
}

// heard returns what came, without what belongs to a certain time.
func (m *manager) heard() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []string
	for _, s := range m.said {
		first, _, _ := strings.Cut(s, "\n")
		if n := len(all); n == 0 || all[n-1] != first {
			all = append(all, first)
		}
	}
	return all
}

func (m *manager) hears(t testing.TB, want ...string) {
	t.Helper()
	until(t, fmt.Sprintf("the service manager hears %q", want), func() (bool, string) {
		got := m.heard()
		return slices.Equal(got, want), fmt.Sprintf("heard %q", got)
	})
}

// What systemd is told over the life of an agent: ready, alive, reloading, ready and alive again, stopping.
func TestServiceManager(t *testing.T) {
	t.Parallel()
	n := newNode(t, "")
	m := newManager(t, n.dir)
	n.env = []string{"NOTIFY_SOCKET=" + m.path, "WATCHDOG_USEC=200000"}
	n.start()
	m.hears(t, "READY=1", "WATCHDOG=1")
	n.signal(syscall.SIGHUP)
	m.hears(t, "READY=1", "WATCHDOG=1", "RELOADING=1", "READY=1", "WATCHDOG=1")
	n.ready()
	n.stop()
	m.hears(t, "READY=1", "WATCHDOG=1", "RELOADING=1", "READY=1", "WATCHDOG=1", "STOPPING=1")
}

func TestReload(t *testing.T) {
	t.Parallel()
	n := withBroker(t, "")
	n.echo()
	began := n.status().Node.Started

	// A configuration that is not in order changes nothing and says where it is wrong.
	good, err := os.ReadFile(n.config)
	if err != nil {
		t.Fatal(err)
	}
	n.file("mayfly.toml", string(good)+"\n[log]\nlevel = \"loud\"\nfrmat = \"json\"\n")
	n.signal(syscall.SIGHUP)
	until(t, "the agent says what is wrong", func() (bool, string) {
		said := n.log.String()
		return strings.Contains(said, "the old one stays in force") && strings.Contains(said, "loud") && strings.Contains(said, "frmat"), said
	})
	n.mayfly("config", "check", n.config).want(t, 2, "log.level", "frmat", "did you mean")
	if s := n.status(); !s.Ready || !s.Node.Started.Equal(began) {
		t.Error("the agent started anew with a broken configuration")
	}
	d := connect(t, n.broker, "device")
	d.subscribe(t, "out/#")
	n.serves(d, "old")

	// A good one is in force afterwards; functions are still there and serve.
	n.file("mayfly.toml", strings.Replace(string(good), `"e2e"`, `"renamed"`, 1)+"\n[limits]\nslots = 8\n")
	n.signal(syscall.SIGHUP)
	until(t, "the new configuration is in force", func() (bool, string) {
		s, err := n.client.Status(t.Context())
		return err == nil && s.Ready && s.Node.Name == "renamed" && s.Engine.Slots == 8, fmt.Sprint(err, s.Node.Name)
	})
	n.must("config", "show", "--origin").want(t, 0, "limits.slots", "8", n.config+":")
	d = connect(t, n.broker, "device")
	d.subscribe(t, "out/#")
	n.serves(d, "new")
}

// A configuration that is not in order keeps the agent from starting, with every fault and its place.
func TestBrokenConfigurationAtStart(t *testing.T) {
	t.Parallel()
	n := newNode(t, "[limits]\njournal = \"lots\"\nslotz = 3\n[gatway]\nlisten = \"127.0.0.1:8480\"\n")
	n.refuses("mayfly.toml:8:11", "mayfly.toml:9:1", `did you mean "slots"?`, `did you mean "gateway"?`)
}

// A second agent on the same directory must not touch it, and the first goes on.
func TestTwoAgentsOnOneDirectory(t *testing.T) {
	t.Parallel()
	first := withBroker(t, "")
	first.echo()
	second := newNode(t, "")
	second.file("mayfly.toml", fmt.Sprintf("[node]\ndata = %q\n[admin]\nsocket = %q\n", filepath.Join(first.dir, "data"), second.socket))
	second.refuses("another", "try: ")
	d := connect(t, first.broker, "device")
	d.subscribe(t, "out/#")
	first.serves(d, "still")
}

// The demonstration ends by itself and well.
func TestDemo(t *testing.T) {
	t.Parallel()
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "run", "./test/demo", "--bin", bin, "--once")
	cmd.Dir = guests.Root(t)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "Everything that was to come out came out.") || !strings.Contains(string(out), "ran on demo") {
		t.Errorf("%v\n%s", err, out)
	}
}
