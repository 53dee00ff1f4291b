package identity

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// Errors of signers that a caller may want to tell apart.
var (
	ErrNotSigner = errors.New("this node is no signer")
	ErrClock     = errors.New("the clock of this node is not set")
	ErrMember    = errors.New("this node is a member of a cluster already")
)

const (
	// AuthorityFile is the name of the authority's file in a membership's directory.
	AuthorityFile = "authority"
	authorityWhat = "authority"
	// earliest is a time that no clock that is set says; the year this was written.
	earliest = 1767225600 // 2026-01-01T00:00:00Z, seconds since 1970
)

// authorityKey is the key a cluster is made of. Who has it decides who is a member.
type authorityKey struct {
	cluster string
	ca      *x509.Certificate
	key     ed25519.PrivateKey
}

type authorityRecord struct {
	Cluster string `json:"cluster"`
	CA      []byte `json:"ca"`   // DER
	Seed    []byte `json:"seed"` // of the Ed25519 key
}

// Authority admits nodes, renews their certificates, and says what every member believes. It is safe for concurrent use.
type Authority struct {
	*authorityKey
	dir string
	m   *Membership

	mu     sync.Mutex
	tokens map[string]tokenRecord
	failed attempts
}

// Found makes a cluster with this node as its only member and signer. It leaves in dir the authority, an operator's key that the
// cluster trusts, and the membership; the membership comes last, so that a Found that was interrupted can be repeated. The
// error wraps ErrMember when there is a membership, and ErrClock when the clock is plainly wrong.
func Found(dir string, node Node, cluster string, clock func() time.Time) (*Membership, error) {
	if clock == nil {
		clock = time.Now
	}
	now := clock().Truncate(time.Second)
	if !isCluster(cluster) {
		return nil, fmt.Errorf("found: %q cannot be a cluster's name: up to 63 lower-case letters, digits, dashes and dots", cluster)
	}
	if now.Before(time.Unix(earliest, 0)) {
		return nil, fmt.Errorf("found: %w: it says %s; set it, because certificates begin with it", ErrClock, now.UTC().Format(time.RFC3339))
	}
	if m, err := Open(dir, node, clock); !errors.Is(err, ErrNoCluster) {
		if err == nil {
			err = fmt.Errorf("%w, %q; let it leave that first", ErrMember, m.Cluster())
		}
		return nil, fmt.Errorf("found: %w", err)
	}
	m, err := found(dir, node, cluster, clock)
	if err != nil {
		return nil, fmt.Errorf("found: %w", err)
	}
	return m, nil
}

func found(dir string, node Node, cluster string, clock func() time.Time) (*Membership, error) {
	if err := makeDir(dir); err != nil {
		return nil, err
	}
	now := clock().Truncate(time.Second)
	a, err := loadAuthority(dir)
	if errors.Is(err, fs.ErrNotExist) {
		a, err = createAuthority(dir, cluster, now)
	}
	if err != nil {
		return nil, err
	}
	if a.cluster != cluster {
		return nil, fmt.Errorf("%s holds the authority of %q; move it away to found another cluster", dir, a.cluster)
	}
	path := filepath.Join(dir, OperatorFile)
	o, err := LoadOperator(path)
	if errors.Is(err, fs.ErrNotExist) {
		if o, err = GenerateOperator(); err == nil {
			err = o.Save(path)
		}
	}
	if err != nil {
		return nil, err
	}
	trust := Trust{Cluster: cluster, Epoch: 1, Threshold: 1, Keys: []OperatorKey{o.Public()}}
	g := Grant{
		Format: grantFormat, Cluster: cluster, CA: a.ca.Raw,
		Keys:  say(a.key, aboutKeys, cluster, newKeys(now).encode()),
		Trust: say(a.key, aboutTrust, cluster, trust.encode()),
	}
	if g.Certificate, err = a.issue(publicOf(node.Key), now, signerUnit); err != nil {
		return nil, err
	}
	return settle(dir, node, g, clock)
}

func createAuthority(dir, cluster string, now time.Time) (*authorityKey, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := newCA(cluster, key, now)
	if err != nil {
		return nil, err
	}
	if err := writeSealed(dir, AuthorityFile, authorityWhat, authorityRecord{cluster, der, key.Seed()}); err != nil {
		return nil, err
	}
	return loadAuthority(dir)
}

func loadAuthority(dir string) (*authorityKey, error) {
	var r authorityRecord
	err := readSealed(dir, AuthorityFile, authorityWhat, &r)
	if err != nil {
		return nil, err
	}
	a := &authorityKey{cluster: r.Cluster}
	if len(r.Seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("authority: %w: its key has %d bytes", ErrDamaged, len(r.Seed))
	}
	a.key = ed25519.NewKeyFromSeed(r.Seed)
	if a.ca, err = x509.ParseCertificate(r.CA); err != nil {
		return nil, fmt.Errorf("authority: %w: %w", ErrDamaged, err)
	}
	if !publicOf(a.key).Equal(a.ca.PublicKey) {
		return nil, fmt.Errorf("authority: %w: its key is not that of its certificate", ErrDamaged)
	}
	return a, nil
}

// OpenAuthority opens the authority in dir on behalf of a member of its cluster, which becomes a signer by that. The error wraps
// ErrNotSigner when there is none, and ErrDamaged when it cannot be read.
func OpenAuthority(dir string, m *Membership) (*Authority, error) {
	key, err := loadAuthority(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("authority: %w", ErrNotSigner)
	case errors.Is(err, ErrDamaged):
		return nil, fmt.Errorf("authority: %w; restore the file from a backup: nobody can join or renew without it, and members go on until their certificates expire", err)
	case err != nil:
		return nil, fmt.Errorf("authority: %w", err)
	}
	if !bytes.Equal(key.ca.Raw, m.now.Load().grant.CA) {
		return nil, fmt.Errorf("authority: it is that of %q, and this node is a member of %q with another authority; move one of them away", key.cluster, m.Cluster())
	}
	a := &Authority{authorityKey: key, dir: dir, m: m, failed: attempts{}}
	if a.tokens, err = loadTokens(dir); err != nil {
		return nil, fmt.Errorf("authority: %w", err)
	}
	if !isSigner(m.Certificate()) {
		return a, a.RenewOwn()
	}
	return a, nil
}

// time returns the time, or an error when the clock is plainly wrong: nothing may be issued or admitted by such a clock [I4].
func (a *Authority) time() (time.Time, error) {
	now := a.m.clock().Truncate(time.Second)
	if now.Before(a.ca.NotBefore) {
		return now, fmt.Errorf("%w: it says %s, before the cluster was founded; set it, or wait until the network does", ErrClock, now.UTC().Format(time.RFC3339))
	}
	return now, nil
}

// ServerTLS is Membership.ServerTLS, and lets in those as well who come to join, without any certificate, or to renew. On
// connections for which Joining holds only Admit and Renew may be called.
func (a *Authority) ServerTLS() *tls.Config { return a.m.server(true) }

// grant makes the grant for a key.
func (a *Authority) grant(key ed25519.PublicKey, now time.Time) (Grant, error) {
	var units []string
	if idOf(key) == a.m.ID() {
		units = []string{signerUnit}
	}
	cert, err := a.issue(key, now, units...)
	if err != nil {
		return Grant{}, err
	}
	known := a.m.now.Load().grant
	return Grant{
		Format: grantFormat, Cluster: a.cluster, CA: a.ca.Raw, Certificate: cert,
		Keys: known.Keys, Trust: known.Trust, Revocations: known.Revocations,
	}, nil
}

// Renew grants the node that RenewerOf named a new certificate, and with it what it has missed. The request must be made with
// that node's key. Revoked nodes get nothing; the error wraps ErrRevoked then.
func (a *Authority) Renew(nodeID string, csr []byte) (Grant, error) {
	now, err := a.time()
	if err != nil {
		return Grant{}, fmt.Errorf("renew %s: %w", nodeID, err)
	}
	key, err := requestedKey(csr)
	switch {
	case err != nil:
		return Grant{}, fmt.Errorf("renew %s: %w", nodeID, err)
	case idOf(key) != nodeID:
		return Grant{}, fmt.Errorf("renew %s: %w: it is for the key of %s", nodeID, ErrRequest, idOf(key))
	case a.m.Revoked(nodeID):
		return Grant{}, fmt.Errorf("renew %s: %w", nodeID, ErrRevoked)
	}
	g, err := a.grant(key, now)
	if err != nil {
		return Grant{}, fmt.Errorf("renew %s: %w", nodeID, err)
	}
	return g, nil
}

// RenewOwn renews the certificate of the signer itself.
func (a *Authority) RenewOwn() error {
	csr, err := a.m.RenewalRequest()
	if err != nil {
		return err
	}
	g, err := a.Renew(a.m.ID(), csr)
	if err != nil {
		return err
	}
	return a.m.Renewed(g)
}

// Revoke shuts a node out for good. The statement it returns is for Learn of every member. After it the keys of gossip should be
// changed: StageKey and UseKey, which the revoked node does not hear of, then DropOldKey.
func (a *Authority) Revoke(nodeID string) (statement []byte, err error) {
	if !isID(nodeID) {
		return nil, fmt.Errorf("revoke: %q is not a node's id", nodeID)
	}
	if nodeID == a.m.ID() {
		return nil, fmt.Errorf("revoke %s: this node is the signer; nobody could join or renew without it", nodeID)
	}
	now, err := a.time()
	if err != nil {
		return nil, fmt.Errorf("revoke %s: %w", nodeID, err)
	}
	return a.tell(aboutRevocation, Revocation{nodeID, now}.encode())
}

// tell says something to all members, beginning with this one.
func (a *Authority) tell(about subject, body []byte) ([]byte, error) {
	statement := say(a.key, about, a.cluster, body)
	_, err := a.m.Learn(statement)
	return statement, err
}

// StageKey adds a new key of gossip that is understood and not used yet. What it returns, here and below, is for Learn of every
// member, over TLS.
func (a *Authority) StageKey() (statement []byte, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.tell(aboutKeys, a.m.Keys().stage().encode())
}

// UseKey makes the staged key the one that encrypts. The old one is understood for KeepOldKey longer. All live members should
// have the epoch of StageKey by then; who has not asks for the keys over TLS.
func (a *Authority) UseKey() (statement []byte, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now, err := a.time()
	if err != nil {
		return nil, err
	}
	keys, err := a.m.Keys().use(now)
	if err != nil {
		return nil, err
	}
	return a.tell(aboutKeys, keys.encode())
}

// DropOldKey ends the time of the old key at once.
func (a *Authority) DropOldKey() (statement []byte, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.tell(aboutKeys, a.m.Keys().drop().encode())
}

// SetTrust says whose orders count from now on, and how many of them must sign. No keys and a threshold of 1 is development:
// everybody's orders count. Orders signed by keys that are not in the set any more have to be signed again.
func (a *Authority) SetTrust(threshold int, keys ...OperatorKey) (statement []byte, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	t := Trust{Cluster: a.cluster, Epoch: a.m.Trust().Epoch + 1, Threshold: threshold, Keys: slices.Clone(keys)}
	slices.SortFunc(t.Keys, func(x, y OperatorKey) int { return bytes.Compare(x.key, y.key) })
	if err := t.check(); err != nil {
		return nil, err
	}
	return a.tell(aboutTrust, t.encode())
}
