package identity

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrStatement is wrapped by errors about bytes that are no statement of this cluster's authority.
var ErrStatement = errors.New("not a statement of the cluster's authority")

// subject is what a statement is about. The numbers are on the wire.
type subject byte

const (
	aboutKeys       subject = 1 // the keys of gossip
	aboutTrust      subject = 2 // the operators to obey
	aboutRevocation subject = 3 // a node that is shut out
)

// statement is something the authority says to every member. It carries its own proof, so it may come from anybody.
//
//	format, subject, cluster, body, signature
//
// The signature is over what is before it, after a prefix that no certificate begins with: the same key signs those.
type statement struct {
	about   subject
	cluster string
	body    []byte
	signed  []byte
	sig     []byte
}

const (
	statementFormat = 1
	statementPrefix = "mayfly statement\n"
	maxStatement    = 4 << 10 // bytes
)

// say makes a statement.
func say(key ed25519.PrivateKey, about subject, cluster string, body []byte) []byte {
	b := []byte{statementFormat, byte(about)}
	b = appendPart(b, []byte(cluster))
	b = appendPart(b, body)
	return appendPart(b, ed25519.Sign(key, append([]byte(statementPrefix), b...)))
}

// parseStatement decodes what say made, and nothing else. It does not verify.
func parseStatement(b []byte) (statement, error) {
	if len(b) > maxStatement {
		return statement{}, fmt.Errorf("%w: %d bytes", ErrStatement, len(b))
	}
	r := reader{rest: b}
	if r.byte() != statementFormat {
		return statement{}, fmt.Errorf("%w: unknown format", ErrStatement)
	}
	s := statement{about: subject(r.byte())}
	s.cluster = string(r.part())
	s.body = r.part()
	s.signed = b[:len(b)-len(r.rest)]
	s.sig = r.part()
	if !r.end() || len(s.sig) != ed25519.SignatureSize {
		return statement{}, fmt.Errorf("%w: it is cut or too long", ErrStatement)
	}
	return s, nil
}

// hear decodes a statement and verifies that the authority of the cluster made it.
func hear(b []byte, cluster string, ca *x509.Certificate) (statement, error) {
	s, err := parseStatement(b)
	if err != nil {
		return s, err
	}
	key, ok := ca.PublicKey.(ed25519.PublicKey)
	switch {
	case s.cluster != cluster:
		return s, fmt.Errorf("%w: it is for cluster %q, this is %q", ErrStatement, s.cluster, cluster)
	case !ok || !ed25519.Verify(key, append([]byte(statementPrefix), s.signed...), s.sig):
		return s, fmt.Errorf("%w: the signature is wrong", ErrStatement)
	}
	return s, nil
}

func appendPart(b, part []byte) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(part))), part...)
}

// reader takes fields from the front of a message. Once it ran out all it returns is zero, and end says so.
type reader struct {
	rest []byte
	out  bool
}

func (r *reader) take(n int) []byte {
	if r.out || n > len(r.rest) {
		r.out, r.rest = true, nil
		return nil
	}
	taken := r.rest[:n:n]
	r.rest = r.rest[n:]
	return taken
}

func (r *reader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uint64() uint64 {
	if b := r.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (r *reader) part() []byte {
	if b := r.take(2); b != nil {
		return r.take(int(binary.BigEndian.Uint16(b)))
	}
	return nil
}

// end says whether the message held all that was asked for, and nothing more.
func (r *reader) end() bool { return !r.out && len(r.rest) == 0 }
