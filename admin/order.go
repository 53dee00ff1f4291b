package admin

import (
	"context"
	"encoding/binary"
	"errors"
	"net/http"

	"mayfly/function"
)

// Order is a change of what the whole cluster runs that only operators may sign. An agent that has no operator's key, or not enough of them,
// refuses a change with the order that would make it true (OrderOf); whoever has a key checks it, signs it and submits it, to whichever node.
type Order struct {
	Cluster    string `json:"cluster"`
	Kind       string `json:"kind"` // "function", "history", "config" or "secret"
	Key        string `json:"key"`  // the name of the function, for example
	Version    uint64 `json:"version"`
	Writer     string `json:"writer"` // node that proposes it
	Deleted    bool   `json:"deleted,omitempty"`
	Body       []byte `json:"body,omitempty"`
	Signatures []byte `json:"signatures,omitempty"` // those there are already
}

// Message is what a signature is over. Whoever signs makes it out of what was looked at; it is not sent.
func (o Order) Message() []byte {
	b := []byte{1, 0}
	if o.Deleted {
		b[1] = 1
	}
	b = binary.BigEndian.AppendUint64(b, o.Version)
	for _, part := range []string{o.Kind, o.Key, o.Writer, string(o.Body)} {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(part))), part...)
	}
	return b
}

// Unsigned is the error of a change that nobody here can sign for.
type Unsigned struct {
	Order Order
	Err   error
}

func (u *Unsigned) Error() string { return u.Err.Error() }
func (u *Unsigned) Unwrap() error { return u.Err }

// OrderOf returns the order that an error asks to be signed.
func OrderOf(err error) (Order, bool) {
	if u, ok := errors.AsType[*Unsigned](err); ok {
		return u.Order, true
	}
	return Order{}, false
}

// Operators are the keys whose orders the cluster obeys.
type Operators struct {
	Threshold int      `json:"threshold"` // how many of them must sign
	Keys      []string `json:"keys"`      // "mfo1...."; none: everybody is obeyed
}

// Orders takes signed orders, and says who may sign.
type Orders interface {
	// Submit makes an order true, and returns when that survives a power cut here. It is of kind "unsigned" while signatures are missing, and
	// KindConflict when what it changes was changed since it was proposed, a day ago or more.
	Submit(ctx context.Context, o Order) error
	// Operators returns whose orders count. Alone, it is KindAlone.
	Operators(ctx context.Context) (Operators, error)
	// Trust replaces them. Only the node with the authority's key can.
	Trust(ctx context.Context, o Operators) (Operators, error)
}

func (s *Server) orderRoutes(at func(scope, pattern string, h http.HandlerFunc)) {
	at(ScopeDeploy, "POST /v1/orders", s.submit)
	at(ScopeRead, "GET /v1/operators", s.operators)
	at(ScopeAdmin, "POST /v1/operators", s.trust)
}

func (s *Server) submit(w http.ResponseWriter, r *http.Request) {
	var o Order
	if !offers(w, "signed orders", s.backend.Orders != nil) || !s.readInto(w, r, &o, nil) {
		return
	}
	err := s.backend.Orders.Submit(r.Context(), o)
	s.changed(r, "order", o.Kind+" "+o.Key, err)
	answer(w, Count{1}, err)
}

func (s *Server) operators(w http.ResponseWriter, r *http.Request) {
	if offers(w, "operators", s.backend.Orders != nil) {
		o, err := s.backend.Orders.Operators(r.Context())
		o.Keys = emptyNotNull(o.Keys)
		answer(w, o, err)
	}
}

func (s *Server) trust(w http.ResponseWriter, r *http.Request) {
	var o Operators
	if !offers(w, "operators", s.backend.Orders != nil) || !s.readInto(w, r, &o, nil) {
		return
	}
	o, err := s.backend.Orders.Trust(r.Context(), o)
	s.changed(r, "trust", "operators", err)
	o.Keys = emptyNotNull(o.Keys)
	answer(w, o, err)
}

// Submit submits a signed order.
func (c *Client) Submit(ctx context.Context, o Order) error {
	_, err := call[Count](ctx, c, http.MethodPost, "orders", o)
	return err
}

// Operators returns whose orders the cluster obeys.
func (c *Client) Operators(ctx context.Context) (Operators, error) {
	return call[Operators](ctx, c, http.MethodGet, "operators", nil)
}

// Trust replaces the operators.
func (c *Client) Trust(ctx context.Context, o Operators) (Operators, error) {
	return call[Operators](ctx, c, http.MethodPost, "operators", o)
}

// Parsed returns the manifest that a request asks for, as the agent reads it.
func (d *DeployRequest) Parsed() (function.Manifest, error) {
	x, err := d.deployment(nil)
	x.Manifest.Source = string(x.Source)
	return x.Manifest, err
}
