package agent

import (
	"fmt"

	"mayfly/agent/dispatch"
	"mayfly/agent/placement"
	"mayfly/event"
	"mayfly/function"
	"mayfly/function/extract"
	"mayfly/triggers"
)

// reconcile makes what runs equal to what the catalog says.
func (a *Agent) reconcile() error {
	a.reconcil.Lock()
	defer a.reconcil.Unlock()
	functions := a.functions()
	plan, routes := a.routes(functions)
	a.usage.redeployed()
	a.dispatch.Deploy(functions, routes)
	if err := a.subs.apply(plan.groups, plan.claims, a.dispatch.Sink); err != nil {
		return err
	}
	a.serveRoutes(functions)
	return a.ticks.apply(functions, a.mayFire)
}

// subscriptionPlan is which source brings which trigger's events.
type subscriptionPlan struct {
	groups []triggers.Group
	claims map[string]claim
}

func (a *Agent) routes(functions []*function.Function) (subscriptionPlan, []*dispatch.Route) {
	a.subs.everywhere(functions)
	groups, claims := a.subs.plan(a.eligible(functions))
	var routes []*dispatch.Route
	for _, g := range groups {
		for _, m := range g.Members {
			spec := claims[triggerID(m.Function, m.Trigger)].spec
			r, err := a.address().route(m, source(g), spec)
			if err != nil { // the manifest was checked when it was parsed
				a.log.Error("trigger cannot be compiled", "function", m.Function, "trigger", m.Trigger, "err", err)
				continue
			}
			routes = append(routes, r)
		}
	}
	return subscriptionPlan{groups, claims}, routes
}

// route compiles one trigger.
func (at address) route(m triggers.Subscription, from string, t *function.MQTTTrigger) (*dispatch.Route, error) {
	r := &dispatch.Route{
		Function: m.Function, Trigger: m.Trigger, Source: from, Pattern: t.Topic, MaxAge: t.MaxAge, Overflow: t.Overflow,
		Rate: t.Rate, Burst: t.Burst, Coalesce: t.Coalesce == function.CoalesceLatest,
	}
	names := t.Topic.Names()
	var err error
	if r.Order, err = extractor(t.Order, t.Topic, names); err != nil {
		return nil, fmt.Errorf("order: %w", err)
	}
	if r.ID, err = extractor(t.ID, t.Topic, names); err != nil {
		return nil, fmt.Errorf("id: %w", err)
	}
	if t.When != "" {
		condition, err := extract.ParseCondition(t.When, names)
		if err != nil {
			return nil, fmt.Errorf("when: %w", err)
		}
		r.When = func(ev *event.Event) (bool, error) { return condition.Holds(ev, t.Topic) }
	}
	r.When, r.Reply = at.only(t, r.When), at.replies(t)
	return r, nil
}

func extractor(text string, p event.Pattern, names []string) (func(*event.Event) (string, bool), error) {
	if text == "" {
		return nil, nil
	}
	x, err := extract.Parse(text, names)
	if err != nil || x.None() {
		return nil, err
	}
	return func(ev *event.Event) (string, bool) { return x.Key(ev, p) }, nil
}

// unmet returns why f may not run here. That the node drains is no reason: what it has it hands over, and what is its own it keeps.
func (a *Agent) unmet(f *function.Function) []string {
	here := *a.viewer.here()
	here.Draining = false
	return placement.Failed(f, &here)
}
