package agent

import (
	"context"

	"mayfly/agent/dispatch"
	"mayfly/event"
	"mayfly/triggers"
)

// doorway is the dispatcher as the gateway sees it.
type doorway struct{ *dispatch.Dispatcher }

// Invoke implements gateway.Invoker.
func (d doorway) Invoke(ctx context.Context, name string, ev *event.Event, r triggers.Receipt) error {
	return d.Dispatcher.Invoke(ctx, dispatch.Request{Function: name, Event: ev}, r)
}
