package peer

import (
	"context"
	"net/http"
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

	mu    sync.Mutex
	by    map[netip.Addr]knock
	swept time.Time
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
	if !known && len(k.by) >= maxKnocking && !k.sweep(now) {
		return false
	}
	if n.count >= k.most {
		return false
	}
	n.count++
	k.by[a] = n
	return true
}

// sweep forgets who was quiet for a minute, and says whether there is room now. It looks once a second, so that a flood is cheap.
func (k *knocks) sweep(now time.Time) bool {
	if now.Sub(k.swept) < time.Second {
		return false
	}
	k.swept = now
	for old, o := range k.by {
		if now.Sub(o.since) >= time.Minute {
			delete(k.by, old)
		}
	}
	return len(k.by) < maxKnocking
}

// presence counts the requests that are being served. The HTTP server does not wait for those whose connection it closed.
type presence struct {
	mu    sync.Mutex
	count int
	empty chan struct{} // closed when there are none and there will be none; nil = requests may come
}

// around counts the requests of next, and serves none once it was closed.
func (p *presence) around(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		if p.empty != nil {
			p.mu.Unlock()
			panic(http.ErrAbortHandler)
		}
		p.count++
		p.mu.Unlock()
		defer p.done()
		next.ServeHTTP(w, r)
	})
}

func (p *presence) done() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.count--; p.count == 0 && p.empty != nil {
		close(p.empty)
	}
}

// close lets no request in any more, and returns a channel that is closed when the last one is served.
func (p *presence) close() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.empty = make(chan struct{})
	if p.count == 0 {
		close(p.empty)
	}
	return p.empty
}
