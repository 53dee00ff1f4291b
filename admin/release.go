package admin

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"mayfly/function"
)

// Releases are the versions of functions over time. A function nobody knows is KindNotFound.
type Releases interface {
	// History returns the deployed version and what was before it, newest first.
	History(ctx context.Context, name string) ([]Version, error)
	// Rollback deploys an earlier version anew: to names its revision, version or digest, "" is the one before. It returns when that survives a
	// power cut. A version that is not kept, or whose module no node has any more, is KindNotFound. It may what an operator permitted it then.
	Rollback(ctx context.Context, name, to string) (Function, error)
	// Canary returns how the version on trial does, or KindNotFound when there is none.
	Canary(ctx context.Context, name string) (Canary, error)
	// EndCanary makes the version on trial the deployed one, or ends it.
	EndCanary(ctx context.Context, name string, promote bool) (Function, error)
}

// What became of a version.
const (
	VersionDeployed = "deployed"
	VersionCanary   = "canary" // on trial
	VersionReplaced = "replaced"
	VersionFailed   = "failed" // was on trial and given up
)

// Version is one version of a function.
type Version struct {
	Function string    `json:"function"`
	Revision uint64    `json:"revision"`
	Version  string    `json:"version"` // of the manifest
	Digest   string    `json:"digest"`  // of the module
	Deployed time.Time `json:"deployed"`
	State    string    `json:"state"`
	Reason   string    `json:"reason,omitempty"` // why it failed
	Here     bool      `json:"here"`             // its module is on this node
}

// RollbackRequest asks for an earlier version.
type RollbackRequest struct {
	To string `json:"to,omitempty"` // revision, version or digest; "" = the one before
}

// CanaryEnd ends a trial.
type CanaryEnd struct {
	Promote bool `json:"promote"`
}

// Canary is a version on trial.
type Canary struct {
	Function  string               `json:"function"`
	Version   string               `json:"version"`
	Digest    string               `json:"digest"`
	Beside    string               `json:"beside"` // version of the deployed one
	Since     time.Time            `json:"since"`
	Rules     function.CanaryRules `json:"rules"`
	Verdict   string               `json:"verdict"` // open | good | worse
	Reason    string               `json:"reason"`
	Stopped   bool                 `json:"stopped"`         // this node gives it no events any more
	Waits     string               `json:"waits,omitempty"` // what has to happen before it ends
	Old       CanaryArm            `json:"old"`             // on this node
	New       CanaryArm            `json:"new"`
	Elsewhere []CanaryReport       `json:"elsewhere"`
}

// CanaryArm is what one of the two versions did on this node.
type CanaryArm struct {
	Events uint64 `json:"events"`
	Failed uint64 `json:"failed"`
	P90US  int64  `json:"p90_us"` // nine tenths of its runs took no longer
}

// CanaryReport is what another node says.
type CanaryReport struct {
	Node    string `json:"node"`
	Verdict string `json:"verdict"`
	Reason  string `json:"reason,omitempty"`
}

func (s *Server) releaseRoutes(at func(scope, pattern string, h http.HandlerFunc)) {
	at(ScopeRead, "GET /v1/functions/{name}/history", s.history)
	at(ScopeDeploy, "POST /v1/functions/{name}/rollback", s.rollback)
	at(ScopeRead, "GET /v1/functions/{name}/canary", s.canary)
	at(ScopeDeploy, "POST /v1/functions/{name}/canary", s.endCanary)
}

func (s *Server) history(w http.ResponseWriter, r *http.Request) {
	if !offers(w, "history", s.backend.Releases != nil) {
		return
	}
	list, err := s.backend.Releases.History(r.Context(), r.PathValue("name"))
	answer(w, emptyNotNull(list), err)
}

func (s *Server) rollback(w http.ResponseWriter, r *http.Request) {
	var req RollbackRequest
	if !offers(w, "rollback", s.backend.Releases != nil) || !s.readInto(w, r, &req, req.check) {
		return
	}
	f, err := s.backend.Releases.Rollback(r.Context(), r.PathValue("name"), req.To)
	s.changed(r, "rollback", r.PathValue("name"), err)
	answer(w, f, err)
}

func (r *RollbackRequest) check() error {
	if len(r.To) > 200 {
		return invalid(errors.New("no revision, version or digest is that long"))
	}
	return nil
}

func (s *Server) canary(w http.ResponseWriter, r *http.Request) {
	if !offers(w, "canaries", s.backend.Releases != nil) {
		return
	}
	c, err := s.backend.Releases.Canary(r.Context(), r.PathValue("name"))
	c.Elsewhere = emptyNotNull(c.Elsewhere)
	answer(w, c, err)
}

func (s *Server) endCanary(w http.ResponseWriter, r *http.Request) {
	var req CanaryEnd
	if !offers(w, "canaries", s.backend.Releases != nil) || !s.readInto(w, r, &req, nil) {
		return
	}
	f, err := s.backend.Releases.EndCanary(r.Context(), r.PathValue("name"), req.Promote)
	s.changed(r, "end canary", r.PathValue("name"), err)
	answer(w, f, err)
}

// History lists the versions of a function, the deployed one first.
func (c *Client) History(ctx context.Context, name string) ([]Version, error) {
	return call[[]Version](ctx, c, http.MethodGet, "functions/"+url.PathEscape(name)+"/history", nil)
}

// Rollback deploys an earlier version of a function anew.
func (c *Client) Rollback(ctx context.Context, name, to string) (Function, error) {
	return call[Function](ctx, c, http.MethodPost, "functions/"+url.PathEscape(name)+"/rollback", RollbackRequest{to})
}

// Canary returns how the version on trial of a function does.
func (c *Client) Canary(ctx context.Context, name string) (Canary, error) {
	return call[Canary](ctx, c, http.MethodGet, "functions/"+url.PathEscape(name)+"/canary", nil)
}

// EndCanary makes the version on trial the deployed one, or ends it.
func (c *Client) EndCanary(ctx context.Context, name string, promote bool) (Function, error) {
	return call[Function](ctx, c, http.MethodPost, "functions/"+url.PathEscape(name)+"/canary", CanaryEnd{promote})
}
