package abi

import (
	"errors"
	"net/url"
	"strings"
)

// urlPattern is one entry of [permissions] http: "https://hooks.local/*".
type urlPattern struct {
	scheme, host, port string
	path               []string // levels; the last may be "*"
	any                bool     // the pattern names no path: every path
}

// parseURLPattern reads scheme://host[:port][/path]. The scheme is http or https. A host of "*" is any host, "*.name" any
// host below name. "*" as a whole level of the path is any one level, as the last level any rest. Without a path every path
// is meant. Queries cannot be restricted.
func parseURLPattern(s string) (urlPattern, error) {
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok || scheme != "http" && scheme != "https" {
		return urlPattern{}, errors.New("want http:// or https://")
	}
	authority, path, hasPath := strings.Cut(rest, "/")
	host, port := authority, ""
	if i := strings.LastIndexByte(authority, ':'); i > strings.LastIndexByte(authority, ']') {
		host, port = authority[:i], authority[i+1:]
	}
	if host == "" || strings.ContainsAny(authority, "@?# ") || strings.ContainsAny(path, "?#") {
		return urlPattern{}, errors.New("want scheme://host[:port][/path]")
	}
	return urlPattern{
		scheme: scheme, host: strings.ToLower(strings.Trim(host, "[]")), port: portOf(scheme, port),
		path: strings.Split(path, "/"), any: !hasPath,
	}, nil
}

func portOf(scheme, port string) string {
	switch {
	case port != "":
		return port
	case scheme == "https":
		return "443"
	}
	return "80"
}

// parseTarget reads the URL of a request. It refuses what could mean different places to different readers: credentials,
// dot segments and escaped slashes or dots.
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

func (p urlPattern) match(u *url.URL) bool {
	if u.Scheme != p.scheme || portOf(u.Scheme, u.Port()) != p.port || !p.matchHost(strings.ToLower(u.Hostname())) {
		return false
	}
	if p.any {
		return true
	}
	levels := strings.Split(strings.TrimPrefix(u.Path, "/"), "/")
	for i, want := range p.path {
		last := i == len(p.path)-1
		switch {
		case i >= len(levels):
			return false
		case last && want == "*":
			return true
		case want != "*" && want != levels[i]:
			return false
		}
	}
	return len(levels) == len(p.path)
}

func (p urlPattern) matchHost(host string) bool {
	if p.host == "*" {
		return true
	}
	if below, ok := strings.CutPrefix(p.host, "*"); ok && strings.HasPrefix(below, ".") {
		return strings.HasSuffix(host, below) && len(host) > len(below)
	}
	return host == p.host
}
