package gateway

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// checkOrigin says whether s is an origin as browsers send it, or "*".
func checkOrigin(s string) error {
	u, err := url.Parse(s)
	if s == "*" || err == nil && u.Scheme != "" && u.Host != "" && s == u.Scheme+"://"+u.Host {
		return nil
	}
	return fmt.Errorf("%q is not an origin: write it like https://app.example", s)
}

// shares lets web pages of the configured origins read answers (Fetch standard, section 3.2). No cookies are involved: a page must have a token of
// its own, or the route be public. It reports true when the request only asked whether it may be made, and is answered.
func (g *Gateway) shares(w http.ResponseWriter, r *http.Request) (answered bool) {
	if len(g.c.Origins) == 0 {
		return false
	}
	origin := r.Header.Get("Origin")
	if origin == "" {
		return false
	}
	h := w.Header()
	h.Add("Vary", "Origin")
	all := slices.Contains(g.c.Origins, "*")
	if !all && !slices.Contains(g.c.Origins, origin) {
		return false
	}
	if all {
		origin = "*"
	}
	h.Set("Access-Control-Allow-Origin", origin)
	if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
		h.Set("Access-Control-Expose-Headers", "Location, Mayfly-Event, Preference-Applied, Retry-After, WWW-Authenticate")
		return false
	}
	h.Add("Vary", "Access-Control-Request-Method, Access-Control-Request-Headers")
	h.Set("Access-Control-Allow-Methods", "GET, HEAD, POST, PUT, PATCH, DELETE")
	h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, Prefer, Traceparent"+cloudHeaders(r.Header.Get("Access-Control-Request-Headers")))
	h.Set("Access-Control-Max-Age", "600")
	g.count(http.StatusNoContent)
	w.WriteHeader(http.StatusNoContent)
	return true
}

// cloudHeaders are those of the headers a page wants to send that are attributes of a CloudEvent.
func cloudHeaders(wanted string) string {
	var b strings.Builder
	for name := range strings.SplitSeq(wanted[:min(len(wanted), 4096)], ",") {
		name = strings.ToLower(strings.TrimSpace(name))
		if rest, ok := strings.CutPrefix(name, "ce-"); ok && isExtension(rest) {
			b.WriteString(", " + name)
		}
	}
	return b.String()
}
