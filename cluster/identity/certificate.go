package identity

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"slices"
	"strings"
	"time"
)

const (
	// CertificateLife is how long a certificate is good for; it is renewed when two thirds of that are over.
	CertificateLife = 30 * 24 * time.Hour
	// RenewalGrace is how long after its end a certificate still gets its node a new one: a device may lie in a drawer.
	RenewalGrace = 180 * 24 * time.Hour

	authorityLife = 50 * 365 * 24 * time.Hour
	scheme        = "mayfly"
	signerUnit    = "signer" // in certificates of nodes that hold the authority
	maxRequest    = 4 << 10  // bytes of a certificate request
)

// Errors a caller may want to tell apart.
var (
	ErrRevoked = errors.New("the node was revoked")
	ErrExpired = errors.New("the certificate has expired")
	ErrPeer    = errors.New("not a member of this cluster")
	ErrRequest = errors.New("not a request for a certificate")
)

// isCluster says whether a cluster may have this name: labels of letters, digits and dashes with dots between them, because
// it is a host in certificates.
func isCluster(s string) bool {
	if len(s) == 0 || len(s) > 63 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		bad := strings.ContainsFunc(label, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' })
		if bad || label == "" || strings.HasPrefix(label, "-") || strings.HasSuffix(label, "-") {
			return false
		}
	}
	return true
}

func nameOf(cluster, id string) *url.URL {
	return &url.URL{Scheme: scheme, Host: cluster, Path: "/" + id}
}

func serial() *big.Int {
	n, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)) // never fails: crypto/rand documents it
	return n
}

// newCA makes the certificate of a new authority. It begins a day early: no clock that is corrected by less than that is taken for
// one that is not set.
func newCA(cluster string, key ed25519.PrivateKey, now time.Time) ([]byte, error) {
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "mayfly cluster " + cluster},
		NotBefore: now.Add(-24 * time.Hour), NotAfter: now.Add(authorityLife),
		KeyUsage: x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
	}
	return x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
}

// issue makes the certificate of a node. Its name comes from its key alone [I1]; units are what more it may do.
func (a *authorityKey) issue(node ed25519.PublicKey, now time.Time, units ...string) ([]byte, error) {
	id := idOf(node)
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: id, OrganizationalUnit: units}, URIs: []*url.URL{nameOf(a.cluster, id)},
		NotBefore: now, NotAfter: now.Add(CertificateLife), BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	return x509.CreateCertificate(rand.Reader, template, a.ca, node, a.key)
}

// request makes a request for a certificate. It says nothing but the key: the authority believes nothing else.
func request(node Node) ([]byte, error) {
	return x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, node.Key)
}

// requestedKey returns the key of a request whose maker has it.
func requestedKey(csr []byte) (ed25519.PublicKey, error) {
	if len(csr) > maxRequest {
		return nil, fmt.Errorf("%w: %d bytes", ErrRequest, len(csr))
	}
	r, err := x509.ParseCertificateRequest(csr)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	key, ok := r.PublicKey.(ed25519.PublicKey)
	if !ok {
		return nil, fmt.Errorf("%w: nodes have Ed25519 keys, not %s", ErrRequest, r.PublicKeyAlgorithm)
	}
	if err := r.CheckSignature(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	return key, nil
}

// claimed returns the cluster and the id a certificate names, if the id is that of its key. It does not verify who issued it.
func claimed(leaf *x509.Certificate) (cluster, id string, ok bool) {
	if len(leaf.URIs) != 1 {
		return "", "", false
	}
	id = idOf(leaf.PublicKey)
	u := leaf.URIs[0]
	return u.Host, id, id != "" && *u == *nameOf(u.Host, id)
}

// verify returns the id in a certificate that ca issued for a node of the cluster, wherever it is in its life [I1].
func verify(leaf, ca *x509.Certificate, cluster string) (string, error) {
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	// The end is judged by whoever asks, who knows what his clock is worth; the beginning by nobody: that the authority
	// issued it is proof that it has begun.
	opts := x509.VerifyOptions{Roots: roots, CurrentTime: leaf.NotBefore, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
	if _, err := leaf.Verify(opts); err != nil {
		return "", fmt.Errorf("%w: %w", ErrPeer, err)
	}
	where, id, ok := claimed(leaf)
	switch {
	case !ok:
		return "", fmt.Errorf("%w: the certificate names no node", ErrPeer)
	case where != cluster:
		return "", fmt.Errorf("%w: it is a member of %q, this is %q", ErrPeer, where, cluster)
	}
	return id, nil
}

func isSigner(leaf *x509.Certificate) bool {
	return slices.Contains(leaf.Subject.OrganizationalUnit, signerUnit)
}

// judgedAt says what time to judge certificates at [I4]. A clock that says it is before the cluster was founded is not set, and
// nothing can be learned from it but that: then it is the time this node's own certificate was issued.
func judgedAt(now time.Time, ca, own *x509.Certificate) time.Time {
	if now.Before(ca.NotBefore) {
		return own.NotBefore
	}
	return now
}

// alive says whether a certificate that ended is still good enough at a time.
func alive(leaf *x509.Certificate, at time.Time, grace time.Duration) error {
	if at.After(leaf.NotAfter.Add(grace)) {
		return fmt.Errorf("%w at %s, and the clock says %s", ErrExpired, leaf.NotAfter.Format(time.RFC3339), at.UTC().Format(time.RFC3339))
	}
	return nil
}
