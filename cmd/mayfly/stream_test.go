package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"mayfly/admin"
	"mayfly/admin/admintest"
	"mayfly/function"
)

// notifying tells when the first line was written to it.
type notifying struct {
	once  sync.Once
	first chan struct{}
	mu    sync.Mutex
	text  strings.Builder
}

func (n *notifying) Write(p []byte) (int, error) {
	n.mu.Lock()
	n.text.Write(p)
	n.mu.Unlock()
	n.once.Do(func() { close(n.first) })
	return len(p), nil
}

// A command that follows shows what comes while it comes, ends with 130 when it is interrupted and with 1, and a reason, when
// the agent stops.
func TestFollowing(t *testing.T) {
	for name, interrupt := range map[string]bool{"interrupted": true, "the agent stops": false} {
		t.Run(name, func(t *testing.T) {
			agent := admintest.New(noon)
			srv, err := admin.NewServer(admin.Config{}, agent.Backend(), slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			socket := filepath.Join(t.TempDir(), "s")
			ln, err := admin.Listen(socket, "")
			if err != nil {
				t.Fatal(err)
			}
			serving, stopAgent := context.WithCancel(context.Background())
			defer stopAgent()
			served := make(chan error, 1)
			go func() { served <- srv.Run(serving, ln) }()

			agent.LogLines.Add(admin.LogRecord{Time: noon(), Function: "f", Level: "info", Text: "first\x1b[31m"})
			following, stopCommand := context.WithCancel(t.Context())
			defer stopCommand()
			out := &notifying{first: make(chan struct{})}
			var errOut notifying
			errOut.first = make(chan struct{})
			code := make(chan int, 1)
			go func() {
				code <- run(following, process{
					[]string{"logs", "-f", "--socket", socket}, func(string) string { return "" }, strings.NewReader(""), out, &errOut, noon,
				})
			}()
			<-out.first
			want, reason := exitInterrupted, ""
			if interrupt {
				stopCommand()
			} else {
				stopAgent()
				want, reason = exitFailed, "follow agent: it stopped"
			}
			if got := <-code; got != want || !strings.Contains(errOut.text.String(), reason) || interrupt && errOut.text.Len() > 0 {
				t.Errorf("exit code %d, want %d; %s", got, want, errOut.text.String())
			}
			if got := out.text.String(); got != "12:00:00.000  f  info   first\\x1b[31m\n" {
				t.Errorf("shown %q", got)
			}
			stopAgent()
			if err := <-served; err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAwaitGivesUpAndFails(t *testing.T) {
	a := testApp()
	_, err := a.await(t.Context(), admin.Function{Name: "f", State: admin.StateFailed, Reason: "it cannot be compiled"}, 0)
	if err == nil || !strings.Contains(err.Error(), "it cannot be compiled") {
		t.Errorf("failed: %v", err)
	}
	_, err = a.await(t.Context(), admin.Function{Name: "f", State: admin.StateStarting, Reason: "broker is down"}, 1)
	if function.KindOf(err) != kindTimeout || !strings.Contains(err.Error(), "broker is down") {
		t.Errorf("starting for ever: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err = a.await(ctx, admin.Function{State: admin.StateStarting}, 1<<40); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}

func TestConfirmNeedsSomebody(t *testing.T) {
	a := testApp()
	a.Stderr = io.Discard
	if err := a.confirm("really?"); err == nil || !strings.Contains(err.(*usageError).hint, "--yes") {
		t.Errorf("nobody was there: %v", err)
	}
	a.yes = true
	if err := a.confirm("really?"); err != nil {
		t.Error(err)
	}
}
