package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"mayfly/function"
)

// statusOf maps the kind of an error to HTTP.
func statusOf(kind string) int {
	switch kind {
	case KindNotFound:
		return http.StatusNotFound
	case KindInvalid:
		return http.StatusBadRequest
	case KindDenied:
		return http.StatusForbidden
	case KindConflict, KindAlone, KindPermission:
		return http.StatusConflict
	case KindTooLarge:
		return http.StatusRequestEntityTooLarge
	case KindUnsupported:
		return http.StatusNotImplemented
	case KindUnavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// answer writes v, or the error of what made it.
func answer(w http.ResponseWriter, v any, err error) {
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // fails only when the operator is gone
}

func fail(w http.ResponseWriter, err error) {
	if large, ok := errors.AsType[*http.MaxBytesError](err); ok {
		err = tooLarge("request", large.Limit)
	}
	e := NewError("answer", "request", err)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(statusOf(e.Kind))
	_ = json.NewEncoder(w).Encode(e)
}

func unsupported(what string) error {
	return &function.Error{
		Op: "answer", Subject: what, Class: function.ClassReject, Kind: KindUnsupported,
		Err: errors.New("this agent does not offer it"), Hint: "compare `mayfly version` with `mayfly status`",
	}
}

// framer writes frames and sees to it that each reaches the reader at once.
type framer[T any] struct {
	enc     *json.Encoder
	control *http.ResponseController
}

func newFramer[T any](w http.ResponseWriter) framer[T] {
	w.Header().Set("Content-Type", "application/x-ndjson")
	return framer[T]{json.NewEncoder(w), http.NewResponseController(w)}
}

func (f framer[T]) write(frame Frame[T]) error {
	if err := f.enc.Encode(frame); err != nil {
		return err
	}
	return f.control.Flush()
}

// close writes the last line.
func (f framer[T]) close(err error) {
	last := Frame[T]{End: true}
	if err != nil {
		last = Frame[T]{Error: NewError("answer", "request", err)}
	}
	_ = f.write(last) // the reader may be gone
}

// stream answers with what source emits until it ends, the operator goes or the server stops.
func stream[T any](s *Server, w http.ResponseWriter, r *http.Request, size func(*T) int,
	source func(ctx context.Context, ready func(), emit func(T)) error,
) {
	leave, err := enter(r.Context(), s.streams, false)
	if err != nil {
		fail(w, err)
		return
	}
	defer leave()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	go func() {
		select {
		case <-s.stopping:
			cancel()
		case <-ctx.Done():
		}
	}()
	frames, q := newFramer[T](w), newQueue(size)
	err = q.pump(ctx, func(ctx context.Context) error { return source(ctx, q.setReady, q.push) }, frames.write)
	if r.Context().Err() == nil {
		frames.close(err)
	}
}

// runOf turns what became of an event into what is said about it.
func runOf(run Run) Ran {
	res := &run.Result
	out := Ran{
		Node: run.Node, Trigger: run.Trigger, Outcome: res.Outcome.String(), Failure: res.Failure, Dropped: res.Dropped,
		Usage: usageOf(res.Usage), Publishes: []Message{}, Writes: []StateWrite{}, Log: []LogLine{},
	}
	for _, m := range res.Publishes {
		out.Publishes = append(out.Publishes, messageOf(m))
	}
	for _, w := range res.Writes {
		out.Writes = append(out.Writes, StateWrite{
			Key: printable(w.Key), Delete: w.Delete, TTLMS: w.TTL.Milliseconds(), Body: NewBody(w.Value),
		})
	}
	for _, l := range res.Log {
		out.Log = append(out.Log, LogLine{Time: l.Time, Level: l.Level.String(), Text: l.Text})
	}
	if res.Response != nil {
		status := res.Response.Status
		if status == 0 {
			status = http.StatusOK
		}
		out.Response = &Response{
			Status: status, ContentType: res.Response.ContentType, Header: attrsOf(res.Response.Header), Body: NewBody(res.Response.Data),
		}
	}
	if run.Err != nil {
		out.Error = NewError("run", "function", run.Err)
		if res.Outcome == function.Done { // it did not get to say
			out.Outcome = "error"
		}
	}
	return out
}

// printable returns a key as text, quoted when it is not.
func printable(key []byte) string {
	if b := NewBody(key); b.Payload != nil {
		return *b.Payload
	}
	return fmt.Sprintf("%q", key)
}
