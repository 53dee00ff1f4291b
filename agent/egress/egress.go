// Package egress performs the HTTP requests that functions are permitted to make. Which URLs a function may ask for is checked
// against its manifest before a request comes here; this package keeps a permitted name from leading somewhere else.
package egress

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync/atomic"
	"syscall"
	"time"

	"mayfly/event"
	"mayfly/function"
)

// Config bounds what leaves. The zero value of a field means its default.
type Config struct {
	Agent    string         // User-Agent of requests that name none; default "mayfly"
	Timeout  time.Duration  // longest request, default 30 s; the deadline of the call ends it earlier
	AtOnce   int            // requests at once over all functions, default 64; beyond it they are refused
	PerHost  int            // connections to one host, default 8
	Denied   []netip.Prefix // addresses nobody may reach besides those that are denied to everybody anyway
	Response int64          // most bytes of a response's header, default 64 KiB
}

// WithDefaults returns c with every zero field at its default.
func (c Config) WithDefaults() Config {
	if c.Agent == "" {
		c.Agent = "mayfly"
	}
	if c.Timeout == 0 {
		c.Timeout = 30 * time.Second
	}
	if c.AtOnce == 0 {
		c.AtOnce = 64
	}
	if c.PerHost == 0 {
		c.PerHost = 8
	}
	if c.Response == 0 {
		c.Response = 64 << 10
	}
	return c
}

// Client performs requests, connections shared by all functions. It follows no redirect: the function gets the answer and may ask for
// where it points to, if its manifest permits that. Safe for concurrent use.
type Client struct {
	config    Config
	transport *http.Transport
	underway  atomic.Int64
}

// New returns a client that has no connection yet.
func New(c Config) *Client {
	c = c.WithDefaults()
	client := &Client{config: c}
	client.transport = &http.Transport{
		Proxy:                  nil, // what the environment says is for the agent's user, not for functions
		DialContext:            client.dial,
		MaxConnsPerHost:        c.PerHost,
		MaxIdleConns:           4 * c.PerHost,
		MaxIdleConnsPerHost:    2,
		IdleConnTimeout:        time.Minute,
		TLSHandshakeTimeout:    10 * time.Second,
		ResponseHeaderTimeout:  c.Timeout,
		MaxResponseHeaderBytes: c.Response,
		DisableCompression:     true, // a body is as large as it says
		ForceAttemptHTTP2:      true,
	}
	return client
}

// Close ends idle connections. Requests underway are not disturbed.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// Do implements function.HTTP. An error is of class retry and of kind "denied" for an address nobody may reach, "too-large" for a
// response of more than MaxBody bytes, "overload" when too much is underway, and "unreachable" for everything else.
func (c *Client) Do(deadline time.Time, r function.HTTPRequest) (function.HTTPResponse, error) {
	if c.underway.Add(1) > int64(c.config.AtOnce) {
		c.underway.Add(-1)
		return function.HTTPResponse{}, failed(r.URL, "overload", fmt.Errorf("%d requests are underway already", c.config.AtOnce))
	}
	defer c.underway.Add(-1)
	if latest := time.Now().Add(c.config.Timeout); deadline.After(latest) {
		deadline = latest
	}
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, r.Method, r.URL, bytes.NewReader(r.Body))
	if err != nil {
		return function.HTTPResponse{}, failed(r.URL, "unreachable", err)
	}
	for _, h := range r.Header {
		request.Header.Add(h.Name, h.Value)
	}
	if request.Header.Get("User-Agent") == "" {
		request.Header.Set("User-Agent", c.config.Agent)
	}
	response, err := c.transport.RoundTrip(request)
	if err != nil {
		return function.HTTPResponse{}, failed(r.URL, kindOf(err), err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, r.MaxBody+1))
	switch {
	case err != nil:
		return function.HTTPResponse{}, failed(r.URL, "unreachable", err)
	case int64(len(body)) > r.MaxBody:
		return function.HTTPResponse{}, failed(r.URL, "too-large", fmt.Errorf("the response has more than %d bytes", r.MaxBody))
	}
	return function.HTTPResponse{Status: response.StatusCode, Header: attrs(response.Header), Body: body}, nil
}

func attrs(h http.Header) (all []event.Attr) {
	for name, values := range h {
		for _, v := range values {
			all = append(all, event.Attr{Name: name, Value: v})
		}
	}
	return all
}

func kindOf(err error) string {
	if errors.Is(err, errDenied) {
		return "denied"
	}
	return "unreachable"
}

// failed makes an error that tells a log no more of the URL than its host: queries hold keys.
func failed(target, kind string, err error) error {
	subject := "a URL"
	if u, parsed := url.Parse(target); parsed == nil {
		subject = u.Host
	}
	if inner, ok := errors.AsType[*url.Error](err); ok {
		err = inner.Err
	}
	return &function.Error{Op: "request", Subject: subject, Class: function.ClassRetry, Kind: kind, Err: err}
}

var errDenied = errors.New("functions may not reach this address")

// dial connects to a host. Which addresses it may have is checked when they are connected to, not before: between two lookups a
// name can point elsewhere.
func (c *Client) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	own := loopback(host)
	d := net.Dialer{Timeout: 10 * time.Second, ControlContext: func(_ context.Context, _, to string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(to)
		if err != nil {
			return err
		}
		if why := c.refuse(at.Addr().Unmap(), own); why != "" {
			return fmt.Errorf("%s is %s: %w", at.Addr(), why, errDenied)
		}
		return nil
	}}
	return d.DialContext(ctx, network, address)
}

// loopback says whether the host is written out as this device itself. Only then may it be: another name that resolves to it is a
// trick.
func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// refuse says what is wrong with an address, "" for nothing. Private networks are what devices live in; link-local addresses
// hold the metadata services of clouds and whoever is on the cable.
func (c *Client) refuse(a netip.Addr, own bool) string {
	switch {
	case a.IsLoopback() && !own:
		return "this device, and the manifest does not say so"
	case a.IsLinkLocalUnicast():
		return "link-local"
	case a.IsMulticast(), a.IsUnspecified(), a.Is4() && a.As4()[0] >= 240, a.Is4() && a.As4()[0] == 0:
		return "no address of one device"
	case embedded(a):
		return "an IPv4 address in disguise"
	}
	for _, p := range c.config.Denied {
		if p.Contains(a) {
			return "denied by the agent's configuration"
		}
	}
	return ""
}

// embedded says whether an IPv6 address stands for an IPv4 one by translation (NAT64 well-known prefix of RFC 6052, 6to4 of RFC 3056):
// where it would end is not checked, so it is not used.
func embedded(a netip.Addr) bool {
	return a.Is6() && (nat64.Contains(a) || sixToFour.Contains(a))
}

var (
	nat64     = netip.MustParsePrefix("64:ff9b::/96")
	sixToFour = netip.MustParsePrefix("2002::/16")
)
