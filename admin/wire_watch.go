package admin

import (
	"time"

	"mayfly/function"
)

// LogRecord is one line of a function's log.
type LogRecord struct {
	Time     time.Time `json:"time"`
	Function string    `json:"function"`
	Event    string    `json:"event,omitempty"` // id of the event it was handling
	Node     string    `json:"node,omitempty"`
	Level    string    `json:"level"` // debug | info | warn | error
	Text     string    `json:"text"`  // as the guest wrote it: escape before showing
}

// LogQuery says which lines are wanted. The agent filters; the reader only prints.
type LogQuery struct {
	Function string    `json:"function,omitempty"` // "" = all
	Level    string    `json:"level,omitempty"`    // at least this; "" = debug
	Since    time.Time `json:"since,omitzero"`
	Limit    int       `json:"limit,omitempty"` // newest lines of the past, 0 = all that are kept
	Follow   bool      `json:"follow,omitempty"`
}

// Match says whether r is wanted.
func (q *LogQuery) Match(r *LogRecord) bool {
	return (q.Function == "" || q.Function == r.Function) && !r.Time.Before(q.Since) && levelOf(r.Level) >= levelOf(q.Level)
}

func levelOf(s string) function.Level {
	for l := function.LevelDebug; l <= function.LevelError; l++ {
		if l.String() == s {
			return l
		}
	}
	return function.LevelDebug
}

// Ways an event was settled with whoever sent it.
const (
	SettledAcked      = "acknowledged"  // safe, and the sender was told (promise D1)
	SettledJournaled  = "journaled"     // safe in the journal, acknowledged, will run later (promise D3)
	SettledDeadLetter = "dead-lettered" // kept for people, acknowledged
	SettledHeld       = "held"          // not acknowledged: whoever sent it keeps it
	SettledShed       = "shed"          // given up by the trigger's policy, counted (promise D8)
	SettledNobody     = "nobody-waits"  // QoS 0: there was nobody to tell
)

// EventRecord is the story of one event with one function: received, matched, placed, ran, said, settled. An event no
// function wanted has no Function and only its first lines.
type EventRecord struct {
	Time     time.Time `json:"time"` // received
	ID       string    `json:"id"`
	Source   string    `json:"source,omitempty"`
	Type     string    `json:"type,omitempty"`
	Broker   string    `json:"broker,omitempty"`
	Topic    string    `json:"topic,omitempty"`
	QoS      byte      `json:"qos"`
	Retained bool      `json:"retained,omitempty"`
	Dup      bool      `json:"dup,omitempty"`
	Bytes    int64     `json:"bytes"`

	Function string `json:"function,omitempty"`
	Trigger  string `json:"trigger,omitempty"` // which one matched
	Key      string `json:"key,omitempty"`     // order key
	Attempt  int    `json:"attempt,omitempty"`
	Skipped  string `json:"skipped,omitempty"` // why it did not run: when, retained, max_age, duplicate, coalesced, paused

	Node      string   `json:"node,omitempty"`  // where it ran
	Why       string   `json:"why,omitempty"`   // why there: "local, 3 of 16 slots free"
	Rules     []string `json:"rules,omitempty"` // one line per node that was considered
	Outcome   string   `json:"outcome,omitempty"`
	WaitUS    int64    `json:"wait_us"`  // received to started
	TotalUS   int64    `json:"total_us"` // received to settled
	Usage     Usage    `json:"usage"`
	Published []Sent   `json:"published,omitempty"`
	Writes    int      `json:"writes,omitempty"`
	Responded int      `json:"responded,omitempty"` // HTTP status
	Settled   string   `json:"settled,omitempty"`
	RetryMS   int64    `json:"retry_ms,omitempty"` // when Settled is journaled for another attempt
	Error     *Error   `json:"error,omitempty"`
}

// Sent is one publish of an event, without its payload.
type Sent struct {
	Broker string `json:"broker,omitempty"`
	Topic  string `json:"topic"`
	QoS    byte   `json:"qos"`
	Retain bool   `json:"retain,omitempty"`
	Bytes  int64  `json:"bytes"`
}

// EventQuery says which events are wanted. The agent filters.
type EventQuery struct {
	Function string `json:"function,omitempty"` // "" = all
	Topic    string `json:"topic,omitempty"`    // MQTT filter; "" = all
	Errors   bool   `json:"errors,omitempty"`   // only events that failed, were retried, rejected or lost
	Limit    int    `json:"limit,omitempty"`    // newest events of the past, 0 = all that are kept
	Follow   bool   `json:"follow,omitempty"`
}

// DeadLetter is one event that was given up.
type DeadLetter struct {
	ID       string    `json:"id"` // of the dead letter, not of the event
	Function string    `json:"function"`
	Trigger  string    `json:"trigger,omitempty"`
	Event    string    `json:"event"`
	Topic    string    `json:"topic,omitempty"`
	Received time.Time `json:"received"`
	Died     time.Time `json:"died"`
	Attempts int       `json:"attempts"`
	Bytes    int64     `json:"bytes"`
	Error    *Error    `json:"error"`
	Attrs    []Attr    `json:"attrs,omitempty"` // left out of lists
	*Body              // left out of lists
}

// DeadLetterQuery says which dead letters are meant. IDs, when given, are exactly those; otherwise all of Function;
// otherwise all, for which a request that changes something must say All.
type DeadLetterQuery struct {
	IDs      []string `json:"ids,omitempty"`
	Function string   `json:"function,omitempty"`
	All      bool     `json:"all,omitempty"`
	Limit    int      `json:"limit,omitempty"` // of a list, oldest first; 0 = 1,000
}
