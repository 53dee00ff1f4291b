package peer

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"time"

	"mayfly/function"
)

// Signer is a node that lets others join, as one sees it who has no certificate that counts.
type Signer struct {
	Address string
	TLS     *tls.Config // must accept nobody but that cluster, because a request to join holds a secret; it needs no certificate to join
	Dial    Dial        // default: over this machine's network
}

// Join sends an opaque request and returns the opaque grant. They have at most MaxRequest and MaxGrant bytes.
func (s Signer) Join(ctx context.Context, request []byte) ([]byte, error) {
	return s.ask(ctx, "join", request)
}

// Renew is Join for a node that was a member before.
func (s Signer) Renew(ctx context.Context, request []byte) ([]byte, error) {
	return s.ask(ctx, "renew", request)
}

func (s Signer) ask(ctx context.Context, what string, body []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	address := s.Address
	conn, err := route{address, s.TLS, func(*tls.ConnectionState) error { return nil }, 5 * time.Second, s.Dial}.connect(ctx)
	if err != nil {
		return nil, &function.Error{
			Op: what, Subject: address, Class: function.ClassRetry, Kind: KindUnreachable, Err: err,
			Hint: "see whether the address is that of a node's peer port and the token belongs to this cluster",
		}
	}
	defer func() { _ = conn.Close() }() // it is used once
	r, err := request(ctx, http.MethodPost, "/v1/"+what, body)
	if err != nil {
		return nil, err
	}
	resp, err := conn.RoundTrip(r)
	if err != nil {
		return nil, &function.Error{Op: what, Subject: address, Class: function.ClassRetry, Kind: KindLostReply, Err: fmt.Errorf("no reply: %w", err)}
	}
	return opaqueReply(what, address, resp, MaxGrant)
}
