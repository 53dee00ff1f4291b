package catalog

import (
	"fmt"
	"slices"
	"sync"
	"time"
)

const (
	maxOffset   = 5 * time.Minute  // off the median of the others: more is a clock that nobody should follow
	offsetLasts = 10 * time.Minute // what a member said of its clock
	maxAhead    = 24 * time.Hour   // of a version that is issued
	maxFuture   = 48 * time.Hour   // of a version that is taken over
	maxPeers    = 1024             // remembered; gossip may be full of names
	sweepEvery  = time.Minute      // look for some that can be forgotten, when that many are remembered
)

// clocks compares this node's clock with those of the others. Safe for concurrent use.
type clocks struct {
	built time.Time

	mu     sync.Mutex
	others map[string]offset
	swept  time.Time // when the forgotten were last taken out
}

type offset struct {
	ahead time.Duration // the other's clock minus ours
	at    time.Time     // when it was heard, monotonic
}

// heard notes what time another node says it is.
func (c *clocks) heard(node string, theirs, ours time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.others == nil {
		c.others = map[string]offset{}
	}
	if len(c.others) >= maxPeers && time.Since(c.swept) > sweepEvery {
		c.swept = time.Now()
		for name, o := range c.others {
			if time.Since(o.at) > offsetLasts {
				delete(c.others, name)
			}
		}
	}
	if _, known := c.others[node]; known || len(c.others) < maxPeers {
		c.others[node] = offset{theirs.Sub(ours), time.Now()}
	}
}

// trust is what this node knows of its clock.
type trust struct {
	alone bool  // nobody has told his time for a while
	fault error // why the clock is not to be trusted; nil = it is
}

// good says whether the clock may judge others' versions.
func (t trust) good() bool { return t.fault == nil }

func (c *clocks) trust(now time.Time) trust {
	c.mu.Lock()
	defer c.mu.Unlock()
	var offsets []time.Duration
	for _, o := range c.others {
		if time.Since(o.at) <= offsetLasts {
			offsets = append(offsets, o.ahead)
		}
	}
	t := trust{alone: len(offsets) == 0}
	if now.Before(c.built) {
		t.fault = fmt.Errorf("this node's clock is not set: it says %s", now.UTC().Format(time.DateTime))
		return t
	}
	if !t.alone {
		slices.Sort(offsets)
		median := offsets[len(offsets)/2]
		if other := offsets[(len(offsets)-1)/2]; other.Abs() < median.Abs() {
			median = other // of two in the middle the one that is for us
		}
		if median.Abs() > maxOffset {
			t.fault = fmt.Errorf("this node's clock is %v off those of the %d nodes it hears", median.Abs().Round(time.Second), len(offsets))
		}
	}
	return t
}

// version returns that of a change made here now: above that of the record it replaces, whatever the clock says, and, but for what a node says
// about itself, above all this node has seen (a hybrid logical clock). It refuses to issue one that the others would not believe.
func (c *Catalog) version(op string, r Record, old *entry) (uint64, error) {
	var prev uint64
	if old != nil {
		prev = old.Ver
	}
	if r.Kind == KindNode && r.Key == r.Writer {
		return prev + 1, nil
	}
	now := c.options.Now()
	t := c.clocks.trust(now)
	if t.alone {
		return max(NextVersion(prev, now), c.seen()+1), nil
	}
	if t.fault != nil {
		return 0, refused(op, r.Key, "clock", t.fault, "set it (timedatectl status), or make the change on another node")
	}
	if prev > versionAt(now.Add(maxFuture)) {
		prev = 0 // nobody whose clock is right has taken that one over
	}
	most := versionAt(now.Add(maxAhead))
	v := NextVersion(prev, now)
	if seen := c.seen(); seen < most {
		v = max(v, seen+1)
	}
	if v > most {
		return 0, refused(op, r.Key, "clock",
			fmt.Errorf("what is there was written by a node whose clock said %s", timeOf(prev).UTC().Format(time.DateTime)),
			"set that node's clock; tomorrow the change will be accepted here, and on the day it names everywhere")
	}
	return v, nil
}

// seen is the highest version this node knows of.
func (c *Catalog) seen() uint64 {
	floor, synced := c.horizon.marks()
	return max(c.Snapshot().newest, floor, synced)
}
