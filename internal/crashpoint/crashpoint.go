// Package crashpoint names the places between two steps of an event's journey at which tests let the agent die. In a release
// build Here is empty and compiled away; built with the tag crashpoints, the process kills itself, as kill -9 would, when it
// passes the place that CRASHPOINT names for the time it says: "commit@3" is the third time.
package crashpoint

// Point is one such place. Each belongs to a row of the DESIGN.md beside the code that passes it.
type Point string

// The points in the order of the journey.
const (
	Received    Point = "received"    // an event was taken from the connection, nobody has seen it
	Matched     Point = "matched"     // it is known who wants it, it is in no queue
	Queued      Point = "queued"      // it is in the queues of all who want it
	Ran         Point = "ran"         // the function ran, nothing of it is true yet
	Sent        Point = "sent"        // a publish was handed to the connection
	Confirmed   Point = "confirmed"   // the broker's confirmation was read, nobody knows yet
	Unsettled   Point = "unsettled"   // all publishes are confirmed, the event is not settled
	Commit      Point = "commit"      // state, outbox records and done mark are put together, not submitted
	Written     Point = "written"     // a group is in the database's log and not synced
	Marked      Point = "marked"      // a group is synced, and the high-water mark does not know
	Synced      Point = "synced"      // a group is synced, nobody was told
	Committed   Point = "committed"   // a batch is synced, its publishes are not released
	Released    Point = "released"    // its publishes are released, the event is not settled
	Erase       Point = "erase"       // publishes are confirmed, their records not erased
	Erased      Point = "erased"      // their records are erased, memory does not know
	Spill       Point = "spill"       // events of a full window are to be journaled
	Spilling    Point = "spilling"    // they are handed to the store, whether they are synced is unknown
	Spilled     Point = "spilled"     // they are in the synced journal, and their sender does not know
	Retry       Point = "retry"       // an event is to be journaled until its next attempt
	Journaled   Point = "journaled"   // it is in the synced journal, and its sender does not know
	Reschedule  Point = "reschedule"  // a journaled event failed again and is to wait
	Bury        Point = "bury"        // an event is to become a dead letter
	Buried      Point = "buried"      // it is one, and its sender does not know
	Replay      Point = "replay"      // dead letters are to become events
	Replayed    Point = "replayed"    // they are, in the synced journal, and nothing runs yet
	Acknowledge Point = "acknowledge" // an event is settled, its acknowledgement not written
	Unflushed   Point = "unflushed"   // acknowledgements are written and not handed to the kernel
)

// All returns every point.
func All() []Point {
	return []Point{
		Received, Matched, Queued, Ran, Sent, Confirmed, Unsettled, Commit, Written, Marked, Synced, Committed, Released, Erase, Erased,
		Spill, Spilling, Spilled, Retry, Journaled, Reschedule, Bury, Buried, Replay, Replayed, Acknowledge,
		Unflushed,
	}
}
