package gateway

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"mayfly/event"
	"mayfly/function"
	"mayfly/internal/nearest"
)

// Route is a route of a deployed function.
type Route struct {
	Function   string
	Trigger    string // "http[0]"
	Summary    string // for people, in the description of the interface
	Route      function.Route
	Auth       function.Auth
	Require    function.Requirement
	Rate       function.Rate // of all callers together; zero = unlimited
	CallerRate function.Rate // of each; zero = Config.Rate
}

// Unserved is a route that is not served, or that nobody can call, and why.
type Unserved struct {
	Route Route
	Why   string
}

// table is what is served, as one immutable value.
type table struct {
	mux    *http.ServeMux
	routes []Route
}

// SetRoutes makes routes what is served from now on; requests underway are not affected. Of two that take the same requests
// the first is served.
func (g *Gateway) SetRoutes(routes []Route) []Unserved {
	t := &table{mux: http.NewServeMux()}
	begins := map[string][]Route{} // what is served, by how its path begins
	var faults []Unserved
	for _, rt := range routes {
		first := beginning(rt.Route.Path)
		rivals := t.routes
		if first != "" {
			rivals = slices.Concat(begins[first], begins[""])
		}
		if i := slices.IndexFunc(rivals, func(o Route) bool { return o.Route.Conflicts(rt.Route) }); i >= 0 {
			faults = append(faults, Unserved{rt, fmt.Sprintf("it takes the same requests as %q of function %s", rivals[i].Route, rivals[i].Function)})
			continue
		}
		if why := g.closed(&rt); why != "" {
			faults = append(faults, Unserved{rt, why})
		}
		if rt.CallerRate.Count == 0 {
			rt.CallerRate = g.c.Rate
		}
		t.routes, begins[first] = append(t.routes, rt), append(begins[first], rt)
		t.mux.Handle(rt.Route.String(), g.serve(&rt))
	}
	all := function.Route{Path: catchAll}
	if !slices.ContainsFunc(t.routes, func(o Route) bool { return o.Route.Conflicts(all) }) { // else a function takes everything
		t.mux.HandleFunc(catchAll, g.lost)
	}
	g.table.Store(t)
	return faults
}

// beginning returns the first segment of a path, "" when it may be any.
func beginning(path string) string {
	first, _, _ := strings.Cut(path[1:], "/")
	if strings.HasPrefix(first, "{") {
		return ""
	}
	return first
}

// closed says why nobody can call a route, "" when somebody can.
func (g *Gateway) closed(rt *Route) string {
	switch rt.Auth {
	case function.AuthPublic:
		return ""
	case function.AuthToken:
		if g.c.Tokens == nil {
			return "it asks for a token and the gateway knows none: set gateway.tokens in the agent's configuration"
		}
		return ""
	case function.AuthJWT:
		_, why := g.issuerOf(rt)
		return why
	case function.AuthMTLS:
		if !g.c.Callers {
			return "it asks for a client certificate and the gateway has no authority for them: set gateway.client_ca in the agent's configuration"
		}
		return ""
	}
	return fmt.Sprintf("auth = %q is not understood by this version", rt.Auth)
}

// serve runs the route's function.
func (g *Gateway) serve(rt *Route) http.Handler {
	names := rt.Route.Captures()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, p := g.admit(r, rt)
		if p != nil {
			g.problem(w, p)
			return
		}
		to := target{route: rt, source: r.URL.Path, method: r.Method, by: who}
		if g.slower(w, &to) {
			return
		}
		if len(names) > 0 {
			to.captures = make([]event.Attr, 0, len(names))
		}
		for _, name := range names {
			value := r.PathValue(name)
			if !utf8.ValidString(value) {
				g.problem(w, &problem{Status: http.StatusBadRequest, Kind: "path", Title: "The path is not valid", Detail: "{" + name + "} is not UTF-8"})
				return
			}
			to.captures = append(to.captures, event.Attr{Name: name, Value: value})
		}
		g.run(w, r, &to)
	})
}

// catchAll is where a request goes that no route takes.
const catchAll = "/"

// lost answers a request that no route takes.
func (g *Gateway) lost(w http.ResponseWriter, r *http.Request) {
	t := g.table.Load()
	if methods := t.methods(r); len(methods) > 0 {
		w.Header().Set("Allow", strings.Join(methods, ", "))
		g.problem(w, &problem{
			Status: http.StatusMethodNotAllowed, Kind: "method", Title: "There is no such method here",
			Detail: fmt.Sprintf("%s takes %s", r.URL.Path, strings.Join(methods, ", ")),
		})
		return
	}
	p := &problem{
		Status: http.StatusNotFound, Kind: "no-route", Title: "There is nothing here",
		Detail: r.Method + " " + r.URL.Path, Next: "POST /fn/<name> runs a function",
	}
	if _, stranger := g.byName(r, ""); stranger == nil { // strangers learn no routes
		if near := t.near(r.URL.Path); len(near) > 0 {
			p.Next = "did you mean " + strings.Join(near, " or ") + "?"
		}
	}
	g.problem(w, p)
}

// methods returns the methods that the path of r is served for.
func (t *table) methods(r *http.Request) []string {
	var all []string
	other := *r
	for _, m := range []string{
		http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions,
	} {
		other.Method = m
		if _, pattern := t.mux.Handler(&other); pattern != "" && pattern != catchAll {
			all = append(all, m)
		}
	}
	return all
}

// near returns the routes, at most three, whose paths are most like path.
func (t *table) near(path string) []string {
	if len(path) > 200 {
		return nil
	}
	type candidate struct {
		route string
		far   int
	}
	var all []candidate
	for _, rt := range t.routes {
		if far := unlike(path, rt.Route.Path); far <= len(path)/3+1 {
			all = append(all, candidate{rt.Route.String(), far})
		}
	}
	slices.SortStableFunc(all, func(a, b candidate) int { return cmp.Compare(a.far, b.far) })
	var near []string
	for _, c := range all[:min(3, len(all))] {
		near = append(near, c.route)
	}
	return near
}

// unlike says how far path is from what pattern takes, in bytes.
func unlike(path, pattern string) int {
	have, want := strings.Split(path, "/"), strings.Split(pattern, "/")
	far := 0
	for i := range max(len(have), len(want)) {
		var h, w string
		if i < len(have) {
			h = have[i]
		}
		if i < len(want) {
			w = want[i]
		}
		switch {
		case strings.HasSuffix(w, "...}"):
			return far
		case !strings.HasPrefix(w, "{"):
			far += nearest.Distance(h, w)
		case h == "":
			far++
		}
	}
	return far
}
