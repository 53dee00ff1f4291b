package admin

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"mayfly/function"
)

// Gate says who may come in from afar. With neither field set nobody may.
type Gate struct {
	Tokens *Tokens // nil = tokens open nothing
	// Certificate says whose certificate it is, which the TLS configuration has verified, and what they may do; nil =
	// certificates open nothing. It must refuse nodes: a stolen device has a certificate too ([O5]).
	Certificate func(*x509.Certificate) (Caller, error)
}

// Remote returns a handler for operators from afar: every path below /v1/ that the socket serves, for callers that gate lets
// in, within their scope ([O5]). It may be served by any number of TLS listeners, over HTTP/1.1 and 2; a request without TLS is refused
// whatever it shows. Streams end when Run does.
func (s *Server) Remote(gate Gate) http.Handler {
	quiet := &quiet{log: s.log, now: time.Now}
	enter := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		caller, err := gate.caller(r)
		if err != nil {
			quiet.refused(r.RemoteAddr, err)
			fail(w, err)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, s.limit+2*maxRequest)
		s.mux.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), operatorKey{}, operator{Caller: caller, from: r.RemoteAddr})))
	})
	return http.NewCrossOriginProtection().Handler(enter) // a browser that has a client certificate must not be used by other pages
}

// ServeRemote serves Remote on ln, which must be a TLS listener, until ctx ends, as Run does with the socket.
func (s *Server) ServeRemote(ctx context.Context, ln net.Listener, gate Gate) error {
	return s.serve(ctx, ln, &http.Server{Handler: s.Remote(gate)})
}

// caller returns who sends r. A token that is shown decides, also beside a certificate.
func (g Gate) caller(r *http.Request) (Caller, error) {
	if r.TLS == nil {
		return Caller{}, notAllowed(errors.New("a caller from afar must use TLS"), "")
	}
	if bearer := r.Header.Get("Authorization"); bearer != "" {
		token, ok := strings.CutPrefix(bearer, "Bearer ")
		if !ok || g.Tokens == nil {
			return Caller{}, notAllowed(errors.New("this is not a way in here"), "show an API token, or a certificate")
		}
		return g.Tokens.Authenticate(token)
	}
	if len(r.TLS.VerifiedChains) == 0 || g.Certificate == nil {
		return Caller{}, notAllowed(errors.New("neither an API token nor an operator's certificate is shown"),
			"mayfly --token TOKEN or MAYFLY_TOKEN; made on the device with: mayfly access create NAME --scope read")
	}
	return g.Certificate(r.TLS.VerifiedChains[0][0])
}

func notAllowed(err error, hint string) error {
	return &function.Error{Op: "enter", Subject: "agent", Class: function.ClassReject, Kind: KindDenied, Err: err, Hint: hint}
}

// operator is who sent a request.
type operator struct {
	Caller
	peer Peer   // at the socket
	from string // address, from afar
}

type operatorKey struct{}

// operatorOf returns who sent r. A request that came in by neither door has no scope and may nothing.
func operatorOf(r *http.Request) operator {
	o, _ := r.Context().Value(operatorKey{}).(operator)
	return o
}

// scoped lets only callers with that scope reach h.
func scoped(scope string, h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if o := operatorOf(r); scopeRank(o.Scope) < scopeRank(scope) {
			fail(w, notAllowed(fmt.Errorf("this needs scope %s, and %s has scope %s", scope, o.Name, o.Scope),
				"ask for another token: mayfly access create NAME --scope "+scope))
			return
		}
		h(w, r)
	}
}

// quietFor is how often refusals are logged at most: strangers must not be able to write the disk full.
const quietFor = 10 * time.Second

// quiet logs refusals, the first at once, then no more than one in quietFor with the number of those before it.
type quiet struct {
	log *slog.Logger
	now func() time.Time

	mu   sync.Mutex
	last time.Time
	more int
}

func (q *quiet) refused(from string, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.now()
	if !q.last.IsZero() && now.Sub(q.last) < quietFor {
		q.more++
		return
	}
	q.log.Warn("operator from afar refused", "from", from, "error", err, "others_since", q.more)
	q.last, q.more = now, 0
}
