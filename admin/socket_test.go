package admin

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mayfly/function"
)

func TestListen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "made", "admin.sock")
	ln, err := Listen(path, "")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o660 {
		t.Fatalf("mode %v, %v; want 0660", info.Mode(), err)
	}
	_, err = Listen(path, "")
	if fe, ok := errors.AsType[*function.Error](err); !ok || fe.Kind != KindConflict || !strings.Contains(err.Error(), "another agent") {
		t.Fatalf("a second agent on the socket: %v", err)
	}
}

func TestListenReplacesWhatADeadAgentLeft(t *testing.T) {
	path := filepath.Join(t.TempDir(), "admin.sock")
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false) // as after SIGKILL
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Listen(path, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestListenRefuses(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		file: "not a socket",
		filepath.Join(dir, strings.Repeat("x", 120)): "at most 107 bytes",
		filepath.Join(file, "admin.sock"):            "not a directory",
	} {
		_, err := Listen(path, "")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "precious" {
		t.Fatalf("the file is damaged: %q, %v", text, err)
	}
}

func TestPeerOf(t *testing.T) {
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := net.Dial("unix", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	in, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	p, err := peerOf(in)
	if err != nil || p.PID != os.Getpid() || int(p.UID) != os.Getuid() || int(p.GID) != os.Getgid() {
		t.Fatalf("%+v, %v", p, err)
	}
	x, y := net.Pipe()
	defer x.Close()
	defer y.Close()
	if _, err := peerOf(x); err == nil {
		t.Fatal("a pipe has no credentials")
	}
}

func TestSockets(t *testing.T) {
	env := func(m map[string]string) func(string) string { return func(k string) string { return m[k] } }
	for _, c := range []struct {
		env     map[string]string
		uid     int
		listen  string
		connect string
	}{
		{nil, 0, SystemSocket, SystemSocket},
		{nil, 990, SystemSocket, SystemSocket},
		{map[string]string{"XDG_RUNTIME_DIR": "/run/user/5"}, 5, "/run/user/5/mayfly/admin.sock", "/run/user/5/mayfly/admin.sock " + SystemSocket},
		{map[string]string{"XDG_RUNTIME_DIR": "/run/user/0"}, 0, SystemSocket, "/run/user/0/mayfly/admin.sock " + SystemSocket},
		{map[string]string{"XDG_RUNTIME_DIR": "/run/user/5", "MAYFLY_SOCKET": "/x"}, 5, "/x", "/x"},
	} {
		if got := DefaultSocket(env(c.env), c.uid); got != c.listen {
			t.Errorf("%v uid %d listens on %s", c.env, c.uid, got)
		}
		if got := strings.Join(Sockets(env(c.env)), " "); got != c.connect {
			t.Errorf("%v tries %s", c.env, got)
		}
	}
}
