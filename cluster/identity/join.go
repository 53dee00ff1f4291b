package identity

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"
)

const (
	tokenPrefix = "mf1"
	tokenIDSize = 5
	secretSize  = 20
)

// ErrToken is wrapped by errors about join tokens. Why exactly is said only to who knows the secret.
var ErrToken = errors.New("the join token is not valid")

// Token lets a node join: it names the authority, so that the node cannot be led to a false one, and holds a secret that
// the signer knows the hash of.
type Token struct {
	ca     [sha256.Size]byte // hash of the authority's certificate
	id     string
	secret []byte
}

// ParseToken reads the text of a token, in upper or lower case:
//
//	mf1.<sha256 of the authority's certificate>.<id>.<secret>
func ParseToken(text string) (Token, error) {
	parts := strings.Split(strings.TrimSpace(text), ".")
	if len(parts) != 4 || !strings.EqualFold(parts[0], tokenPrefix) {
		return Token{}, fmt.Errorf("%w: it has the form %s.….….…, as mayfly token create prints it", ErrToken, tokenPrefix)
	}
	ca, ok1 := unspell(parts[1], sha256.Size)
	id, ok2 := unspell(parts[2], tokenIDSize)
	secret, ok3 := unspell(parts[3], secretSize)
	if !ok1 || !ok2 || !ok3 {
		return Token{}, fmt.Errorf("%w: a part of it is cut or mistyped", ErrToken)
	}
	return Token{ca: [sha256.Size]byte(ca), id: spell(id), secret: secret}, nil
}

// Text returns the token with its secret.
func (t Token) Text() string {
	return strings.Join([]string{tokenPrefix, spell(t.ca[:]), t.id, spell(t.secret)}, ".")
}

// ID is the part of the token that may be shown, and by which it is revoked.
func (t Token) ID() string { return t.id }

// String returns the token without its secret.
func (t Token) String() string { return tokenPrefix + "." + t.id }

func (t Token) hash() []byte {
	h := sha256.Sum256(append([]byte("mayfly token "+t.id+"\n"), t.secret...))
	return h[:]
}

// TLS is how a node that joins calls a signer: it accepts a signer of the cluster the token is for and nobody else. The secret
// is sent after the handshake, so nobody else ever sees it [I2]. clock may be wrong: nil = time.Now.
func (t Token) TLS(clock func() time.Time) *tls.Config {
	if clock == nil {
		clock = time.Now
	}
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		ServerName:         signerName,
		Time:               clock,
		InsecureSkipVerify: true, // VerifyConnection checks the whole of it, from the authority the token names
		VerifyConnection: func(state tls.ConnectionState) error {
			return t.judge(state, clock())
		},
	}
}

func (t Token) judge(state tls.ConnectionState, now time.Time) error {
	if len(state.PeerCertificates) == 0 {
		return fmt.Errorf("%w: it has no certificate", ErrPeer)
	}
	leaf, ca := state.PeerCertificates[0], t.authority(state.PeerCertificates[1:])
	if ca == nil {
		return fmt.Errorf("%w: it is not of the cluster the token is for", ErrPeer)
	}
	cluster, _, _ := claimed(leaf) // the token does not say; verify checks that this is what the authority certified
	if _, err := verify(leaf, ca, cluster); err != nil {
		return err
	}
	if err := mustSign(leaf); err != nil {
		return err
	}
	return alive(leaf, judgedAt(now, ca, leaf), 0)
}

// authority finds the certificate the token names.
func (t Token) authority(chain []*x509.Certificate) *x509.Certificate {
	for _, c := range chain {
		if sum := sha256.Sum256(c.Raw); subtle.ConstantTimeCompare(sum[:], t.ca[:]) == 1 {
			return c
		}
	}
	return nil
}

// Request makes what node sends to the signer.
func (t Token) Request(node Node) (JoinRequest, error) {
	csr, err := request(node)
	if err != nil {
		return JoinRequest{}, fmt.Errorf("join: %w", err)
	}
	return JoinRequest{Token: t.Text(), CSR: csr}, nil
}

// Join takes what the signer granted and makes node a member; it is on disk when Join returns. A node that is a member already
// may join the same cluster again, not another one: Leave comes first. A membership that is damaged, or that a former key of
// this node had, is replaced.
func Join(dir string, node Node, token Token, g Grant, clock func() time.Time) (*Membership, error) {
	if sum := sha256.Sum256(g.CA); sum != token.ca {
		return nil, fmt.Errorf("join: %w: the grant is not of the cluster the token is for", ErrPeer)
	}
	switch now, err := Open(dir, node, clock); {
	case err == nil && !bytes.Equal(now.now.Load().grant.CA, g.CA):
		return nil, fmt.Errorf("join: this node is a member of %q; it has to leave that first", now.Cluster())
	case err == nil:
		return now, now.rejoined(g)
	case !errors.Is(err, ErrNoCluster) && !errors.Is(err, ErrDamaged) && !errors.Is(err, errOther):
		return nil, fmt.Errorf("join: %w", err)
	}
	m, err := settle(dir, node, g, clock)
	if err != nil {
		return nil, fmt.Errorf("join: %w", err)
	}
	return m, nil
}
