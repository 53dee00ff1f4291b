package identity

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"time"
)

// signerName is the server name (SNI) by which a client says that it wants the signer, to join or to renew, and nothing else.
// There are then other rules for who may come in.
const signerName = "signer.mayfly"

// ServerTLS is how this node lets others call it: TLS 1.3 both ways, its current certificate at each handshake, and only members
// that are not revoked and whose certificates have not expired [I3]. It does not serve those who join or renew;
// Authority.ServerTLS does. Add NextProtos to a clone.
func (m *Membership) ServerTLS() *tls.Config { return m.server(false) }

// DoorTLS is for a door that asks for no certificate, and whose visitors show who they are by other means: this node's current
// certificate and the authority's at each handshake, so that who knows the authority knows the node.
func (m *Membership) DoorTLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Time: m.clock,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return m.present(true), nil },
	}
}

func (m *Membership) server(signer bool) *tls.Config {
	c := &tls.Config{
		MinVersion: tls.VersionTLS13,
		ClientAuth: tls.RequestClientCert, // who joins has none; VerifyConnection asks everybody else for it
		Time:       m.clock,
		// A ticket would let a connection begin with what was true at an earlier one.
		SessionTicketsDisabled: true,
	}
	c.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		return m.present(signer && hello.ServerName == signerName), nil
	}
	c.VerifyConnection = func(state tls.ConnectionState) error {
		if state.ServerName != signerName {
			_, err := m.judge(state, 0)
			return err
		}
		if !signer {
			return fmt.Errorf("%w: this node is no signer", ErrPeer)
		}
		if len(state.PeerCertificates) == 0 {
			return nil // it joins
		}
		_, err := m.judge(state, RenewalGrace)
		return err
	}
	return c
}

// ClientTLS is how this node calls another: it accepts the node with that id and nobody else [I1]. Add NextProtos to a clone.
func (m *Membership) ClientTLS(nodeID string) *tls.Config {
	return m.client(nodeID, func(leaf *x509.Certificate) error {
		if id := idOf(leaf.PublicKey); id != nodeID {
			return fmt.Errorf("%w: it is node %s, and %q was called", ErrPeer, id, nodeID)
		}
		return nil
	})
}

// SignerTLS is how this node calls a signer, whichever it is, to renew its certificate and to learn what it missed. It works
// with a certificate that expired up to RenewalGrace ago.
func (m *Membership) SignerTLS() *tls.Config {
	return m.client(signerName, mustSign)
}

func mustSign(leaf *x509.Certificate) error {
	if !isSigner(leaf) {
		return fmt.Errorf("%w: node %s is no signer", ErrPeer, idOf(leaf.PublicKey))
	}
	return nil
}

func (m *Membership) client(server string, accept func(leaf *x509.Certificate) error) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		ServerName: server,
		Time:       m.clock,
		// The library would look for a host's name. VerifyConnection checks the whole of it: chain, cluster, node, revocation.
		InsecureSkipVerify: true,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return m.present(false), nil
		},
		VerifyConnection: func(state tls.ConnectionState) error {
			leaf, err := m.judge(state, 0)
			if err != nil {
				return err
			}
			return accept(leaf)
		},
	}
}

// present is this node's certificate for one handshake; whole adds that of the authority, which who joins has not yet.
func (m *Membership) present(whole bool) *tls.Certificate {
	s := m.now.Load()
	c := &tls.Certificate{Certificate: [][]byte{s.grant.Certificate}, PrivateKey: m.node.Key, Leaf: s.cert}
	if whole {
		c.Certificate = append(c.Certificate, s.grant.CA)
	}
	return c
}

// judge says whether the other end is a member, and returns its certificate.
func (m *Membership) judge(state tls.ConnectionState, grace time.Duration) (*x509.Certificate, error) {
	if len(state.PeerCertificates) == 0 {
		return nil, fmt.Errorf("%w: it has no certificate", ErrPeer)
	}
	s := m.now.Load()
	leaf := state.PeerCertificates[0]
	id, err := verify(leaf, s.ca, s.grant.Cluster)
	if err != nil {
		return nil, err
	}
	if _, found := s.revoked[id]; found {
		return nil, fmt.Errorf("%w: %s", ErrRevoked, id)
	}
	m.saw(leaf.NotBefore)
	return leaf, alive(leaf, judgedAt(m.clock(), s.ca, s.cert), grace)
}

// NodeOf returns the id of the member at the other end of a connection made with a configuration of this package. ok is false for
// who came to join or to renew: such a connection is good for nothing else.
func NodeOf(state *tls.ConnectionState) (id string, ok bool) {
	if state == nil || state.ServerName == signerName {
		return "", false
	}
	return peerOf(state)
}

// RenewerOf returns the id of the node that came to a signer to renew its certificate, perhaps with one that has expired. ok is
// false on any other connection.
func RenewerOf(state *tls.ConnectionState) (id string, ok bool) {
	if state == nil || state.ServerName != signerName {
		return "", false
	}
	return peerOf(state)
}

// Joining says whether a connection was made to join or renew; only those two may be asked for on it.
func Joining(state *tls.ConnectionState) bool { return state != nil && state.ServerName == signerName }

func peerOf(state *tls.ConnectionState) (string, bool) {
	if !state.HandshakeComplete || len(state.PeerCertificates) == 0 {
		return "", false
	}
	_, id, ok := claimed(state.PeerCertificates[0])
	return id, ok
}
