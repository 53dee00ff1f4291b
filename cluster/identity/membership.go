package identity

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"mayfly/internal/durable"
)

// ErrNoCluster is wrapped by the error of Open when this node belongs to no cluster.
var ErrNoCluster = errors.New("this node belongs to no cluster")

var errOther = errors.New("the certificate is for another node")

const (
	membershipFile = "membership"
	membershipWhat = "membership"
	joinedFile     = "joined" // that there was a membership: one that is gone is not one that never was

	advice = "restore the file and the node's key from one backup; or join again with a new token; " +
		"or, on the signer, remove the file, and the file joined beside it, and found the cluster again by the same name, which keeps its authority"

	maxRevoked = 8192 // all of them fit into a Grant
)

// Membership is what a node has from its cluster. Every change is on disk before anybody sees it. Safe for concurrent use; one
// process at a time opens a directory.
type Membership struct {
	dir   string
	node  Node
	clock func() time.Time
	now   atomic.Pointer[standing]
	// issued is what the clock said when the certificate in use was granted, if this process was there: nanoseconds since
	// 1970, 0 = it was not.
	issued atomic.Int64
	// seen is the latest beginning of a peer's certificate since then, in seconds since 1970: it is at least that late.
	seen atomic.Int64

	mu      sync.Mutex    // held while the standing changes
	changed chan struct{} // closed by the next change
}

// standing is a grant that was checked: everything in it is of this node's cluster and from its authority. It is immutable.
type standing struct {
	grant   Grant
	ca      *x509.Certificate
	cert    *x509.Certificate
	keys    Keys
	trust   Trust
	revoked map[string]Revocation
}

// Open reads the membership that Found or Join left in dir. The error wraps ErrNoCluster when there is none, and ErrDamaged when
// it cannot be read, or is gone and was there: a member does not become a node of its own by accident [I6]. clock is the wall clock, which may be wrong; nil = time.Now.
func Open(dir string, node Node, clock func() time.Time) (*Membership, error) {
	var g Grant
	err := readSealed(dir, membershipFile, membershipWhat, &g)
	switch {
	case errors.Is(err, fs.ErrNotExist) && joined(dir):
		return nil, fmt.Errorf("membership %s: %w: it is missing, and this node was a member; alone it would run what the cluster runs, a second time; "+
			"restore it from a backup; or remove %s as well, and the node is alone, to join or found a cluster again",
			filepath.Join(dir, membershipFile), ErrDamaged, filepath.Join(dir, joinedFile))
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("membership: %w: found one with mayfly init, or join one with mayfly join", ErrNoCluster)
	case errors.Is(err, ErrDamaged):
		return nil, fmt.Errorf("membership: %w; %s", err, advice)
	case err != nil:
		return nil, fmt.Errorf("membership: %w", err)
	}
	s, err := check(g, node)
	if err != nil {
		return nil, fmt.Errorf("membership %s: %w; %s", filepath.Join(dir, membershipFile), err, advice)
	}
	if !joined(dir) {
		if err := durable.Write(filepath.Join(dir, joinedFile), nil); err != nil {
			return nil, fmt.Errorf("membership: %w", err)
		}
	}
	return hold(dir, node, s, clock), nil
}

func joined(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, joinedFile))
	return err == nil
}

// settle writes a membership that begins.
func settle(dir string, node Node, g Grant, clock func() time.Time) (*Membership, error) {
	s, err := check(g, node)
	if err != nil {
		return nil, err
	}
	if err := makeDir(dir); err != nil {
		return nil, err
	}
	if err := writeSealed(dir, membershipFile, membershipWhat, g); err != nil {
		return nil, err
	}
	m := hold(dir, node, s, clock)
	m.issued.Store(m.clock().UnixNano())
	return m, nil
}

func hold(dir string, node Node, s *standing, clock func() time.Time) *Membership {
	if clock == nil {
		clock = time.Now
	}
	m := &Membership{dir: dir, node: node, clock: clock, changed: make(chan struct{})}
	m.now.Store(s)
	return m
}

// Leave forgets the cluster: the node belongs to none from the next start on. What the node's key is trusted with elsewhere ends
// with its revocation, not with this. A signer cannot leave: nobody could join or renew without it.
func Leave(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, AuthorityFile)); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("membership: this node is a signer; move %s to another member, or away, and leave then", filepath.Join(dir, AuthorityFile))
	}
	for _, name := range []string{joinedFile, membershipFile} { // in this order: the other one could not be left again
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("membership: %w", err)
		}
	}
	if err := durable.SyncDir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("membership: %w", err)
	}
	return nil
}

// Abandon is Leave for a signer: everything of the membership, the authority's key and the operator's with it, is put aside under a name that says
// when, readable by its owner only. Nothing reads it there; moved back it is the membership again. Abandoning nothing is no error.
func Abandon(dir string) error {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	aside := dir + ".left-" + time.Now().UTC().Format("20060102T150405.000Z")
	if err := os.Rename(dir, aside); err != nil {
		return fmt.Errorf("membership: %w", err)
	}
	if err := durable.SyncDir(filepath.Dir(dir)); err != nil {
		return fmt.Errorf("membership: %w", err)
	}
	return nil
}

// check reads and verifies everything in a grant for node. It does not look at any clock.
func check(g Grant, node Node) (*standing, error) {
	s := &standing{grant: g, revoked: map[string]Revocation{}}
	if g.Format != grantFormat || !isCluster(g.Cluster) {
		return nil, fmt.Errorf("%w: format %d, cluster %q", ErrMessage, g.Format, g.Cluster)
	}
	if err := checkNames(g.Name, g.Labels); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMessage, err)
	}
	var err error
	if s.ca, err = x509.ParseCertificate(g.CA); err != nil {
		return nil, fmt.Errorf("certificate of the authority: %w", err)
	}
	if s.cert, err = x509.ParseCertificate(g.Certificate); err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	id, err := verify(s.cert, s.ca, g.Cluster)
	if err != nil {
		return nil, err
	}
	if id != node.ID {
		return nil, fmt.Errorf("%w: it is for %s, and this is %s", errOther, id, node.ID)
	}
	if err := s.learnAll(aboutKeys, g.Keys); err != nil {
		return nil, err
	}
	if err := s.learnAll(aboutTrust, g.Trust); err != nil {
		return nil, err
	}
	return s, s.learnAll(aboutRevocation, g.Revocations...)
}

// learnAll takes in statements that must be about one subject.
func (s *standing) learnAll(about subject, all ...[]byte) error {
	for _, b := range all {
		said, err := s.learn(b)
		if err != nil {
			return err
		}
		if said.about != about {
			return fmt.Errorf("%w: it is about something else", ErrStatement)
		}
	}
	return nil
}

// learn verifies a statement and takes it in, whatever was known before.
func (s *standing) learn(b []byte) (statement, error) {
	said, err := hear(b, s.grant.Cluster, s.ca)
	if err != nil {
		return said, err
	}
	switch said.about {
	case aboutKeys:
		s.keys, err = decodeKeys(said.body)
		s.grant.Keys = b
	case aboutTrust:
		s.trust, err = decodeTrust(said.cluster, said.body)
		s.grant.Trust = b
	case aboutRevocation:
		var r Revocation
		r, err = decodeRevocation(said.body)
		if s.revoked[r.Node] = r; err == nil && len(s.revoked) > maxRevoked {
			err = fmt.Errorf("more than %d nodes were revoked", maxRevoked)
		}
	default:
		err = fmt.Errorf("%w: unknown subject %d", ErrStatement, said.about)
	}
	return said, err
}

// merge returns s with a statement taken in, and whether that changed anything. Of keys and of operators the later epoch
// counts, of two of one epoch, which two signers may have made, the greater bytes; revocations add up, and the first of a node
// stays. So it does not matter in which order statements arrive, or how often [I3].
func (s *standing) merge(b []byte) (*standing, bool, error) {
	next := *s
	next.revoked = maps.Clone(s.revoked)
	said, err := next.learn(b)
	if err != nil {
		return s, false, err
	}
	switch said.about {
	case aboutKeys:
		return later(s, &next, cmp.Or(cmp.Compare(next.keys.Epoch, s.keys.Epoch), bytes.Compare(b, s.grant.Keys)))
	case aboutTrust:
		return later(s, &next, cmp.Or(cmp.Compare(next.trust.Epoch, s.trust.Epoch), bytes.Compare(b, s.grant.Trust)))
	case aboutRevocation:
		if len(next.revoked) == len(s.revoked) {
			return s, false, nil
		}
		next.grant.Revocations = append(slices.Clip(s.grant.Revocations), bytes.Clone(b))
	}
	return &next, true, nil
}

func later(before, next *standing, order int) (*standing, bool, error) {
	if order > 0 {
		return next, true, nil
	}
	return before, false, nil
}

// change replaces the standing by what step makes of it, durably. After an error everything is as it was.
func (m *Membership) change(step func(*standing) (*standing, bool, error)) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	next, news, err := step(m.now.Load())
	if err != nil || !news {
		return false, err
	}
	if err := writeSealed(m.dir, membershipFile, membershipWhat, next.grant); err != nil {
		return false, err
	}
	m.now.Store(next)
	close(m.changed)
	m.changed = make(chan struct{})
	return true, nil
}

// Learn takes in statements of the authority about keys, operators and revocations, from wherever they came. It says whether
// there was news; all news are on disk together when it returns. Errors wrap ErrStatement for what the authority did not
// say; the rest is taken in all the same.
func (m *Membership) Learn(statements ...[]byte) (news bool, err error) {
	var faults []error
	news, err = m.change(func(s *standing) (*standing, bool, error) {
		changed := false
		for _, b := range statements {
			next, news, err := s.merge(bytes.Clone(b))
			if err != nil {
				faults = append(faults, err)
			}
			s, changed = next, changed || news
		}
		return s, changed, nil
	})
	if err = errors.Join(append(faults, err)...); err != nil {
		return news, fmt.Errorf("membership: %w", err)
	}
	return news, nil
}

// Watch returns a channel that is closed when something of the membership has changed since this call.
func (m *Membership) Watch() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.changed
}

// Cluster is the cluster's name.
func (m *Membership) Cluster() string { return m.now.Load().grant.Cluster }

// CA is the authority's certificate, DER. It is not to be changed.
func (m *Membership) CA() []byte { return m.now.Load().grant.CA }

// ID is the id of this node.
func (m *Membership) ID() string { return m.node.ID }

// Named is what the join token called this node and said of it; empty when it did not.
func (m *Membership) Named() (name string, labels []string) {
	g := m.now.Load().grant
	return g.Name, slices.Clone(g.Labels)
}

// Certificate is this node's certificate. It is not to be changed.
func (m *Membership) Certificate() *x509.Certificate { return m.now.Load().cert }

// Signs says whether this node's certificate is that of a signer.
func (m *Membership) Signs() bool { return isSigner(m.Certificate()) }

// Keys are the keys of gossip; what to use of them is what Keys.At says. They are not to be changed.
func (m *Membership) Keys() Keys { return m.now.Load().keys }

// KeysStatement is what Learn of another member understands. It holds the keys: send it over TLS, never by gossip; and together
// with RevocationStatements, to be learned in one call: nobody should have new keys who does not know yet from whom to keep them.
func (m *Membership) KeysStatement() []byte { return slices.Clone(m.now.Load().grant.Keys) }

// Trust says whose orders count.
func (m *Membership) Trust() Trust { return m.now.Load().trust }

// TrustStatement is what Learn of another member understands. It is no secret.
func (m *Membership) TrustStatement() []byte { return slices.Clone(m.now.Load().grant.Trust) }

// Revoked says whether a node was shut out. It is cheap. What hands out work asks for every request, because a connection may
// be older than the revocation.
func (m *Membership) Revoked(id string) bool {
	_, found := m.now.Load().revoked[id]
	return found
}

// Revocations are all nodes that were shut out, sorted by id.
func (m *Membership) Revocations() []Revocation {
	return slices.SortedFunc(maps.Values(m.now.Load().revoked), func(a, b Revocation) int { return cmp.Compare(a.Node, b.Node) })
}

// RevocationStatements are what Learn of another member understands. They are no secret.
func (m *Membership) RevocationStatements() [][]byte {
	return slices.Clone(m.now.Load().grant.Revocations)
}
