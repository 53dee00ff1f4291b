package peer

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"mayfly/function"
)

// Config says how to reach other nodes. The functions are safe for concurrent use.
type Config struct {
	// TLS is asked for every connection to a node; it verifies that the other side is that node.
	TLS func(node string) *tls.Config
	// NodeOf is asked again who the other side is.
	NodeOf func(s *tls.ConnectionState) (node string, ok bool)
	// Resolve returns a node's address, host:port, as far as it is known now.
	Resolve func(node string) (address string, ok bool)

	Dial    Dial          // default: over this machine's network
	Connect time.Duration // for one attempt to connect, default 3 s
	Ping    time.Duration // silence after which a connection is tested, default 5 s; the answer has 3 s
}

// maxLinks is how many nodes are remembered. The one that was used least recently is forgotten first.
const maxLinks = 2048

// Peers asks other nodes. It keeps one connection to each, made when it is needed and made anew when it broke. Safe for concurrent
// use.
type Peers struct {
	cfg Config
	log *slog.Logger

	mu     sync.Mutex
	links  map[string]*link
	closed bool
}

// NewPeers returns peers that nothing was asked of yet. Close ends them.
func NewPeers(cfg Config, log *slog.Logger) *Peers {
	orElse(&cfg.Connect, 3*time.Second)
	orElse(&cfg.Ping, 5*time.Second)
	return &Peers{cfg: cfg, log: log, links: map[string]*link{}}
}

// Close ends every connection; what is under way fails.
func (p *Peers) Close() error {
	p.mu.Lock()
	links := p.links
	p.links, p.closed = map[string]*link{}, true
	p.mu.Unlock()
	for _, l := range links {
		l.close()
	}
	return nil
}

// Forget ends the connection to a node that left, and forgets its load.
func (p *Peers) Forget(node string) {
	p.mu.Lock()
	l := p.links[node]
	delete(p.links, node)
	p.mu.Unlock()
	if l != nil {
		l.close()
	}
}

var errClosed = errors.New("the agent is stopping")

func (p *Peers) link(node string) (*link, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, unreachable(node, errClosed)
	}
	l := p.links[node]
	if l == nil {
		if len(p.links) >= maxLinks {
			p.forgetOldest()
		}
		l = newLink(p.cfg, node)
		p.links[node] = l
	}
	l.used = time.Now()
	return l, nil
}

// forgetOldest makes room for one link. The lock is held.
func (p *Peers) forgetOldest() {
	var oldest *link
	for _, l := range p.links {
		if oldest == nil || l.used.Before(oldest.used) {
			oldest = l
		}
	}
	delete(p.links, oldest.node)
	go oldest.close() // it takes the link's own lock
}

// State is what is known of a node from its replies.
type State struct {
	Load Load
	Age  time.Duration // since the reply that said so
	RTT  time.Duration // moving average of the network's share of round trips; 0 = none measured yet
}

// Load returns what the last reply of node said, and false when there was none. It asks nobody.
func (p *Peers) Load(node string) (State, bool) {
	p.mu.Lock()
	l := p.links[node]
	p.mu.Unlock()
	if l == nil {
		return State{}, false
	}
	return l.state()
}

// Probe asks node how busy it is. It takes one round trip, and more when a connection has to be made.
func (p *Peers) Probe(ctx context.Context, node string) (State, error) {
	resp, err := p.ask(ctx, node, http.MethodGet, "/v1/load", nil)
	if err != nil {
		return State{}, err
	}
	_ = resp.Body.Close() // it is empty
	if resp.StatusCode != http.StatusOK {
		return State{}, unexpected("probe", node, resp.StatusCode)
	}
	s, _ := p.Load(node)
	return s, nil
}

// Pull sends request to the state named name at node and returns what it says. Both have at most MaxState bytes.
func (p *Peers) Pull(ctx context.Context, node, name string, request []byte) ([]byte, error) {
	if len(request) > MaxState {
		return nil, refused("pull", name, function.ClassReject, "too-large", fmt.Sprintf("%d bytes, the most is %d", len(request), MaxState))
	}
	resp, err := p.ask(ctx, node, http.MethodPost, "/v1/state/"+url.PathEscape(name), request)
	if err != nil {
		return nil, err
	}
	return opaqueReply("pull", node, resp, MaxState)
}

// Keyring returns the keyring that node gives to admitted nodes.
func (p *Peers) Keyring(ctx context.Context, node string) ([]byte, error) {
	resp, err := p.ask(ctx, node, http.MethodGet, "/v1/keyring", nil)
	if err != nil {
		return nil, err
	}
	return opaqueReply("fetch keyring", node, resp, MaxGrant)
}

// Admin sends an operator's request on to node; its path is below /v1/admin/. The caller closes the response's body.
func (p *Peers) Admin(ctx context.Context, node string, r *http.Request) (*http.Response, error) {
	l, err := p.link(node)
	if err != nil {
		return nil, err
	}
	out := r.Clone(ctx)
	out.URL.Scheme, out.URL.Host, out.Host, out.RequestURI = "https", host, host, ""
	if r.Body != nil {
		out.Body = io.NopCloser(r.Body) // the caller's
	}
	return l.roundTrip(ctx, out)
}

// opaqueReply reads the bytes of a reply, or the error it is.
func opaqueReply(op, node string, resp *http.Response, limit int64) ([]byte, error) {
	defer func() { _ = resp.Body.Close() }() // only read from
	b, err := readAll(resp, limit)
	switch {
	case err != nil:
		return nil, &function.Error{Op: op, Subject: node, Class: function.ClassRetry, Kind: KindLostReply, Err: err}
	case resp.StatusCode == http.StatusOK:
		return b, nil
	}
	return nil, faultOf(op, node, resp.StatusCode, b)
}

var errTooLarge = errors.New("the reply is larger than allowed")

func readAll(resp *http.Response, limit int64) ([]byte, error) {
	if resp.ContentLength > limit {
		return nil, errTooLarge
	}
	if n := resp.ContentLength; n >= 0 {
		b := make([]byte, n)
		_, err := io.ReadFull(resp.Body, b)
		return b, err
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = errTooLarge
	}
	return b, err
}

// faultOf reads the error a reply is. The status decides over the class: it says whether anything ran.
func faultOf(op, node string, status int, body []byte) *function.Error {
	d := decoder{b: body}
	f := decodeFault(&d)
	if d.end() != nil || len(body) == 0 {
		f = unexpected(op, node, status)
	}
	switch status {
	case http.StatusConflict:
		f.Class, f.Kind = function.ClassNotHere, KindFenced
	case http.StatusServiceUnavailable:
		f.Class, f.Kind = function.ClassOverload, KindDraining
	case http.StatusTooManyRequests:
		f.Class = function.ClassOverload
	case http.StatusNotFound:
		f.Class, f.Kind = function.ClassNotHere, kindAbsent
	case http.StatusPreconditionFailed, http.StatusRequestEntityTooLarge, http.StatusForbidden:
		f.Class = function.ClassNotHere
	}
	return f
}

// unexpected is a reply without an explanation.
func unexpected(op, node string, status int) *function.Error {
	e := &function.Error{
		Op: op, Subject: node, Class: function.ClassNotHere, Kind: KindProtocol, Err: fmt.Errorf("it answered with status %d", status),
		Hint: "compare the releases of both nodes: mayfly version",
	}
	switch {
	case status == http.StatusForbidden:
		e.Kind, e.Err = KindDenied, errors.New("it does not let this node in")
		e.Hint = "see whether this node was revoked or its certificate ran out: mayfly status"
	case status == http.StatusNotFound:
		e.Kind = kindAbsent
	case status == http.StatusRequestedRangeNotSatisfiable:
		e.Kind = kindPastEnd
	case status >= http.StatusInternalServerError:
		e.Class, e.Hint = function.ClassRetry, "look at the log of that node"
	}
	return e
}

// Kinds of errors of Blob.
const (
	kindAbsent  = "absent"
	kindPastEnd = "past-end" // the module has no more bytes than were there
)

// host stands for the node in requests: the connection says who it is.
const host = "peer"

// ask makes one request of node and returns its response, whose body the caller closes.
func (p *Peers) ask(ctx context.Context, node, method, path string, body []byte) (*http.Response, error) {
	l, err := p.link(node)
	if err != nil {
		return nil, err
	}
	r, err := request(ctx, method, path, body)
	if err != nil {
		return nil, err
	}
	return l.roundTrip(ctx, r)
}

func request(ctx context.Context, method, path string, body []byte) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, method, "https://"+host+path, nil)
	if err != nil {
		return nil, err
	}
	r.Header["User-Agent"] = nil
	r.Header["Accept-Encoding"] = []string{"identity"}
	if body != nil {
		r.Body = io.NopCloser(bytes.NewReader(body))
		r.ContentLength = int64(len(body))
	}
	return r, nil
}

// Blob asks node for the module d from byte from on. size is that of the whole module. The caller closes the body; it ends with an
// error when it was cut short. A node that does not have the module is an error of ClassNotHere and kind "absent".
func (p *Peers) Blob(ctx context.Context, node string, d function.Digest, from int64) (body io.ReadCloser, size int64, err error) {
	l, err := p.link(node)
	if err != nil {
		return nil, 0, err
	}
	r, err := request(ctx, http.MethodGet, "/v1/blobs/"+strings.Trim(etagOf(d), `"`), nil)
	if err != nil {
		return nil, 0, err
	}
	if from > 0 {
		r.Header.Set("Range", fmt.Sprintf("bytes=%d-", from))
	}
	resp, err := l.roundTrip(ctx, r)
	if err != nil {
		return nil, 0, err
	}
	size, err = blobSize(resp, from)
	if err != nil {
		defer func() { _ = resp.Body.Close() }() // an error's
		if resp.StatusCode >= http.StatusBadRequest {
			text, _ := readAll(resp, MaxRequest) // what cannot be read says nothing
			f := faultOf("fetch module", node, resp.StatusCode, text)
			if f.Kind == kindPastEnd && from == 0 {
				f.Kind = KindProtocol // nothing ends before its first byte
			}
			return nil, 0, f
		}
		return nil, 0, &function.Error{Op: "fetch module", Subject: node, Class: function.ClassNotHere, Kind: KindProtocol, Err: err}
	}
	return resp.Body, size, nil
}

// blobSize checks that a response starts at from and returns the size of the whole.
func blobSize(resp *http.Response, from int64) (int64, error) {
	switch {
	case resp.StatusCode == http.StatusOK && from == 0 && resp.ContentLength >= 0:
		return resp.ContentLength, nil
	case resp.StatusCode != http.StatusPartialContent:
		return 0, fmt.Errorf("status %d to a request for the rest from byte %d", resp.StatusCode, from)
	}
	text, _ := strings.CutPrefix(resp.Header.Get("Content-Range"), "bytes ")
	span, total, _ := strings.Cut(text, "/")
	size, err := strconv.ParseInt(total, 10, 64)
	if err != nil || size <= from || span != fmt.Sprintf("%d-%d", from, size-1) || resp.ContentLength != size-from {
		return 0, fmt.Errorf("content range %.60q to a request for the rest from byte %d", text, from)
	}
	return size, nil
}
