package admin

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base32"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"mayfly/function"
)

// Remote says how to reach an agent that is not on this device.
type Remote struct {
	// Address is https://HOST:PORT, or https://NODE@HOST:PORT, which also demands that it is the node of that id: any member
	// of the cluster could answer otherwise, a stolen one too.
	Address     string
	Token       string           // API token, "" = none
	Certificate *tls.Certificate // the operator's, nil = none
	CA          *x509.CertPool   // who signs the certificates of nodes; nil = the one Token pins, else the system's
}

// NewRemoteClient returns a client for an agent elsewhere. It connects when it is first used. Without CA and without a pin in
// the token the node's certificate must be valid for HOST, as on the web.
func NewRemoteClient(r Remote) (*Client, error) {
	u, err := url.Parse(r.Address)
	if err == nil && (u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "") {
		err = errors.New("want https://HOST:PORT")
	}
	if err == nil && u.Port() == "" {
		err = errors.New("the port is missing")
	}
	if err != nil {
		return nil, &function.Error{
			Op: "connect", Subject: r.Address, Class: function.ClassReject, Kind: KindInvalid, Err: err,
			Hint: "write it like https://192.168.1.20:7947; mayfly nodes ls -o wide shows where nodes answer",
		}
	}
	pin, err := pinOf(r.Token)
	if err != nil {
		return nil, err
	}
	v := verifier{node: u.User.Username(), host: u.Hostname(), ca: r.CA, pin: pin}
	conf := &tls.Config{
		MinVersion:         tls.VersionTLS13,
		InsecureSkipVerify: true, // VerifyConnection does it: certificates of nodes name nodes, not hosts
		VerifyConnection:   v.verify,
	}
	if r.Certificate != nil {
		conf.Certificates = []tls.Certificate{*r.Certificate}
	}
	c := &Client{base: "https://" + u.Host, token: r.Token}
	c.http = &http.Client{
		Transport: &http.Transport{
			DialContext:       (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
			TLSClientConfig:   conf,
			ForceAttemptHTTP2: true,
			IdleConnTimeout:   time.Minute,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // the token is for this host
	}
	return c, nil
}

// pinOf returns the hash of the authority's certificate that a token holds, nil when it holds none.
func pinOf(token string) ([]byte, error) {
	parts := strings.Split(token, ".")
	if token == "" || parts[0] == apiToken && len(parts) == 3 {
		return nil, nil
	}
	if parts[0] == apiToken && len(parts) == 4 {
		if pin, err := base64.RawURLEncoding.DecodeString(parts[3]); err == nil && len(pin) == sha256.Size {
			return pin, nil
		}
	}
	return nil, &function.Error{
		Op: "read", Subject: "API token", Class: function.ClassReject, Kind: KindInvalid, Err: errors.New("it is not one, or not all of it"),
		Hint: "it starts with " + apiToken + ". and was printed once by: mayfly access create",
	}
}

// verifier decides whether who answers is who was called.
type verifier struct {
	node, host string
	ca         *x509.CertPool
	pin        []byte
}

func (v verifier) verify(s tls.ConnectionState) error {
	leaf := s.PeerCertificates[0] // a TLS 1.3 server always shows one
	o := x509.VerifyOptions{Roots: v.ca, Intermediates: x509.NewCertPool()}
	for _, c := range s.PeerCertificates[1:] {
		o.Intermediates.AddCert(c)
		if sum := sha256.Sum256(c.Raw); v.ca == nil && c.IsCA && bytes.Equal(sum[:], v.pin) {
			o.Roots = x509.NewCertPool()
			o.Roots.AddCert(c)
		}
	}
	switch {
	case o.Roots == nil && v.pin != nil:
		return untrusted{errors.New("it did not show the authority that the token pins")}
	case o.Roots == nil:
		o.DNSName = v.host
	}
	if _, err := leaf.Verify(o); err != nil {
		return untrusted{err}
	}
	if v.node != "" && nodeID(leaf) != v.node {
		return untrusted{fmt.Errorf("it is node %q, not %s", nodeID(leaf), v.node)}
	}
	return nil
}

// nodeID is the id of the node a certificate was made for: a hash of its key, which nobody else can show. "" = not a node's.
func nodeID(c *x509.Certificate) string {
	key, ok := c.PublicKey.(ed25519.PublicKey)
	if !ok {
		return ""
	}
	sum := sha256.Sum256(key)
	return strings.ToLower(base32.StdEncoding.EncodeToString(sum[:10]))
}

// untrusted is why who answers was not believed.
type untrusted struct{ error }

// notReachedFar says why an agent elsewhere did not answer and what helps.
func (c *Client) notReachedFar(ctx context.Context, err error) error {
	e := &function.Error{Op: "connect", Subject: c.base, Class: function.ClassRetry, Kind: KindNotRunning, Err: err}
	if ue, ok := errors.AsType[*url.Error](err); ok {
		e.Err = ue.Err
	}
	if ctx.Err() != nil {
		e.Kind, e.Err = "interrupted", context.Cause(ctx)
		return e
	}
	e.Hint = "is it on, does it answer there ([admin] listen in its configuration), and does a firewall let you through?"
	if why, ok := errors.AsType[untrusted](err); ok {
		e.Class, e.Kind, e.Err = function.ClassReject, KindDenied, fmt.Errorf("who answers is not who was called: %w", why.error)
		e.Hint = "give the authority of the cluster with --ca FILE, or use an API token made on a member: it names the authority"
	}
	return e
}
