package main

import (
	"context"
	"flag"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"mayfly/admin"
	"mayfly/agent"
	"mayfly/internal/sdnotify"
	"mayfly/internal/settings"
)

// sweepAfter is how long after the start the memory that starting took, several MB with many functions, is given back. A device
// that has little to do would otherwise keep it for minutes.
const sweepAfter = 2 * time.Second

// serve runs the agent until ctx ends. SIGHUP makes it read its configuration again: if that is in order the agent drains and
// starts anew with it, in this process; if not, the fault is logged and nothing changes.
func serve(ctx context.Context, args, environ []string, stderr io.Writer) error {
	file, optional, err := configFlag("run", args)
	if err != nil {
		return err
	}
	c, origins, err := load(file, optional, environ)
	if err != nil {
		return err
	}
	debug.SetGCPercent(50) // a device has less memory to spare than processor time
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	notify := sdnotify.FromEnvironment() // once: it takes itself out of the environment
	for {
		log, inForce, from := logger(&c.Log, stderr), c, origins
		reloading, reload := context.WithCancelCause(ctx)
		a, err := agent.New(c, agent.Options{
			Version: version, Log: log, Notify: notify, Settings: func() []admin.Setting { return shown(&inForce, from) },
			Restart: func() { reload(agent.ErrReload) },
		})
		if err != nil {
			reload(nil)
			return err
		}
		next := make(chan struct{})
		go func() {
			defer close(next)
			c, origins = await(reloading, reload, hup, source{file, optional, environ, log, notify, inForce, from})
		}()
		swept := time.AfterFunc(sweepAfter, debug.FreeOSMemory)
		err = a.Run(reloading)
		swept.Stop()
		reload(nil)
		<-next
		if err != nil || ctx.Err() != nil {
			return err
		}
	}
}

// source is where the configuration is read from again.
type source struct {
	file     string
	optional bool
	environ  []string
	log      *slog.Logger
	notify   sdnotify.Notifier

	config  agent.Config // in force
	origins *settings.Origins
}

// logger writes to w as the configuration says.
func logger(c *agent.LogConfig, w io.Writer) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Level)); err != nil {
		level = slog.LevelInfo // the configuration allows only words that are levels
	}
	options := &slog.HandlerOptions{Level: level}
	if os.Getenv("JOURNAL_STREAM") != "" { // journald has its own time
		options.ReplaceAttr = func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}
	}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// serveTest runs an agent that has no broker, keeps nothing and only answers dry runs, until ctx or standard input ends: it
// does not outlive the command that started it, however that ended.
func serveTest(ctx context.Context, args []string, stdin io.Reader, stderr io.Writer) error {
	flags := flag.NewFlagSet("serve-test", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	socket := flags.String("socket", "", "")
	if err := flags.Parse(args); err != nil || *socket == "" {
		return &usageError{"serve-test: wanted --socket PATH"}
	}
	dir, err := os.MkdirTemp("", "mayfly-test-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	c := agent.Trial(dir, *socket)
	a, err := agent.New(c, agent.Options{Version: version, Log: logger(&c.Log, stderr)})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, stdin) // ends when the starter has, one way or the other
		cancel()
	}()
	return a.Run(ctx)
}
