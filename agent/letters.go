package agent

import (
	"context"

	"mayfly/admin"
	"mayfly/agent/dispatch"
	"mayfly/agent/journal"
)

// graves shows operators the dead letters.
type graves struct {
	journal  *journal.Journal
	dispatch *dispatch.Dispatcher
}
