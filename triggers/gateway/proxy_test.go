package gateway

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"mayfly/function"
)

func proxies(rfc7239 bool, trusted ...string) Proxies {
	p := Proxies{RFC7239: rfc7239}
	for _, s := range trusted {
		p.Trusted = append(p.Trusted, netip.MustParsePrefix(s))
	}
	return p
}

// Who is counted is the right-most hop that no trusted proxy is, and what is left of it does not matter.
func TestCallersBehindProxies(t *testing.T) {
	xff, forwarded := "X-Forwarded-For", "Forwarded"
	for _, c := range []struct {
		what    string
		rfc7239 bool
		peer    string
		header  http.Header
		want    string
	}{
		{"nothing is said", false, "10.0.0.1:1", nil, "10.0.0.1"},
		{"one hop", false, "10.0.0.1:1", http.Header{xff: {"192.0.2.7"}}, "192.0.2.7"},
		{"not a proxy of ours", false, "192.0.2.1:1", http.Header{xff: {"192.0.2.7"}}, "192.0.2.1"},
		{"what the caller made up", false, "10.0.0.1:1", http.Header{xff: {"1.1.1.1, 2.2.2.2,192.0.2.7"}}, "192.0.2.7"},
		{"he names a proxy himself", false, "10.0.0.1:1", http.Header{xff: {"1.1.1.1, 10.0.0.9, 192.0.2.7"}}, "192.0.2.7"},
		{"two proxies", false, "10.0.0.1:1", http.Header{xff: {"1.1.1.1, 192.0.2.7, 10.0.0.9"}}, "192.0.2.7"},
		{"in two lines", false, "10.0.0.1:1", http.Header{xff: {"1.1.1.1, 192.0.2.7", "10.0.0.9"}}, "192.0.2.7"},
		{"all are ours", false, "10.0.0.1:1", http.Header{xff: {"10.0.0.8, 10.0.0.9"}}, "10.0.0.8"},
		{"no address", false, "10.0.0.1:1", http.Header{xff: {"192.0.2.7, unknown"}}, "10.0.0.1"},
		{"no address further on", false, "10.0.0.1:1", http.Header{xff: {"192.0.2.7, , 10.0.0.9"}}, "10.0.0.9"},
		{"with a port", false, "10.0.0.1:1", http.Header{xff: {"192.0.2.7:4711"}}, "192.0.2.7"},
		{"IPv6", false, "[2001:db8::1]:1", http.Header{xff: {"2001:db8:1:2:3::4"}}, "2001:db8:1:2::/64"},
		{"IPv6 with a port", false, "10.0.0.1:1", http.Header{xff: {"[2001:db8:1:2:3::4]:80"}}, "2001:db8:1:2::/64"},
		{"IPv4 as IPv6", false, "[::ffff:10.0.0.1]:1", http.Header{xff: {"::ffff:192.0.2.7"}}, "192.0.2.7"},
		{"a zone", false, "10.0.0.1:1", http.Header{xff: {"fe80::1%eth0"}}, "fe80::/64"},
		{"the other header", false, "10.0.0.1:1", http.Header{forwarded: {"for=192.0.2.7"}}, "10.0.0.1"},
		{"RFC 7239", true, "10.0.0.1:1", http.Header{forwarded: {"for=192.0.2.7"}}, "192.0.2.7"},
		{"RFC 7239, the other header", true, "10.0.0.1:1", http.Header{xff: {"192.0.2.7"}}, "10.0.0.1"},
		{"RFC 7239, all of it", true, "10.0.0.1:1", http.Header{forwarded: {`for=1.1.1.1;by=x, For="[2001:db8:1:2:3::4]:4711";proto=https;host="a,b;c"`, `by=y;for=10.0.0.9`}}, "2001:db8:1:2::/64"},
		{"RFC 7239, hidden", true, "10.0.0.1:1", http.Header{forwarded: {"for=192.0.2.7, for=_hidden"}}, "10.0.0.1"},
		{"RFC 7239, says not for whom", true, "10.0.0.1:1", http.Header{forwarded: {"for=192.0.2.7, by=10.0.0.9"}}, "10.0.0.1"},
		{"RFC 7239, a quote that is open", true, "10.0.0.1:1", http.Header{forwarded: {`for="192.0.2.7, for=1.1.1.1`}}, "10.0.0.1"},
	} {
		g := gateway(t, &recorder{}, func(g *Config) { g.Proxies = proxies(c.rfc7239, "10.0.0.0/8", "2001:db8::1/128") })
		r := ask("GET", "/x")
		r.RemoteAddr, r.Header = c.peer, c.header
		if got := g.from(r); got != c.want {
			t.Errorf("%s: %s, want %s", c.what, got, c.want)
		}
		trusting := gateway(t, &recorder{}, nil)
		if got := trusting.from(r); strings.Contains(c.peer, ".") && !strings.HasPrefix(strings.TrimPrefix(c.peer, "[::ffff:"), got) {
			t.Errorf("%s: nobody is trusted, and it is %s", c.what, got)
		}
	}
}

// Whatever stands in the headers of a caller who is no proxy, he is himself; and behind a proxy that adds his address he is too.
func TestNobodyChoosesHisAddress(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rfc := rapid.Bool().Draw(t, "rfc7239")
		p := proxies(rfc, "10.0.0.0/8")
		noise := rapid.StringOf(rapid.SampledFrom([]rune(`10.29, ;="for[]:\_`))).Draw(t, "noise")
		name, added := "X-Forwarded-For", "192.0.2.7"
		if rfc {
			name, added = "Forwarded", "for=192.0.2.7"
		}
		r := &http.Request{RemoteAddr: "192.0.2.7:1", Header: http.Header{name: {noise}}}
		if a, by, _ := p.caller(r); a.String() != "192.0.2.7" || by {
			t.Fatalf("he is %v", a)
		}
		r = &http.Request{RemoteAddr: "10.0.0.1:1", Header: http.Header{name: {noise, added}}}
		if a, _, _ := p.caller(r); a.String() != "192.0.2.7" {
			t.Fatalf("behind a proxy he is %v", a)
		}
	})
}

// Behind a proxy each caller has a rate of his own, and functions are run by name with a token only: who comes that way is not on this machine.
func TestRatesBehindAProxy(t *testing.T) {
	rec := &recorder{}
	g := gateway(t, rec, func(c *Config) { c.Proxies = proxies(false, "127.0.0.1/32") })
	route := parsed(t, "f", function.AuthPublic, "GET /x")
	var err error
	if route[0].CallerRate, err = function.ParseRate("1/h"); err != nil {
		t.Fatal(err)
	}
	g.SetRoutes(route)
	for _, c := range []struct {
		for_ string
		want int
	}{{"192.0.2.1", 200}, {"192.0.2.1", 429}, {"192.0.2.2", 200}, {"9.9.9.9, 192.0.2.2", 429}} {
		r := ask("GET", "/x")
		r.RemoteAddr = "127.0.0.1:999"
		r.Header.Set("X-Forwarded-For", c.for_)
		if w := call(g, r); w.Code != c.want {
			t.Errorf("%s: %d, want %d", c.for_, w.Code, c.want)
		}
	}
	r := ask("POST", "/fn/f")
	r.RemoteAddr = "127.0.0.1:999"
	if w := call(g, r); w.Code != http.StatusForbidden {
		t.Errorf("by name, through the proxy: %d", w.Code)
	}
}
