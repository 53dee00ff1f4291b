package admin

import (
	"context"

	"mayfly/event"
	"mayfly/function"
)

// Backend is what the server opens a door to. A part that is nil is answered with KindUnsupported: a process that only
// does dry runs has an Invoker and a Reporter.
//
// All methods are called from many goroutines at once. Their context ends when the operator's connection does. Errors are
// *function.Error where an operator can act on them, with one of the Kind constants where one fits. Slices and records
// handed over belong to the receiver.
type Backend struct {
	Functions   Functions
	Releases    Releases
	Invoker     Invoker
	DeadLetters DeadLetters
	Bus         Bus
	Watcher     Watcher
	Reporter    Reporter
	Clusters    Clusters
	Leaver      Leaver
	Orders      Orders
	Nodes       Nodes
	Explainer   Explainer
	Keys        Keys
	Access      Access
	Meter       Meter
	Secrets     Secrets
}

// Functions are the deployed functions.
type Functions interface {
	// Deploy makes d the function of its name, or with d.DryRun only does everything that could fail about it. It returns
	// when the deployment survives a power cut and is compiled here; its triggers may still be opening (StateStarting).
	// progress never blocks and is not called after Deploy returned. An unchanged deployment is not an error and
	// changes nothing.
	Deploy(ctx context.Context, d Deployment, progress func(Progress)) (Function, error)
	// List returns all functions, sorted by name, without manifests.
	List(ctx context.Context) ([]Function, error)
	// Get returns one function with its manifest, or KindNotFound.
	Get(ctx context.Context, name string) (Function, error)
	// Remove ends a function: triggers closed, running events finished, then module, state and backlog deleted.
	Remove(ctx context.Context, name string) error
	// SetPaused closes or opens a function's triggers; setting what is set already is not an error.
	SetPaused(ctx context.Context, name string, paused bool) (Function, error)
}

// Deployment is what an operator wants deployed or tried.
type Deployment struct {
	Manifest function.Manifest // parsed and valid, with the operator's settings in Config
	Source   []byte            // the text it was parsed from
	Module   []byte            // not checked yet
	Digest   function.Digest   // of Module
	DryRun   bool

	Canary *function.CanaryRules // it is to be on trial beside the deployed version; nil = it replaces it
}

// Invoker runs events made by hand.
type Invoker interface {
	// Invoke runs ev through the deployed function of that name exactly as if a trigger had brought it, publishes and
	// state included, and waits for its end. The event's topic selects the trigger whose captures apply; none needs to.
	// The error is about getting it to run (KindNotFound, overload); what went wrong inside is Run.Err.
	Invoke(ctx context.Context, name string, ev *event.Event) (Run, error)
	// DryRun runs each event through d in an empty state of its own and returns one Run each, in order. It publishes,
	// stores and deploys nothing, and performs no outbound HTTP.
	DryRun(ctx context.Context, d Deployment, events []*event.Event) ([]Run, error)
}

// Run is what became of one event made by hand.
type Run struct {
	Node    string
	Trigger string
	Result  function.Result // must not be reused by the agent
	Err     error           // trap, timeout, limit; may also repeat why the function said retry or reject
}

// DeadLetters are the events that were given up.
type DeadLetters interface {
	// List returns what matches, oldest first, without payloads, at most q.Limit.
	List(ctx context.Context, q DeadLetterQuery) ([]DeadLetter, error)
	// Get returns one with its payload, or KindNotFound.
	Get(ctx context.Context, id string) (DeadLetter, error)
	// Replay queues what matches as new first attempts and removes it from the dead letters in the same transaction;
	// it returns how many. One that cannot be replayed (its function is gone) stays and is an error.
	Replay(ctx context.Context, q DeadLetterQuery) (int, error)
	// Drop deletes what matches and returns how many.
	Drop(ctx context.Context, q DeadLetterQuery) (int, error)
}

// Bus is the agent's default broker, or the one named, as an operator's MQTT client.
type Bus interface {
	// Publish returns when the broker confirmed m (QoS 1) or it was written to the connection (QoS 0).
	Publish(ctx context.Context, m event.Message) error
	// Subscribe calls ready once when the subscription stands, then emit for every message until ctx ends; it returns
	// nil then. emit never blocks and may be called from any goroutine until Subscribe returns.
	Subscribe(ctx context.Context, q SubscribeQuery, ready func(), emit func(Received)) error
}

// Watcher shows what goes on. Feeds implements it.
type Watcher interface {
	// Logs calls emit for what is kept and matches, oldest first; with q.Follow also for what comes, until ctx ends.
	// ready is called between the two. emit never blocks. It returns nil at the end of ctx.
	Logs(ctx context.Context, q LogQuery, ready func(), emit func(LogRecord)) error
	// Events is the same for events.
	Events(ctx context.Context, q EventQuery, ready func(), emit func(EventRecord)) error
}

// Reporter says how the agent is and what it was told.
type Reporter interface {
	// Status must answer within a second, also when a broker, the disk or the engine does not.
	Status(ctx context.Context) (Status, error)
	// Settings returns the effective configuration sorted by key, secrets already replaced.
	Settings(ctx context.Context) ([]Setting, error)
}
