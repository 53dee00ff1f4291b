package admin

import (
	"net"
	"net/http"
)

// As makes the server take every peer for p.
func (s *Server) As(p Peer, err error) {
	s.identify = func(net.Conn) (Peer, error) { return p, err }
}

// Paths returns every pattern the server answers with the scope it needs.
func (s *Server) Paths() map[string]string {
	out := map[string]string{}
	s.register(func(scope, pattern string, _ http.HandlerFunc) { out[pattern] = scope })
	return out
}
