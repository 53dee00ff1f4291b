package main

import (
	"context"
	"errors"
	"os"

	"mayfly/agent"
	"mayfly/internal/sdnotify"
	"mayfly/internal/settings"
)

var errReload = errors.New("the configuration changed")

// await waits for a SIGHUP whose configuration is in order, ends the agent with it and returns it; or for the agent's end, and
// returns the old one.
func await(ctx context.Context, reload context.CancelCauseFunc, hup <-chan os.Signal, from source) (agent.Config, *settings.Origins) {
	for {
		select {
		case <-ctx.Done():
			return from.config, from.origins
		case <-hup:
		}
		next, origins, err := load(from.file, from.optional, from.environ)
		if err != nil {
			from.log.Error("the new configuration is not in order; the old one stays in force", "err", err)
			continue
		}
		if err := sdnotify.FromEnvironment().Reloading(); err != nil {
			from.log.Warn("systemd was not told", "err", err)
		}
		reload(errReload)
		return next, origins
	}
}
