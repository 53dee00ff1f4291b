// Package triggers says what a source of events and its acknowledgement are.
package triggers

import (
	"context"

	"mayfly/event"
	"mayfly/function"
)

// Receipt is what a source holds against an event it handed over. Settle is called exactly once, from any goroutine, and
// must not block.
type Receipt interface {
	Settle(Settlement)
}

// Settlement is how an event ended here. With Err nil the event is safe in the sense of promise D1 (its effects are done,
// or it is in the synced journal): the source acknowledges it upstream. Otherwise the source must not acknowledge.
type Settlement struct {
	Response  *function.Response // what the function answered, when somebody waits for it
	Outcome   function.Outcome
	Journaled bool  // safe, but not run yet
	Err       error // not safe; whoever sent it keeps it

	// Forgotten, when not nil, is called once the sender has shown that it has the acknowledgement, so that it never sends the event again;
	// all says that it does not send again either what it had sent before this connection. It may be called from any goroutine, must not
	// block, and is never called by a source that cannot know, or when the connection ends before.
	Forgotten func(all bool)
}

// Sink takes events. Accept does not block for longer than it takes to match and queue: a source may call it from the
// goroutine that reads its connection. ev must not be changed afterwards. A nil receipt means nobody waits (QoS 0).
// Accept takes responsibility for settling r even when it returns an error.
type Sink interface {
	Accept(ctx context.Context, ev *event.Event, r Receipt) error
}

// Source brings events until ctx ends. Run returns nil when ctx ended and everything it had handed over is settled or given
// back; it may be called once.
type Source interface {
	Run(ctx context.Context, to Sink) error
}
