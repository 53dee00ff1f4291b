package cluster_test

import (
	"context"
	"net/netip"
	"testing"

	"mayfly/cluster"
)

// running is a member until stop, which waits for its end.
func running(t *testing.T, config cluster.Config) (c *cluster.Cluster, stop func()) {
	t.Helper()
	c, err := cluster.New(config, discard())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	return c, func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// freePort is a port of loopback that was free a moment ago.
func freePort(t *testing.T) netip.AddrPort {
	t.Helper()
	u, err := cluster.ListenUDP(netip.MustParseAddrPort("127.0.0.1:0"), netip.Addr{})
	if err != nil {
		t.Fatal(err)
	}
	addr := u.Addr()
	if err := u.Close(); err != nil {
		t.Fatal(err)
	}
	return addr
}
