// Package journal is the durable queue of events that nobody else holds: spilled ones, retries, those accepted over HTTP,
// those of a schedule. It also keeps the dead letters. It writes nothing itself but what an operator asks for: it hands out
// operations, and whoever commits them tells it afterwards, so that they can share one batch with state, outbox and done marks.
//
// DESIGN.md walks what happens when the node dies between any two steps.
package journal

import (
	"time"

	"mayfly/event"
)

// Entry is one event waiting for one function.
type Entry struct {
	Seq       uint64 // assigned by AppendOps; order within a lane is the order of Seq
	Function  string
	Trigger   string
	Lane      uint64    // hash of the order key; 0 = no order
	Attempt   int       // the next one
	NotBefore time.Time // wall clock; zero = at once
	Received  time.Time
	LastError string // of the last attempt; kept up to MaxError bytes
	Event     *event.Event

	grave *grave // what BuryOps decided, for Buried
}

// Waiting is what is known of an entry without its event.
type Waiting struct {
	Function, Trigger string
	Seq               uint64
	Lane              uint64
	Attempt           int
	NotBefore         time.Time
}

// MaxError is how many bytes of an error's text are kept.
const MaxError = 4096

// maxDelay is the longest wait for a retry that is believed: whatever the clock or the disk says, no longer than a day.
const maxDelay = 24 * time.Hour
