package agent

import (
	"bytes"
	"errors"
	"path/filepath"
	"testing"

	"mayfly/admin"
	"mayfly/cluster/catalog"
	"mayfly/cluster/identity"
	"mayfly/function"
)

// proposal is the order that a change on a node without a key asks for.
func (d *device) proposal(t *testing.T, f function.Function) admin.Order {
	t.Helper()
	_, err := d.catalog.Put(t.Context(), f)
	o, ok := admin.OrderOf(admin.NewError("deploy", f.Name(), err).Err()) // as it comes to the command line
	if !ok || function.KindOf(err) != "unsigned" {
		t.Fatalf("no order is proposed: %v", err)
	}
	return o
}

func plainFunction(t *testing.T, name, more string) function.Function {
	t.Helper()
	m, err := function.ParseManifest("f.toml", []byte("manifest = 1\nname = \""+name+"\"\n[module]\npath = \"a.wasm\"\n"+more))
	if err != nil {
		t.Fatal(err)
	}
	return function.Function{Manifest: m, Module: function.DigestOf([]byte(name))}
}

// A key that is on no node orders, through any node; an order is for what it was proposed for, once, for a day, and counts when enough have signed.
func TestOrdersSignedElsewhere(t *testing.T) {
	one, two := newDevice(t, "one"), newDevice(t, "two")
	if _, err := one.Init(t.Context(), admin.InitRequest{Name: "site"}); err != nil {
		t.Fatal(err)
	}
	one.restart()
	two.joins(one)
	founder, err := identity.LoadOperator(filepath.Join(one.cfg.Node.Data, "cluster", identity.OperatorFile))
	if err != nil {
		t.Fatal(err)
	}
	laptop, err := identity.GenerateOperator()
	if err != nil {
		t.Fatal(err)
	}
	at := ordering{two.Agent}

	o := two.proposal(t, plainFunction(t, "f", ""))
	r := catalog.Record{Kind: catalog.Kind(o.Kind), Key: o.Key, Ver: o.Version, Writer: o.Writer, Deleted: o.Deleted, Body: o.Body}
	if !bytes.Equal(o.Message(), r.Signed()) {
		t.Fatal("what is signed is not what nodes verify")
	}
	submits := func(what, kind string, o admin.Order, keys ...identity.Operator) {
		t.Helper()
		for _, k := range keys {
			sig := k.Sign("site", o.Message())
			if len(o.Signatures) == 0 {
				o.Signatures = sig
			} else if o.Signatures, err = identity.JoinSignatures(o.Signatures, sig); err != nil {
				t.Fatal(err)
			}
		}
		if err := at.Submit(t.Context(), o); function.KindOf(err) != kind && (kind != "" || err != nil) {
			t.Errorf("%s: %v, want kind %q", what, err, kind)
		}
	}
	submits("not signed", "unsigned", o)
	submits("signed by a stranger", "unsigned", o, laptop)
	if _, err := (ordering{one.Agent}).Trust(t.Context(), admin.Operators{Threshold: 1, Keys: []string{founder.Public().String(), laptop.Public().String()}}); err != nil {
		t.Fatal(err)
	}
	two.until("it obeys the laptop", func() bool { return len(two.member.Trust().Keys) == 2 })
	other := o
	other.Body = bytes.Replace(bytes.Clone(o.Body), []byte(`"f"`), []byte(`"g"`), 1)
	other.Signatures = laptop.Sign("site", o.Message())
	submits("another body", "unsigned", other)
	other = o
	other.Cluster = "another"
	submits("another cluster", admin.KindInvalid, other, laptop)
	submits("signed by the laptop", "", o, laptop)
	one.until("it is everywhere", func() bool { return len(one.names()) == 1 })
	submits("once more", admin.KindConflict, o, laptop)

	later := two.proposal(t, plainFunction(t, "f", "[config]\nx = 1\n"))
	latest := two.proposal(t, plainFunction(t, "f", "[config]\nx = 2\n"))
	submits("of two for one the first", "", later, laptop)
	submits("of two for one the second", admin.KindConflict, latest, laptop)

	if _, err := (ordering{one.Agent}).Trust(t.Context(), admin.Operators{Threshold: 2, Keys: []string{founder.Public().String(), laptop.Public().String()}}); err != nil {
		t.Fatal(err)
	}
	two.until("two must sign", func() bool { return two.member.Trust().Threshold == 2 })
	both := two.proposal(t, plainFunction(t, "g", ""))
	submits("one of two", "unsigned", both, laptop)
	submits("one of two, twice", "unsigned", both, laptop, laptop)
	submits("two of two", "", both, laptop, founder)
	half := one.proposal(t, plainFunction(t, "h", "")) // the founder's key is there
	if len(half.Signatures) == 0 {
		t.Error("what the node can sign is not signed")
	}
	submits("the second of two", "", half, laptop)
	if _, err := (ordering{two.Agent}).Trust(t.Context(), admin.Operators{Threshold: 1, Keys: []string{laptop.Public().String()}}); err == nil {
		t.Error("who does not hold the authority's key says whom to trust")
	}
	if _, err := (ordering{one.Agent}).Trust(t.Context(), admin.Operators{Threshold: 1}); err == nil {
		t.Error("nobody is trusted, so everybody is")
	}
	if err := one.catalog.Obey(t.Context(), catalog.Record{Kind: catalog.KindNode, Key: "x", Ver: 1, Writer: "x"}); err == nil {
		t.Error("what a node says of itself is ordered")
	}
	var e *function.Error
	if err := (ordering{newDevice(t, "three").Agent}).Submit(t.Context(), o); !errors.As(err, &e) || e.Kind != admin.KindAlone {
		t.Errorf("alone: %v", err)
	}
}
