// Package admintest holds an agent without engine, store or broker, for tests of what speaks to agents: it keeps functions
// and dead letters in memory, its broker is a list of subscribers, and its modules are text.
//
// A module is a line per thing to do for an event, after the four bytes every Wasm module starts with:
//
//	publish TOPIC      publish the event's payload
//	log LEVEL TEXT     log a line
//	respond TEXT       respond; {payload} stands for the event's payload
//	put KEY            write the payload to the state
//	fail TEXT          say why
//	retry | reject     the outcome
//	trap               break
package admintest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"mayfly/admin"
	"mayfly/event"
	"mayfly/function"
)

// Magic starts every module.
const Magic = "\x00asm"

// Module returns a module that does what lines say.
func Module(lines ...string) []byte { return []byte(Magic + strings.Join(lines, "\n")) }

// Agent is a whole agent in memory. Its fields may be changed before it is used. Safe for concurrent use.
type Agent struct {
	admin.Feeds
	Now  func() time.Time
	Stat admin.Status // what Status answers, besides functions and dead letters
	Site *Site        // alone, until it makes or joins a cluster
	Keep admin.Access // API tokens; nil = it keeps none

	mu        sync.Mutex
	functions map[string]deployed
	past      map[string][]deployed // newest first
	letters   []admin.DeadLetter
	subs      map[*subscriber]struct{}
	retained  map[string]event.Message
	secrets   map[string]admin.Secret
	published []event.Message
}

type deployed struct {
	admin.Function
	module   []byte
	manifest function.Manifest

	trial *deployed // beside it
	rules function.CanaryRules
}

type subscriber struct {
	filter string
	emit   func(admin.Received)
}

var (
	_ admin.Functions   = (*Agent)(nil)
	_ admin.Invoker     = (*Agent)(nil)
	_ admin.DeadLetters = Letters{}
	_ admin.Bus         = (*Agent)(nil)
	_ admin.Watcher     = (*Agent)(nil)
	_ admin.Reporter    = (*Agent)(nil)
)

// New returns an agent whose clock says now.
func New(now func() time.Time) *Agent {
	a := &Agent{
		Feeds: admin.NewFeeds(100, 100), Now: now, Stat: Healthy(now()),
		functions: map[string]deployed{}, past: map[string][]deployed{}, subs: map[*subscriber]struct{}{}, retained: map[string]event.Message{},
	}
	a.Site = newSite(a)
	return a
}

// Backend returns all of a for a server.
func (a *Agent) Backend() admin.Backend {
	return admin.Backend{
		Functions: a, Releases: Releases{a}, Invoker: a, DeadLetters: Letters{a}, Bus: a, Watcher: a, Reporter: a,
		Clusters: a.Site, Nodes: Members{a.Site}, Explainer: a.Site, Keys: a.Site, Access: a.Keep, Meter: Usage{a}, Secrets: Secrets{a},
	}
}

func notFound(op, what, name string) error {
	return &function.Error{
		Op: op, Subject: name, Class: function.ClassReject, Kind: admin.KindNotFound, Err: errors.New("there is no such " + what),
	}
}

// Deploy implements admin.Functions.
func (a *Agent) Deploy(_ context.Context, d admin.Deployment, progress func(admin.Progress)) (admin.Function, error) {
	if !strings.HasPrefix(string(d.Module), Magic) {
		return admin.Function{}, &function.Error{
			Op: "deploy", Subject: d.Manifest.Name, Class: function.ClassReject, Kind: admin.KindInvalid,
			Err: errors.New("the module is not a Wasm file"), Hint: "build it first: mayfly build",
		}
	}
	progress(admin.Progress{Stage: admin.StageCompile})
	a.mu.Lock()
	defer a.mu.Unlock()
	f := admin.Function{
		Name: d.Manifest.Name, Version: d.Manifest.Version, Description: d.Manifest.Description, State: admin.StateReady,
		Digest: d.Digest.String(), ModuleBytes: int64(len(d.Module)), ABI: string(function.ABIMayfly),
		Revision: a.functions[d.Manifest.Name].Revision + 1, Deployed: a.Now(), Triggers: []admin.Trigger{}, Manifest: string(d.Source),
	}
	for _, c := range d.Manifest.Config {
		f.Config = append(f.Config, admin.Attr{Name: c.Key, Value: c.Value})
	}
	for _, t := range d.Manifest.MQTT {
		f.Triggers = append(f.Triggers, admin.Trigger{Name: "mqtt[0]", Spec: t.Topic.String() + " qos 1", State: admin.StateReady})
	}
	if !d.DryRun {
		progress(admin.Progress{Stage: admin.StageStore})
		next := deployed{Function: f, module: d.Module, manifest: d.Manifest}
		if d.Canary != nil {
			return a.try(next, *d.Canary)
		}
		a.replace(next)
	}
	progress(admin.Progress{Stage: admin.StageReady})
	return f, nil
}

// List implements admin.Functions.
func (a *Agent) List(context.Context) ([]admin.Function, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []admin.Function
	for _, f := range a.functions {
		f.Manifest, f.Config = "", nil
		out = append(out, f.Function)
	}
	slices.SortFunc(out, func(x, y admin.Function) int { return strings.Compare(x.Name, y.Name) })
	return out, nil
}

// Get implements admin.Functions.
func (a *Agent) Get(_ context.Context, name string) (admin.Function, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f, ok := a.functions[name]
	if !ok {
		return admin.Function{}, notFound("show", "function", name)
	}
	return f.Function, nil
}

// Remove implements admin.Functions.
func (a *Agent) Remove(_ context.Context, name string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, ok := a.functions[name]; !ok {
		return notFound("remove", "function", name)
	}
	delete(a.functions, name)
	return nil
}

// SetPaused implements admin.Functions.
func (a *Agent) SetPaused(_ context.Context, name string, paused bool) (admin.Function, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f, ok := a.functions[name]
	if !ok {
		return admin.Function{}, notFound("pause", "function", name)
	}
	f.State, f.Reason, f.Hint = admin.StateReady, "", ""
	if paused {
		f.State, f.Reason, f.Hint = admin.StatePaused, "an operator paused it", "mayfly fn resume "+name
	}
	a.functions[name] = f
	return f.Function, nil
}

// Invoke implements admin.Invoker.
func (a *Agent) Invoke(ctx context.Context, name string, ev *event.Event) (admin.Run, error) {
	a.mu.Lock()
	f, ok := a.functions[name]
	a.mu.Unlock()
	if !ok {
		return admin.Run{}, notFound("invoke", "function", name)
	}
	run := interpret(f.module, ev, a.Now())
	a.tell(&f, ev, &run)
	if run.Err == nil && run.Result.Outcome == function.Done {
		for _, m := range run.Result.Publishes {
			if err := a.Publish(ctx, m); err != nil {
				return admin.Run{}, err
			}
		}
	}
	return run, nil
}

// DryRun implements admin.Invoker.
func (a *Agent) DryRun(_ context.Context, d admin.Deployment, events []*event.Event) ([]admin.Run, error) {
	var out []admin.Run
	for _, ev := range events {
		out = append(out, interpret(d.Module, ev, a.Now()))
	}
	return out, nil
}

// Status implements admin.Reporter.
func (a *Agent) Status(ctx context.Context) (admin.Status, error) {
	st := a.Stat
	list, err := a.List(ctx)
	st.Functions = list
	a.Site.mu.Lock()
	st.Cluster = a.Site.cluster
	if !a.Site.started.IsZero() {
		st.Node.Started = a.Site.started
	}
	a.Site.mu.Unlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	st.DeadLetters = admin.Backlog{Count: int64(len(a.letters))}
	return st, err
}

// Settings implements admin.Reporter.
func (a *Agent) Settings(context.Context) ([]admin.Setting, error) {
	return []admin.Setting{
		{Key: "mqtt.brokers.default.password", Value: "***", Origin: "credential", Where: "mqtt-password"},
		{Key: "mqtt.brokers.default.url", Value: "tcp://127.0.0.1:1883", Origin: "file", Where: "/etc/mayfly/mayfly.toml:12"},
		{Key: "node.name", Value: "bench", Origin: "default"},
	}, nil
}
