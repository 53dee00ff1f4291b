package main

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"mayfly/cluster"
	"mayfly/cluster/clustertest"
	"mayfly/internal/simnet"
)

// smallSites measures what small sites get for probing more often, beside what they would have without.
func smallSites(t *testing.T) (rows []row) {
	for _, n := range []int{3, 5, 10, 30} {
		r := &report{n: n}
		for _, loss := range []float64{0.05, 0.2} {
			var small, large watched
			synctest.Test(t, func(t *testing.T) { small = watch(t, n, loss, true) })
			synctest.Test(t, func(t *testing.T) { large = watch(t, n, loss, false) })
			at := fmt.Sprintf("small site, %g %% lost: ", 100*loss)
			f := row{Name: at + "losses of sight by some member of another in an hour", Value: small.wrong, Baseline: large.wrong, Target: "at most 0", OK: small.wrong == 0}
			sent := beside(at+"sent by an idle node", small.sent, large.sent, "B/s", idleMost(n))
			if loss > 0.05 { // such a link is ill: what it costs is shown
				f.Target, f.OK = "no target", true
				sent.Target, sent.OK = "no target", true
			}
			r.put(f)
			r.put(beside(at+"a death, known to all, median of 9", small.median, large.median, "s", 30))
			r.put(beside(at+"a death, known to all, the latest of 9", small.latest, large.latest, "s", 60))
			r.put(sent)
		}
		rows = append(rows, r.rows...)
	}
	return rows
}

func beside(name string, value, other float64, unit string, most float64) row {
	return row{
		Name: name, Value: value, Unit: unit, Baseline: other, Ratio: value / other,
		Target: fmt.Sprintf("at most %g", most), OK: value <= most,
	}
}

// watched is what a site showed: members wrongly thought dead, seconds until a death was known, bytes a second of an idle node.
type watched struct{ wrong, median, latest, sent float64 }

// watch lets a site idle for an hour, and then lose and get back a member nine times.
func watch(t *testing.T, n int, loss float64, small bool) (w watched) {
	s := clustertest.New(t, simnet.Link{Delay: 20 * time.Millisecond, Jitter: 20 * time.Millisecond, Loss: loss})
	config := func(c *cluster.Config) { c.Small = small }
	s.Grow(n, 50*time.Millisecond, config)
	full := func() bool { return clustertest.Full(s.Nodes, n) }
	s.Until("everybody sees everybody", 10*time.Minute, full)
	time.Sleep(time.Minute)
	lost, stop := s.Losses()
	packets, streams := s.Idle(time.Hour)
	stop()
	w.wrong, w.sent = float64(lost.Load()), packets+streams
	var took []time.Duration
	for range 9 {
		s.Until("everybody sees everybody", 10*time.Minute, full)
		victim := s.Nodes[n-1]
		_, all := s.Death(5 * time.Minute)
		took = append(took, all)
		s.Isolate(victim, false)
		s.Start(victim, config)
		s.Nodes = append(s.Nodes, victim)
	}
	slices.Sort(took)
	w.median, w.latest = took[len(took)/2].Seconds(), took[len(took)-1].Seconds()
	return w
}
