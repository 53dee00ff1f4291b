// Package function holds the words for what is run: the manifest of a function, a deployed function, the call made of
// it for one event, and the result of that call as data. No goroutine, no I/O, no clock.
package function

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"mayfly/event"
)

// Digest is the SHA-256 of a Wasm module: its identity everywhere.
type Digest [sha256.Size]byte

// DigestOf returns the digest of a module's bytes.
func DigestOf(module []byte) Digest { return sha256.Sum256(module) }

// ParseDigest reads what String wrote, with or without the prefix "sha256:".
func ParseDigest(s string) (Digest, error) {
	var d Digest
	if len(s) > 7 && s[:7] == "sha256:" {
		s = s[7:]
	}
	if len(s) != 2*len(d) {
		return d, fmt.Errorf("digest %q: want %d hexadecimal digits", s, 2*len(d))
	}
	_, err := hex.Decode(d[:], []byte(s))
	return d, err
}

func (d Digest) String() string { return "sha256:" + hex.EncodeToString(d[:]) }

// Short returns the first twelve hexadecimal digits, for people.
func (d Digest) Short() string { return hex.EncodeToString(d[:6]) }

// Function is one deployed function. It is immutable: a new deployment is a new value.
type Function struct {
	Manifest Manifest
	Module   Digest
	Version  uint64    // of the catalog record; grows with every change
	Deployed time.Time // when this version was deployed
	Paused   bool      // triggers hold their events, nothing runs

	Canary *Canary // a version on trial beside this one; nil = none
	Trial  bool    // it is such a version itself: in a Canary, nowhere else
}

// Name returns the function's name, unique in the cluster.
func (f *Function) Name() string { return f.Manifest.Name }

// Call is one event to be handled by one function: everything the sandbox may know.
type Call struct {
	Function *Function
	Event    *event.Event
	Trigger  string        // name of the trigger that matched, for example "mqtt[0]"; "invoke" when asked for by hand
	Pattern  event.Pattern // of the MQTT trigger, for captures; zero otherwise
	Captures []event.Attr  // of an HTTP route
	Attempt  int           // 1 for the first
	Deadline time.Time     // wall clock; the sandbox never runs past it
	Node     string
	Epoch    uint64  // fencing epoch of the trigger's ownership, 0 on a single node
	State    State   // nil when the manifest's state scope is none
	Secrets  Secrets // nil when the manifest grants none
	HTTP     HTTP    // nil when the manifest grants none
	DryRun   bool    // `mayfly test`: nothing may leave the node
}

// Attr returns an attribute as the function sees it: those of the event, and topic.<capture>, trigger, function, attempt,
// node, deadline.
func (c *Call) Attr(name string) (string, bool) {
	switch name {
	case "trigger":
		return c.Trigger, true
	case "function":
		return c.Function.Manifest.Name, true
	case "attempt":
		return fmt.Sprint(max(c.Attempt, 1)), true
	case "node":
		return c.Node, true
	case "deadline":
		return c.Deadline.UTC().Format(time.RFC3339Nano), !c.Deadline.IsZero()
	}
	if len(name) > 6 && name[:6] == "topic." {
		for _, a := range c.Captures {
			if a.Name == name[6:] {
				return a.Value, true
			}
		}
		return c.Pattern.Capture(name[6:], c.Event.Topic)
	}
	return c.Event.Attr(name)
}

// State is what a call may read of its function's state: all writes committed before the call. A call sees its own
// writes through the sandbox, not here. Implementations are safe for concurrent use.
type State interface {
	// Get returns the value and its version. Versions of one key only grow, also across deletion; 0 means absent.
	// The caller must not write to value.
	Get(key []byte) (value []byte, version uint64, err error)
	// List calls yield with the keys that start with prefix and come after cursor, ascending, until it returns false.
	List(prefix, cursor []byte, yield func(key []byte) bool) error
	// Usage returns the bytes of keys and values the function holds now, for the quota.
	Usage() (bytes int64, err error)
}

// Secrets hands out the secrets the manifest names.
type Secrets interface {
	// Secret returns a value, which must not be changed; ok is false when there is none of that name. An error means that there is one which this
	// node cannot read yet.
	Secret(name string) (value []byte, ok bool, err error)
}

// HTTP performs outbound requests that the manifest permits, at once, at least once.
type HTTP interface {
	Do(deadline time.Time, request HTTPRequest) (HTTPResponse, error)
}

// HTTPRequest is what a guest asks for.
type HTTPRequest struct {
	Method, URL string
	Header      []event.Attr
	Body        []byte
	MaxBody     int64 // a larger response body is an error of kind "too-large"
}

// HTTPResponse is what came back.
type HTTPResponse struct {
	Status int
	Header []event.Attr
	Body   []byte
}

// Outcome is what a function said of its event.
type Outcome uint8

// Outcomes, in the numbering of the guest interface.
const (
	Done   Outcome = iota // the event is handled, its effects become true
	Retry                 // try again later; nothing becomes true
	Reject                // never try again: dead letter; nothing becomes true
)

func (o Outcome) String() string { return [...]string{"done", "retry", "reject"}[o] }

// Result is what a call asked for, as data. Nothing in it has happened yet. When Outcome is not Done, only Log and Usage
// are kept. A Result is reused between calls by Reset; the slices' elements are not (their bytes stay valid).
type Result struct {
	Outcome    Outcome
	Publishes  []event.Message
	Writes     []StateWrite
	Response   *Response // nil when the function did not respond
	Log        []LogLine
	Dropped    int           // log lines beyond the limit
	Failure    string        // what the guest said with fail(), or the error's text
	RetryAfter time.Duration // the guest's wish, 0 = none
	Usage      Usage
}

// Reset empties r and keeps its slices' capacity.
func (r *Result) Reset() {
	*r = Result{Publishes: r.Publishes[:0], Writes: r.Writes[:0], Log: r.Log[:0]}
}

// StateWrite is one change of a function's state.
type StateWrite struct {
	Key     []byte
	Value   []byte
	Delete  bool
	TTL     time.Duration // 0 = for ever
	Expect  uint64        // with Checked: the version this write was based on; 0 = absent
	Checked bool          // commit only if the key still has version Expect, else the call is run again
}

// Response is what the caller of an HTTP trigger or `mayfly invoke` gets.
type Response struct {
	Status      int // 0 = 200
	ContentType string
	Header      []event.Attr
	Data        []byte
}

// Level is a log level, numbered as in the guest interface.
type Level uint8

// Levels of guests' log lines.
const (
	LevelDebug Level = iota
	LevelInfo
	LevelWarn
	LevelError
)

func (l Level) String() string {
	return [...]string{"debug", "info", "warn", "error"}[min(l, LevelError)]
}

// LogLine is one line a guest logged.
type LogLine struct {
	Time  time.Time
	Level Level
	Text  string // as the guest wrote it: control characters included, escape before showing
}

// Usage is what a call cost.
type Usage struct {
	Wall     time.Duration
	CPU      time.Duration // of the thread, around the call
	Memory   int64         // bytes of linear memory at the end
	BytesIn  int64
	BytesOut int64
	Cold     bool // the module had to be loaded first
}
