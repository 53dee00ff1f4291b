package function

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"mayfly/internal/tomlcheck"
)

// Auth says what somebody who calls a route must show.
type Auth string

// What a route may ask for.
const (
	AuthPublic Auth = "public" // nothing
	AuthToken  Auth = "token"  // one of the tokens in the gateway's file
	AuthJWT    Auth = "jwt"    // a token of an OpenID Connect issuer
	AuthMTLS   Auth = "mtls"   // a client certificate of the gateway's authority
)

// Requirement is what a route asks for besides something valid. Everything that is said must hold; the zero Requirement asks for
// nothing more.
type Requirement struct {
	Issuer   string    `json:"issuer,omitempty"`   // jwt: name in the agent's configuration; "" = the only one there
	Audience string    `json:"audience,omitempty"` // jwt: must be among the token's audiences
	Scopes   []string  `json:"scopes,omitempty"`   // jwt: all of them
	Claims   []Setting `json:"claims,omitempty"`   // jwt: sorted by key; a list must have the value
	Callers  []string  `json:"callers,omitempty"`  // nil = everybody
}

// Rate is so many requests in so much time, and as many at once: "10/s". The zero Rate is no limit.
type Rate struct {
	Count int           // 1 to 1,000,000
	Per   time.Duration // a second, minute or hour
}

const maxRate = 1_000_000

// ParseRate reads a rate: a count, a slash, and s, m or h.
func ParseRate(text string) (Rate, error) {
	count, unit, _ := strings.Cut(text, "/")
	units := map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour}
	n, err := strconv.Atoi(strings.ReplaceAll(count, "_", ""))
	if err != nil || units[unit] == 0 {
		return Rate{}, &tomlcheck.Issue{Problem: fmt.Sprintf("%q is not a rate", text), Hint: `write it like "10/s", "600/m" or "1000/h"`}
	}
	if n < 1 || n > maxRate {
		return Rate{}, &tomlcheck.Issue{Problem: fmt.Sprintf("a rate of %d", n), Hint: fmt.Sprintf("it may be from 1 to %d", maxRate)}
	}
	return Rate{n, units[unit]}, nil
}

// UnmarshalText reads a rate by ParseRate; nothing is no limit.
func (r *Rate) UnmarshalText(text []byte) (err error) {
	*r = Rate{}
	if len(text) > 0 {
		*r, err = ParseRate(string(text))
	}
	return err
}

// MarshalText writes what UnmarshalText reads.
func (r Rate) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// String is the rate as it is written in a manifest; "" when there is no limit.
func (r Rate) String() string {
	if r.Count == 0 {
		return ""
	}
	return strconv.Itoa(r.Count) + "/" + map[time.Duration]string{time.Second: "s", time.Minute: "m", time.Hour: "h"}[r.Per]
}

// Most of what a route may ask for: every request is compared with it.
const maxRequired = 32

// access checks what one route asks of its callers.
func (c checker) access(h *httpFile, path string) {
	only := func(auth Auth, keys ...string) {
		for _, key := range keys {
			if at := path + "." + key; c.Said(at) && h.Auth != auth && !c.Faulty(path+".auth") {
				c.Fault(at, fmt.Sprintf("it is for auth = %q, and this route says %q", auth, h.Auth), "leave it out, or change auth")
			}
		}
	}
	only(AuthJWT, "issuer", "audience", "scopes", "claims")
	if c.Said(path+".callers") && h.Auth == AuthPublic {
		c.Fault(path+".callers", "callers of a public route show nothing that names them", "leave it out, or change auth")
	}
	for key, n := range map[string]int{"scopes": len(h.Scopes), "claims": len(h.Claims), "callers": len(h.Callers)} {
		if n > maxRequired {
			c.Fault(path+"."+key, fmt.Sprintf("there are %d, the most is %d", n, maxRequired), "")
		}
	}
	for i, s := range h.Scopes { // RFC 6749 section 3.3
		if s == "" || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' }) {
			c.Fault(fmt.Sprintf("%s.scopes[%d]", path, i), fmt.Sprintf("%q is not a scope", s), "one word, without spaces or quotes")
		}
	}
	for i, s := range h.Callers {
		if s == "" {
			c.Fault(fmt.Sprintf("%s.callers[%d]", path, i), "a caller without a name", "")
		}
	}
	for name := range h.Claims {
		if at := path + ".claims." + name; name == "" || name == "exp" || name == "nbf" || name == "iat" {
			c.Fault(at, fmt.Sprintf("%q is not a claim to compare", name), "times are checked always")
		}
	}
}
