package function

import (
	"time"

	"mayfly/event"
)

// Manifest is what function.toml says, validated and with its defaults filled in. Deny by default: what is not granted
// here a function cannot do. Its JSON form is what is stored and sent: decoding it gives an equal Manifest.
type Manifest struct {
	Name        string        `json:"name"`
	Version     string        `json:"version,omitempty"`
	Description string        `json:"description,omitempty"`
	Module      Module        `json:"module"`
	Build       Build         `json:"build"`
	MQTT        []MQTTTrigger `json:"mqtt,omitempty"`
	HTTP        []HTTPTrigger `json:"http,omitempty"`
	Cron        []CronTrigger `json:"cron,omitempty"`
	Output      Output        `json:"output"`
	Limits      Limits        `json:"limits"`
	Retry       RetryPolicy   `json:"retry"`
	State       StatePolicy   `json:"state"`
	Placement   Placement     `json:"placement"`
	Permissions Permissions   `json:"permissions"`
	Tenant      string        `json:"tenant,omitempty"` // whose usage it is
	Budget      Budget        `json:"budget,omitzero"`
	Config      []Setting     `json:"config,omitempty"` // sorted by key; values as text
	Tests       []Test        `json:"tests,omitempty"`

	Source string `json:"source,omitempty"` // the text it was parsed from; set by whoever deploys it, for people
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
	Path  string   `json:"path,omitempty" doc:"The module, relative to this file."`               // relative to the manifest
	OCI   string   `json:"oci,omitempty" doc:"Or an OCI reference with @sha256: digest."`         // or an OCI reference with digest
	ABI   ABI      `json:"abi" default:"auto" words:"auto|command|mayfly_v1"`                     // default auto
	Args  []string `json:"args,omitempty" doc:"Arguments of a command."`                          // command only
	Reuse bool     `json:"reuse,omitempty" doc:"Keep an instance between events; not a command."` // keep an instance between events
}

// Build is how `mayfly build` makes the module.
type Build struct {
	Command string   `json:"command,omitempty"`
	Watch   []string `json:"watch,omitempty"`
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

// Coalesce says which of a trigger's waiting events of one order key stand for all of them. The zero value: each for itself.
type Coalesce string

// CoalesceLatest lets only the newest run.
const CoalesceLatest Coalesce = "latest"

// Order keys that are not extractors.
const (
	OrderTopic = "topic"
	OrderNone  = "none"
)

// MQTTTrigger subscribes a function to a topic pattern.
type MQTTTrigger struct {
	Broker   string        `json:"broker,omitempty"` // name in the agent's configuration; "" = the default one
	Topic    event.Pattern `json:"topic" required:"true" doc:"{name} is one level, {name...} the rest."`
	QoS      byte          `json:"qos" default:"1" max:"1"` // 0 or 1, default 1
	Scope    Scope         `json:"scope" default:"cluster" words:"cluster|node"`
	Order    string        `json:"order" default:"topic"` // OrderTopic, OrderNone, or an extractor: "json.machine", "topic.line"
	ID       string        `json:"id,omitempty"`          // extractor of the sender's own message id, e.g. "json.msgid"; "" = none
	Retained Retained      `json:"retained" default:"once" words:"skip|once|always"`
	MaxAge   time.Duration `json:"max_age,omitempty"` // 0 = any age
	When     string        `json:"when,omitempty"`    // expression over json, topic, qos, retained, captures; "" = always
	Overflow Overflow      `json:"overflow" default:"spill" words:"spill|hold|shed-oldest"`
	Shared   string        `json:"shared,omitempty"` // $share group; opt-in, lossy, documented so
	Rate     Rate          `json:"rate,omitzero" doc:"Events run at most so often, such as \"10/s\" or \"600/m\"; those above wait, of QoS 0 they are shed."`
	Burst    int           `json:"burst,omitempty" min:"1" max:"100000" doc:"So many may run at once after a pause; default 1."`
	Coalesce Coalesce      `json:"coalesce,omitempty" words:"latest" doc:"Of the events of one order key that wait only the newest runs."`
	Reply    bool          `json:"reply,omitempty" doc:"The response is published: the topic's level \"call\" becomes \"result\", or \"error\" when it failed."`
}

// HTTPTrigger binds a function to a route of the gateway.
type HTTPTrigger struct {
	Method     string      `json:"method,omitempty"` // "" = any
	Path       string      `json:"path"`             // "/overheat/{line}"
	Auth       Auth        `json:"auth"`
	Require    Requirement `json:"require,omitzero"`
	Rate       Rate        `json:"rate,omitzero"`        // of all callers together; zero = unlimited
	CallerRate Rate        `json:"caller_rate,omitzero"` // of each caller; zero = the gateway's own
}

// CronTrigger runs a function on a schedule.
type CronTrigger struct {
	Schedule string  `json:"schedule" required:"true" doc:"Five fields: minute hour day month weekday, after an optional CRON_TZ=Area/City; or @hourly, @every 90s and the like."`
	Scope    Scope   `json:"scope" default:"cluster" words:"cluster|node"`
	Misfire  Misfire `json:"misfire" default:"once" words:"skip|once|all" doc:"What to do when the device was off or asleep when it was due."`
}

// Misfire says what happens to times that passed while the node was off, asleep, or the function paused.
type Misfire string

// Policies for times that were missed.
const (
	MisfireSkip Misfire = "skip" // nothing
	MisfireOnce Misfire = "once" // default: one run, for the latest of them
	MisfireAll  Misfire = "all"  // a run for each, the latest 100 at most
)

// Output says what becomes of a command's standard output.
type Output struct {
	Topic  string `json:"topic,omitempty"`                        // "" = it is the response; may contain {captures}
	Format string `json:"format" default:"raw" words:"raw|jsonl"` // "raw" | "jsonl": each line is one message
	QoS    byte   `json:"qos" default:"1" max:"1"`
	Retain bool   `json:"retain,omitempty"`
}

// Limits of one call. All are enforced.
type Limits struct {
	Memory      int64         `json:"memory" unit:"bytes" default:"16MiB" min:"64KiB" max:"4GiB"` // bytes of linear memory, default 16 MiB
	Timeout     time.Duration `json:"timeout" default:"1s" min:"1ms" max:"1h"`                    // wall time, default 1 s
	CPU         time.Duration `json:"cpu" min:"1ms" max:"1h"`                                     // CPU time, default = Timeout
	Concurrency int           `json:"concurrency" default:"4" min:"1" max:"1000"`                 // calls at once on one node, default 4
	Payload     int64         `json:"payload" unit:"bytes" default:"256KiB" min:"1" max:"256MiB"` // bytes of an event's data, default 256 KiB
	Output      int64         `json:"output" unit:"bytes" default:"1MiB" max:"256MiB"`            // bytes published and responded, default 1 MiB
	Publishes   int           `json:"publishes" default:"64" min:"0" max:"100000"`                // messages of one event, default 64
	Log         int64         `json:"log" unit:"bytes" default:"16KiB" max:"16MiB"`               // bytes logged by one event, default 16 KiB
	Stack       int64         `json:"stack" unit:"bytes" default:"256KiB" min:"16KiB" max:"8MiB"` // bytes of Wasm stack, default 256 KiB
	Table       int64         `json:"table" default:"10000" min:"0" max:"1000000"`                // table elements, default 10,000
}

// RetryPolicy says how often and how fast a failed event is tried again.
type RetryPolicy struct {
	MaxAttempts int           `json:"max_attempts"`          // default 5
	BackoffMin  time.Duration `json:"backoff_min"`           // default 200 ms
	BackoffMax  time.Duration `json:"backoff_max"`           // default 30 s
	DeadLetter  string        `json:"dead_letter,omitempty"` // topic, besides the local dead-letter store; "" = none
}

// StatePolicy says where a function's state lives and how much it may be.
type StatePolicy struct {
	Scope Scope `json:"scope" default:"none" words:"none|node|cluster"`
	Quota int64 `json:"quota,omitempty" unit:"bytes" min:"1KiB" max:"1GiB"` // bytes, default 1 MiB; 0 when the scope is none
}

// Placement narrows down where a function may run.
type Placement struct {
	Require []string `json:"require,omitempty"` // "arch:arm64|amd64", "os:linux", "label:gpio", "zone:hall", "cap:simd", "power:mains", "node:a|b"
	Prefer  []string `json:"prefer,omitempty"`  // the same, and "near-trigger"
}

// Permissions are what a function may do beyond computing.
type Permissions struct {
	Publish []string `json:"publish,omitempty"` // topic filters; the filter of [output] topic is among them
	HTTP    []string `json:"http,omitempty"`    // URL patterns: "https://host/path", * at the end for anything that follows
	Secrets []string `json:"secrets,omitempty"` // names
	Loop    bool     `json:"loop,omitempty" doc:"What it publishes may come back to it, directly or through other functions."`
}

// Setting is one value of [config].
type Setting struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// Test is one [[test]]: an event and what is expected of it.
type Test struct {
	Name    string       `json:"name"`
	Topic   string       `json:"topic,omitempty"`
	Payload []byte       `json:"payload,omitempty"`
	Attrs   []event.Attr `json:"attrs,omitempty"` // sorted by name
	Expect  Expectation  `json:"expect"`
	Line    int          `json:"line,omitempty"` // in the manifest
}

// Expectation is what a test wants of the result. Absent parts are not checked.
type Expectation struct {
	Outcome  *Outcome        `json:"outcome,omitempty"`
	Publish  []ExpectMessage `json:"publish"` // nil = not checked, empty = none
	Response *string         `json:"response,omitempty"`
	State    []Setting       `json:"state,omitempty"` // sorted by key
	Log      []string        `json:"log,omitempty"`   // substrings, each must occur in some line
	Error    string          `json:"error,omitempty"` // substring of the error
}

// ExpectMessage is a publish a test wants; zero fields are not checked.
type ExpectMessage struct {
	Topic   string  `json:"topic,omitempty"`
	Payload *string `json:"payload,omitempty"` // exact text
	JSON    string  `json:"json,omitempty"`    // compared as JSON when not empty
	QoS     *byte   `json:"qos,omitempty" max:"1"`
	Retain  *bool   `json:"retain,omitempty"`
}
