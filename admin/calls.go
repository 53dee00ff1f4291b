package admin

import (
	"context"
	"encoding/json"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
)

// Status returns how the agent is.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return call[Status](ctx, c, http.MethodGet, "status", nil)
}

// Settings returns the agent's effective configuration.
func (c *Client) Settings(ctx context.Context) ([]Setting, error) {
	return call[[]Setting](ctx, c, http.MethodGet, "settings", nil)
}

// Functions lists the deployed functions, sorted by name.
func (c *Client) Functions(ctx context.Context) ([]Function, error) {
	return call[[]Function](ctx, c, http.MethodGet, "functions", nil)
}

// Function returns one function with its manifest.
func (c *Client) Function(ctx context.Context, name string) (Function, error) {
	return call[Function](ctx, c, http.MethodGet, "functions/"+url.PathEscape(name), nil)
}

// Remove removes a function, its state and its backlog.
func (c *Client) Remove(ctx context.Context, name string) error {
	_, err := call[Count](ctx, c, http.MethodDelete, "functions/"+url.PathEscape(name), nil)
	return err
}

// SetPaused pauses or resumes a function.
func (c *Client) SetPaused(ctx context.Context, name string, paused bool) (Function, error) {
	return call[Function](ctx, c, http.MethodPost, "functions/"+url.PathEscape(name)+"/pause", Pause{paused})
}

// Invoke runs one event through a deployed function and waits for it.
func (c *Client) Invoke(ctx context.Context, name string, req InvokeRequest) (Ran, error) {
	return call[Ran](ctx, c, http.MethodPost, "functions/"+url.PathEscape(name)+"/invoke", req)
}

// Deploy deploys a function and tells progress, which may be nil, how far it got: first the upload, then what the
// agent says. It is called from one goroutine at a time.
func (c *Client) Deploy(ctx context.Context, req DeployRequest, module []byte, progress func(Progress)) (Function, error) {
	if progress == nil {
		progress = func(Progress) {}
	}
	resp, err := c.upload(ctx, "functions", req, module)
	if err != nil {
		return Function{}, err
	}
	progress(Progress{Stage: StageUpload, Done: int64(len(module)), Total: int64(len(module))})
	var out Function
	err = follow(ctx, "functions", resp, func(f Frame[Deployed]) error {
		switch {
		case f.Record == nil:
		case f.Record.Function != nil:
			out = *f.Record.Function
		case f.Record.Progress != nil:
			progress(*f.Record.Progress)
		}
		return nil
	})
	return out, err
}

// DryRun runs events through a module that is not deployed; nothing is published or stored.
func (c *Client) DryRun(ctx context.Context, req DryRunRequest, module []byte) ([]Ran, error) {
	resp, err := c.upload(ctx, "dry-run", req, module)
	if err != nil {
		return nil, err
	}
	out, err := read[Rans](ctx, "dry-run", resp)
	return out.Runs, err
}

// upload sends a request with a module.
func (c *Client) upload(ctx context.Context, path string, req any, module []byte) (*http.Response, error) {
	r, w := io.Pipe()
	defer r.Close()
	parts := multipart.NewWriter(w)
	go func() { w.CloseWithError(writeParts(parts, req, module)) }()
	return c.do(ctx, http.MethodPost, path, parts.FormDataContentType(), r)
}

func writeParts(parts *multipart.Writer, req any, module []byte) error {
	head, err := parts.CreateFormField("request")
	if err != nil {
		return err
	}
	if err := json.NewEncoder(head).Encode(req); err != nil {
		return err
	}
	body, err := parts.CreateFormFile("module", "module.wasm")
	if err != nil {
		return err
	}
	if _, err := body.Write(module); err != nil {
		return err
	}
	return parts.Close()
}

// DeadLetters lists dead letters without their payloads, oldest first.
func (c *Client) DeadLetters(ctx context.Context, q DeadLetterQuery) ([]DeadLetter, error) {
	return call[[]DeadLetter](ctx, c, http.MethodPost, "dead-letters", q)
}

// DeadLetter returns one with its payload.
func (c *Client) DeadLetter(ctx context.Context, id string) (DeadLetter, error) {
	return call[DeadLetter](ctx, c, http.MethodGet, "dead-letters/"+url.PathEscape(id), nil)
}

// Replay queues dead letters as new events and returns how many.
func (c *Client) Replay(ctx context.Context, q DeadLetterQuery) (int, error) {
	n, err := call[Count](ctx, c, http.MethodPost, "dead-letters/replay", q)
	return n.Count, err
}

// Drop deletes dead letters and returns how many.
func (c *Client) Drop(ctx context.Context, q DeadLetterQuery) (int, error) {
	n, err := call[Count](ctx, c, http.MethodPost, "dead-letters/drop", q)
	return n.Count, err
}

// Publish says m through the agent's broker; with QoS 1 it returns when the broker confirmed it.
func (c *Client) Publish(ctx context.Context, m Message) error {
	_, err := call[Count](ctx, c, http.MethodPost, "publish", m)
	return err
}

// Subscribe calls each with what comes in on a filter until ctx ends or each returns an error, which is returned.
func (c *Client) Subscribe(ctx context.Context, q SubscribeQuery, each func(Frame[Received]) error) error {
	return watch(ctx, c, "subscribe", q, each)
}

// Logs calls each with log lines until there are no more, ctx ends or each returns an error, which is returned.
func (c *Client) Logs(ctx context.Context, q LogQuery, each func(Frame[LogRecord]) error) error {
	return watch(ctx, c, "logs", q, each)
}

// Events calls each with events until there are no more, ctx ends or each returns an error, which is returned.
func (c *Client) Events(ctx context.Context, q EventQuery, each func(Frame[EventRecord]) error) error {
	return watch(ctx, c, "events", q, each)
}
