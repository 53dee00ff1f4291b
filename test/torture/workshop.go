package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// workshop is what all cases share: programs and guests.
type workshop struct {
	options
	ctx context.Context //nolint:containedctx // ends everything; a run is one call
	dir string

	mu       sync.Mutex
	programs map[string]string // by variant
	modules  map[string][]byte
}

func newWorkshop(ctx context.Context, o options) (*workshop, error) {
	if _, err := os.Stat("test/torture/guests"); err != nil {
		return nil, fmt.Errorf("run it in the repository's root: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("become the parent of orphans: %w", err)
	}
	dir, err := os.MkdirTemp("", "mayfly-torture-")
	if err != nil {
		return nil, err
	}
	if o.keep == "" {
		o.keep = filepath.Join(filepath.Dir(o.out), "torture-failed")
	}
	return &workshop{options: o, ctx: ctx, dir: dir, programs: map[string]string{}, modules: map[string][]byte{}}, nil
}

// agent builds the agent once for each set of build flags.
func (w *workshop) agent(variant string, flags ...string) (string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p := w.programs[variant]; p != "" {
		return p, nil
	}
	program := filepath.Join(w.dir, "mayflyd-"+variant)
	args := slices.Concat([]string{"build", "-ldflags", "-s -w -X main.version=torture", "-o", program}, flags, []string{"./cmd/mayflyd"})
	if out, err := exec.CommandContext(w.ctx, "go", args...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	w.programs[variant] = program
	return program, nil
}

// module builds a guest once.
func (w *workshop) module(guest string) ([]byte, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if m := w.modules[guest]; m != nil {
		return m, nil
	}
	out := filepath.Join(w.dir, guest+".wasm")
	if text, err := exec.CommandContext(w.ctx, "sdk/c/build.sh", "test/torture/guests/"+guest+".c", out).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("guest %s: %w\n%s", guest, err, text)
	}
	m, err := os.ReadFile(out)
	w.modules[guest] = m
	return m, err
}

// long returns how long a case goes on.
func (w *workshop) long() time.Duration {
	if w.short {
		return 6 * time.Second
	}
	return time.Duration(w.minutes * float64(time.Minute))
}

// pick returns the first in the short form, else the second.
func pick[T any](w *workshop, short, long T) T {
	if w.short {
		return short
	}
	return long
}

// save keeps what a failed case leaves behind.
func (w *workshop) save(t *trial) {
	to := filepath.Join(w.keep, t.name)
	if err := os.RemoveAll(to); err == nil {
		err = os.MkdirAll(to, 0o755)
		for _, name := range []string{"agent.log", "mayfly.toml", "broker/mosquitto.conf"} {
			text, readErr := os.ReadFile(filepath.Join(t.dir, name))
			if readErr == nil && err == nil {
				err = os.WriteFile(filepath.Join(to, filepath.Base(name)), text, 0o644)
			}
		}
		if err == nil {
			fmt.Printf("         the agent's log is in %s\n", to)
		}
	}
}
