package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"mayfly/function"
)

// Executor runs a call that another node asks for. Safe for concurrent use.
type Executor interface {
	// Exec runs call for the node from and commits nothing. When ctx ends nobody wants the result any more. An error of
	// ClassOverload, ClassNotHere, kind KindFenced or kind KindDraining says that nothing ran; any other is the run's own,
	// and result may then still carry log lines and usage.
	Exec(ctx context.Context, from string, call *ExecRequest) (*function.Result, error)
}

// Answer takes opaque bytes from the admitted node from, and gives opaque bytes.
type Answer func(ctx context.Context, from string, request []byte) ([]byte, error)

// Desk takes opaque bytes from somebody who has no certificate yet, or one that is not valid any more, and gives opaque bytes.
type Desk func(ctx context.Context, from Stranger, request []byte) ([]byte, error)

// Stranger is somebody who need not be a node.
type Stranger struct {
	Address string // host:port
	TLS     *tls.ConnectionState
}

// Doors are what a server answers with. A nil door is a 404.
type Doors struct {
	Exec    Executor
	Load    func() Load                                                     // asked for every reply, so cheap; nil = zero
	Blob    func(function.Digest) (io.ReadSeekCloser, int64, error)         // a module and its size; ClassNotHere = not here
	State   map[string]Answer                                               // by name: POST /v1/state/<name>
	Keyring func(ctx context.Context, from string) (ring []byte, err error) // GET /v1/keyring
	Join    Desk                                                            // POST /v1/join
	Renew   Desk                                                            // POST /v1/renew
	Admin   http.Handler                                                    // everything below /v1/admin/, for whom Trust.Operator allows
}

// Trust says who is who. The functions are safe for concurrent use, and cheap: they are asked for every request.
type Trust struct {
	// TLS is asked for every connection, so that certificates and revocations can change. It verifies the other side.
	TLS func() *tls.Config
	// NodeOf returns the id of the node at the other end, which its verified certificate says.
	NodeOf func(s *tls.ConnectionState) (node string, ok bool)
	// Admitted says whether a node may still come in.
	Admitted func(node string) bool
	// Operator says whether who is at the other end may use the operator's door; nil = nobody may.
	Operator func(s *tls.ConnectionState) bool
}

// Limits bound a server [N3]. A zero field means the default.
type Limits struct {
	Nodes    int           // connections of admitted nodes, default 1,024
	PerNode  int           // connections of one node, default 8
	Pending  int           // connections that have not shown who they are, default 128
	PerIP    int           // of those, from one address, default 32
	Patience time.Duration // how long such a connection may take for its business, default 15 s
	Streams  int           // requests at once on one connection, default 250
	Calls    int           // calls at once, those that wait for each other included, default 512
	Bodies   int64         // bytes of all request bodies held at once, default 64 MiB
	Request  int64         // bytes of one call, default 4 MiB
	Reply    int64         // bytes of one call's reply, default 8 MiB
	Uploads  int           // modules sent at once, default 2
	Rate     int64         // bytes a second of all uploads together, 0 = unbounded
	Joins    int           // attempts at Join and Renew a minute from one address, default 10
	Grace    time.Duration // for what is running when the server stops, default 5 s
}

// Bounds of opaque bytes.
const (
	MaxState   = 4 << 20  // a pull of state, each way
	MaxRequest = 64 << 10 // what is sent to Join and Renew
	MaxGrant   = 2 << 20  // what comes back from them, and the keyring
)

// WithDefaults fills in what is zero.
func (l Limits) WithDefaults() Limits {
	orElse(&l.Nodes, 1024)
	orElse(&l.PerNode, 8)
	orElse(&l.Pending, 128)
	orElse(&l.PerIP, 32)
	orElse(&l.Patience, 15*time.Second)
	orElse(&l.Streams, 250)
	orElse(&l.Calls, 512)
	orElse(&l.Bodies, 64<<20)
	orElse(&l.Request, 4<<20)
	orElse(&l.Reply, 8<<20)
	orElse(&l.Uploads, 2)
	orElse(&l.Joins, 10)
	orElse(&l.Grace, 5*time.Second)
	return l
}

func orElse[T int | int64 | time.Duration](v *T, otherwise T) {
	if *v <= 0 {
		*v = otherwise
	}
}

// Server answers other nodes. It is made by NewServer.
type Server struct {
	trust    Trust
	limits   Limits
	doors    Doors
	log      *slog.Logger
	handler  http.Handler
	replies  *replies
	bodies   budget
	calls    atomic.Int64
	uploads  chan struct{}
	pace     *pace
	knocks   *knocks
	draining atomic.Bool
	present  presence
	counts   Counters
}

// Counters are a server's numbers since it was made.
type Counters struct {
	Calls    atomic.Int64 // that ran here for others
	Repeated atomic.Int64 // answered with the result of a run before or beside
	Refused  atomic.Int64 // requests of whom may not come in
	Bad      atomic.Int64 // malformed or too large requests
	Busy     atomic.Int64 // refused for want of room
	Dropped  atomic.Int64 // connections beyond the bounds
}

// NewServer returns a server that serves nobody yet.
func NewServer(trust Trust, doors Doors, limits Limits, log *slog.Logger) *Server {
	l := limits.WithDefaults()
	if doors.Load == nil {
		doors.Load = func() Load { return Load{} }
	}
	s := &Server{
		trust: trust, limits: l, doors: doors, log: log,
		replies: newReplies(), bodies: budget{most: l.Bodies}, uploads: make(chan struct{}, l.Uploads),
		pace: newPace(l.Rate), knocks: newKnocks(l.Joins),
	}
	s.handler = s.present.around(s.routes())
	return s
}

// Counters returns the numbers; they go on counting.
func (s *Server) Counters() *Counters { return &s.counts }

// Run serves ln until ctx ends; then it refuses calls (503), gives running ones the grace of its limits, and closes ln and every
// connection. When it returns nil no door is in use any more. It may be called once.
func (s *Server) Run(ctx context.Context, ln net.Listener) error {
	g := newGate(ln, s.limits, &s.counts.Dropped)
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	srv := &http.Server{
		Handler: s.handler, Protocols: protocols,
		TLSConfig:         &tls.Config{MinVersion: tls.VersionTLS13, GetConfigForClient: s.config},
		ReadHeaderTimeout: 5 * time.Second, // for the handshake
		IdleTimeout:       3 * time.Minute,
		MaxHeaderBytes:    8 << 10,
		HTTP2:             s.http2(),
		ErrorLog:          slog.NewLogLogger(quiet{s.log.Handler()}, slog.LevelDebug),
		ConnContext:       withVisitor,
	}
	served := make(chan error, 1)
	go func() { served <- srv.ServeTLS(g, "", "") }()
	sweep := time.NewTicker(time.Minute)
	defer sweep.Stop()
	for {
		select {
		case err := <-served:
			return err
		case <-sweep.C:
			s.replies.sweep()
			continue
		case <-ctx.Done():
		}
		break
	}
	s.draining.Store(true)
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.limits.Grace)
	defer cancel()
	if srv.Shutdown(grace) != nil {
		_ = srv.Close() // whoever is left had the grace
	}
	g.closeAll()
	return errors.Join(ignore(<-served, http.ErrServerClosed), s.leave())
}

// leave ends the runs that are left and waits until no handler runs any more: what they use may be closed after Run.
func (s *Server) leave() error {
	s.replies.cancelAll()
	t := time.NewTimer(s.limits.Grace)
	defer t.Stop()
	select {
	case <-s.present.close():
		return nil
	case <-t.C:
		return errors.New("some calls from other nodes did not end in time")
	}
}

func ignore(err, expected error) error {
	if errors.Is(err, expected) {
		return nil
	}
	return err
}

func (s *Server) http2() *http.HTTP2Config {
	return &http.HTTP2Config{
		MaxConcurrentStreams:          s.limits.Streams,
		MaxReceiveBufferPerConnection: 1 << 20,
		MaxReceiveBufferPerStream:     256 << 10,
		SendPingTimeout:               15 * time.Second,
		PingTimeout:                   5 * time.Second,
		WriteByteTimeout:              20 * time.Second,
	}
}
