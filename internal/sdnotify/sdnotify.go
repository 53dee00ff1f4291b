// Package sdnotify tells the service manager how this process is, by the protocol of sd_notify(3): datagrams of
// NAME=value lines to the socket named in NOTIFY_SOCKET. Without that variable every method does nothing and returns nil.
package sdnotify

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

// Notifier sends to one service manager. The zero Notifier sends nothing. Safe for concurrent use.
type Notifier struct{ address string }

// FromEnvironment returns the notifier for the service manager that started this process, if one did, and takes the
// variable out of the environment so that child processes do not speak for us.
func FromEnvironment() Notifier {
	n := Notifier{os.Getenv("NOTIFY_SOCKET")}
	_ = os.Unsetenv("NOTIFY_SOCKET") // fails for impossible names only
	return n
}

// Ready says that start-up, or the reload announced by Reloading, is finished.
func (n Notifier) Ready() error { return n.send("READY=1") }

// Stopping says that the process has begun to end.
func (n Notifier) Stopping() error { return n.send("STOPPING=1") }

// Watchdog says that the process has just checked that it works.
func (n Notifier) Watchdog() error { return n.send("WATCHDOG=1") }

// Status shows one line of text in `systemctl status`.
func (n Notifier) Status(text string) error {
	return n.send("STATUS=" + strings.Map(func(r rune) rune {
		if r == '\n' || r == '\r' {
			return ' '
		}
		return r
	}, text))
}

// Extend asks for at least d from now to start or stop in, of which d must be a positive number of microseconds.
func (n Notifier) Extend(d time.Duration) error {
	return n.send(fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", d.Microseconds()))
}

// Reloading says that the configuration is being read again; Type=notify-reload wants the time of it on CLOCK_MONOTONIC.
func (n Notifier) Reloading() error {
	const clockMonotonic = 1 // package time has no absolute reading of it
	var now syscall.Timespec
	if _, _, e := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, clockMonotonic, uintptr(unsafe.Pointer(&now)), 0); e != 0 {
		return fmt.Errorf("notify service manager: %w", e)
	}
	return n.send(fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d", now.Nano()/1000))
}

func (n Notifier) send(state string) error {
	if n.address == "" {
		return nil
	}
	// A first '@' stands for NUL, the abstract namespace: net knows it too.
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: n.address, Net: "unixgram"})
	if err == nil {
		defer c.Close()
		_, err = c.Write([]byte(state))
	}
	if err != nil {
		return fmt.Errorf("notify service manager: %w", err)
	}
	return nil
}

// WatchdogInterval returns how often at least Watchdog must be called, 0 when nobody watches this process
// (sd_watchdog_enabled(3)); call it twice as often.
func WatchdogInterval() (time.Duration, error) {
	text := os.Getenv("WATCHDOG_USEC")
	if text == "" {
		return 0, nil
	}
	if pid := os.Getenv("WATCHDOG_PID"); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		if _, err := strconv.Atoi(pid); err != nil {
			return 0, fmt.Errorf("WATCHDOG_PID=%q is not a process id", pid)
		}
		return 0, nil // somebody else is watched
	}
	usec, err := strconv.ParseInt(text, 10, 64)
	if err != nil || usec <= 0 || usec > int64(1<<62)/1000 {
		return 0, fmt.Errorf("WATCHDOG_USEC=%q is not a positive number of microseconds", text)
	}
	return time.Duration(usec) * time.Microsecond, nil
}
