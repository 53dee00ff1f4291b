package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"syscall"
	"time"

	"mayfly/function"
)

// Client speaks to one agent. Every error is a *function.Error. Safe for concurrent use.
type Client struct {
	sockets []string // of an agent on this device
	base    string   // what paths are put behind
	token   string   // shown to an agent elsewhere, "" = none
	http    *http.Client
}

// NewClient returns a client for the agent on the first of sockets that answers. It connects when it is first used.
func NewClient(sockets ...string) *Client {
	c := &Client{sockets: sockets, base: "http://mayfly"}
	c.http = &http.Client{Transport: &http.Transport{
		DialContext:        func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dial(ctx) },
		DisableCompression: true,
		IdleConnTimeout:    time.Minute,
	}}
	return c
}

// Close closes idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

func (c *Client) dial(ctx context.Context) (net.Conn, error) {
	var errs []error
	for _, path := range c.sockets {
		conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "unix", path)
		if err == nil {
			return conn, nil
		}
		errs = append(errs, notReached(path, err))
	}
	return nil, mostTelling(c.sockets, errs)
}

// notReached says why a socket did not answer and what helps.
func notReached(path string, err error) error {
	e := &function.Error{Op: "connect", Subject: path, Class: function.ClassRetry, Kind: KindNotRunning, Err: err}
	switch {
	case errors.Is(err, os.ErrPermission):
		e.Kind, e.Err = KindDenied, errors.New("permission denied")
		e.Hint = "use sudo, or join the group that owns it: ls -l " + path
	case errors.Is(err, os.ErrNotExist):
		e.Err = errors.New("no agent is running: there is no such socket")
	case errors.Is(err, syscall.ECONNREFUSED):
		e.Err = errors.New("no agent is running: nobody listens on this socket any more")
	}
	if e.Kind == KindNotRunning {
		e.Hint = "start it with: sudo systemctl start mayflyd, or by hand: mayflyd; if it listens elsewhere: --socket PATH or MAYFLY_SOCKET"
	}
	return e
}

// mostTelling picks the error to show: a socket that is there but closed to us says more than one that is missing.
func mostTelling(sockets []string, errs []error) error {
	for _, err := range errs {
		if function.KindOf(err) == KindDenied {
			return err
		}
	}
	if len(errs) < 2 {
		return errors.Join(errs...)
	}
	e, ok := errors.AsType[*function.Error](errs[0])
	if !ok {
		return errs[0]
	}
	all := *e
	all.Err = fmt.Errorf("%w (tried %q)", e.Err, sockets)
	return &all
}

// do sends a request and returns an answer of status 200, whose body the caller closes.
func (c *Client) do(ctx context.Context, method, path, contentType string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+Prefix+path, body)
	if err != nil {
		return nil, &function.Error{Op: "call", Subject: path, Class: function.ClassReject, Kind: KindInvalid, Err: err}
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if fe, ok := errors.AsType[*function.Error](err); ok {
			return nil, fe
		}
		if c.sockets == nil {
			return nil, c.notReachedFar(ctx, err)
		}
		return nil, cut(ctx, path, err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	var e Error
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxRequest)).Decode(&e); err != nil || e.Op == "" {
		return nil, &function.Error{Op: "call", Subject: path, Class: function.ClassRetry, Kind: "protocol", Err: fmt.Errorf("the agent answered %s", resp.Status)}
	}
	return nil, e.Err()
}

// cut is the error of a connection that ended too early.
func cut(ctx context.Context, path string, err error) error {
	if ctx.Err() != nil {
		return &function.Error{Op: "call", Subject: path, Class: function.ClassRetry, Kind: "interrupted", Err: context.Cause(ctx)}
	}
	if ue, ok := errors.AsType[*url.Error](err); ok {
		err = ue.Err
	}
	return &function.Error{
		Op: "call", Subject: path, Class: function.ClassRetry, Kind: KindUnavailable,
		Err: fmt.Errorf("the agent hung up: %w", err), Hint: "see: journalctl -u mayflyd -n 20",
	}
}

// call sends body as JSON, if there is one, and decodes the answer.
func call[T any](ctx context.Context, c *Client, method, path string, body any) (T, error) {
	var out T
	var r io.Reader
	kind := ""
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return out, &function.Error{Op: "call", Subject: path, Class: function.ClassReject, Kind: KindInvalid, Err: err}
		}
		r, kind = bytes.NewReader(text), "application/json"
	}
	resp, err := c.do(ctx, method, path, kind, r)
	if err != nil {
		return out, err
	}
	return read[T](ctx, path, resp)
}

func read[T any](ctx context.Context, path string, resp *http.Response) (T, error) {
	defer resp.Body.Close()
	var out T
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil {
		return out, cut(ctx, path, err)
	}
	return out, nil
}

// follow calls each with the frames of an answer until its last. An error of each ends it and is returned as it is.
func follow[T any](ctx context.Context, path string, resp *http.Response, each func(Frame[T]) error) error {
	defer resp.Body.Close()
	d := json.NewDecoder(resp.Body)
	for {
		var f Frame[T]
		if err := d.Decode(&f); err != nil {
			return cut(ctx, path, err)
		}
		switch {
		case f.Error != nil:
			return f.Error.Err()
		case f.End:
			return nil
		}
		if err := each(f); err != nil {
			return err
		}
	}
}

func watch[T any](ctx context.Context, c *Client, path string, query any, each func(Frame[T]) error) error {
	text, err := json.Marshal(query)
	if err != nil {
		return &function.Error{Op: "call", Subject: path, Class: function.ClassReject, Kind: KindInvalid, Err: err}
	}
	resp, err := c.do(ctx, http.MethodPost, path, "application/json", bytes.NewReader(text))
	if err != nil {
		return err
	}
	return follow(ctx, path, resp, each)
}
