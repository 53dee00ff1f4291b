package admin

import (
	"time"

	"mayfly/function"
)

// States of a deployed function. Every one but ready comes with a reason.
const (
	StateReady    = "ready"    // its triggers are open
	StateStarting = "starting" // compiling, subscribing, or waiting for a broker
	StatePaused   = "paused"   // an operator asked for it; events wait
	StateFailed   = "failed"   // it cannot run until somebody acts
)

// Function is one deployed function as people see it.
type Function struct {
	Name        string    `json:"name"`
	Version     string    `json:"version"` // of the manifest
	Description string    `json:"description,omitempty"`
	State       string    `json:"state"`
	Reason      string    `json:"reason,omitempty"` // why it is not ready
	Hint        string    `json:"hint,omitempty"`   // what to type next
	Digest      string    `json:"digest"`           // "sha256:..."
	ModuleBytes int64     `json:"module_bytes"`
	ABI         string    `json:"abi"`
	Revision    uint64    `json:"revision"` // grows with every change of the function
	Deployed    time.Time `json:"deployed"`
	Triggers    []Trigger `json:"triggers"`
	Counters    Counters  `json:"counters"`
	LastError   *Error    `json:"last_error,omitempty"`
	LastErrorAt time.Time `json:"last_error_at,omitzero"`
	Manifest    string    `json:"manifest,omitempty"` // as it was sent; left out of lists
	Canary      string    `json:"canary,omitempty"`   // version on trial beside it; mayfly canary status says more
	Config      []Attr    `json:"config,omitempty"`   // [config] with the settings it was deployed with; left out of lists
}

// Trigger is one trigger of a function, in words.
type Trigger struct {
	Name   string `json:"name"`             // "mqtt[0]"
	Spec   string `json:"spec"`             // "plant/{line}/temp qos 1", "POST /overheat/{line}", "*/5 * * * *"
	State  string `json:"state"`            // one of the states above
	Reason string `json:"reason,omitempty"` // why it is not ready
}

// Counters of one function since the agent started.
type Counters struct {
	Received     uint64 `json:"received"`
	Filtered     uint64 `json:"filtered"`  // not wanted by the trigger's condition
	Duplicate    uint64 `json:"duplicate"` // sent again after they had been handled
	Coalesced    uint64 `json:"coalesced"` // a later one of their key stood for them
	Done         uint64 `json:"done"`
	Retried      uint64 `json:"retried"`  // attempts that will be made again
	Rejected     uint64 `json:"rejected"` // will never work, said the function or a limit
	Failed       uint64 `json:"failed"`   // attempts that trapped, timed out or asked for a retry
	DeadLettered uint64 `json:"dead_lettered"`
	Published    uint64 `json:"published"`
	Cold         uint64 `json:"cold"` // calls for which the module had to be loaded first
	Running      int    `json:"running"`
	Queued       int    `json:"queued"`
	RunUS        int64  `json:"run_us"` // how long a run takes of late, on average
	CPUUS        int64  `json:"cpu_us"` // of all runs
}

// DeployRequest comes before the module in a deployment and in a dry run.
type DeployRequest struct {
	File     string            `json:"file"`          // name for messages about the manifest
	Manifest string            `json:"manifest"`      // text of function.toml
	Set      map[string]string `json:"set,omitempty"` // replaces values of [config]
	DryRun   bool              `json:"dry_run,omitempty"`

	Canary *function.CanaryRules `json:"canary,omitempty"` // put it on trial beside the deployed version instead of replacing it

	AllowNewPermissions bool `json:"allow_new_permissions,omitempty"` // beyond those of the deployed version; else KindPermission
}

// Stages of a deployment, in order.
const (
	StageUpload    = "upload"
	StageCompile   = "compile"
	StageStore     = "store"
	StageSubscribe = "subscribe"
	StageReady     = "ready"
)

// Progress is one step of a deployment.
type Progress struct {
	Stage string `json:"stage"`
	Note  string `json:"note,omitempty"`
	Done  int64  `json:"done,omitempty"` // of Total, in bytes or steps; 0 = unknown
	Total int64  `json:"total,omitempty"`
}

// Deployed is one line of the answer to a deployment: progress, at last the function.
type Deployed struct {
	Progress *Progress `json:"progress,omitempty"`
	Function *Function `json:"function,omitempty"`
}

// Pause is the request to stop or restart a function's triggers.
type Pause struct {
	Paused bool `json:"paused"`
}

// InvokeRequest is one event made by hand.
type InvokeRequest struct {
	Topic       string `json:"topic,omitempty"`
	ContentType string `json:"content_type,omitempty"`
	Attrs       []Attr `json:"attrs,omitempty"` // id, source, subject, time, ..., topic.<capture> of a route; others become user.<name>
	Body
}

// DryRunRequest comes before the module in a dry run.
type DryRunRequest struct {
	DeployRequest
	Events []InvokeRequest `json:"events"`
}

// Ran is what became of one event made by hand.
type Ran struct {
	Node      string       `json:"node"`
	Trigger   string       `json:"trigger,omitempty"`
	Outcome   string       `json:"outcome"` // done | retry | reject, or error when it did not get to say
	Publishes []Message    `json:"publishes"`
	Writes    []StateWrite `json:"writes"`
	Response  *Response    `json:"response,omitempty"`
	Log       []LogLine    `json:"log"`
	Dropped   int          `json:"log_dropped,omitempty"`
	Failure   string       `json:"failure,omitempty"`
	Usage     Usage        `json:"usage"`
	Error     *Error       `json:"error,omitempty"`
}

// Rans are the answer to a dry run: one per event, in the order asked.
type Rans struct {
	Runs []Ran `json:"runs"`
}

// StateWrite is one change of a function's state.
type StateWrite struct {
	Key    string `json:"key"`
	Delete bool   `json:"delete,omitempty"`
	TTLMS  int64  `json:"ttl_ms,omitempty"`
	Body
}

// Response is what a function answered.
type Response struct {
	Status      int    `json:"status"`
	ContentType string `json:"content_type,omitempty"`
	Header      []Attr `json:"header,omitempty"`
	Body
}

// LogLine is one line a function logged, as it wrote it.
type LogLine struct {
	Time  time.Time `json:"time"`
	Level string    `json:"level"`
	Text  string    `json:"text"`
}

// Usage is what a call cost.
type Usage struct {
	WallUS   int64 `json:"wall_us"`
	CPUUS    int64 `json:"cpu_us"`
	Memory   int64 `json:"memory_bytes"`
	BytesIn  int64 `json:"bytes_in"`
	BytesOut int64 `json:"bytes_out"`
	Cold     bool  `json:"cold"`
}

func usageOf(u function.Usage) Usage {
	return Usage{
		WallUS: u.Wall.Microseconds(), CPUUS: u.CPU.Microseconds(), Memory: u.Memory,
		BytesIn: u.BytesIn, BytesOut: u.BytesOut, Cold: u.Cold,
	}
}
