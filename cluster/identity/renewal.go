package identity

import (
	"bytes"
	"fmt"
	"time"
)

// RenewalDue says whether it is time to ask a signer for a new certificate: when two thirds of the life of this one are over.
// Where no signer can be reached the node goes on with what it has, and asks again.
func (m *Membership) RenewalDue() bool {
	s, now := m.now.Load(), m.clock()
	life := s.cert.NotAfter.Sub(s.cert.NotBefore)
	due := s.cert.NotBefore.Add(life * 2 / 3)
	if time.Unix(m.seen.Load(), 0).After(due) {
		return true // this clock is behind that of who issued a peer's certificate
	}
	if now.Add(24 * time.Hour).Before(s.cert.NotBefore) {
		// The clock is not set, or the signer's was ahead: there is no telling how old the certificate is, and perhaps
		// there never will be. So it asks once after each start, and counts from there [I4].
		issued := m.issued.Load()
		return issued == 0 || now.Sub(time.Unix(0, issued)) > life*2/3
	}
	return now.After(due)
}

// RenewalRequest returns the certificate request to send to a signer, over a connection made with SignerTLS.
func (m *Membership) RenewalRequest() ([]byte, error) {
	csr, err := request(m.node)
	if err != nil {
		return nil, fmt.Errorf("renewal: %w", err)
	}
	return csr, nil
}

// Renewed takes in what a signer granted: the certificate, and whatever else this node has missed. It is on disk when it returns,
// and new handshakes use it. After an error everything is as it was.
func (m *Membership) Renewed(g Grant) error {
	_, err := m.change(func(s *standing) (*standing, bool, error) {
		next, err := s.renewed(g, m.node)
		return next, err == nil, err
	})
	if err != nil {
		return fmt.Errorf("renewal: %w", err)
	}
	m.issued.Store(m.clock().UnixNano())
	m.seen.Store(0)
	return nil
}

// saw remembers when a peer's certificate began.
func (m *Membership) saw(began time.Time) {
	for {
		before := m.seen.Load()
		if began.Unix() <= before || m.seen.CompareAndSwap(before, began.Unix()) {
			return
		}
	}
}

// rejoined is Renewed for a grant to a new token, which may say other things of the node.
func (m *Membership) rejoined(g Grant) error {
	_, err := m.change(func(s *standing) (*standing, bool, error) {
		next, err := s.renewed(g, m.node)
		if err == nil {
			next.grant.Name, next.grant.Labels = g.Name, g.Labels
		}
		return next, err == nil, err
	})
	if err != nil {
		return fmt.Errorf("join: %w", err)
	}
	return nil
}

// renewed returns a copy of s with a later grant taken in.
func (s *standing) renewed(g Grant, node Node) (*standing, error) {
	if !bytes.Equal(g.CA, s.grant.CA) {
		return nil, fmt.Errorf("%w: the grant is of another cluster, %q", ErrPeer, g.Cluster)
	}
	granted, err := check(g, node)
	if err != nil {
		return nil, err
	}
	merged := s
	for _, b := range append([][]byte{g.Keys, g.Trust}, g.Revocations...) {
		if merged, _, err = merged.merge(b); err != nil {
			return nil, err
		}
	}
	next := *merged
	next.cert, next.grant.Certificate = granted.cert, g.Certificate
	return &next, nil
}
