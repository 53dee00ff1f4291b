package sdnotify

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// manager is a service manager's socket.
func manager(t *testing.T, address string) func() string {
	t.Helper()
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: address, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return func() string {
		t.Helper()
		c.SetReadDeadline(time.Now().Add(10 * time.Second))
		b := make([]byte, 4096)
		n, err := c.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n])
	}
}

func TestMessages(t *testing.T) {
	for name, address := range map[string]string{
		"path":     filepath.Join(t.TempDir(), "notify"),
		"abstract": fmt.Sprintf("@mayfly-sdnotify-%d", os.Getpid()),
	} {
		t.Run(name, func(t *testing.T) {
			received := manager(t, address)
			t.Setenv("NOTIFY_SOCKET", address)
			n := FromEnvironment()
			if _, there := os.LookupEnv("NOTIFY_SOCKET"); there {
				t.Error("children would inherit the socket")
			}
			for _, c := range []struct {
				send func() error
				want string
			}{
				{n.Ready, "READY=1"},
				{n.Stopping, "STOPPING=1"},
				{n.Watchdog, "WATCHDOG=1"},
				{func() error { return n.Status("3 functions\nREADY=1") }, "STATUS=3 functions READY=1"},
				{func() error { return n.Extend(90 * time.Second) }, "EXTEND_TIMEOUT_USEC=90000000"},
			} {
				if err := c.send(); err != nil {
					t.Fatal(err)
				}
				if got := received(); got != c.want {
					t.Errorf("received %q, want %q", got, c.want)
				}
			}
			if err := n.Reloading(); err != nil {
				t.Fatal(err)
			}
			var usec int64
			got := received()
			if _, err := fmt.Sscanf(strings.ReplaceAll(got, "\n", " "), "RELOADING=1 MONOTONIC_USEC=%d", &usec); err != nil || usec <= 0 {
				t.Errorf("received %q: %v", got, err)
			}
		})
	}
}

func TestNobodyListens(t *testing.T) {
	if err := (Notifier{}).Ready(); err != nil {
		t.Errorf("without a manager: %v", err)
	}
	n := Notifier{filepath.Join(t.TempDir(), "none")}
	if err := n.Ready(); err == nil || !strings.Contains(err.Error(), "notify service manager") {
		t.Errorf("socket gone: %v", err)
	}
}

func TestWatchdogInterval(t *testing.T) {
	self := fmt.Sprint(os.Getpid())
	for _, c := range []struct {
		usec, pid string
		want      time.Duration
		wrong     bool
	}{
		{"", "", 0, false},
		{"30000000", "", 30 * time.Second, false},
		{"30000000", self, 30 * time.Second, false},
		{"30000000", "1", 0, false},
		{"0", self, 0, true},
		{"-1", self, 0, true},
		{"99999999999999999999", self, 0, true},
		{"soon", self, 0, true},
		{"1", "me", 0, true},
	} {
		t.Setenv("WATCHDOG_USEC", c.usec)
		t.Setenv("WATCHDOG_PID", c.pid)
		got, err := WatchdogInterval()
		if got != c.want || (err != nil) != c.wrong {
			t.Errorf("WATCHDOG_USEC=%q WATCHDOG_PID=%q: %v, %v", c.usec, c.pid, got, err)
		}
	}
}
