package abi

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"mayfly/event"
	"mayfly/function"
)

// fakeHTTP answers what it was told and remembers what was asked.
type fakeHTTP struct {
	requests []function.HTTPRequest
	response function.HTTPResponse
	err      error
}

func (f *fakeHTTP) Do(_ time.Time, r function.HTTPRequest) (function.HTTPResponse, error) {
	f.requests = append(f.requests, r)
	return f.response, f.err
}

func withHTTP(f *fakeHTTP) func(*function.Call) { return func(c *function.Call) { c.HTTP = f } }

func TestHTTP(t *testing.T) {
	f := &fakeHTTP{response: function.HTTPResponse{
		Status: 201, Body: []byte("created"),
		Header: []event.Attr{{Name: "X-B", Value: "2"}, {Name: "Set-Cookie", Value: "a"}, {Name: "set-cookie", Value: "b\"\n"}},
	}}
	g := newGuest(t, function.ABIMayfly, withHTTP(f))
	h := g.do("http_send", `{"method":"POST","url":"https://hooks.local/x?y=1#frag","header":{"B":"2","A":"1"}}`, "body")
	if h <= 0 {
		t.Fatalf("http_send = %d", h)
	}
	clear(g.mem)
	r := f.requests[0]
	if r.Method != "POST" || r.URL != "https://hooks.local/x?y=1" || string(r.Body) != "body" || len(r.Header) != 2 ||
		r.Header[0] != (event.Attr{Name: "A", Value: "1"}) || r.MaxBody != defaultPayload {
		t.Errorf("request %+v", r)
	}
	if got := g.text("http_read", int(h)); got != "created" {
		t.Errorf("body %q", got)
	}
	var meta struct {
		Status int
		Header map[string]string
	}
	if err := json.Unmarshal([]byte(g.text("http_meta", int(h))), &meta); err != nil {
		t.Fatal(err)
	}
	if meta.Status != 201 || meta.Header["x-b"] != "2" || meta.Header["set-cookie"] != "a, b\"\n" {
		t.Errorf("meta %+v", meta)
	}
	g.do("http_close", int(h))
	g.do("http_close", int(h))
	g.want(codeInvalid, "http_read", int(h), room(8))
	for _, h := range []int{0, -1, 2, 1 << 31} {
		g.want(codeInvalid, "http_read", h, room(8))
		g.want(codeInvalid, "http_meta", h, room(8))
		g.do("http_close", h)
	}
}

func TestHTTPRefusals(t *testing.T) {
	f := &fakeHTTP{}
	for request, want := range map[string]int64{
		`{"url":"https://hooks.local/"}`:   1,
		``:                                 codeInvalid,
		`{`:                                codeInvalid,
		`{"url":"https://hooks.local/"} x`: codeInvalid,
		`{"url":"https://hooks.local/","nope":1}`:                                            codeInvalid,
		`{"url":"https://hooks.local/","method":"CONNECT"}`:                                  codeInvalid,
		`{"url":"https://hooks.local/","method":"A B"}`:                                      codeInvalid,
		`{"url":"https://hooks.local/","header":{"Host":"x"}}`:                               codeInvalid,
		`{"url":"https://hooks.local/","header":{"A":"x\r\nB: y"}}`:                          codeInvalid,
		`{"url":"https://hooks.local/","header":{"A B":"x"}}`:                                codeInvalid,
		`{"url":"file:///etc/passwd"}`:                                                       codeInvalid,
		`{"url":"https://user@hooks.local/"}`:                                                codeInvalid,
		`{"url":"https://hooks.local/../x"}`:                                                 codeInvalid,
		`{"url":"http://hooks.local/"}`:                                                      codeDenied,
		`{"url":"https://hooks.local:8443/"}`:                                                codeDenied,
		`{"url":"https://hooks.local.evil.example/"}`:                                        codeDenied,
		`{"url":"https://hooks.local/","header":{"A":"` + strings.Repeat("x", 1<<14) + `"}}`: codeTooLarge,
	} {
		g := newGuest(t, function.ABIMayfly, withHTTP(f))
		if got := g.do("http_send", request, ""); got != want {
			t.Errorf("%.80s: %d, want %d", request, got, want)
		}
	}
	if len(f.requests) != 1 {
		t.Errorf("%d requests left the node, want 1", len(f.requests))
	}
}

func TestHTTPFailures(t *testing.T) {
	const request = `{"url":"https://hooks.local/"}`
	f := &fakeHTTP{}
	g := newGuest(t, function.ABIMayfly)
	g.want(codeUnavailable, "http_send", request, "")
	g = newGuest(t, function.ABIMayfly, withHTTP(f), func(c *function.Call) { c.DryRun = true })
	g.want(codeUnavailable, "http_send", request, "")
	g = newGuest(t, function.ABIMayfly, withHTTP(f), func(c *function.Call) { c.Deadline = time.Now().Add(-time.Second) })
	g.want(codeDeadline, "http_send", request, "")
	if len(f.requests) != 0 {
		t.Errorf("requests left: %v", f.requests)
	}
	g = newGuest(t, function.ABIMayfly, withHTTP(f), limits(function.Limits{Payload: 10, Output: 20}))
	g.want(codeTooLarge, "http_send", request, strings.Repeat("x", 21))
	f.err = errors.New("connection refused")
	g.want(codeUnavailable, "http_send", request, "")
	f.err = &function.Error{Kind: "too-large"}
	g.want(codeTooLarge, "http_send", request, "")
	f.err = &function.Error{Kind: "denied"}
	g.want(codeDenied, "http_send", request, "")
	f.err = nil
	f.response.Body = make([]byte, 11)
	g.want(codeTooLarge, "http_send", request, "")
	f.response = function.HTTPResponse{Header: []event.Attr{{Name: "a", Value: strings.Repeat("x", MaxMetaJSON)}}}
	g.want(codeTooLarge, "http_send", request, "")
}

func TestHTTPIsBounded(t *testing.T) {
	const request = `{"url":"https://hooks.local/"}`
	f := &fakeHTTP{}
	g := newGuest(t, function.ABIMayfly, withHTTP(f))
	for i := range MaxOpenHTTP {
		g.want(int64(i+1), "http_send", request, "")
	}
	g.want(codeOverLimit, "http_send", request, "")
	g.do("http_close", 3)
	g.want(3, "http_send", request, "")
	for range MaxHTTP {
		g.do("http_close", 3)
		g.do("http_send", request, "")
	}
	if len(f.requests) != MaxHTTP {
		t.Errorf("%d requests", len(f.requests))
	}
	g.begin()
	g.want(codeInvalid, "http_read", 1, room(8))
	g.want(1, "http_send", request, "")
}

func TestURLPattern(t *testing.T) {
	for _, c := range []struct {
		pattern, url string
		want         bool
	}{
		{"https://a.b/", "https://a.b/", true},
		{"https://a.b/", "https://a.b", true},
		{"https://a.b", "https://a.b/", true},
		{"https://a.b", "https://a.b/x", false},
		{"https://a.b/", "https://a.b/x", false},
		{"https://a.b/", "https://a.b/?x=1", false},
		{"https://a.b/*", "https://a.b/x/y?z=1", true},
		{"https://a.b/*", "https://a.b", true},
		{"https://a.b/*", "https://A.B:443/x", true},
		{"https://A.b:443/*", "https://a.b/x", true},
		{"https://a.b/api/*", "https://a.b/api/v1", true},
		{"https://a.b/api/*", "https://a.b/apix/v1", false},
		{"https://a.b/api*", "https://a.b/apix/v1", true},
		{"https://a.b/api/*", "https://a.b/api", false},
		{"https://a.b/api", "https://a.b/api/", false},
		{"https://a.b/api?key=*", "https://a.b/api?key=1", true},
		{"https://a.b/api?key=*", "https://a.b/api?other=1", false},
		{"http://a.b:8080/*", "http://a.b:8080/x", true},
		{"http://a.b/*", "http://a.b:8080/x", false},
		{"http://a.b/*", "https://a.b/x", false},
		{"https://a.b*", "https://a.b/", false},
		{"https://a.b*", "https://a.b.evil/", false},
		{"https://*.b/*", "https://x.b/", false},
		{"https://*/*", "https://anything/", false},
		{"http://[::1]:80/*", "http://[::1]/x", true},
		{"https://a.b/api/*", "https://a.b/api/..%2f..%2fsecret", false},
		{"https://a.b/api/*", "https://a.b/api/%2e%2e/secret", false},
		{"https://a.b/api/*", `https://a.b/api/..\secret`, false},
		{"https://a.b/api/*", "https://a.b/%61pi/x", false},
		{"https://a.b/*", "https://a.b@evil/", false},
		{"https://a.b/*", "https://evil/https://a.b/", false},
		{"https://a.b/*", "https:a.b/x", false},
		{"", "https://a.b/", false},
		{"*", "https://a.b/", false},
		{"a.b/*", "https://a.b/", false},
		{"https:///*", "https://a.b/", false},
		{"https://u@a.b/*", "https://a.b/", false},
	} {
		u, ok := parseTarget(c.url)
		if got := ok && permitsURL(c.pattern, u); got != c.want {
			t.Errorf("%s permits %s: %t", c.pattern, c.url, got)
		}
	}
}
