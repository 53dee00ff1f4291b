package peer

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"time"

	"mayfly/function"
)

// Join sends an opaque request to the node at address that lets others join, and returns its opaque grant. config must accept
// nobody but that cluster, because the request holds a secret; it needs no certificate. They have at most MaxRequest and MaxGrant bytes.
func Join(ctx context.Context, address string, config *tls.Config, request []byte) ([]byte, error) {
	return enter(ctx, "join", address, config, request)
}

// Renew is Join for a node that was a member before.
func Renew(ctx context.Context, address string, config *tls.Config, request []byte) ([]byte, error) {
	return enter(ctx, "renew", address, config, request)
}

func enter(ctx context.Context, what, address string, config *tls.Config, body []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	conn, err := dial(ctx, config, address, func(*tls.ConnectionState) error { return nil }, 5*time.Second)
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
