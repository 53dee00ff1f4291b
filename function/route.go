package function

import (
	"fmt"
	"slices"
	"strings"

	"mayfly/internal/nearest"
	"mayfly/internal/tomlcheck"
)

// Route is a method and a path of the HTTP gateway: "POST /overheat/{line}", "/files/{rest...}". Without a method it takes
// all. {name} stands for one segment of the path, a last {name...} for all that remain, none included.
type Route struct{ Method, Path string }

// Where the gateway offers every function by its name, and what became of requests whose callers did not wait; routes must stay
// outside.
const (
	ReservedPath = "/fn/"
	ResultsPath  = "/results/"
)

// ParseRoute reads a route.
func ParseRoute(s string) (Route, error) {
	var r Route
	method, path, found := strings.Cut(s, " ")
	if !found || strings.HasPrefix(s, "/") {
		method, path = "", s
	}
	methods := []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
	if method != "" && !slices.Contains(methods, method) {
		hint := "one of " + strings.Join(methods, ", ")
		if w := nearest.To(method, methods); w != "" {
			hint = fmt.Sprintf("did you mean %q?", w+" "+path)
		}
		return r, &tomlcheck.Issue{Problem: fmt.Sprintf("%q is not a method", method), Hint: hint}
	}
	if problem := checkPath(path); problem != "" {
		return r, &tomlcheck.Issue{Problem: fmt.Sprintf("route %q: %s", s, problem), Hint: `write it like "POST /overheat/{line}"`}
	}
	if path == "/fn" || strings.HasPrefix(path, ReservedPath) {
		return r, &tomlcheck.Issue{
			Problem: "paths below /fn/ are taken: every function is there by its name",
			Hint:    "choose another path",
		}
	}
	if strings.HasPrefix(path, ResultsPath) {
		return r, &tomlcheck.Issue{Problem: "paths below /results/ are taken: answers for those who did not wait are there", Hint: "choose another path"}
	}
	if slices.Contains([]string{"/healthz", "/readyz", "/openapi.json"}, path) {
		return r, &tomlcheck.Issue{Problem: path + " is taken by the gateway itself", Hint: "choose another path"}
	}
	return Route{method, path}, nil
}

func checkPath(path string) string {
	if !strings.HasPrefix(path, "/") {
		return "the path must start with /"
	}
	segments := strings.Split(path[1:], "/")
	var seen []string
	for i, s := range segments {
		last := i == len(segments)-1
		name, isWild, rest := wildcard(s)
		switch {
		case isWild && !isCapture(name):
			return fmt.Sprintf("%q is not a capture; a capture is a whole segment, {name} or {name...}", s)
		case isWild && slices.Contains(seen, name):
			return fmt.Sprintf("{%s} is used twice", name)
		case rest && !last:
			return fmt.Sprintf("%s must be the last segment", s)
		case s == "" && !last, s == ".", s == "..":
			return "it has an empty segment, . or .."
		case !isWild && strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c > '~' || strings.ContainsRune(`?#%{}"\`, c) }):
			return fmt.Sprintf("%q has characters that a path cannot have", s)
		}
		if isWild {
			seen = append(seen, name)
		}
	}
	return ""
}

// wildcard takes a segment of a path apart. Anything that starts with { counts.
func wildcard(segment string) (name string, isWild, rest bool) {
	if !strings.HasPrefix(segment, "{") {
		return "", false, false
	}
	name = strings.TrimPrefix(segment, "{")
	name, closed := strings.CutSuffix(name, "}")
	if !closed {
		return "", true, false
	}
	name, rest = strings.CutSuffix(name, "...")
	return name, true, rest
}

func isCapture(s string) bool {
	for i, c := range s {
		if c != '_' && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9' || i == 0) {
			return false
		}
	}
	return s != ""
}

// UnmarshalText reads a route by ParseRoute.
func (r *Route) UnmarshalText(text []byte) (err error) {
	*r, err = ParseRoute(string(text))
	return err
}

// String is the route as it is written in a manifest.
func (r Route) String() string { return strings.TrimSpace(r.Method + " " + r.Path) }

// Route returns the trigger's route.
func (t HTTPTrigger) Route() Route { return Route{t.Method, t.Path} }

// Captures returns the names of the captures in the path.
func (r Route) Captures() []string {
	var out []string
	for s := range strings.SplitSeq(r.Path, "/") {
		if name, isWild, _ := wildcard(s); isWild {
			out = append(out, name)
		}
	}
	return out
}

// Conflicts says whether a request could be meant for either route and neither is the more specific one, as
// net/http.ServeMux decides it. Routes that conflict cannot be served together.
func (r Route) Conflicts(other Route) bool {
	method := compareMethods(r.Method, other.Method)
	if method == disjoint {
		return false
	}
	path := comparePaths(r.Path, other.Path)
	switch {
	case path == disjoint:
		return false
	case path == equal:
		return method == equal
	case path == overlaps:
		return true
	}
	return method != equal && method != path // more specific by one, less by the other
}

// relation is how the requests of one route lie to those of another.
type relation uint8

const (
	equal relation = iota
	inside
	around
	overlaps
	disjoint
)

// compareMethods: no method is all methods, and GET answers HEAD too.
func compareMethods(a, b string) relation {
	switch {
	case a == b:
		return equal
	case a == "", a == "GET" && b == "HEAD":
		return around
	case b == "", b == "GET" && a == "HEAD":
		return inside
	}
	return disjoint
}

func comparePaths(a, b string) relation {
	as, bs := strings.Split(a[1:], "/"), strings.Split(b[1:], "/")
	sum := equal
	for i := 0; ; i++ {
		switch {
		case i == len(as) && i == len(bs):
			return sum
		case i == len(as) || i == len(bs):
			return disjoint
		}
		aRest, bRest := isRest(as, i), isRest(bs, i)
		switch {
		case aRest && bRest:
			return sum
		case aRest:
			return both(sum, around)
		case bRest:
			return both(sum, inside)
		}
		if sum = both(sum, compareSegments(as[i], bs[i])); sum == disjoint {
			return disjoint
		}
	}
}

// isRest says whether segment i takes everything that remains: {name...}, or the nothing after a final slash, which
// ServeMux reads as "everything below".
func isRest(segments []string, i int) bool {
	_, _, rest := wildcard(segments[i])
	return rest || segments[i] == "" && i == len(segments)-1
}

func compareSegments(a, b string) relation {
	_, aWild, _ := wildcard(a)
	_, bWild, _ := wildcard(b)
	switch {
	case aWild && bWild:
		return equal
	case aWild:
		return around
	case bWild:
		return inside
	case a == b:
		return equal
	}
	return disjoint
}

// both is the relation of pairs whose parts have the relations a and b.
func both(a, b relation) relation {
	switch {
	case a == disjoint || b == disjoint:
		return disjoint
	case a == equal || a == b:
		return b
	case b == equal:
		return a
	}
	return overlaps
}
