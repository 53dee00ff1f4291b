package agent

import (
	"sync"

	"mayfly/agent/placement"
)

// keepDecisions is how many decisions of placement are kept.
const keepDecisions = 1000

// decisions are the latest decisions of placement: all that went beyond "there was room here", and of those a sample, at the rate at
// which ordinary events are kept. Safe for concurrent use.
type decisions struct {
	mu  sync.Mutex
	all []placement.Decision // a ring once it is full
	at  int                  // the oldest
}

func (d *decisions) add(p placement.Decision) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.all) < keepDecisions {
		d.all = append(d.all, p)
		return
	}
	d.all[d.at] = p
	d.at = (d.at + 1) % len(d.all)
}

// last returns at most n of those that match, the newest first.
func (d *decisions) last(n int, match func(*placement.Decision) bool) []placement.Decision {
	d.mu.Lock()
	defer d.mu.Unlock()
	var found []placement.Decision
	for i := len(d.all) - 1; i >= 0 && len(found) < n; i-- {
		if p := &d.all[(d.at+i)%len(d.all)]; match(p) {
			found = append(found, *p)
		}
	}
	return found
}
