package main

import (
	"context"
	"os"

	"mayfly/agent"
	"mayfly/internal/settings"
)

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
		if err := from.notify.Reloading(); err != nil {
			from.log.Warn("systemd was not told", "err", err)
		}
		reload(agent.ErrReload)
		return next, origins
	}
}
