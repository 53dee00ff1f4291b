package function

import (
	"errors"
	"fmt"
	"reflect"
	"time"
)

// CanaryRules say which share of the events a version on trial gets, and when the trial ends.
type CanaryRules struct {
	Percent       int           `json:"percent"`        // of the order keys, 1 to 100
	For           time.Duration `json:"for"`            // promoted after this time, if it is no worse; 0 = only by an operator
	MinEvents     int           `json:"min_events"`     // of the new version on one node, before anything is said of it
	ErrorFactor   float64       `json:"error_factor"`   // it is worse when its share of failures is beyond the old one's by this factor, and one percent
	LatencyFactor float64       `json:"latency_factor"` // ... or nine tenths of its runs take longer than the old one's by this factor, and a millisecond
}

// DefaultCanary are the rules of somebody who says none: ten percent for ten minutes, no more than twice the failures or the time.
func DefaultCanary() CanaryRules {
	return CanaryRules{Percent: 10, For: 10 * time.Minute, MinEvents: 50, ErrorFactor: 2, LatencyFactor: 2}
}

// Check says why r makes no sense.
func (r CanaryRules) Check() error {
	switch {
	case r.Percent < 1 || r.Percent > 100:
		return fmt.Errorf("a canary gets 1 to 100 percent of the events, not %d", r.Percent)
	case r.For < 0 || r.For > 30*24*time.Hour:
		return fmt.Errorf("a canary lasts up to 30 days, not %v", r.For)
	case r.MinEvents < 1 || r.MinEvents > 1_000_000:
		return fmt.Errorf("a canary is judged after 1 to 1,000,000 events, not %d", r.MinEvents)
	case !(r.ErrorFactor >= 1) || !(r.LatencyFactor >= 1): // also of what is no number
		return errors.New("the factors of a canary are at least 1")
	}
	return nil
}

// Canary is a version on trial: it gets a share of the events of the version it may replace.
type Canary struct {
	Function *Function // Trial is set; of the same name, triggers, state and placement
	Since    time.Time // its identity among the trials of the function
	Rules    CanaryRules
}

// Takes says whether the new version gets the events of that hash of an order key. It is the same on every node and at every time,
// so that the events of one key meet one version and their order means something to it.
func (c *Canary) Takes(hash uint64) bool {
	// The finaliser of SplitMix64: neighbouring hashes are to fall everywhere.
	hash = (hash ^ hash>>30) * 0xbf58476d1ce4e5b9
	hash = (hash ^ hash>>27) * 0x94d049bb133111eb
	hash ^= hash >> 31
	return hash%10_000 < uint64(c.Rules.Percent)*100
}

// Comparable says why m cannot be on trial beside old: both must be started by the same events, keep the same state and run on the same
// nodes. Everything else may differ.
func Comparable(old, m *Manifest) error {
	same := reflect.DeepEqual
	for _, part := range []struct {
		name string
		same bool
	}{
		{"[[trigger.mqtt]]", same(old.MQTT, m.MQTT)},
		{"[[trigger.http]]", same(old.HTTP, m.HTTP)},
		{"[[trigger.cron]]", same(old.Cron, m.Cron)},
		{"[state]", same(old.State, m.State)},
		{"[placement]", same(old.Placement, m.Placement)},
	} {
		if !part.same {
			return fmt.Errorf("its %s is another than that of the deployed version", part.name)
		}
	}
	return nil
}
