package main

import (
	"testing"
	"time"
)

// Old gossip does not matter to the rule, and ruins the obvious one; on other draws of owners and arrivals than `make sim` has.
func TestPlacementUnderSkewedLoad(t *testing.T) {
	t.Parallel()
	for seed := range uint64(2) {
		s := setting{recommended, 10 * time.Second, 0, 20 * time.Second, seed + 10}
		ours := simulateLoad(s)
		s.policy = leastLoaded
		gossiped := simulateLoad(s)
		t.Logf("p99 %.0f ms, least loaded by gossip %.0f ms", ours.quantile(0.99), gossiped.quantile(0.99))
		if p := ours.quantile(0.99); p > placementMost || 10*p > gossiped.quantile(0.99) {
			t.Errorf("p99 %.0f ms, want at most %.0f and a tenth of %.0f", p, placementMost, gossiped.quantile(0.99))
		}
		if len(ours.took) == 0 || ours.refused == 0 || ours.away == 0 {
			t.Errorf("nothing was tried: %d done, %d refused, %d away", len(ours.took), ours.refused, ours.away)
		}
	}
}
