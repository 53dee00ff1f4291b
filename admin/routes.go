package admin

import (
	"context"
	"crypto/rand"
	"net/http"
	"time"

	"mayfly/event"
)

// routes is the whole protocol.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	s.register(func(scope, pattern string, h http.HandlerFunc) { mux.HandleFunc(pattern, scoped(scope, h)) })
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { fail(w, unsupported(r.Method+" "+r.URL.Path)) })
	return mux
}

// register calls at with every path, the scope it needs and what answers it.
func (s *Server) register(at func(scope, pattern string, h http.HandlerFunc)) {
	at(ScopeRead, "GET /v1/status", s.status)
	at(ScopeRead, "GET /v1/settings", s.settings)

	at(ScopeRead, "GET /v1/functions", s.functions)
	at(ScopeDeploy, "POST /v1/functions", s.deploy)
	at(ScopeRead, "GET /v1/functions/{name}", s.function)
	at(ScopeDeploy, "DELETE /v1/functions/{name}", s.remove)
	at(ScopeDeploy, "POST /v1/functions/{name}/pause", s.pause)
	at(ScopeDeploy, "POST /v1/functions/{name}/invoke", s.invoke)
	at(ScopeDeploy, "POST /v1/dry-run", s.dryRun)

	at(ScopeRead, "POST /v1/dead-letters", s.deadLetters)
	at(ScopeRead, "GET /v1/dead-letters/{id}", s.deadLetter)
	at(ScopeDeploy, "POST /v1/dead-letters/replay", s.replay)
	at(ScopeDeploy, "POST /v1/dead-letters/drop", s.drop)

	at(ScopeDeploy, "POST /v1/publish", s.publish)
	at(ScopeRead, "POST /v1/subscribe", s.subscribe)
	at(ScopeRead, "POST /v1/logs", s.logs)
	at(ScopeRead, "POST /v1/events", s.events)
	s.clusterRoutes(at)
	s.explainRoutes(at)
	s.usageRoutes(at)
	s.releaseRoutes(at)
	s.secretRoutes(at)
}

func (s *Server) status(w http.ResponseWriter, r *http.Request) {
	if s.backend.Reporter == nil {
		fail(w, unsupported("status"))
		return
	}
	st, err := s.backend.Reporter.Status(r.Context())
	st.Reasons, st.Brokers, st.Functions = emptyNotNull(st.Reasons), emptyNotNull(st.Brokers), emptyNotNull(st.Functions)
	st.Losses, st.Store.Findings = emptyNotNull(st.Losses), emptyNotNull(st.Store.Findings)
	answer(w, st, err)
}

func (s *Server) settings(w http.ResponseWriter, r *http.Request) {
	if s.backend.Reporter == nil {
		fail(w, unsupported("settings"))
		return
	}
	list, err := s.backend.Reporter.Settings(r.Context())
	answer(w, emptyNotNull(list), err)
}

func (s *Server) functions(w http.ResponseWriter, r *http.Request) {
	if s.backend.Functions == nil {
		fail(w, unsupported("functions"))
		return
	}
	list, err := s.backend.Functions.List(r.Context())
	answer(w, emptyNotNull(list), err)
}

func (s *Server) function(w http.ResponseWriter, r *http.Request) {
	if s.backend.Functions == nil {
		fail(w, unsupported("functions"))
		return
	}
	f, err := s.backend.Functions.Get(r.Context(), r.PathValue("name"))
	answer(w, f, err)
}

func (s *Server) remove(w http.ResponseWriter, r *http.Request) {
	if s.backend.Functions == nil {
		fail(w, unsupported("functions"))
		return
	}
	name := r.PathValue("name")
	err := s.backend.Functions.Remove(r.Context(), name)
	s.changed(r, "remove", name, err)
	answer(w, Count{1}, err)
}

func (s *Server) pause(w http.ResponseWriter, r *http.Request) {
	if s.backend.Functions == nil {
		fail(w, unsupported("functions"))
		return
	}
	var req Pause
	if err := s.read(w, r, &req); err != nil {
		fail(w, err)
		return
	}
	name := r.PathValue("name")
	f, err := s.backend.Functions.SetPaused(r.Context(), name, req.Paused)
	s.changed(r, "pause", name, err)
	answer(w, f, err)
}

// received reads a request with a module when it is its turn: few modules are held at once. leave ends the turn; with an error it has ended.
func (s *Server) received(w http.ResponseWriter, r *http.Request, req any) (module []byte, leave func(), err error) {
	if leave, err = enter(r.Context(), s.modules, true); err != nil {
		return nil, nil, err
	}
	if module, err = s.readModule(w, r, req); err != nil {
		leave()
	}
	return module, leave, err
}

// deploy reads the module before it answers, then says how far it got until it is done.
func (s *Server) deploy(w http.ResponseWriter, r *http.Request) {
	if s.backend.Functions == nil {
		fail(w, unsupported("functions"))
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
	if err == nil && !req.AllowNewPermissions {
		err = s.permitted(r.Context(), &d)
	}
	if err != nil {
		fail(w, err)
		return
	}
	frames, q := newFramer[Deployed](w), newQueue(func(*Deployed) int { return 256 })
	err = q.pump(r.Context(), func(ctx context.Context) error {
		f, err := s.backend.Functions.Deploy(ctx, d, func(p Progress) { q.push(Deployed{Progress: &p}) })
		if err == nil {
			q.push(Deployed{Function: &f})
		}
		return err
	}, frames.write)
	s.changed(r, "deploy", d.Manifest.Name, err)
	frames.close(err)
}

func (s *Server) invoke(w http.ResponseWriter, r *http.Request) {
	if s.backend.Invoker == nil {
		fail(w, unsupported("invoke"))
		return
	}
	var req InvokeRequest
	if err := s.read(w, r, &req); err != nil {
		fail(w, err)
		return
	}
	ev, err := req.event(rand.Text(), time.Now())
	if err != nil {
		fail(w, err)
		return
	}
	name := r.PathValue("name")
	run, err := s.backend.Invoker.Invoke(r.Context(), name, ev)
	s.changed(r, "invoke", name, err)
	answer(w, runOf(run), err)
}

func (s *Server) dryRun(w http.ResponseWriter, r *http.Request) {
	if s.backend.Invoker == nil {
		fail(w, unsupported("dry run"))
		return
	}
	var req DryRunRequest
	module, leave, err := s.received(w, r, &req)
	if err != nil {
		fail(w, err)
		return
	}
	defer leave()
	d, events, err := req.trial(module, time.Now())
	if err != nil {
		fail(w, err)
		return
	}
	runs, err := s.backend.Invoker.DryRun(r.Context(), d, events)
	out := Rans{Runs: []Ran{}}
	for _, run := range runs {
		out.Runs = append(out.Runs, runOf(run))
	}
	answer(w, out, err)
}

func (d *DryRunRequest) trial(module []byte, now time.Time) (Deployment, []*event.Event, error) {
	if len(d.Events) > maxTrials {
		return Deployment{}, nil, tooLarge("list of events", maxTrials)
	}
	dep, err := d.deployment(module)
	if err != nil {
		return Deployment{}, nil, err
	}
	dep.DryRun = true
	var events []*event.Event
	for i := range d.Events {
		ev, err := d.Events[i].event(rand.Text(), now)
		if err != nil {
			return Deployment{}, nil, err
		}
		events = append(events, ev)
	}
	return dep, events, nil
}

// emptyNotNull makes an empty list [] in JSON.
func emptyNotNull[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
