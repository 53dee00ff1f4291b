package lan

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Host is a namespace with one interface, eth0, on a switch.
type Host struct {
	Name    string
	Address string // without the length of its prefix, which is 24
	space   string // "" = the namespace of this process
	end     *os.File
}

// Isolate starts this program again in a network and a mount namespace of its own, with the same arguments, and ends with it. What is
// made there is gone when the process is. It returns only in the second one, or with an error that says what is missing.
func Isolate() error {
	if os.Getenv(inside) != "" {
		return errors.Join(os.Unsetenv(inside), settle())
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	c := exec.Command(self, os.Args[1:]...)
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	c.Env = append(os.Environ(), inside+"=1")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() != 0 {
		c.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		c.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		c.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	if err := c.Start(); err != nil {
		return fmt.Errorf("a network namespace cannot be made: %w; run it as root, or where unprivileged user namespaces are allowed", err)
	}
	err = c.Wait()
	if ended := (*exec.ExitError)(nil); errors.As(err, &ended) {
		os.Exit(max(1, ended.ExitCode()))
	}
	if err == nil {
		os.Exit(0)
	}
	return err
}

const inside = "TEST_LAN_INSIDE"

// settle makes the mounts of this process its own, and room for the names of namespaces.
func settle() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, ""); err != nil {
		return fmt.Errorf("an own /run: %w", err)
	}
	return do("ip", "link", "set", "lo", "up")
}

// NewHost adds a host with a namespace and plugs it into s.
func NewHost(s *Switch, name, address string) (*Host, error) { return newHost(s, name, address, name) }

// Here plugs the namespace of this process into s. There can be one.
func Here(s *Switch, name, address string) (*Host, error) { return newHost(s, name, address, "") }

func newHost(s *Switch, name, address, space string) (*Host, error) {
	h := &Host{Name: name, Address: address, space: space}
	device := "t-" + name
	var err error
	if h.end, err = tap(device); err != nil {
		return nil, err
	}
	if space == "" {
		err = do("ip", "link", "set", device, "name", "eth0")
	} else if err = do("ip", "netns", "add", space); err == nil {
		if err = do("ip", "link", "set", device, "netns", space, "name", "eth0"); err == nil {
			err = h.Do("ip", "link", "set", "lo", "up")
		}
	}
	if err == nil {
		err = h.Readdress(address)
	}
	if err == nil {
		err = h.Cable(true)
	}
	if err != nil {
		return nil, errors.Join(err, h.end.Close())
	}
	s.Plug(name, h.end)
	return h, nil
}

// tap makes a TAP device, which lives as long as the file.
func tap(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("/dev/net/tun, which the network of these tests is made of: %w", err)
	}
	r, err := unix.NewIfreq(name)
	if err == nil {
		r.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, r)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("TAP device %s: %w", name, err), unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), "/dev/net/tun"), nil
}

// Within is what a command line has to begin with to run on the host.
func (h *Host) Within() []string {
	if h.space == "" {
		return nil
	}
	return []string{"ip", "netns", "exec", h.space}
}

// Do runs a command on the host.
func (h *Host) Do(args ...string) error { return do(append(h.Within(), args...)...) }

// Dial connects from the host, also to its own loopback addresses.
func (h *Host) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	if h.space == "" {
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}
	runtime.LockOSThread() // a socket is in the namespace of the thread that makes it
	defer runtime.UnlockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, err
	}
	defer home.Close()
	there, err := os.Open("/run/netns/" + h.space)
	if err != nil {
		return nil, err
	}
	defer there.Close()
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("enter the namespace of %s: %w", h.Name, err)
	}
	conn, err := (&net.Dialer{FallbackDelay: -1}).DialContext(ctx, network, address)
	if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
		panic(back) // this thread would go on in the wrong network
	}
	return conn, err
}

// Cable takes the interface up or down, as its driver does when the cable is in or out.
func (h *Host) Cable(in bool) error {
	return h.Do("ip", "link", "set", "eth0", map[bool]string{true: "up", false: "down"}[in])
}

// Readdress gives the host another address instead of those it has; "" takes them away.
func (h *Host) Readdress(address string) error {
	if err := h.Do("ip", "address", "flush", "dev", "eth0"); err != nil {
		return err
	}
	if address == "" {
		return nil
	}
	h.Address = address
	return h.Do("ip", "address", "add", address+"/24", "dev", "eth0")
}

func do(args ...string) error {
	if text, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(text)))
	}
	return nil
}
