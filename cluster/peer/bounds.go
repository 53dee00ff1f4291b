package peer

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// budget is a number of bytes that are shared out.
type budget struct {
	most int64
	used atomic.Int64
}

func (b *budget) take(n int64) bool {
	if b.used.Add(n) > b.most {
		b.used.Add(-n)
		return false
	}
	return true
}

func (b *budget) give(n int64) { b.used.Add(-n) }

// pace spreads bytes over time. All its users together stay below the rate, apart from a first quarter of a second.
type pace struct {
	rate int64 // bytes a second; 0 = unbounded

	mu   sync.Mutex
	next time.Time // when what was granted will have been sent
}

func newPace(rate int64) *pace { return &pace{rate: rate} }

// wait returns when n more bytes may be sent, or with the error of ctx.
func (p *pace) wait(ctx context.Context, n int) error {
	if p.rate <= 0 {
		return ctx.Err()
	}
	now := time.Now()
	p.mu.Lock()
	if p.next.Before(now) {
		p.next = now
	}
	p.next = p.next.Add(time.Duration(int64(n) * int64(time.Second) / p.rate))
	delay := p.next.Sub(now) - time.Second/4
	p.mu.Unlock()
	if delay <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(delay)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// maxKnocking is how many addresses are remembered; beyond it everybody new waits until some are forgotten.
const maxKnocking = 1024

// knocks counts attempts by address: so many a minute, and as many at once after a quiet minute.
type knocks struct {
	most int

	mu sync.Mutex
	by map[netip.Addr]knock
}

type knock struct {
	since time.Time
	count int
}

func newKnocks(most int) *knocks { return &knocks{most: most, by: map[netip.Addr]knock{}} }

func (k *knocks) allow(a netip.Addr, now time.Time) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	n, known := k.by[a]
	if now.Sub(n.since) >= time.Minute {
		n = knock{since: now}
	}
	if !known && len(k.by) >= maxKnocking {
		for old, o := range k.by {
			if now.Sub(o.since) >= time.Minute {
				delete(k.by, old)
			}
		}
		if len(k.by) >= maxKnocking {
			return false
		}
	}
	if n.count >= k.most {
		return false
	}
	n.count++
	k.by[a] = n
	return true
}
