package admin

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"mayfly/function"
)

// SystemSocket is where the agent of a system listens.
const SystemSocket = "/run/mayfly/admin.sock"

// maxSocketPath is what fits into sun_path with its final NUL (unix(7)).
const maxSocketPath = 107

// Sockets returns where an agent's socket may be, in the order to try: MAYFLY_SOCKET alone if it is set, else that of the
// user's own agent, else the system's.
func Sockets(getenv func(string) string) []string {
	if s := getenv("MAYFLY_SOCKET"); s != "" {
		return []string{s}
	}
	if dir := getenv("XDG_RUNTIME_DIR"); dir != "" {
		return []string{filepath.Join(dir, "mayfly", "admin.sock"), SystemSocket}
	}
	return []string{SystemSocket}
}

// DefaultSocket returns where an agent that was told nothing listens: MAYFLY_SOCKET, below XDG_RUNTIME_DIR for an
// agent that somebody started for themselves, else SystemSocket.
func DefaultSocket(getenv func(string) string, uid int) string {
	if s := getenv("MAYFLY_SOCKET"); s != "" {
		return s
	}
	if dir := getenv("XDG_RUNTIME_DIR"); dir != "" && uid != 0 {
		return filepath.Join(dir, "mayfly", "admin.sock")
	}
	return SystemSocket
}

// Listen opens the socket at path with mode 0660, owned by group if one is given. It creates the parent directory,
// replaces a socket nobody listens on, and refuses one somebody does.
func Listen(path, group string) (net.Listener, error) {
	refuse := func(kind string, err error, hint string) error {
		return &function.Error{Op: "open", Subject: path, Class: function.ClassFatal, Kind: kind, Err: err, Hint: hint}
	}
	if len(path) > maxSocketPath {
		return nil, refuse(KindInvalid, fmt.Errorf("a socket path has at most %d bytes, this has %d", maxSocketPath, len(path)), "choose a shorter one")
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, refuse("open", err, "create the directory, or choose another socket with MAYFLY_SOCKET")
	}
	if err := removeStale(path); err != nil {
		return nil, refuse(KindConflict, err, "stop the other agent, or choose another socket with MAYFLY_SOCKET")
	}
	ln, err := net.Listen("unix", path)
	if err != nil {
		return nil, refuse("open", err, "")
	}
	if err := restrict(path, group); err != nil {
		return nil, refuse("open", errors.Join(err, ln.Close()), "")
	}
	return ln, nil
}

// removeStale unlinks a socket that refuses connections: its process died without doing so.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode()&os.ModeSocket == 0 {
		return errors.New("something that is not a socket is there already")
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		return errors.Join(errors.New("another agent listens there"), c.Close())
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return err
	}
	return os.Remove(path)
}

// restrict sets mode and group. Between bind and here the umask rules; the credentials of every peer are checked anyway.
func restrict(path, group string) error {
	if err := os.Chmod(path, 0o660); err != nil {
		return err
	}
	if group == "" {
		return nil
	}
	g, err := user.LookupGroup(group)
	if err != nil {
		return err
	}
	gid, err := strconv.Atoi(g.Gid)
	if err != nil {
		return err
	}
	return os.Chown(path, -1, gid)
}
