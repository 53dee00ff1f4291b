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

// Who may call a route, as manifests say it.
const (
	authPublic = "public"
	authToken  = "token"
)

// Route is a route of a deployed function.
type Route struct {
	Function string
	Trigger  string // "http[0]"
	Summary  string // for people, in the description of the interface
	Route    function.Route
	Auth     string // of the manifest: token or public
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
		if rt.Auth != authPublic && rt.Auth != authToken {
			faults = append(faults, Unserved{rt, fmt.Sprintf("auth = %q is not understood by this version; it may be token or public", rt.Auth)})
			continue
		}
		first := beginning(rt.Route.Path)
		rivals := t.routes
		if first != "" {
			rivals = slices.Concat(begins[first], begins[""])
		}
		if i := slices.IndexFunc(rivals, func(o Route) bool { return o.Route.Conflicts(rt.Route) }); i >= 0 {
			faults = append(faults, Unserved{rt, fmt.Sprintf("it takes the same requests as %q of function %s", rivals[i].Route, rivals[i].Function)})
			continue
		}
		if rt.Auth == authToken && g.c.Tokens == nil {
			faults = append(faults, Unserved{rt, "it asks for a token and the gateway knows none: set gateway.tokens in the agent's configuration"})
		}
		t.routes, begins[first] = append(t.routes, rt), append(begins[first], rt)
		t.mux.Handle(rt.Route.String(), g.admitted(rt, g.serve(rt)))
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

// admitted lets in who the manifest lets in.
func (g *Gateway) admitted(rt Route, next http.Handler) http.Handler {
	switch {
	case rt.Auth == authPublic:
		return next
	case g.c.Tokens == nil:
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			g.problem(w, &problem{
				Status: http.StatusForbidden, Kind: "no-tokens", Title: "Nobody can call this route",
				Detail: "it asks for a token and this gateway knows none", Next: "set gateway.tokens in the agent's configuration",
			})
		})
	}
	return g.guarded(next)
}

// serve runs the route's function.
func (g *Gateway) serve(rt Route) http.Handler {
	names := rt.Route.Captures()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		to := target{function: rt.Function, trigger: rt.Trigger, source: r.URL.Path, method: r.Method}
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

// route finds the route of a request: the most specific one, by the rules of net/http.ServeMux.
func (g *Gateway) route(w http.ResponseWriter, r *http.Request) {
	t := g.table.Load()
	if _, pattern := t.mux.Handler(r); pattern != "" {
		t.mux.ServeHTTP(w, r)
		return
	}
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
	if g.c.Tokens == nil || g.c.Tokens.allow(r.Header.Get("Authorization")) { // others learn no routes
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
		if _, pattern := t.mux.Handler(&other); pattern != "" {
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
