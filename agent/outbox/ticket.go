// Package outbox lets publishes leave until the broker has confirmed them.
package outbox

// Ticket stands for messages whose operations are in a batch that is being committed; Release queues them once it is synced.
//
// The dispatcher (agent/dispatch) needs from an Outbox:
//
//	Send(msgs []event.Message, done func(error)) error  // copies the slice, not the bytes; done once, confirmed or given up
//	Ops(function string, msgs []event.Message) ([]store.Op, Ticket, error)
//	Release(t Ticket)
//	Connected(broker string) bool
type Ticket struct {
	first, last uint64
}
