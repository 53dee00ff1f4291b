package agent

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"time"

	"mayfly/agent/ownership"
	"mayfly/agent/placement"
	"mayfly/cluster"
	"mayfly/cluster/catalog"
	"mayfly/function"
	"mayfly/internal/simnet"
)

func TestBrokersOfANode(t *testing.T) {
	said := []string{"broker:a", "gpio", "broker:b", "admin:1", "broker:c"}
	for _, c := range []struct {
		words   []string
		bits    uint16
		broker  string
		has, up bool
	}{
		{said, 0b010, "b", true, true},
		{said, 0b101, "b", true, false},
		{said, 0b100, "c", true, true},
		{said, 0xffff, "d", false, false},
		{said, 0xffff, "gpio", false, false},
		{nil, 0xffff, "a", false, false},
		{slices.Repeat([]string{"broker:x"}, 1), 1, "x", true, true},
		{append(numbered(maxBrokers), "broker:last"), 0xffff, "last", true, false}, // there is no bit for it
	} {
		if has, up := brokerOf(c.words, c.bits, c.broker); has != c.has || up != c.up {
			t.Errorf("%v, %b, %s: %v, %v", c.words, c.bits, c.broker, has, up)
		}
	}
}

func numbered(n int) (words []string) {
	for i := range n {
		words = append(words, brokerWord+string(rune('a'+i)))
	}
	return words
}

func TestWhereOperatorsComeIn(t *testing.T) {
	for _, c := range []struct {
		words        []string
		gossip, want string
	}{
		{[]string{"broker:a", "admin:7950"}, "10.0.0.1:7946", "10.0.0.1:7950"},
		{[]string{"admin:7950"}, "[fd00::1]:7946", "[fd00::1]:7950"},
		{[]string{"broker:a"}, "10.0.0.1:7946", ""},
		{[]string{"admin:7950"}, "nonsense", ""},
	} {
		if got := adminAddress(c.words, c.gossip); got != c.want {
			t.Errorf("%v at %s: %q", c.words, c.gossip, got)
		}
	}
}

func TestABellWakesEverybodyOnce(t *testing.T) {
	var b bell
	b.ring() // nobody waits
	one, two := b.wait(), b.wait()
	b.ring()
	<-one
	<-two
	select {
	case <-b.wait():
		t.Error("who waits after it has rung is woken")
	default:
	}
}

// pair is a founder and another member that see each other. The other one is told of by description.
func pair(t *testing.T, meta cluster.Meta, said catalog.Node) (f *founder, second string, back *cluster.Cluster) {
	t.Helper()
	net := simnet.New(1)
	at := func(n byte) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, 0, n}), 7946)
	}
	f = founded(t, func() (cluster.Network, error) { return net.Host(at(1)).Listen() })
	second = other(t)
	back, err := cluster.New(cluster.Config{
		Name: second, Cluster: "site", Keys: [][]byte{make([]byte, 32)}, Meta: meta,
		Listen: func() (cluster.Network, error) { return net.Host(at(2)).Listen() },
		Seeds:  []cluster.Peer{{Name: f.node.ID, Addr: at(1).String()}},
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(said)
	if err != nil {
		t.Fatal(err)
	}
	r := catalog.Record{Kind: catalog.KindNode, Key: second, Ver: 1, Writer: second, Body: body}
	if n, err := f.catalog.Apply(t.Context(), []catalog.Record{r}, second); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	runs(t, f.gossip)
	runs(t, back)
	seen(t, f.pool, func(all []cluster.Member) bool { return len(all) == 2 })
	return f, second, back
}

// runs is a member until the test is over.
func runs(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// seen waits until the members are as they should be.
func seen(t *testing.T, p *pool, as func([]cluster.Member) bool) {
	t.Helper()
	late := time.After(30 * time.Second)
	for {
		changed := p.gossip.Watch()
		if as(p.gossip.Members()) {
			return
		}
		select {
		case <-changed:
		case <-late:
			t.Fatalf("the members are %+v", p.gossip.Members())
		}
	}
}

func (f *founder) electorate() *electorate {
	here := placement.Node{
		ID: f.node.ID, Name: "here", Arch: "amd64", OS: "linux", Slots: 99, Speed: 99, Labels: []string{"gpio"}, Capabilities: []string{"broker:a"},
	}
	return &electorate{f.pool, newViewer(f.pool, here)}
}

func of(all []ownership.Node, id string) ownership.Node {
	if i := slices.IndexFunc(all, func(n ownership.Node) bool { return n.ID == id }); i >= 0 {
		return all[i]
	}
	return ownership.Node{}
}

// Whose trigger it may be follows from what gossip and the catalog say of a node, and all nodes come to the same weights, the one it is about too.
func TestWhoMayOwn(t *testing.T) {
	f, second, back := pair(t,
		cluster.Meta{Arch: cluster.ArchARM64, Slots: 4, Speed: 8, Memory: 6, Port: 7947, Brokers: 0b10},
		catalog.Node{Name: "second", Labels: []string{"mains"}, Capabilities: []string{"broker:a", "broker:b"}})
	e := f.electorate()
	anywhere := &function.Function{}
	onARM := &function.Function{Manifest: function.Manifest{Placement: function.Placement{Require: []string{"arch:arm64"}}}}
	onGPIO := &function.Function{Manifest: function.Manifest{Placement: function.Placement{Require: []string{"label:gpio"}}}}
	for _, c := range []struct {
		what            string
		f               *function.Function
		broker          string
		here, there, up bool // eligible here, eligible there, broker up there
	}{
		{"a broker both have", anywhere, "a", true, true, false},
		{"a broker only the other has", anywhere, "b", false, true, true},
		{"a broker nobody has", anywhere, "c", false, false, false},
		{"what the other is", onARM, "a", false, true, false},
		{"what this one is", onGPIO, "a", true, false, false},
	} {
		all := e.Nodes(c.f, c.broker)
		here, there := of(all, f.node.ID), of(all, second)
		if len(all) != 2 || here.Eligible != c.here || there.Eligible != c.there || here.BrokerUp || there.BrokerUp != c.up {
			t.Errorf("%s: %+v", c.what, all)
		}
		if here.Weight != 3 || there.Weight != 2 {
			t.Errorf("%s: weights %v and %v, want 3 slots of speed 1 and 4 of speed a half", c.what, here.Weight, there.Weight)
		}
	}
	back.Drain(true)
	f.gossip.UpdateMeta(func(m *cluster.Meta) { m.Brokers = 1 })
	seen(t, f.pool, func(all []cluster.Member) bool {
		return len(all) == 2 && !slices.ContainsFunc(all, func(m cluster.Member) bool {
			return m.Name == second && !m.Meta.Draining || m.Name != second && m.Meta.Brokers == 0
		})
	})
	all := e.Nodes(anywhere, "a")
	if there := of(all, second); !there.Draining || !there.Eligible {
		t.Errorf("draining is no rule of the manifest, and is said: %+v", there)
	}
	if here := of(all, f.node.ID); !here.BrokerUp {
		t.Errorf("its own connection is not seen: %+v", here)
	}
	if _, err := f.a.Revoke(second); err != nil {
		t.Fatal(err)
	}
	if there := of(e.Nodes(anywhere, "a"), second); there.Eligible {
		t.Error("who was shut out may own triggers")
	}
}

// With its cable out since it started a node is alone, and owns what there is.
func TestAloneWithTheCableOut(t *testing.T) {
	f := founded(t, cut)
	all := f.electorate().Nodes(&function.Function{}, "a")
	if len(all) != 1 || all[0].ID != f.node.ID || !all[0].Eligible || all[0].Weight != 3 {
		t.Errorf("%+v", all)
	}
	if top, ok := ownership.Top("x", all); !ok || top.ID != f.node.ID {
		t.Errorf("nobody owns: %+v", top)
	}
}
