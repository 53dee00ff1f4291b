package admin

import "time"

// ExplainQuery says what is to be explained. Exactly one field is set.
type ExplainQuery struct {
	Function string `json:"function,omitempty"`
	Event    string `json:"event,omitempty"`
	Node     string `json:"node,omitempty"` // name, id, or the beginning of an id that only one has
}

// Explanation is why something runs where it runs, as one node sees it: the data are that node's own, and each row says how
// old they are.
type Explanation struct {
	Query     ExplainQuery `json:"query"`
	Node      string       `json:"node"`      // whose view it is
	Time      time.Time    `json:"time"`      // of the decision for an event, else now
	Rows      []Candidate  `json:"rows"`      // of a function or event: one per node; of a node: one per function
	Decisions []Decision   `json:"decisions"` // the last ones, newest last
	Note      string       `json:"note,omitempty"`
}

// Candidate is one function on one node: may it run there, and how soon would it be done.
type Candidate struct {
	Function string      `json:"function"`
	Node     string      `json:"node"` // id
	Name     string      `json:"name"` // of the node
	Here     bool        `json:"here,omitempty"`
	Failed   []string    `json:"failed"`          // every rule it does not satisfy, not only the first; none = eligible
	Rank     int         `json:"rank,omitempty"`  // 1 = it would take the next event; 0 = it would not be asked
	Owns     []string    `json:"owns,omitempty"`  // triggers of the function it owns
	ScoreMS  float64     `json:"score_ms"`        // the sum of the parts: when it would be done
	Parts    []ScorePart `json:"parts,omitempty"` // in the order they happen
	AgeMS    int64       `json:"age_ms"`          // of the figures behind the score
}

// Eligible says whether the function may run on the node.
func (c *Candidate) Eligible() bool { return len(c.Failed) == 0 }

// ScorePart is one addend of a score.
type ScorePart struct {
	Name string  `json:"name"` // "rtt", "wait", "cold", "exec"
	MS   float64 `json:"ms"`
}

// Decision is one placement that was made.
type Decision struct {
	Time     time.Time `json:"time"`
	Event    string    `json:"event"`
	Function string    `json:"function"`
	Node     string    `json:"node,omitempty"` // where it ran, "" = nowhere
	Name     string    `json:"name,omitempty"`
	Here     bool      `json:"here,omitempty"`
	Why      string    `json:"why"`
	ScoreMS  float64   `json:"score_ms"`          // expected
	TookMS   float64   `json:"took_ms,omitempty"` // what it came to
	Refused  []string  `json:"refused,omitempty"` // nodes that were asked before and had no room
}

// What a deployment would do to a function.
const (
	PlanCreate  = "create"
	PlanReplace = "replace"
	PlanNothing = "nothing"
)

// Plan is what a deployment would change and where the function would run then. Nothing has been changed.
type Plan struct {
	Function    string             `json:"function"`
	Version     string             `json:"version"`
	Action      string             `json:"action"`
	Changes     []Change           `json:"changes"`
	Permissions []PermissionChange `json:"permissions"`
	Places      []Candidate        `json:"places"` // one per node
	Owners      []Owner            `json:"owners,omitempty"`
	Warnings    []string           `json:"warnings,omitempty"`
}

// Change is one value that would be another. From is empty for what is new, To for what would be gone.
type Change struct {
	Field string `json:"field"` // "limits.memory", "trigger.mqtt[0].topic", "module"
	From  string `json:"from,omitempty"`
	To    string `json:"to,omitempty"`
}

// Kinds of permissions.
const (
	PermitPublish = "publish" // a topic filter
	PermitHTTP    = "http"    // a URL pattern
	PermitSecret  = "secret"  // a name
	PermitLoop    = "loop"    // what it publishes may come back to it
	PermitPublic  = "public"  // a route that anybody may call
)

// PermissionChange is one permission that a version asks for and the deployed one does not have, or the other way round.
type PermissionChange struct {
	Kind  string `json:"kind"`
	Value string `json:"value"`
	Added bool   `json:"added"` // else it is given up
}

// Owner is who has, or would have, a trigger that one node owns.
type Owner struct {
	Trigger string `json:"trigger"` // "mqtt[0]"
	Now     string `json:"now,omitempty"`
	Then    string `json:"then,omitempty"` // "" = nobody could
}

// Placement is the agent's part of a Plan.
type Placement struct {
	Places   []Candidate
	Owners   []Owner
	Warnings []string
}

// DrillRequest asks what would be if nodes were gone.
type DrillRequest struct {
	Kill []string `json:"kill"` // name, id, or the beginning of an id that only one has
}

// Drill is where everything would land if nodes were gone. Nothing has been touched.
type Drill struct {
	Killed  []string    `json:"killed"` // names
	Fits    bool        `json:"fits"`   // everything has a place with room for it
	Moves   []Move      `json:"moves"`
	Nodes   []DrillNode `json:"nodes"` // those that would be left
	Caveats []string    `json:"caveats,omitempty"`
}

// Move is one thing that would be elsewhere.
type Move struct {
	Function string   `json:"function"`
	Trigger  string   `json:"trigger,omitempty"` // "" = running it on demand
	From     string   `json:"from"`
	To       string   `json:"to,omitempty"`     // "" = it has no place
	Failed   []string `json:"failed,omitempty"` // why no node can take it: one line per node and rule
	StateKB  int64    `json:"state_kb,omitempty"`
	Note     string   `json:"note,omitempty"` // what would be lost or late: "its state is on the killed node"
}

// DrillNode is how full a node would be.
type DrillNode struct {
	Node       string  `json:"node"`
	Name       string  `json:"name"`
	Slots      int     `json:"slots"`
	LoadBefore float64 `json:"load_before"` // slots in use on average
	LoadAfter  float64 `json:"load_after"`
	Fits       bool    `json:"fits"`
	Reason     string  `json:"reason,omitempty"` // why it does not
}

// Rollout is how far a function's current revision got: one entry per live node.
type Rollout struct {
	Function string        `json:"function"`
	Revision uint64        `json:"revision"`
	Live     int           `json:"live"`
	Has      int           `json:"has"`
	Nodes    []RolloutNode `json:"nodes"`
}

// RolloutNode is how far it got at one node.
type RolloutNode struct {
	Node   string `json:"node"`
	Name   string `json:"name"`
	Has    bool   `json:"has"`
	Reason string `json:"reason,omitempty"` // why not: "it has not answered for 4s", "its record is of revision 3"
}

// Scopes of callers from afar. Each contains those before it.
const (
	ScopeRead   = "read"   // look: status, logs, events, plans without a module
	ScopeDeploy = "deploy" // change what runs: deploy, remove, invoke, publish, replay
	ScopeAdmin  = "admin"  // change who belongs: nodes, tokens, keys
)

// AccessRequest asks for an API token.
type AccessRequest struct {
	Name  string `json:"name"`
	Scope string `json:"scope"`
	TTLMS int64  `json:"ttl_ms,omitempty"` // 0 = until it is revoked
}

// AccessToken is one API token. Token is the secret itself: it is there in the answer to its creation only, and kept nowhere.
type AccessToken struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Scope   string    `json:"scope"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires,omitzero"`
	Token   string    `json:"token,omitempty"`
}
