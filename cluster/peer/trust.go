package peer

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net/http"
)

// config is the TLS of one connection. There are no session tickets: every connection is judged anew.
func (s *Server) config(*tls.ClientHelloInfo) (*tls.Config, error) {
	return tightened(s.trust.TLS()), nil
}

// tightened is a copy of c for this package's protocol.
func tightened(c *tls.Config) *tls.Config {
	c = c.Clone()
	c.MinVersion = tls.VersionTLS13
	c.NextProtos = []string{"h2"}
	c.SessionTicketsDisabled = true
	c.ClientSessionCache = nil
	return c
}

func (s *Server) admitted(state *tls.ConnectionState) (string, bool) {
	node, ok := s.trust.NodeOf(state)
	return node, ok && node != "" && s.trust.Admitted(node)
}

func (s *Server) operator(state *tls.ConnectionState) bool {
	return s.trust.Operator != nil && s.trust.Operator(state)
}

// nodes lets in admitted nodes [N1]. The certificate is judged again for every request: a node may be revoked meanwhile.
func (s *Server) nodes(serve func(w http.ResponseWriter, r *http.Request, from string)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		node, ok := s.admitted(r.TLS)
		if !ok || !visitorOf(r).isNode(node) {
			s.refuse(w)
			return
		}
		serve(w, r, node)
	}
}

func (s *Server) refuse(w http.ResponseWriter) {
	s.counts.Refused.Add(1)
	w.Header().Set("Connection", "close")
	w.WriteHeader(http.StatusForbidden)
}

// quiet lets the HTTP server's remarks on broken handshakes through as debugging: anybody can cause them.
type quiet struct{ slog.Handler }

// Handle implements slog.Handler.
func (q quiet) Handle(ctx context.Context, r slog.Record) error {
	if !q.Enabled(ctx, slog.LevelDebug) {
		return nil
	}
	line := slog.NewRecord(r.Time, slog.LevelDebug, "http", 0)
	line.AddAttrs(slog.String("remark", r.Message))
	return q.Handler.Handle(ctx, line)
}
