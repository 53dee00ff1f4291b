package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"mayfly/function"
)

// Bounds of what operators may do at once, so that they cannot take the agent's memory.
const (
	maxStreams = 32 // logs, events, sub
	maxModules = 2  // deployments and dry runs: each holds a module
)

const (
	bodyTimeout     = 30 * time.Second // for the whole body of a request, over a local socket
	remoteTimeout   = 5 * time.Minute  // from afar: a module over a slow link
	shutdownTimeout = 5 * time.Second
)

// Config of a Server.
type Config struct {
	Group     string // members may come in besides root and the agent's own user; "" = nobody else
	MaxModule int64  // bytes, 0 = 8 MiB
}

// Server answers operators. The zero value is not usable.
type Server struct {
	backend  Backend
	access   access
	identify func(net.Conn) (Peer, error)
	limit    int64 // of a module
	log      *slog.Logger
	streams  chan struct{}
	modules  chan struct{}
	stopping chan struct{}
	stop     func() // closes stopping, once
	mux      http.Handler
}

// NewServer returns a server in front of backend. It fails when cfg.Group does not exist.
func NewServer(cfg Config, backend Backend, log *slog.Logger) (*Server, error) {
	a, err := newAccess(uint32(os.Geteuid()), cfg.Group)
	if err != nil {
		return nil, err
	}
	s := &Server{
		backend: backend, access: a, identify: peerOf, limit: cfg.MaxModule, log: log,
		streams: make(chan struct{}, maxStreams), modules: make(chan struct{}, maxModules), stopping: make(chan struct{}),
	}
	if s.limit <= 0 {
		s.limit = maxModule
	}
	s.stop = sync.OnceFunc(func() { close(s.stopping) })
	s.mux = s.routes()
	return s, nil
}

// Run serves ln, which Listen opened, until ctx ends; then it ends the streams, gives running requests five seconds and
// closes ln. It may be called once.
func (s *Server) Run(ctx context.Context, ln net.Listener) error {
	return s.serve(ctx, ln, &http.Server{
		Handler: s.guard(s.mux),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			peer, err := s.identify(c)
			return context.WithValue(ctx, peerKey{}, identified{peer, err})
		},
	})
}

// serve runs srv on ln until ctx ends.
func (s *Server) serve(ctx context.Context, ln net.Listener, srv *http.Server) error {
	srv.ReadHeaderTimeout, srv.IdleTimeout, srv.MaxHeaderBytes = 5*time.Second, time.Minute, 16<<10
	srv.ErrorLog = slog.NewLogLogger(s.log.Handler(), slog.LevelWarn)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	s.stop()
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	if srv.Shutdown(grace) != nil {
		_ = srv.Close() // whoever is left had five seconds
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

type peerKey struct{}

type identified struct {
	peer Peer
	err  error
}

// guard lets in whom access allows, and nobody whose credentials the kernel did not tell.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, _ := r.Context().Value(peerKey{}).(identified)
		err := who.err
		if err == nil {
			err = s.access.check(who.peer)
		}
		if err != nil {
			s.log.Warn("operator refused", "uid", who.peer.UID, "pid", who.peer.PID, "error", err)
			if function.KindOf(err) != KindDenied {
				err = &function.Error{Op: "enter", Subject: "admin socket", Class: function.ClassReject, Kind: KindDenied, Err: err}
			}
			fail(w, err)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, s.limit+2*maxRequest)
		o := operator{Caller: Caller{Name: fmt.Sprintf("user id %d", who.peer.UID), Scope: ScopeAdmin}, peer: who.peer}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), operatorKey{}, o)))
	})
}

// read decodes the whole body into v within bodyTimeout, or remoteTimeout.
func (s *Server) read(w http.ResponseWriter, r *http.Request, v any) error {
	return timed(w, r, func() error { return decode(r.Body, v) })
}

// readModule does the same with a request that carries a module.
func (s *Server) readModule(w http.ResponseWriter, r *http.Request, v any) (module []byte, err error) {
	err = timed(w, r, func() error {
		module, err = decodeModule(r, v, s.limit)
		if err == nil {
			_, err = io.Copy(io.Discard, r.Body)
		}
		return err
	})
	return module, err
}

// timed puts a deadline on reading and takes it away again: an answer may take as long as the function or the reader
// does, and net/http takes a deadline that passes meanwhile for an operator who went away.
func timed(w http.ResponseWriter, r *http.Request, read func() error) error {
	timeout := bodyTimeout
	if operatorOf(r).from != "" {
		timeout = remoteTimeout
	}
	control := http.NewResponseController(w)
	if err := control.SetReadDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	if err := read(); err != nil {
		return err
	}
	return control.SetReadDeadline(time.Time{})
}

// changed writes down who changed what.
func (s *Server) changed(r *http.Request, op, subject string, err error) {
	o := operatorOf(r)
	attrs := []any{"op", op, "subject", subject, "uid", o.peer.UID, "pid", o.peer.PID}
	if o.from != "" {
		attrs = []any{"op", op, "subject", subject, "caller", o.Name, "from", o.from}
	}
	if err != nil {
		attrs = append(attrs, "refused", function.KindOf(err)) // the error itself goes to the operator
	}
	s.log.Info("operator request", attrs...)
}

// enter takes a place in room, or says it is full.
func enter(ctx context.Context, room chan struct{}, wait bool) (leave func(), err error) {
	leave = func() { <-room }
	select {
	case room <- struct{}{}:
		return leave, nil
	default:
	}
	if wait {
		select {
		case room <- struct{}{}:
			return leave, nil
		case <-ctx.Done():
		}
	}
	return nil, &function.Error{
		Op: "enter", Subject: "admin socket", Class: function.ClassOverload, Kind: KindUnavailable,
		Err: errors.New("too many operators do this at once"), Hint: "end another `mayfly logs -f`, `events tail` or `sub`",
	}
}
