package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"mayfly/admin"
	"mayfly/admin/admintest"
)

// childMode makes this test's program play mayflyd.
const childMode = "MAYFLY_TEST_CHILD"

func TestMain(m *testing.M) {
	if mode := os.Getenv(childMode); mode != "" {
		os.Exit(playMayflyd(mode, os.Args[1:]))
	}
	goleak.VerifyTestMain(m)
}

func playMayflyd(mode string, args []string) int {
	switch {
	case mode == "dies":
		fmt.Fprintln(os.Stderr, "mayflyd: no memory for a single slot")
		return 1
	case len(args) == 3 && args[0] == "config" && args[1] == "check":
		if strings.Contains(args[2], "wrong") {
			fmt.Fprintln(os.Stderr, args[2]+":3:1: unknown key")
			return 1
		}
		return 0
	case len(args) != 3 || args[0] != "serve-test" || args[1] != "--socket":
		fmt.Fprintf(os.Stderr, "unexpected arguments %q\n", args)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	srv, err := admin.NewServer(admin.Config{}, admin.Backend{Invoker: admintest.New(noon)}, slog.New(slog.DiscardHandler))
	if err != nil {
		return 1
	}
	ln, err := admin.Listen(args[2], "")
	if err != nil {
		return 1
	}
	go func() { // as mayflyd would: whoever started us is gone
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	if srv.Run(ctx, ln) != nil {
		return 1
	}
	return 0
}

// alone runs a command line where no agent is, with this program as mayflyd.
func alone(t *testing.T, mode string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	t.Setenv(childMode, mode)
	t.Setenv("TMPDIR", t.TempDir())
	env := map[string]string{"MAYFLYD": os.Args[0], "MAYFLY_SOCKET": filepath.Join(t.TempDir(), "none")}
	if mode == "missing" {
		env["MAYFLYD"] = filepath.Join(t.TempDir(), "mayflyd")
	}
	var out, errOut bytes.Buffer
	code = run(t.Context(), process{args, func(k string) string { return env[k] }, strings.NewReader(""), &out, &errOut, noon})
	left, err := os.ReadDir(os.Getenv("TMPDIR"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	return code, out.String(), errOut.String()
}

// echoProject writes a function with one test.
func echoProject(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	manifest := `manifest = 1
name = "echo"
version = "1.0.0"
[module]
path = "echo.wasm"
[[trigger.mqtt]]
topic = "in"
[permissions]
publish = ["out"]
[[test]]
name = "it echoes"
topic = "in"
payload = "x"
expect.publish = [{ topic = "out", payload = "x" }]
`
	for name, text := range map[string][]byte{manifestName: []byte(manifest), "echo.wasm": admintest.Module("publish out")} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestWithoutAnAgent(t *testing.T) {
	dir := echoProject(t)
	for name, c := range map[string]struct {
		mode           string
		args           []string
		code           int
		stdout, stderr string
	}{
		"mayflyd lends its sandbox": {"serves", []string{"test", dir}, exitOK, "ok    echo: it echoes", "1 test passed"},
		"mayflyd dies":              {"dies", []string{"test", dir}, exitFailed, "", "no memory for a single slot"},
		"mayflyd is not there":      {"missing", []string{"test", dir}, exitFailed, "", "set MAYFLYD to its path"},
		"a right configuration":     {"serves", []string{"config", "check", "a.toml"}, exitOK, "", "a.toml is right"},
		"a wrong one":               {"serves", []string{"config", "check", "a.toml", "wrong.toml"}, exitUsage, "", "wrong.toml:3:1: unknown key"},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := alone(t, c.mode, c.args...)
			if code != c.code || !strings.Contains(stdout, c.stdout) || !strings.Contains(stderr, c.stderr) {
				t.Errorf("exit code %d, want %d\nstdout: %s\nstderr: %s", code, c.code, stdout, stderr)
			}
		})
	}
}

func TestInterruptedIs130(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var errOut bytes.Buffer
	code := run(ctx, process{
		[]string{"status"}, func(string) string { return "" }, strings.NewReader(""), io.Discard, &errOut, noon,
	})
	if code != exitInterrupted || errOut.Len() > 0 {
		t.Errorf("exit code %d, %q", code, errOut.String())
	}
}
