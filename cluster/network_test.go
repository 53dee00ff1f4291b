package cluster_test

import (
	"net/netip"
	"testing"

	"go.uber.org/goleak"

	"mayfly/cluster"
	"mayfly/cluster/clustertest"
	"mayfly/internal/simnet"
)

func TestTheNetworkOfTestsIsOne(t *testing.T) {
	defer goleak.VerifyNone(t)
	n := simnet.New(1)
	i := 0
	clustertest.Network(t, func(t *testing.T) cluster.Network {
		i++
		p, err := n.Host(clustertest.Addr(i)).Listen()
		if err != nil {
			t.Fatal(err)
		}
		return p
	})
}

func TestTheRealNetworkIsOne(t *testing.T) {
	defer goleak.VerifyNone(t)
	for _, bind := range []string{"127.0.0.1:0", "[::1]:0"} {
		t.Run(bind, func(t *testing.T) {
			clustertest.Network(t, func(t *testing.T) cluster.Network {
				u, err := cluster.ListenUDP(netip.MustParseAddrPort(bind), netip.Addr{})
				if err != nil {
					t.Fatal(err)
				}
				return u
			})
		})
	}
}

// A socket bound to [::] takes packets of IPv4 and says where they came from in a form that can be answered.
func TestOneSocketSpeaksBothVersions(t *testing.T) {
	defer goleak.VerifyNone(t)
	clustertest.Network(t, func(t *testing.T) cluster.Network {
		u, err := cluster.ListenUDP(netip.MustParseAddrPort("[::]:0"), netip.MustParseAddr("127.0.0.1"))
		if err != nil {
			t.Fatal(err)
		}
		return u
	})
}
