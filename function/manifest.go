package function

import (
	"time"

	"mayfly/event"
)

// Manifest is what function.toml says, validated and with its defaults filled in. Deny by default: what is not granted
// here a function cannot do.
type Manifest struct {
	Name        string
	Version     string
	Description string
	Module      Module
	Build       Build
	MQTT        []MQTTTrigger
	HTTP        []HTTPTrigger
	Cron        []CronTrigger
	Output      Output
	Limits      Limits
	Retry       RetryPolicy
	State       StatePolicy
	Placement   Placement
	Permissions Permissions
	Config      []Setting // sorted by key; values as text
	Tests       []Test
}

// ABI is the guest interface a module speaks.
type ABI string

// Interfaces of guests.
const (
	ABIAuto    ABI = "auto"
	ABICommand ABI = "command"
	ABIMayfly  ABI = "mayfly_v1"
)

// Module says where the module is and how to run it.
type Module struct {
	Path  string   // relative to the manifest
	OCI   string   // or an OCI reference with digest
	ABI   ABI      // default auto
	Args  []string // command only
	Reuse bool     // keep an instance between events
}

// Build is how `mayfly build` makes the module.
type Build struct {
	Command string
	Watch   []string
}

// Scope says which nodes handle a trigger's events.
type Scope string

// Scopes of triggers and of state.
const (
	ScopeNone    Scope = "none"    // state only
	ScopeNode    Scope = "node"    // every eligible node has its own
	ScopeCluster Scope = "cluster" // one owner among the eligible nodes
)

// Retained says what happens to retained messages (promise D7).
type Retained string

// Policies for retained messages.
const (
	RetainedSkip   Retained = "skip"   // never handle what the broker had retained
	RetainedOnce   Retained = "once"   // default: handle it when the trigger is first subscribed, never again
	RetainedAlways Retained = "always" // on every subscription
)

// Overflow says what happens when a trigger's in-flight window stays full (promise D3).
type Overflow string

// Policies for overflow.
const (
	OverflowSpill Overflow = "spill" // to the journal, then acknowledge
	OverflowHold  Overflow = "hold"  // stop acknowledging; the broker keeps them while it can
	OverflowShed  Overflow = "shed-oldest"
)

// Order keys that are not extractors.
const (
	OrderTopic = "topic"
	OrderNone  = "none"
)

// MQTTTrigger subscribes a function to a topic pattern.
type MQTTTrigger struct {
	Broker   string // name in the agent's configuration; "" = the default one
	Topic    event.Pattern
	QoS      byte // 0 or 1, default 1
	Scope    Scope
	Order    string // OrderTopic, OrderNone, or an extractor: "json.machine", "topic.line"
	ID       string // extractor of the sender's own message id, e.g. "json.msgid"; "" = none
	Retained Retained
	MaxAge   time.Duration // 0 = any age
	When     string        // expression over json, topic, qos, retained; "" = always
	Overflow Overflow
	Shared   string // $share group; opt-in, lossy, documented so
}

// HTTPTrigger binds a function to a route of the gateway.
type HTTPTrigger struct {
	Method string // "" = any
	Path   string // "/overheat/{line}"
	Auth   string // jwt | token | public
}

// CronTrigger runs a function on a schedule.
type CronTrigger struct {
	Schedule string
	Scope    Scope
}

// Output says what becomes of a command's standard output.
type Output struct {
	Topic  string // "" = it is the response; may contain {captures}
	Format string // "raw" | "jsonl": each line is one message
	QoS    byte
	Retain bool
}

// Limits of one call. All are enforced.
type Limits struct {
	Memory      int64         // bytes of linear memory, default 16 MiB
	Timeout     time.Duration // wall time, default 1 s
	CPU         time.Duration // CPU time, default = Timeout
	Concurrency int           // calls at once on one node, default 4
	Payload     int64         // bytes of an event's data, default 256 KiB
	Output      int64         // bytes published and responded, default 1 MiB
	Publishes   int           // messages of one event, default 64
	Log         int64         // bytes logged by one event, default 16 KiB
	Stack       int64         // bytes of Wasm stack, default 256 KiB
	Table       int64         // table elements, default 10,000
}

// RetryPolicy says how often and how fast a failed event is tried again.
type RetryPolicy struct {
	MaxAttempts int // default 5
	BackoffMin  time.Duration
	BackoffMax  time.Duration
	DeadLetter  string // topic, besides the local dead-letter store; "" = none
}

// StatePolicy says where a function's state lives and how much it may be.
type StatePolicy struct {
	Scope Scope
	Quota int64 // bytes
}

// Placement narrows down where a function may run.
type Placement struct {
	Require []string
	Prefer  []string
}

// Permissions are what a function may do beyond computing.
type Permissions struct {
	Publish []string // topic filters
	HTTP    []string // URL patterns
	Secrets []string // names
}

// Setting is one value of [config].
type Setting struct{ Key, Value string }

// Test is one [[test]]: an event and what is expected of it.
type Test struct {
	Name    string
	Topic   string
	Payload []byte
	Attrs   []event.Attr
	Expect  Expectation
	Line    int // in the manifest
}

// Expectation is what a test wants of the result. Absent parts are not checked.
type Expectation struct {
	Outcome  *Outcome
	Publish  []ExpectMessage // nil = not checked, empty = none
	Response *string
	State    []Setting
	Log      []string // substrings, each must occur in some line
	Error    string   // substring of the error
}

// ExpectMessage is a publish a test wants; zero fields are not checked.
type ExpectMessage struct {
	Topic   string
	Payload *string // exact text
	JSON    string  // compared as JSON when not empty
	QoS     *byte
	Retain  *bool
}
