package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"mayfly/event"
	"mayfly/function"
	"mayfly/triggers/gateway/issuer"
)

// Verifier says who a token is of: *issuer.Issuer. The error is a *function.Error of one of the issuer's kinds.
type Verifier interface {
	Verify(ctx context.Context, token string) (*issuer.Identity, error)
}

// identity is who makes a request, as far as it was shown.
type identity struct {
	who   string        // kind and name; "" = nobody said
	by    *http.Request // who == "": the request, which comes from somewhere
	attrs []event.Attr  // what the function is told; shared, do not append in place
}

// name is by what callers are counted and compared: kind and name, or the address.
func (g *Gateway) name(i *identity) string {
	if i.who == "" {
		return "address " + g.from(i.by)
	}
	return i.who
}

// admit lets in who a route lets in, and says who it is [T2], [T4].
func (g *Gateway) admit(r *http.Request, rt *Route) (identity, *problem) {
	switch rt.Auth {
	case function.AuthToken:
		return g.byToken(r, rt)
	case function.AuthJWT:
		return g.byJWT(r, rt)
	case function.AuthMTLS:
		return byCertificate(r, rt)
	case function.AuthPublic:
		return identity{by: r}, nil
	}
	return identity{}, &problem{Status: http.StatusForbidden, Kind: "auth", Title: "Nobody can call this route", Detail: fmt.Sprintf("auth = %q is not understood", rt.Auth)}
}

// bearer returns the token of a request (RFC 6750 section 2.1), "" when it has none or several.
func bearer(r *http.Request) string {
	lines := r.Header["Authorization"]
	if len(lines) != 1 {
		return ""
	}
	scheme, token, _ := strings.Cut(lines[0], " ")
	if !strings.EqualFold(scheme, "Bearer") { // RFC 9110 section 11.1
		return ""
	}
	return strings.TrimSpace(token)
}

// byToken admits who has a token of the gateway's file.
func (g *Gateway) byToken(r *http.Request, rt *Route) (identity, *problem) {
	if g.c.Tokens == nil {
		return identity{}, &problem{
			Status: http.StatusForbidden, Kind: "no-tokens", Title: "Nobody can call this route",
			Detail: "it asks for a token and this gateway knows none", Next: "set gateway.tokens in the agent's configuration",
		}
	}
	token := bearer(r)
	if token == "" {
		return identity{}, unauthorized("", "the request has no token")
	}
	known := g.c.Tokens.find(token)
	now := time.Now()
	switch {
	case known == nil:
		return identity{}, unauthorized("invalid_token", "the token is not known here")
	case !known.expires.IsZero() && now.Before(g.c.Built):
		return identity{}, &problem{
			Status: http.StatusServiceUnavailable, Kind: issuer.KindClock, Title: "The token cannot be checked now", after: "10",
			Detail: fmt.Sprintf("the clock shows %s, which cannot be: it has not been set since the device started", now.UTC().Format(time.DateTime)),
			Next:   "timedatectl; is a time server reachable?",
		}
	case !known.expires.IsZero() && !now.Before(known.expires):
		return identity{}, unauthorized("invalid_token", "the token is over since "+known.expires.UTC().Format(time.RFC3339))
	case rt.Function != "" && !known.covers(rt.Function):
		return identity{}, forbidden("function", "the token is not for this function")
	}
	return named("token", known.name, rt)
}

// byCertificate admits who showed a certificate of the gateway's authority; the handshake checked it.
func byCertificate(r *http.Request, rt *Route) (identity, *problem) {
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
		return identity{}, forbidden("no-certificate", "the connection showed no client certificate")
	}
	leaf := r.TLS.VerifiedChains[0][0]
	name := leaf.Subject.CommonName
	if len(leaf.URIs) > 0 {
		name = leaf.URIs[0].String()
	} else if len(leaf.DNSNames) > 0 {
		name = leaf.DNSNames[0]
	}
	if name == "" {
		return identity{}, forbidden("no-name", "the client certificate names nobody")
	}
	return named("mtls", name, rt)
}

func named(kind, name string, rt *Route) (identity, *problem) {
	if rt.Require.Callers != nil && !slices.Contains(rt.Require.Callers, name) {
		return identity{}, forbidden("caller", "this route is not for "+name)
	}
	return identity{who: kind + " " + name, attrs: []event.Attr{{Name: "auth.kind", Value: kind}, {Name: "auth.sub", Value: name}}}, nil
}

// byJWT admits who has a token of the route's issuer that says what the route asks for.
func (g *Gateway) byJWT(r *http.Request, rt *Route) (identity, *problem) {
	from, why := g.issuerOf(rt)
	if why != "" {
		return identity{}, &problem{Status: http.StatusForbidden, Kind: "no-issuer", Title: "Nobody can call this route", Detail: why}
	}
	token := bearer(r)
	if token == "" {
		return identity{}, unauthorized("", "the request has no token")
	}
	id, err := from.Verify(r.Context(), token)
	if err != nil {
		e, _ := errors.AsType[*function.Error](err)
		if e == nil || e.Class == function.ClassReject {
			return identity{}, unauthorized("invalid_token", err.Error())
		}
		return identity{}, &problem{
			Status: http.StatusServiceUnavailable, Kind: e.Kind, Title: "The token cannot be checked now", Detail: err.Error(), Next: e.Hint,
			after: seconds(e.After),
		}
	}
	if p := meets(id, &rt.Require); p != nil {
		return identity{}, p
	}
	who, p := named("jwt", id.Subject, rt)
	who.who += " of " + id.Issuer
	who.attrs = append([]event.Attr{{Name: "auth.kind", Value: "jwt"}}, id.Attrs...)
	return who, p
}

// issuerOf finds the issuer of a route's tokens, or says why there is none.
func (g *Gateway) issuerOf(rt *Route) (Verifier, string) {
	name := rt.Require.Issuer
	if name == "" && len(g.c.Issuers) == 1 {
		for _, only := range g.c.Issuers {
			return only, ""
		}
	}
	switch v := g.c.Issuers[name]; {
	case v != nil:
		return v, ""
	case len(g.c.Issuers) == 0:
		return nil, "it asks for a JWT and the gateway knows no issuer: set [gateway.issuer.<name>] in the agent's configuration"
	case name == "":
		return nil, "the agent's configuration has several issuers: say issuer = \"NAME\" in the manifest"
	}
	return nil, fmt.Sprintf("it asks for a JWT of issuer %q: there is no [gateway.issuer.%s] in the agent's configuration", name, name)
}

// meets compares a token with what a route asks for.
func meets(id *issuer.Identity, want *function.Requirement) *problem {
	if want.Audience != "" && !slices.Contains(id.Audience, want.Audience) {
		return forbidden("audience", fmt.Sprintf("the token is not meant for %q", want.Audience))
	}
	for _, scope := range want.Scopes {
		if !slices.Contains(id.Scopes, scope) {
			p := forbidden("scope", fmt.Sprintf("the token lacks the scope %q", scope))
			p.challenge = fmt.Sprintf(`Bearer realm="mayfly", error="insufficient_scope", scope=%q`, strings.Join(want.Scopes, " ")) // RFC 6750 section 3
			return p
		}
	}
	for _, claim := range want.Claims {
		if !id.Has(claim.Key, claim.Value) {
			return forbidden("claim", fmt.Sprintf("the token's claim %q is not what this route asks for", claim.Key))
		}
	}
	return nil
}

// unauthorized is 401. fault is the word of RFC 6750 section 3.1, "" when nothing was shown.
func unauthorized(fault, why string) *problem {
	p := &problem{
		Status: http.StatusUnauthorized, Kind: "unauthorized", Title: "A token is required", Detail: why,
		Next: "send the header Authorization: Bearer <token>", challenge: `Bearer realm="mayfly"`,
	}
	if fault != "" {
		p.Title, p.Next = "The token is not good", "get a new one"
		p.challenge += fmt.Sprintf(`, error=%q`, fault)
	}
	return p
}

func forbidden(kind, why string) *problem {
	return &problem{Status: http.StatusForbidden, Kind: kind, Title: "This is not for you", Detail: why}
}

// byName lets in who may run functions by their names, and see what routes there are: who has a token; where none are asked for, everybody
// but web pages: neither a page of another origin nor one that made its own name point to this machine (DNS rebinding).
func (g *Gateway) byName(r *http.Request, function string) (identity, *problem) {
	if _, brought, _ := g.c.Proxies.caller(r); g.c.Tokens != nil || !g.loopback || brought { // who is behind a proxy is not on this machine
		return g.byToken(r, &Route{Function: function})
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	refuse := func(why string) *problem {
		return &problem{
			Status: http.StatusForbidden, Kind: "foreign-origin", Title: "Web pages may not run functions here",
			Detail: why, Next: "configure tokens",
		}
	}
	if !isLoopback(strings.Trim(host, "[]")) {
		return identity{}, refuse(fmt.Sprintf("the request is addressed to %q, which is not a name of this machine", host))
	}
	if err := g.origin.Check(r); err != nil {
		return identity{}, refuse(err.Error())
	}
	return identity{by: r}, nil
}
