package agent

import (
	"errors"
	"path/filepath"
	"testing"

	"mayfly/admin"
	"mayfly/cluster/catalog"
	"mayfly/cluster/identity"
	"mayfly/store"
)

// orders are those of the founder, with the operator's key or without.
func (f *founder) orders(t *testing.T, op *identity.Operator) *orders {
	t.Helper()
	dir := t.TempDir()
	if op != nil {
		if err := op.Save(filepath.Join(dir, identity.OperatorFile)); err != nil {
			t.Fatal(err)
		}
	}
	o, err := openOrders(dir, f.node, f.member)
	if err != nil || (o.operator != nil) != (op != nil) {
		t.Fatal(o, err)
	}
	return o
}

func operator(t *testing.T) *identity.Operator {
	t.Helper()
	op, err := identity.GenerateOperator()
	if err != nil {
		t.Fatal(err)
	}
	return &op
}

func signedBy(t *testing.T, o *orders, r catalog.Record) catalog.Record {
	t.Helper()
	sig, err := o.sign(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	r.Sig = sig
	return r
}

func record(kind catalog.Kind, key, writer string) catalog.Record {
	return catalog.Record{Kind: kind, Key: key, Ver: 7, Writer: writer, Body: []byte("{}")}
}

// What a node says about itself counts when that node has signed it, and as long as it was not shut out ([I5]).
func TestANodeSpeaksForItself(t *testing.T) {
	f, g := founded(t, cut), founded(t, cut)
	o := f.orders(t, nil)
	foreign := &orders{node: g.node, member: f.member} // another member of the same cluster
	own := signedBy(t, o, record(catalog.KindNode, f.node.ID, f.node.ID))
	theirs := signedBy(t, foreign, record(catalog.KindNode, g.node.ID, g.node.ID))
	for what, r := range map[string]catalog.Record{
		"its own": own, "that of another": theirs,
	} {
		if err := o.verify(r); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	later, body, named, short, unsigned := own, own, own, own, own
	later.Ver++
	body.Body = []byte("[]")
	named.Key = g.node.ID
	short.Sig = own.Sig[:len(own.Sig)-1]
	unsigned.Sig = nil
	for what, r := range map[string]catalog.Record{
		"another version": later, "another body": body, "another node": named, "half a signature": short, "no signature": unsigned,
		"signed for somebody else": signedBy(t, foreign, record(catalog.KindNode, f.node.ID, g.node.ID)),
	} {
		if err := o.verify(r); !errors.Is(err, errNobodySigned) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := f.a.Revoke(g.node.ID); err != nil {
		t.Fatal(err)
	}
	if err := o.verify(theirs); !errors.Is(err, identity.ErrRevoked) {
		t.Errorf("it speaks though it was shut out: %v", err)
	}
}

// Everything else is an order: it counts when an operator signed it whom the cluster trusts now, and in development always ([I5]).
func TestOrdersCountWhenOperatorsSignedThem(t *testing.T) {
	f := founded(t, cut)
	op, stranger := operator(t), operator(t)
	with, without, wrong := f.orders(t, op), f.orders(t, nil), f.orders(t, stranger)
	r := record(catalog.KindFunction, "f", "elsewhere")
	if _, err := f.a.SetTrust(1); err != nil {
		t.Fatal(err)
	}
	if sig, err := without.sign(t.Context(), r); err != nil || sig != nil || without.verify(r) != nil {
		t.Errorf("in development an order needs a signature: %v", err)
	}
	if _, err := f.a.SetTrust(1, op.Public()); err != nil {
		t.Fatal(err)
	}
	if _, err := without.sign(t.Context(), r); !errors.Is(err, errNoOperator) {
		t.Errorf("without an operator's key: %v", err)
	}
	good := signedBy(t, with, r)
	foreign := r
	foreign.Sig = wrong.operator.Sign(wrong.member.Cluster(), r.Signed())
	if _, err := wrong.sign(t.Context(), r); err == nil {
		t.Error("a key that is not trusted signs")
	} else if o, ok := admin.OrderOf(err); !ok || len(o.Signatures) != 0 {
		t.Errorf("a key that is not trusted spoils an order: %v", err)
	}
	altered := good
	altered.Deleted = true
	for _, c := range []struct {
		what string
		r    catalog.Record
		ok   bool
	}{
		{"signed", good, true},
		{"altered", altered, false},
		{"unsigned", r, false},
		{"signed by a stranger", foreign, false},
		{"unsigned, of this node", record(catalog.KindFunction, "f", f.node.ID), false},
		{"signed by the node", signedBy(t, without, record(catalog.KindNode, f.node.ID, f.node.ID)), true},
	} {
		if err := without.verify(c.r); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.what, err)
		}
	}
}

// What was deployed while the node was alone counts where the operator's key is, until it is signed; then everywhere. Nothing else is
// signed on the way.
func TestWhatWasThereBeforeIsAdopted(t *testing.T) {
	f := founded(t, cut)
	op := operator(t)
	if _, err := f.a.SetTrust(1, op.Public()); err != nil {
		t.Fatal(err)
	}
	with, without := f.orders(t, op), f.orders(t, nil)
	st, _ := opened(t, filepath.Join(t.TempDir(), "store"))
	save := func(ops []store.Op) error {
		if len(ops) == 0 {
			return nil
		}
		done := make(chan error, 1)
		if err := st.Submit(ops, func(err error) { done <- err }); err != nil {
			return err
		}
		return <-done
	}
	key := func(r catalog.Record) []byte { return store.Catalog.Key(string(r.Kind), []byte(r.Key)) }
	old, foreign, node := record(catalog.KindFunction, "old", f.node.ID), record(catalog.KindFunction, "foreign", "x"), record(catalog.KindNode, "n", f.node.ID)
	ops := []store.Op{{Key: store.Catalog.Key("", []byte("state")), Value: []byte("{}")}, {Key: store.Catalog.Key("function", []byte("damaged")), Value: []byte("?")}}
	for _, r := range []catalog.Record{old, foreign, node} {
		ops = append(ops, store.Op{Key: key(r), Value: r.Encode()})
	}
	if err := save(ops); err != nil {
		t.Fatal(err)
	}
	if with.verify(old) != nil || without.verify(old) == nil || with.verify(foreign) == nil || with.verify(node) == nil {
		t.Error("before: it counts where the operator's key is, and nowhere else")
	}
	writes := 0
	counted := func(ops []store.Op) error { writes += len(ops); return save(ops) }
	for range 2 { // the second time there is nothing left to do
		if err := errors.Join(without.adopt(st, counted), with.adopt(st, counted)); err != nil {
			t.Fatal(err)
		}
	}
	if writes != 1 {
		t.Errorf("%d records were signed", writes)
	}
	for _, r := range []catalog.Record{old, foreign} {
		value, _, err := st.Get(key(r))
		if err != nil {
			t.Fatal(err)
		}
		now, err := catalog.Decode(value)
		if err != nil || (without.verify(now) == nil) != (r.Key == "old") {
			t.Errorf("%s: %v, %v", r.Key, without.verify(now), err)
		}
	}
	failing := errors.New("no room")
	if err := f.orders(t, op).adopt(st, func([]store.Op) error { return failing }); !errors.Is(err, failing) {
		t.Errorf("a write that failed: %v", err)
	}
}
