package admintest

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base32"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"time"

	"mayfly/admin"
	"mayfly/function"
)

// Authority signs certificates for an hour, as that of a cluster does for nodes.
type Authority struct {
	Cert *x509.Certificate
	key  ed25519.PrivateKey
}

// NewAuthority makes one.
func NewAuthority() (*Authority, error) {
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	cert, err := certified(ca, ca, pub, key)
	return &Authority{cert, key}, err
}

func certified(c, by *x509.Certificate, pub ed25519.PublicKey, key ed25519.PrivateKey) (*x509.Certificate, error) {
	raw, err := x509.CreateCertificate(rand.Reader, c, by, pub, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(raw)
}

// Certify makes a certificate for name that is valid for that long, or was until then; the chain ends with the authority.
func (a *Authority) Certify(name string, until time.Duration) (tls.Certificate, error) {
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf, err := certified(&x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(until),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, KeyUsage: x509.KeyUsageDigitalSignature,
	}, a.Cert, pub, a.key)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{leaf.Raw, a.Cert.Raw}, PrivateKey: key, Leaf: leaf}, nil
}

// Pool returns a pool of this authority alone.
func (a *Authority) Pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.Cert)
	return p
}

// Pin is the hash of the authority's certificate.
func (a *Authority) Pin() []byte {
	sum := sha256.Sum256(a.Cert.Raw)
	return sum[:]
}

// Listening is the TLS configuration of a node with that certificate, which also asks callers for theirs.
func (a *Authority) Listening(own tls.Certificate) *tls.Config {
	return &tls.Config{
		Certificates: []tls.Certificate{own}, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: a.Pool(), MinVersion: tls.VersionTLS13,
		NextProtos: []string{"h2", "http/1.1"},
	}
}

// PEM writes a certificate with its chain and its key.
func PEM(c tls.Certificate) ([]byte, error) {
	var b bytes.Buffer
	for _, raw := range c.Certificate {
		if err := pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: raw}); err != nil {
			return nil, err
		}
	}
	key, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		return nil, err
	}
	err = pem.Encode(&b, &pem.Block{Type: "PRIVATE KEY", Bytes: key})
	return b.Bytes(), err
}

// ID is the id of the node a certificate was made for.
func ID(c tls.Certificate) string {
	sum := sha256.Sum256(c.Leaf.PublicKey.(ed25519.PublicKey))
	return strings.ToLower(base32.StdEncoding.EncodeToString(sum[:10]))
}

// Operators lets in, as administrators, those whose certificate is made out to "operator": nodes have certificates too.
func Operators(c *x509.Certificate) (admin.Caller, error) {
	if c.Subject.CommonName != "operator" {
		return admin.Caller{}, &function.Error{
			Op: "enter", Subject: c.Subject.CommonName, Class: function.ClassReject, Kind: admin.KindDenied, Err: errors.New("a node is no operator"),
		}
	}
	return admin.Caller{Name: "operator", Scope: admin.ScopeAdmin}, nil
}
