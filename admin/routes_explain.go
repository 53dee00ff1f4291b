package admin

import (
	"errors"
	"net/http"

	"mayfly/function"
)

// explainRoutes are those that say why and what if: they change nothing.
func (s *Server) explainRoutes(at func(scope, pattern string, h http.HandlerFunc)) {
	at(ScopeRead, "POST /v1/explain", s.explain)
	at(ScopeRead, "POST /v1/drill", s.drill)
	at(ScopeRead, "GET /v1/functions/{name}/rollout", s.rollout)
	at(ScopeDeploy, "POST /v1/plan", s.plan) // it compiles
}

func (q *ExplainQuery) check() error {
	given := 0
	for _, s := range []string{q.Function, q.Event, q.Node} {
		if s != "" {
			given++
		}
	}
	if given != 1 {
		return invalid(errors.New("say one of function, event and node"))
	}
	return nil
}

func (r *DrillRequest) check() error {
	if len(r.Kill) == 0 {
		return invalid(errors.New("say which nodes would be gone"))
	}
	return nil
}

func (s *Server) explain(w http.ResponseWriter, r *http.Request) {
	var q ExplainQuery
	if !offers(w, "explanations", s.backend.Explainer != nil) || !s.readInto(w, r, &q, q.check) {
		return
	}
	e, err := s.backend.Explainer.Explain(r.Context(), q)
	e.Query, e.Rows, e.Decisions = q, notNull(e.Rows), emptyNotNull(e.Decisions)
	answer(w, e, err)
}

// notNull makes the empty lists of candidates [] in JSON.
func notNull(rows []Candidate) []Candidate {
	for i := range rows {
		rows[i].Failed = emptyNotNull(rows[i].Failed)
	}
	return emptyNotNull(rows)
}

func (s *Server) drill(w http.ResponseWriter, r *http.Request) {
	var req DrillRequest
	if !offers(w, "drills", s.backend.Explainer != nil) || !s.readInto(w, r, &req, req.check) {
		return
	}
	d, err := s.backend.Explainer.Drill(r.Context(), req.Kill)
	d.Killed, d.Moves, d.Nodes = emptyNotNull(d.Killed), emptyNotNull(d.Moves), emptyNotNull(d.Nodes)
	answer(w, d, err)
}

func (s *Server) rollout(w http.ResponseWriter, r *http.Request) {
	if offers(w, "rollouts", s.backend.Explainer != nil) {
		out, err := s.backend.Explainer.Rollout(r.Context(), r.PathValue("name"))
		out.Nodes = emptyNotNull(out.Nodes)
		answer(w, out, err)
	}
}

// plan does everything of a deployment that could fail and says what it would change.
func (s *Server) plan(w http.ResponseWriter, r *http.Request) {
	if !offers(w, "plans", s.backend.Functions != nil) {
		return
	}
	var req DeployRequest
	module, leave, err := s.received(w, r, &req)
	if err != nil {
		fail(w, err)
		return
	}
	defer leave()
	d, err := req.deployment(module)
	if err != nil {
		fail(w, err)
		return
	}
	d.DryRun = true
	p, err := s.planOf(r, d)
	answer(w, p, err)
}

func (s *Server) planOf(r *http.Request, d Deployment) (Plan, error) {
	ctx, name := r.Context(), d.Manifest.Name
	if _, err := s.backend.Functions.Deploy(ctx, d, func(Progress) {}); err != nil {
		return Plan{}, err
	}
	p := Plan{
		Function: name, Version: d.Manifest.Version, Action: PlanCreate, Changes: []Change{}, Permissions: []PermissionChange{}, Places: []Candidate{},
	}
	was, err := s.backend.Functions.Get(ctx, name)
	if err != nil && function.KindOf(err) != KindNotFound {
		return Plan{}, err
	}
	if err == nil {
		old, err := was.Parsed()
		if err != nil {
			return Plan{}, err
		}
		p.Changes, p.Permissions, p.Action = compare(&old, &d.Manifest), DiffPermissions(&old, &d.Manifest), PlanReplace
		if digest := d.Digest.String(); digest != was.Digest {
			p.Changes = append([]Change{{Field: "module", From: was.Digest, To: digest}}, p.Changes...)
		}
		if len(p.Changes) == 0 {
			p.Action = PlanNothing
		}
	} else {
		p.Permissions = DiffPermissions(&function.Manifest{}, &d.Manifest)
	}
	if s.backend.Explainer == nil {
		return p, nil
	}
	where, err := s.backend.Explainer.Place(ctx, &d.Manifest)
	p.Places, p.Owners, p.Warnings = notNull(where.Places), where.Owners, where.Warnings
	return p, err
}
