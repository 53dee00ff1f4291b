package agent

import (
	"context"
	"fmt"

	"mayfly/admin"
	"mayfly/agent/dispatch"
	"mayfly/function"
	"mayfly/triggers"
	"mayfly/triggers/gateway"
)

// doorway is the dispatcher as the gateway sees it.
type doorway struct{ dispatch *dispatch.Dispatcher }

// Invoke implements gateway.Functions.
func (d doorway) Invoke(ctx context.Context, c gateway.Call, r triggers.Receipt) error {
	return d.dispatch.Invoke(ctx, dispatch.Request{Function: c.Function, Trigger: c.Trigger, Event: c.Event}, r)
}

// Post implements gateway.Functions.
func (d doorway) Post(c gateway.Call, r triggers.Receipt) error {
	return d.dispatch.Post(dispatch.Request{Function: c.Function, Trigger: c.Trigger, Event: c.Event}, r)
}

// serveRoutes makes the gateway serve the routes of functions.
func (a *Agent) serveRoutes(functions []*function.Function) {
	if a.gateway == nil {
		return
	}
	var routes []gateway.Route
	for _, f := range functions {
		for i, h := range f.Manifest.HTTP {
			routes = append(routes, gateway.Route{
				Function: f.Name(), Trigger: fmt.Sprintf("http[%d]", i), Summary: f.Manifest.Description, Route: h.Route(), Auth: string(h.Auth),
			})
		}
	}
	faults := map[string]string{}
	for _, u := range a.gateway.SetRoutes(routes) {
		faults[triggerID(u.Route.Function, u.Route.Trigger)] = u.Why
	}
	a.unserved.Store(&faults)
}

// routed is a route as people see it.
func (a *Agent) routed(f *function.Function, name string, h function.HTTPTrigger) admin.Trigger {
	t := admin.Trigger{Name: name, Spec: h.Route().String() + ", " + string(h.Auth), State: admin.StateReady}
	if a.gateway == nil {
		t.State, t.Reason = admin.StateFailed, "the agent has no gateway: set [gateway] listen in its configuration"
		return t
	}
	if faults := a.unserved.Load(); faults != nil {
		if why := (*faults)[triggerID(f.Name(), name)]; why != "" {
			t.State, t.Reason = admin.StateFailed, why
		}
	}
	return t
}
