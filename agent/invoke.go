package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"mayfly/admin"
	"mayfly/agent/dispatch"
	"mayfly/event"
	"mayfly/function"
	"mayfly/triggers"
	"mayfly/wasm/admission"
)

// answer is the receipt of somebody who waits.
type answer chan triggers.Settlement

// Settle implements triggers.Receipt.
func (a answer) Settle(s triggers.Settlement) { a <- s }

// Invoke implements admin.Invoker.
func (a *Agent) Invoke(ctx context.Context, name string, ev *event.Event) (admin.Run, error) {
	f, err := a.find(name)
	if err != nil {
		return admin.Run{}, err
	}
	run := admin.Run{Node: a.cfg.Node.Name, Trigger: "invoke"}
	wait := make(answer, 1)
	trace, where := &function.Result{}, ""
	if err := a.dispatch.Invoke(ctx, dispatch.Request{Function: f.Name(), Event: ev, Trace: trace, Where: &where}, wait); err != nil {
		return run, err
	}
	select {
	case s := <-wait:
		run.Result, run.Err = *trace, s.Err
		if where != "" {
			run.Node = a.nameOf(where)
		}
		if s.Err != nil { // the function may have asked for something; nothing of it became true
			run.Result.Publishes, run.Result.Writes, run.Result.Response = nil, nil, nil
		}
		return run, nil
	case <-ctx.Done():
		return run, &function.Error{
			Op: "invoke", Subject: name, Class: function.ClassRetry, Kind: admin.KindUnavailable, Err: ctx.Err(),
			Hint: "it goes on by itself: mayfly events tail --function " + name,
		}
	}
}

// DryRun implements admin.Invoker: a sandbox around the sandbox. Each event meets an empty state, and what the function asks for
// is returned and thrown away.
func (a *Agent) DryRun(ctx context.Context, d admin.Deployment, events []*event.Event) ([]admin.Run, error) {
	f := &function.Function{Manifest: d.Manifest, Module: d.Digest, Deployed: time.Now()}
	if _, err := a.engine.Compile(ctx, d.Module, admission.Limits{Memory: d.Manifest.Limits.Memory, ABI: d.Manifest.Module.ABI}); err != nil {
		return nil, err
	}
	runs := make([]admin.Run, len(events))
	for i, ev := range events {
		call := &function.Call{
			Function: f, Event: ev, Trigger: "invoke", Captures: ev.Captures, Attempt: 1, Deadline: time.Now().Add(d.Manifest.Limits.Timeout),
			Node: a.cfg.Node.Name, DryRun: true,
		}
		call.Trigger, call.Pattern = triggerFor(&d.Manifest, ev.Topic)
		if s := d.Manifest.State.Scope; s != "" && s != function.ScopeNone {
			call.State = emptyState{}
		}
		if len(d.Manifest.Permissions.Secrets) > 0 {
			call.Secrets = a.secrets(f)
		}
		runs[i] = admin.Run{Node: a.cfg.Node.Name, Trigger: call.Trigger}
		runs[i].Err = a.engine.Invoke(ctx, call, &runs[i].Result)
	}
	return runs, nil
}

// triggerFor finds the trigger that a topic would have come by.
func triggerFor(m *function.Manifest, topic string) (string, event.Pattern) {
	for i := range m.MQTT {
		if m.MQTT[i].Topic.Match(topic) {
			return fmt.Sprintf("mqtt[%d]", i), m.MQTT[i].Topic
		}
	}
	return "invoke", event.Pattern{}
}

// emptyState is the state of a dry run: nothing is in it, and nothing gets into it.
type emptyState struct{}

// Get implements function.State.
func (emptyState) Get([]byte) ([]byte, uint64, error) { return nil, 0, nil }

// List implements function.State.
func (emptyState) List(_, _ []byte, _ func(key []byte) bool) error { return nil }

// Usage implements function.State.
func (emptyState) Usage() (int64, error) { return 0, nil }

// Publish implements admin.Bus.
func (a *Agent) Publish(ctx context.Context, m event.Message) error {
	name := m.Broker
	if name == "" {
		name = a.cfg.DefaultBroker()
	}
	s, err := a.site("publish", name)
	if err != nil {
		return err
	}
	told := make(confirmation, 1)
	if err := s.Publish(&m, told); err != nil {
		return &function.Error{Op: "publish", Subject: m.Topic, Class: function.ClassRetry, Kind: admin.KindUnavailable, Err: err, Hint: "mayfly status"}
	}
	select {
	case err := <-told:
		return err
	case <-ctx.Done():
		return &function.Error{
			Op: "publish", Subject: m.Topic, Class: function.ClassRetry, Kind: admin.KindUnavailable,
			Err: errors.New("the broker has not confirmed it yet"), Hint: "mayfly status",
		}
	}
}

type confirmation chan error

// Confirmed implements outbox.Confirmation.
func (c confirmation) Confirmed(err error) { c <- err }

func (a *Agent) site(op, name string) (*site, error) {
	if s := a.sites[name]; s != nil {
		return s, nil
	}
	return nil, &function.Error{
		Op: op, Subject: "broker " + name, Class: function.ClassReject, Kind: admin.KindNotFound,
		Err: errors.New("there is no such broker in the agent's configuration"), Hint: "mayfly config show",
	}
}

// Subscribe implements admin.Bus.
func (a *Agent) Subscribe(ctx context.Context, q admin.SubscribeQuery, ready func(), emit func(admin.Received)) error {
	name := q.Broker
	if name == "" {
		name = a.cfg.DefaultBroker()
	}
	s, err := a.site("subscribe", name)
	if err != nil {
		return err
	}
	source, stands, err := s.watch(q.Filter, q.QoS, a.log)
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() {
		ended <- source.Run(ctx, &emitter{emit: func(ev *event.Event) {
			emit(admin.Received{Time: ev.Time, Broker: name, Topic: ev.Topic, QoS: ev.QoS, Retained: ev.Retained, Dup: ev.Dup, Body: admin.NewBody(ev.Data)})
		}})
	}()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !stands() {
		select {
		case err := <-ended:
			return err
		case <-tick.C:
		}
	}
	ready()
	return <-ended
}
