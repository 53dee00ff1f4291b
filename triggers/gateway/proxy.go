package gateway

import (
	"net/http"
	"net/netip"
	"strings"
)

// Proxies are who stands in front of the gateway and says for whom. The zero value trusts nobody, whatever a request says.
type Proxies struct {
	Trusted []netip.Prefix
	// RFC7239 takes Forwarded (RFC 7239), otherwise X-Forwarded-For, and never both: a proxy writes one of them and may pass on the other as a
	// caller made it up.
	RFC7239 bool
}

// trusts says whether an address is one of a proxy's.
func (p *Proxies) trusts(a netip.Addr) bool {
	for _, prefix := range p.Trusted {
		if prefix.Contains(a) {
			return true
		}
	}
	return false
}

// caller returns the address a request comes from: that of the connection; when that is a trusted proxy's, the right-most one before it that is
// not. What is further left was said by somebody who is not trusted. Where a trusted proxy says something that is no address, it is the
// proxy itself that counts. by says whether a proxy brought it. ok is false when the connection has no address.
func (p *Proxies) caller(r *http.Request) (from netip.Addr, by, ok bool) {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return from, false, false
	}
	from = ap.Addr().Unmap().WithZone("")
	if !p.trusts(from) {
		return from, false, true
	}
	said := p.said(r.Header)
	for i := len(said) - 1; i >= 0 && p.trusts(from); i-- {
		before, ok := hop(said[i])
		if !ok {
			break
		}
		from = before
	}
	return from, true, true
}

// said returns the hops that a request says it made, the last one last.
func (p *Proxies) said(h http.Header) (hops []string) {
	if !p.RFC7239 {
		for _, line := range h["X-Forwarded-For"] {
			hops = append(hops, strings.Split(line, ",")...)
		}
		return hops
	}
	for _, line := range h["Forwarded"] {
		for _, element := range unquotedSplit(line, ',') {
			node := ""
			for _, pair := range unquotedSplit(element, ';') {
				name, value, _ := strings.Cut(strings.TrimSpace(pair), "=")
				if strings.EqualFold(name, "for") {
					node = strings.Trim(value, `"`)
				}
			}
			hops = append(hops, node) // one that does not say for whom is no address
		}
	}
	return hops
}

// unquotedSplit splits at separators that are not in quoted strings. Addresses need no backslashes: what has one is no address.
func unquotedSplit(s string, at byte) (parts []string) {
	quoted, begin := false, 0
	for i := range len(s) {
		switch {
		case s[i] == '"':
			quoted = !quoted
		case s[i] == at && !quoted:
			parts, begin = append(parts, s[begin:i]), i+1
		}
	}
	return append(parts, s[begin:])
}

// hop reads one hop: an address, perhaps with a port.
func hop(text string) (netip.Addr, bool) {
	text = strings.TrimSpace(text)
	a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(text, "["), "]"))
	if err != nil {
		ap, err := netip.ParseAddrPort(text)
		if err != nil {
			return a, false
		}
		a = ap.Addr()
	}
	return a.Unmap().WithZone(""), true
}

// from is where a request comes from, as its rate is counted. An IPv6 site counts as one: it has more addresses than anybody can count.
func (g *Gateway) from(r *http.Request) string {
	ip, _, ok := g.c.Proxies.caller(r)
	if !ok {
		return r.RemoteAddr
	}
	if ip.Is4() {
		return ip.String()
	}
	site, err := ip.Prefix(64)
	if err != nil {
		return ip.String()
	}
	return site.String()
}
