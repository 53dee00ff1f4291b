// Package journal is the durable queue of events that nobody else holds: spilled ones, retries, and later those that were
// accepted over HTTP or came from a schedule. It also keeps the dead letters.
package journal

import (
	"time"

	"mayfly/event"
)

// Entry is one event waiting for one function.
//
// The dispatcher (agent/dispatch) commits entries in one batch with state, outbox and done marks. It needs from a Journal:
//
//	AppendOps(entries []*Entry) ([]store.Op, error) // assigns Seq; overload-class error when the quota is used up
//	Appended(entries []*Entry)                      // after the batch was submitted: index them
//	RescheduleOps(e *Entry) []store.Op              // attempt, NotBefore and LastError of an entry changed
//	RemoveOps(function string, seq uint64) []store.Op
//	Removed(function string, seq uint64)            // after the batch is synced
//	Load(function string, seq uint64) (*Entry, error)
//
// and of the dead letters: BuryOps(e *Entry, kind string) ([]store.Op, error), Buried(e *Entry).
type Entry struct {
	Seq       uint64
	Function  string
	Trigger   string
	Lane      uint64 // hash of the order key; 0 = no order
	Attempt   int    // the next one
	NotBefore time.Time
	Received  time.Time
	LastError string
	Event     *event.Event
}
