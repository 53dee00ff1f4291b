package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"mayfly/function"
)

const bodyTimeout = 30 * time.Second // for a whole request body

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/exec", s.nodes(s.exec))
	mux.HandleFunc("GET /v1/load", s.nodes(s.load))
	mux.HandleFunc("GET /v1/blobs/{digest}", s.nodes(s.blob))
	mux.HandleFunc("POST /v1/state/{name}", s.nodes(s.state))
	mux.HandleFunc("GET /v1/keyring", s.nodes(s.keyring))
	mux.HandleFunc("POST /v1/join", s.desk(s.doors.Join))
	mux.HandleFunc("POST /v1/renew", s.desk(s.doors.Renew))
	mux.HandleFunc("/v1/admin/", s.admin)
	mux.HandleFunc("/", s.nodes(func(w http.ResponseWriter, _ *http.Request, _ string) { w.WriteHeader(http.StatusNotFound) }))
	return mux
}

// say writes a whole reply. Every reply carries the load.
func (s *Server) say(w http.ResponseWriter, began time.Time, a answer) {
	h := w.Header()
	h.Set(headerLoad, s.doors.Load().header(time.Since(began)))
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Length", strconv.Itoa(len(a.body)))
	h["Date"] = nil
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body) // whoever does not get it asks again
}

// refusal is the reply to a request that nothing was done for.
func refusal(status int, err error) answer {
	var e encoder
	encodeFault(&e, err)
	return answer{status: status, body: e.b}
}

func refused(op, subject string, class function.Class, kind, why string) error {
	return &function.Error{Op: op, Subject: subject, Class: class, Kind: kind, Err: errors.New(why)}
}

// body reads a request body of at most limit bytes, whose length must be said, into memory that is bounded over all requests.
// release gives the memory back. When it returns false it has replied.
func (s *Server) body(w http.ResponseWriter, r *http.Request, limit int64) (b []byte, release func(), ok bool) {
	began := time.Now()
	n := r.ContentLength
	switch {
	case n < 0:
		s.counts.Bad.Add(1)
		s.say(w, began, refusal(http.StatusLengthRequired, refused("read", "request", function.ClassReject, KindProtocol, "its length is not said")))
		return nil, nil, false
	case n > limit:
		s.counts.Bad.Add(1)
		why := fmt.Sprintf("%d bytes, the most is %d", n, limit)
		s.say(w, began, refusal(http.StatusRequestEntityTooLarge, refused("read", "request", function.ClassNotHere, "too-large", why)))
		return nil, nil, false
	case !s.bodies.take(n):
		s.counts.Busy.Add(1)
		s.say(w, began, s.busy("requests take all the memory they may"))
		return nil, nil, false
	}
	c := http.NewResponseController(w)
	_ = c.SetReadDeadline(began.Add(bodyTimeout)) // HTTP/2 can
	b = make([]byte, n)
	if _, err := io.ReadFull(r.Body, b); err != nil {
		s.bodies.give(n)
		s.counts.Bad.Add(1)
		s.say(w, began, refusal(http.StatusBadRequest, refused("read", "request", function.ClassRetry, KindProtocol, "it is not complete")))
		return nil, nil, false
	}
	_ = c.SetReadDeadline(time.Time{})
	return b, func() { s.bodies.give(n) }, true
}

func (s *Server) busy(why string) answer {
	err := &function.Error{Op: "exec", Subject: "peer", Class: function.ClassOverload, Kind: "busy", Err: errors.New(why), After: time.Second}
	return refusal(http.StatusTooManyRequests, err)
}

func (s *Server) load(w http.ResponseWriter, _ *http.Request, _ string) {
	s.say(w, time.Now(), answer{status: http.StatusOK})
}

// exec runs one function for one event, unless it did so already.
func (s *Server) exec(w http.ResponseWriter, r *http.Request, from string) {
	began := time.Now()
	switch {
	case s.doors.Exec == nil:
		s.say(w, began, refusal(http.StatusPreconditionFailed, refused("exec", "peer", function.ClassNotHere, "no-engine", "this node runs nothing for others")))
		return
	case s.draining.Load():
		s.say(w, began, refusal(http.StatusServiceUnavailable, refused("exec", "peer", function.ClassOverload, KindDraining, "the node is stopping")))
		return
	case s.calls.Add(1) > int64(s.limits.Calls):
		s.calls.Add(-1)
		s.counts.Busy.Add(1)
		s.say(w, began, s.busy("too many calls from other nodes"))
		return
	}
	defer s.calls.Add(-1)
	body, release, ok := s.body(w, r, s.limits.Request)
	if !ok {
		return
	}
	defer release()
	call, err := decodeExec(body, time.Now())
	if err == nil && (call.Hop < 1 || call.Hop > maxHop) {
		err = fmt.Errorf("%w: hop %d", errWire, call.Hop)
	}
	if err != nil {
		s.counts.Bad.Add(1)
		s.say(w, began, refusal(http.StatusBadRequest, refused("exec", "peer", function.ClassNotHere, KindProtocol, err.Error())))
		return
	}
	a, repeated, ok := s.replies.do(r.Context(), keyOf(from, call), call.Deadline, func(ctx context.Context) answer {
		return s.run(ctx, from, call)
	})
	if repeated {
		s.counts.Repeated.Add(1)
	}
	if !ok { // nobody is there any more, or the run that this one waited for broke down
		a = refusal(http.StatusInternalServerError, refused("exec", call.Function, function.ClassRetry, "broken", "the run ended without a result"))
	}
	s.say(w, began, a)
}

func (s *Server) run(ctx context.Context, from string, call *ExecRequest) answer {
	res, err := s.doors.Exec.Exec(ctx, from, call)
	class := function.ClassOf(err)
	switch kind := function.KindOf(err); {
	case err == nil:
	case kind == KindDraining:
		return refusal(http.StatusServiceUnavailable, err)
	case kind == KindFenced:
		return refusal(http.StatusConflict, err)
	case class == function.ClassOverload:
		return refusal(http.StatusTooManyRequests, err)
	case class == function.ClassNotHere, class == function.ClassFatal:
		return refusal(http.StatusPreconditionFailed, err)
	}
	s.counts.Calls.Add(1)
	body := encodeReply(res, err)
	if int64(len(body)) > s.limits.Reply {
		why := fmt.Sprintf("its result has %d bytes, the most between nodes is %d", len(body), s.limits.Reply)
		body = encodeReply(nil, refused("exec", call.Function, function.ClassReject, "output-limit", why))
	}
	return answer{status: http.StatusOK, body: body, ran: !errors.Is(ctx.Err(), context.Canceled)}
}

// state carries opaque bytes to whoever replicates something, and back.
func (s *Server) state(w http.ResponseWriter, r *http.Request, from string) {
	ask := s.doors.State[r.PathValue("name")]
	if ask == nil {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	s.opaque(w, r, [2]int64{MaxState, MaxState}, func(ctx context.Context, request []byte) ([]byte, error) { return ask(ctx, from, request) })
}

func (s *Server) keyring(w http.ResponseWriter, r *http.Request, from string) {
	if s.doors.Keyring == nil {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	ring, err := s.doors.Keyring(r.Context(), from)
	s.give(w, time.Now(), MaxGrant, ring, err)
}

// desk serves those who have no valid certificate: few, slowly, in small pieces.
func (s *Server) desk(desk Desk) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v := visitorOf(r)
		switch {
		case desk == nil:
			s.refuse(w) // as to everybody who may not come in
		case !s.knocks.allow(v.addr, time.Now()):
			s.counts.Busy.Add(1)
			w.Header().Set("Retry-After", "60")
			w.WriteHeader(http.StatusTooManyRequests)
		default:
			from := Stranger{v.RemoteAddr().String(), r.TLS}
			s.opaque(w, r, [2]int64{MaxRequest, MaxGrant}, func(ctx context.Context, request []byte) ([]byte, error) { return desk(ctx, from, request) })
		}
	}
}

// opaque hands a body to ask and gives back what it says. The bounds are those of both.
func (s *Server) opaque(w http.ResponseWriter, r *http.Request, most [2]int64, ask func(context.Context, []byte) ([]byte, error)) {
	began := time.Now()
	body, release, ok := s.body(w, r, most[0])
	if !ok {
		return
	}
	defer release()
	reply, err := ask(r.Context(), body)
	s.give(w, began, most[1], reply, err)
}

func (s *Server) give(w http.ResponseWriter, began time.Time, limit int64, reply []byte, err error) {
	if err == nil && int64(len(reply)) > limit {
		err = refused("answer", "peer", function.ClassReject, "too-large", fmt.Sprintf("%d bytes, the most is %d", len(reply), limit))
	}
	if err != nil {
		s.say(w, began, refusal(http.StatusUnprocessableEntity, err))
		return
	}
	s.say(w, began, answer{status: http.StatusOK, body: reply})
}

func (s *Server) admin(w http.ResponseWriter, r *http.Request) {
	node, _ := s.admitted(r.TLS)
	if s.doors.Admin == nil || !s.operator(r.TLS) || !visitorOf(r).isNode(node) {
		s.refuse(w)
		return
	}
	s.doors.Admin.ServeHTTP(w, r)
}
