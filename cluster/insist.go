package cluster

import (
	"context"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	insistFor   = 45 * time.Second // longer than it takes to be declared dead at the old address, and reclaimed
	insistEvery = 2 * time.Second
	// reclaimAfter is for how long a member that was declared dead keeps its address against the same member at another: as long as word of the
	// death takes to reach everybody. Without that a peer who has not heard of it would bring the old address back.
	reclaimAfter = 3 * time.Second
)

// insistence is what makes a member's new address known soon. memberlist refuses it while the old one is believed in, and whoever refused it asks
// again only with the next exchange of states, a minute later: so the member says it again, to one after the other. It does so once in a
// session: two devices of one name would go on for ever.
type insistence struct {
	until time.Time
	begun bool
}

func (i *insistence) begin() {
	if !i.begun {
		i.begun, i.until = true, time.Now().Add(insistFor)
	}
}

func (i *insistence) on() bool { return time.Now().Before(i.until) }

// pause is how long to wait for the next round when otherwise it would be usual.
func (i *insistence) pause(usual time.Duration) time.Duration {
	if i.on() {
		return insistEvery
	}
	return usual
}

// insist says where we are, with a higher incarnation than before, and exchanges states with some member.
func (c *Cluster) insist(ctx context.Context, list *memberlist.Memberlist) {
	_ = list.UpdateNode(time.Nanosecond) // it is queued; see publish
	c.joinSome(ctx, list, 1, c.peers.missing(nobody))
}
