package agent

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"mayfly/cluster/catalog"
	"mayfly/cluster/identity"
	"mayfly/store"
)

// orders signs and judges the records of the catalog. What a node says about itself is signed by that node; everything else is an
// order, and counts when operators whom the cluster trusts have signed it: a stolen device, or a stolen key of gossip, can
// order nothing ([I5]).
type orders struct {
	node     identity.Node
	member   *identity.Membership
	operator *identity.Operator // nil where no operator's key is
}

var (
	errNobodySigned = errors.New("it is not signed by the node it is about")
	errNoOperator   = errors.New("there is no operator's key on this node")
)

func openOrders(dir string, node identity.Node, member *identity.Membership) (*orders, error) {
	o := &orders{node: node, member: member}
	key, err := identity.LoadOperator(filepath.Join(dir, identity.OperatorFile))
	switch {
	case err == nil:
		o.operator = &key
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	return o, nil
}

// sign returns the signature of a record that this node is about to write.
func (o *orders) sign(_ context.Context, r catalog.Record) ([]byte, error) {
	switch {
	case r.Kind == catalog.KindNode:
		public, _ := o.node.Key.Public().(ed25519.PublicKey)
		return append(append([]byte(nil), public...), ed25519.Sign(o.node.Key, o.signed(r))...), nil
	case o.operator != nil:
		return o.own(r)
	case o.member.Trust().Development():
		return nil, nil
	}
	return nil, o.propose(r, nil, errNoOperator)
}

// signed is what a node signs about itself: a record of this cluster and of no other use of its key.
func (o *orders) signed(r catalog.Record) []byte {
	return append([]byte("mayfly node record "+o.member.Cluster()+"\x00"), r.Signed()...)
}

// verify says whether a record is to be obeyed. It looks at nothing but the record and what the authority said.
func (o *orders) verify(r catalog.Record) error {
	if r.Kind != catalog.KindNode {
		if o.member.Trust().Development() || o.orphaned(r) {
			return nil
		}
		return o.member.Trust().Verify(r.Signed(), r.Sig)
	}
	if len(r.Sig) != ed25519.PublicKeySize+ed25519.SignatureSize {
		return errNobodySigned
	}
	public := ed25519.PublicKey(r.Sig[:ed25519.PublicKeySize])
	switch {
	case identity.IDOfKey(public) != r.Key || !ed25519.Verify(public, o.signed(r), r.Sig[ed25519.PublicKeySize:]):
		return errNobodySigned
	case o.member.Revoked(r.Key):
		return fmt.Errorf("%s: %w", r.Key, identity.ErrRevoked)
	}
	return nil
}

// orphaned says whether a record is from when this node was alone, and nobody asked for signatures. It counts here, where the
// operator's key is, until adopt has signed it; elsewhere it never does.
func (o *orders) orphaned(r catalog.Record) bool {
	return len(r.Sig) == 0 && o.operator != nil && r.Writer == o.node.ID && r.Kind != catalog.KindNode
}

// adopt signs what this node had deployed while it was alone. It runs when the node founds a cluster, and again at every start, which
// makes good what a power cut prevented.
func (o *orders) adopt(s notebook, save func([]store.Op) error) error {
	if o.operator == nil {
		return nil
	}
	var ops []store.Op
	err := s.Scan(store.Catalog.All(), nil, func(key, value []byte, _ uint64) bool {
		_, kind, _, ok := store.SplitKey(key)
		if !ok || kind == "" || value == nil {
			return true
		}
		if r, err := catalog.Decode(value); err == nil && o.orphaned(r) {
			r.Sig = o.operator.Sign(o.member.Cluster(), r.Signed())
			ops = append(ops, store.Op{Key: append([]byte(nil), key...), Value: r.Encode()})
		}
		return true
	})
	if err != nil {
		return err
	}
	return save(ops)
}
