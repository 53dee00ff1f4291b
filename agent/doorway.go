package agent

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"mayfly/admin"
	"mayfly/agent/dispatch"
	"mayfly/function"
	"mayfly/triggers"
	"mayfly/triggers/gateway"
	"mayfly/triggers/gateway/issuer"
)

// doorway is the dispatcher as the gateway sees it.
type doorway struct {
	dispatch *dispatch.Dispatcher
	patience time.Duration // of callers
}

// Invoke implements gateway.Functions.
func (d doorway) Invoke(ctx context.Context, c gateway.Call, r triggers.Receipt) error {
	return d.dispatch.Invoke(ctx, dispatch.Request{Function: c.Function, Trigger: c.Trigger, Event: c.Event, Here: d.patience}, r)
}

// Post implements gateway.Functions.
func (d doorway) Post(c gateway.Call, r triggers.Receipt) error {
	return d.dispatch.Post(dispatch.Request{Function: c.Function, Trigger: c.Trigger, Event: c.Event, Late: c.Late}, r)
}

// newGateway makes the gateway and what it checks callers with.
func (a *Agent) newGateway() (*gateway.Gateway, error) {
	g := &a.cfg.Gateway
	c := gateway.Config{
		Address: g.Listen, Functions: doorway{a.dispatch, g.Timeout}, Names: a.names, Ready: a.ready.err, Log: a.log.With("part", "gateway"),
		PlainHTTP: g.Plain, Origins: g.Origins, Rate: g.Rate, Built: built(), Issuers: map[string]gateway.Verifier{},
		Limits: gateway.Limits{Concurrency: g.Waiting, Timeout: g.Timeout, Body: g.Body},
	}
	c.Proxies.RFC7239 = g.Said == "forwarded"
	for _, text := range g.Proxies {
		trusted, err := proxy(text)
		if err != nil {
			return nil, err
		}
		c.Proxies.Trusted = append(c.Proxies.Trusted, trusted)
	}
	var err error
	if g.Tokens != "" {
		if c.Tokens, err = gateway.LoadTokens(g.Tokens); err != nil {
			return nil, err
		}
	}
	if g.Cert != "" {
		cert, err := gateway.LoadCertificate(g.Cert, g.Key, g.ClientCA)
		if err != nil {
			return nil, err
		}
		c.TLS, c.Callers, c.Refresh = cert.Config(), g.ClientCA != "", []gateway.Refresher{cert}
	}
	for _, name := range slices.Sorted(maps.Keys(g.Issuers)) {
		i := g.issuer(name)
		i.Dir, i.Built, i.Log = a.path("issuers"), c.Built, c.Log
		known, err := issuer.New(i)
		if err != nil {
			return nil, err
		}
		a.issuers = append(a.issuers, known)
		c.Issuers[name] = known
	}
	return gateway.New(c)
}

// runGateway serves requests, and keeps the keys of the issuers fresh meanwhile, until ctx ends.
func (a *Agent) runGateway(ctx context.Context) error {
	keys, stop := context.WithCancel(ctx)
	var fresh sync.WaitGroup
	for _, i := range a.issuers {
		fresh.Go(func() { _ = i.Run(keys) }) // it ends with its context only
	}
	err := a.gateway.Run(ctx)
	stop()
	fresh.Wait()
	return err
}

// serveRoutes makes the gateway serve the routes of functions.
func (a *Agent) serveRoutes(functions []*function.Function) {
	if a.gateway == nil {
		return
	}
	now, faults := a.catalog.Snapshot(), map[string]string{}
	var routes []gateway.Route
	for _, f := range functions {
		for i, h := range f.Manifest.HTTP {
			trigger := fmt.Sprintf("http[%d]", i)
			if d, lost := now.Dispute(f.Name(), trigger); lost {
				faults[triggerID(f.Name(), trigger)] = d.Reason
				continue
			}
			routes = append(routes, gateway.Route{
				Function: f.Name(), Trigger: trigger, Summary: f.Manifest.Description, Route: h.Route(),
				Auth: h.Auth, Require: h.Require, Rate: h.Rate, CallerRate: h.CallerRate,
			})
		}
	}
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

// issuerFault says what it means that an issuer's keys could not be fetched.
func issuerFault(s *issuer.Status) string {
	means := "its tokens are refused, there are no keys"
	if s.Keys > 0 {
		means = "its tokens are checked with keys of " + s.Fetched.UTC().Format(time.RFC3339)
	}
	return fmt.Sprintf("issuer %s: %s: %v", s.Name, means, s.Err)
}
