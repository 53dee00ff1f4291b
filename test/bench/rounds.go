package main

import (
	"fmt"
	"slices"

	"mayfly/test/bench/load"
)

// rounds is what came out of each round, by name of who was measured.
type rounds[R any] map[string][]R

// turns lets everybody be measured once in each of n rounds, in changing order: other work on the machine comes in bursts, and what
// is compared must not have more of it than the other. A first round warms up and does not count.
func turns[T, R any](all []T, n int, measure func(T) (name string, r R, err error)) (rounds[R], error) {
	out := rounds[R]{}
	all = slices.Clone(all)
	for i := range n + 1 {
		slices.Reverse(all)
		for _, one := range all {
			name, r, err := measure(one)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			if i > 0 {
				out[name] = append(out[name], r)
			}
		}
	}
	return out, nil
}

// comparison is what a figure and its baseline came to in a number of rounds: medians, and the median of the rounds' ratios. That one
// is not the ratio of the medians, which may be of two rounds between which the machine changed.
type comparison struct {
	rounds                 int
	value, baseline, ratio float64
}

// versus compares a figure of one with that of a baseline.
func (rs rounds[R]) versus(who, baseline string, figure func(R) float64) comparison {
	var ours, theirs, ratios []float64
	for i, r := range rs[who] {
		a, b := figure(r), figure(rs[baseline][i])
		ours, theirs, ratios = append(ours, a), append(theirs, b), append(ratios, a/b)
	}
	return comparison{len(ratios), median(ours), median(theirs), median(ratios)}
}

func perSecond(r load.Result) float64     { return r.PerSecond }
func p99(r load.Result) float64           { return float64(r.P99.Nanoseconds()) / 1e6 }
func cpuPerMessage(r load.Result) float64 { return float64(r.CPUPerMessage.Nanoseconds()) / 1e3 }

func median(xs []float64) float64 {
	xs = slices.Sorted(slices.Values(xs))
	return xs[len(xs)/2]
}
