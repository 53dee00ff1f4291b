package agent

import (
	"context"
	"errors"
	"slices"

	"mayfly/admin"
	"mayfly/cluster/catalog"
	"mayfly/cluster/identity"
	"mayfly/function"
)

// errTooFew is why a record that a key here has signed is not obeyed.
var errTooFew = errors.New("more operators must sign it")

// propose is the error that asks operators to sign a record, with the signatures it has.
func (o *orders) propose(r catalog.Record, signatures []byte, why error) error {
	return &admin.Unsigned{Err: why, Order: admin.Order{
		Cluster: o.member.Cluster(), Kind: string(r.Kind), Key: r.Key, Version: r.Ver, Writer: r.Writer, Deleted: r.Deleted, Body: r.Body,
		Signatures: signatures,
	}}
}

// own signs a record with the key on this node. It proposes it to others when the cluster wants more signatures, and without this one when the
// cluster does not trust that key any more: a wrong signature spoils an order.
func (o *orders) own(r catalog.Record) ([]byte, error) {
	trust := o.member.Trust()
	signed := o.operator.Sign(o.member.Cluster(), r.Signed())
	err := trust.Verify(r.Signed(), signed)
	if err == nil {
		return signed, nil
	}
	public := o.operator.Public().String()
	if slices.ContainsFunc(trust.Keys, func(k identity.OperatorKey) bool { return k.String() == public }) {
		return nil, o.propose(r, signed, errTooFew)
	}
	return nil, o.propose(r, nil, err)
}

// ordering implements admin.Orders.
type ordering struct{ *Agent }

// Submit implements admin.Orders. What the change has for consequences is follow's business, as with a change that was made elsewhere.
func (a ordering) Submit(ctx context.Context, o admin.Order) error {
	if a.pool == nil {
		return admin.Alone("order")
	}
	if o.Cluster != a.member.Cluster() {
		return &function.Error{
			Op: "order", Subject: o.Key, Class: function.ClassReject, Kind: admin.KindInvalid, Err: errors.New("it is for cluster " + o.Cluster),
		}
	}
	r := catalog.Record{Kind: catalog.Kind(o.Kind), Key: o.Key, Ver: o.Version, Writer: o.Writer, Deleted: o.Deleted, Body: o.Body, Sig: o.Signatures}
	if err := a.catalog.Obey(ctx, r); err != nil {
		return err
	}
	if r.Kind == catalog.KindFunction && !r.Deleted {
		return a.reconcile() // so that the answer to the next question has it
	}
	return nil
}

// Operators implements admin.Orders.
func (a ordering) Operators(context.Context) (admin.Operators, error) {
	if a.pool == nil {
		return admin.Operators{}, admin.Alone("show operators")
	}
	t := a.member.Trust()
	out := admin.Operators{Threshold: t.Threshold}
	for _, k := range t.Keys {
		out.Keys = append(out.Keys, k.String())
	}
	return out, nil
}

// Trust implements admin.Orders.
func (a ordering) Trust(ctx context.Context, o admin.Operators) (admin.Operators, error) {
	s, err := a.signing("trust operators")
	if err != nil {
		return admin.Operators{}, err
	}
	var keys []identity.OperatorKey
	for _, text := range o.Keys {
		k, err := identity.ParseOperatorKey(text)
		if err != nil {
			return admin.Operators{}, &function.Error{Op: "trust", Subject: "operators", Class: function.ClassReject, Kind: admin.KindInvalid, Err: err}
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return admin.Operators{}, &function.Error{
			Op: "trust", Subject: "operators", Class: function.ClassReject, Kind: admin.KindInvalid, Err: errors.New("without operators everybody would be obeyed"),
		}
	}
	if _, err := s.SetTrust(o.Threshold, keys...); err != nil {
		return admin.Operators{}, &function.Error{Op: "trust", Subject: "operators", Class: function.ClassReject, Kind: admin.KindInvalid, Err: err}
	}
	a.log.Warn("the cluster obeys other operators", "keys", len(keys), "threshold", o.Threshold)
	a.pool.words.say()
	return a.Operators(ctx)
}
