package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// following is a verb that goes on until it has seen enough.
type following struct {
	cmd    *exec.Cmd
	out    *speech
	exited chan struct{}
}

// follow starts the command line in the background.
func (n *node) follow(args ...string) *following {
	n.t.Helper()
	bin, err := programs()
	if err != nil {
		n.t.Fatal(err)
	}
	f := &following{out: &speech{}, exited: make(chan struct{})}
	f.cmd = exec.CommandContext(n.t.Context(), filepath.Join(bin, "mayfly"), append([]string{"--socket", n.socket}, args...)...)
	f.cmd.Stdout, f.cmd.Stderr = f.out, f.out
	if err := f.cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	go func() {
		_ = f.cmd.Wait() // its state says how it ended
		close(f.exited)
	}()
	return f
}

// says waits until all of texts were printed.
func (f *following) says(t testing.TB, texts ...string) {
	t.Helper()
	for _, text := range texts {
		until(t, fmt.Sprintf("%v says %q", f.cmd.Args[3:], text), func() (bool, string) { return strings.Contains(f.out.String(), text), f.out.String() })
	}
}

// over says whether it has ended.
func (f *following) over() bool {
	select {
	case <-f.exited:
		return true
	default:
		return false
	}
}

// interrupt is Ctrl-C.
func (f *following) interrupt(t testing.TB) {
	t.Helper()
	if err := f.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	f.ends(t, 130)
}

// ends waits for its end, which must be with that exit code.
func (f *following) ends(t testing.TB, code int) {
	t.Helper()
	select {
	case <-f.exited:
	case <-time.After(patience):
		t.Fatalf("%v does not end; it said\n%s", f.cmd.Args[3:], f.out)
	}
	if got := f.cmd.ProcessState.ExitCode(); got != code {
		t.Errorf("%v: exit code %d, want %d\n%s", f.cmd.Args[3:], got, code, f.out)
	}
}
