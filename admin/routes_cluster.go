package admin

import (
	"net/http"
	"strings"
)

// clusterRoutes are those about who belongs: at adds one with the scope it needs.
func (s *Server) clusterRoutes(at func(scope, pattern string, h http.HandlerFunc)) {
	at(ScopeAdmin, "POST /v1/cluster/init", s.initCluster)
	at(ScopeAdmin, "POST /v1/cluster/join", s.joinCluster)
	at(ScopeAdmin, "POST /v1/cluster/leave", s.leaveCluster)
	at(ScopeAdmin, "POST /v1/tokens", s.createToken)
	at(ScopeAdmin, "GET /v1/tokens", s.tokens)
	at(ScopeAdmin, "DELETE /v1/tokens/{id}", s.revokeToken)

	s.orderRoutes(at)
	at(ScopeRead, "GET /v1/nodes", s.nodes)
	at(ScopeRead, "GET /v1/nodes/{node}", s.node)
	at(ScopeAdmin, "POST /v1/nodes/{node}/labels", s.label)
	at(ScopeAdmin, "POST /v1/nodes/{node}/drain", s.drain)
	at(ScopeAdmin, "DELETE /v1/nodes/{node}", s.revokeNode)

	at(ScopeRead, "GET /v1/keyring", s.keyring)
	at(ScopeAdmin, "POST /v1/keyring/rotate", s.rotate)

	at(ScopeAdmin, "POST /v1/access", s.createAccess)
	at(ScopeAdmin, "GET /v1/access", s.accessTokens)
	at(ScopeAdmin, "DELETE /v1/access/{id}", s.revokeAccess)
}

// offers says whether part of the backend is there; if not, the answer is written.
func offers(w http.ResponseWriter, what string, there bool) bool {
	if !there {
		fail(w, unsupported(what))
	}
	return there
}

// readInto decodes a request and checks it; if it returns false the answer is written.
func (s *Server) readInto(w http.ResponseWriter, r *http.Request, v any, check func() error) bool {
	err := s.read(w, r, v)
	if err == nil && check != nil {
		err = check()
	}
	if err != nil {
		fail(w, err)
	}
	return err == nil
}

func (s *Server) initCluster(w http.ResponseWriter, r *http.Request) {
	var req InitRequest
	if !offers(w, "clusters", s.backend.Clusters != nil) || !s.readInto(w, r, &req, req.check) {
		return
	}
	c, err := s.backend.Clusters.Init(r.Context(), req)
	s.changed(r, "init", c.Name, err)
	answer(w, c, err)
}

func (s *Server) joinCluster(w http.ResponseWriter, r *http.Request) {
	var req JoinRequest
	if !offers(w, "clusters", s.backend.Clusters != nil) || !s.readInto(w, r, &req, req.check) {
		return
	}
	req.Token = strings.TrimSpace(req.Token)
	c, err := s.backend.Clusters.Join(r.Context(), req)
	s.changed(r, "join", req.Via, err) // never the token
	answer(w, c, err)
}

func (s *Server) leaveCluster(w http.ResponseWriter, r *http.Request) {
	var req LeaveRequest
	if !offers(w, "clusters", s.backend.Leaver != nil) || !s.readInto(w, r, &req, nil) {
		return
	}
	l, err := s.backend.Leaver.Leave(r.Context(), req)
	s.changed(r, "leave", l.Cluster, err)
	answer(w, l, err)
}

func (s *Server) createToken(w http.ResponseWriter, r *http.Request) {
	var req TokenRequest
	if !offers(w, "join tokens", s.backend.Clusters != nil) || !s.readInto(w, r, &req, req.check) {
		return
	}
	t, err := s.backend.Clusters.CreateToken(r.Context(), req)
	s.changed(r, "create token", t.ID, err)
	answer(w, t, err)
}

func (s *Server) tokens(w http.ResponseWriter, r *http.Request) {
	if offers(w, "join tokens", s.backend.Clusters != nil) {
		list, err := s.backend.Clusters.Tokens(r.Context())
		answer(w, emptyNotNull(list), err)
	}
}

func (s *Server) revokeToken(w http.ResponseWriter, r *http.Request) {
	if offers(w, "join tokens", s.backend.Clusters != nil) {
		err := s.backend.Clusters.RevokeToken(r.Context(), r.PathValue("id"))
		s.changed(r, "revoke token", r.PathValue("id"), err)
		answer(w, Count{1}, err)
	}
}

func (s *Server) nodes(w http.ResponseWriter, r *http.Request) {
	if offers(w, "nodes", s.backend.Nodes != nil) {
		list, err := s.backend.Nodes.List(r.Context())
		for i := range list {
			list[i].Labels = emptyNotNull(list[i].Labels)
		}
		answer(w, emptyNotNull(list), err)
	}
}

func (s *Server) node(w http.ResponseWriter, r *http.Request) {
	if offers(w, "nodes", s.backend.Nodes != nil) {
		m, err := s.backend.Nodes.Get(r.Context(), r.PathValue("node"))
		m.Labels = emptyNotNull(m.Labels)
		answer(w, m, err)
	}
}

func (s *Server) label(w http.ResponseWriter, r *http.Request) {
	var req LabelRequest
	if !offers(w, "nodes", s.backend.Nodes != nil) || !s.readInto(w, r, &req, req.check) {
		return
	}
	m, err := s.backend.Nodes.Label(r.Context(), r.PathValue("node"), req)
	s.changed(r, "label", r.PathValue("node"), err)
	m.Labels = emptyNotNull(m.Labels)
	answer(w, m, err)
}

func (s *Server) drain(w http.ResponseWriter, r *http.Request) {
	var req DrainRequest
	if !offers(w, "nodes", s.backend.Nodes != nil) || !s.readInto(w, r, &req, nil) {
		return
	}
	m, err := s.backend.Nodes.Drain(r.Context(), r.PathValue("node"), req.On)
	s.changed(r, "drain", r.PathValue("node"), err)
	m.Labels = emptyNotNull(m.Labels)
	answer(w, m, err)
}

func (s *Server) revokeNode(w http.ResponseWriter, r *http.Request) {
	if offers(w, "nodes", s.backend.Nodes != nil) {
		err := s.backend.Nodes.Revoke(r.Context(), r.PathValue("node"))
		s.changed(r, "revoke", r.PathValue("node"), err)
		answer(w, Count{1}, err)
	}
}

func (s *Server) keyring(w http.ResponseWriter, r *http.Request) {
	if offers(w, "the keyring", s.backend.Keys != nil) {
		k, err := s.backend.Keys.Keyring(r.Context())
		k.Keys, k.Nodes = emptyNotNull(k.Keys), emptyNotNull(k.Nodes)
		answer(w, k, err)
	}
}

func (s *Server) rotate(w http.ResponseWriter, r *http.Request) {
	if offers(w, "the keyring", s.backend.Keys != nil) {
		k, err := s.backend.Keys.Rotate(r.Context())
		s.changed(r, "rotate", "keyring", err)
		k.Keys, k.Nodes = emptyNotNull(k.Keys), emptyNotNull(k.Nodes)
		answer(w, k, err)
	}
}

func (s *Server) createAccess(w http.ResponseWriter, r *http.Request) {
	var req AccessRequest
	if !offers(w, "API tokens", s.backend.Access != nil) || !s.readInto(w, r, &req, req.check) {
		return
	}
	t, err := s.backend.Access.Create(req)
	s.changed(r, "create API token", t.ID, err)
	answer(w, t, err)
}

func (s *Server) accessTokens(w http.ResponseWriter, _ *http.Request) {
	if offers(w, "API tokens", s.backend.Access != nil) {
		answer(w, emptyNotNull(s.backend.Access.List()), nil)
	}
}

func (s *Server) revokeAccess(w http.ResponseWriter, r *http.Request) {
	if offers(w, "API tokens", s.backend.Access != nil) {
		err := s.backend.Access.Revoke(r.PathValue("id"))
		s.changed(r, "revoke API token", r.PathValue("id"), err)
		answer(w, Count{1}, err)
	}
}
