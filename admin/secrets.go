package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// MaxSecret is the longest value of a secret, in bytes.
const MaxSecret = 32 << 10

// Secrets are the values that functions may read whose manifests name them. No answer has a value.
type Secrets interface {
	// SetSecret seals a value to the nodes and returns when that is durable here, with to whom. In a cluster it takes an operator's key.
	SetSecret(ctx context.Context, name string, value []byte) (Secret, error)
	// Secrets returns all, sorted by name.
	Secrets(ctx context.Context) ([]Secret, error)
	// RemoveSecret makes one be gone on all nodes, or is KindNotFound.
	RemoveSecret(ctx context.Context, name string) error
}

// Where the value of a secret comes from on a node.
const (
	SecretSealed = "sealed" // it was set by an operator, for all nodes
	SecretFile   = "file"   // of this node: it goes before one that was set
)

// Secret is one secret, without its value.
type Secret struct {
	Name      string    `json:"name"`
	From      string    `json:"from"`          // SecretSealed or SecretFile: which one functions get on this node
	Set       time.Time `json:"set,omitzero"`  // by the clock of where it was set
	Bytes     int       `json:"bytes"`         // of the value
	Nodes     []string  `json:"nodes"`         // names of those it was sealed to when it was set
	Later     []string  `json:"later"`         // names of those that were away then: a node that has it passes it to them
	Functions []string  `json:"functions"`     // whose manifests name it
	Why       string    `json:"why,omitempty"` // it cannot be read on this node; empty: it can
}

// SecretRequest sets a secret.
type SecretRequest struct {
	Value []byte `json:"value"`
}

func (r *SecretRequest) check() error {
	switch {
	case len(r.Value) == 0:
		return invalid(errors.New("the value is empty"))
	case len(r.Value) > MaxSecret:
		return invalid(fmt.Errorf("the value has %d bytes, the most is %d", len(r.Value), MaxSecret))
	}
	return nil
}

// CheckSecretName says what is wrong with the name of a secret: it is that of a file, and of a manifest's permission.
func CheckSecretName(name string) error {
	odd := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_' && r != '-'
	}
	if name == "" || len(name) > 128 || strings.ContainsFunc(name, odd) {
		return invalid(fmt.Errorf("%q cannot be a secret's name: 1 to 128 letters, digits, _ and -", name))
	}
	return nil
}

func (s *Server) secretRoutes(at func(scope, pattern string, h http.HandlerFunc)) {
	at(ScopeRead, "GET /v1/secrets", s.secrets)
	at(ScopeAdmin, "PUT /v1/secrets/{name}", s.setSecret)
	at(ScopeAdmin, "DELETE /v1/secrets/{name}", s.removeSecret)
}

func (s *Server) secrets(w http.ResponseWriter, r *http.Request) {
	if offers(w, "secrets", s.backend.Secrets != nil) {
		all, err := s.backend.Secrets.Secrets(r.Context())
		for i := range all {
			all[i].lists()
		}
		answer(w, emptyNotNull(all), err)
	}
}

func (x *Secret) lists() {
	x.Nodes, x.Later, x.Functions = emptyNotNull(x.Nodes), emptyNotNull(x.Later), emptyNotNull(x.Functions)
}

func (s *Server) setSecret(w http.ResponseWriter, r *http.Request) {
	var req SecretRequest
	name := r.PathValue("name")
	check := func() error { return errors.Join(CheckSecretName(name), req.check()) }
	if !offers(w, "secrets", s.backend.Secrets != nil) || !s.readInto(w, r, &req, check) {
		return
	}
	x, err := s.backend.Secrets.SetSecret(r.Context(), name, req.Value)
	s.changed(r, "set secret", name, err) // never the value
	x.lists()
	answer(w, x, err)
}

func (s *Server) removeSecret(w http.ResponseWriter, r *http.Request) {
	if offers(w, "secrets", s.backend.Secrets != nil) {
		err := s.backend.Secrets.RemoveSecret(r.Context(), r.PathValue("name"))
		s.changed(r, "remove secret", r.PathValue("name"), err)
		answer(w, Count{1}, err)
	}
}

// SetSecret sets a secret for all nodes.
func (c *Client) SetSecret(ctx context.Context, name string, value []byte) (Secret, error) {
	return call[Secret](ctx, c, http.MethodPut, "secrets/"+url.PathEscape(name), SecretRequest{value})
}

// Secrets lists the secrets, without their values.
func (c *Client) Secrets(ctx context.Context) ([]Secret, error) {
	return call[[]Secret](ctx, c, http.MethodGet, "secrets", nil)
}

// RemoveSecret removes a secret from all nodes.
func (c *Client) RemoveSecret(ctx context.Context, name string) error {
	_, err := call[Count](ctx, c, http.MethodDelete, "secrets/"+url.PathEscape(name), nil)
	return err
}
