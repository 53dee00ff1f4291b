package abi

import (
	"net/url"
	"strings"
)

// permitsURL says whether an entry of [permissions] http permits the request to u, which parseTarget has read. The entry is a
// URL that must be met exactly, query included, except that * at its end stands for anything that follows. Scheme, host and
// port are always written out (the default port may be left out); an entry without a path means "/".
func permitsURL(pattern string, u *url.URL) bool {
	start, open := strings.CutSuffix(pattern, "*")
	p, err := url.Parse(start)
	if err != nil || p.Scheme != u.Scheme || p.User != nil || p.Hostname() == "" ||
		!strings.EqualFold(p.Hostname(), u.Hostname()) || portOf(p) != portOf(u) {
		return false
	}
	want, have := afterHost(p), afterHost(u)
	if open && p.Path != "" { // "https://host*" could reach any host that starts so
		return strings.HasPrefix(have, want)
	}
	return !open && have == want
}

func portOf(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case u.Scheme == "https":
		return "443"
	}
	return "80"
}

// afterHost returns the path, "/" when there is none, and the query.
func afterHost(u *url.URL) string {
	path := u.EscapedPath()
	if path == "" {
		path = "/"
	}
	if u.RawQuery != "" || u.ForceQuery {
		path += "?" + u.RawQuery
	}
	return path
}

// parseTarget reads the URL of a request. It refuses what could mean different places to different readers: credentials,
// dot segments, and slashes or backslashes in disguise.
func parseTarget(s string) (*url.URL, bool) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.Opaque != "" {
		return nil, false
	}
	escaped := strings.ToLower(u.EscapedPath())
	if strings.Contains(escaped, "%2f") || strings.Contains(escaped, "%5c") || strings.Contains(u.Path, "\\") {
		return nil, false
	}
	for level := range strings.SplitSeq(u.Path, "/") {
		if level == "." || level == ".." {
			return nil, false
		}
	}
	return u, true
}
