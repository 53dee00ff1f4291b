package gateway

import (
	"sync"
	"time"

	"mayfly/function"
)

// maxCallers bounds the memory of how often callers called: some 100 bytes each.
const maxCallers = 20_000

// limiter lets so many requests of a key through in so much time, as many at once. It is the generic cell rate algorithm: one time a key.
type limiter struct {
	began time.Time

	mu   sync.Mutex
	next map[caller]time.Duration // when the key's bucket will be empty again, since began
}

// caller is whose requests are counted: those of everybody on a route, or those of one caller on it.
type caller struct{ route, who string }

func newLimiter() *limiter { return &limiter{began: time.Now(), next: map[caller]time.Duration{}} }

// take counts a request. When it is one too many it is not counted, and wait says when the next one is let through.
func (l *limiter) take(of caller, rate function.Rate) (wait time.Duration) {
	if rate.Count == 0 {
		return 0
	}
	now, step := time.Since(l.began), rate.Per/time.Duration(rate.Count)
	l.mu.Lock()
	defer l.mu.Unlock()
	next, known := l.next[of]
	if next = max(next, now) + step; next-now > rate.Per {
		return next - now - rate.Per
	}
	if !known && len(l.next) >= maxCallers {
		l.forget(now)
	}
	l.next[of] = next
	return 0
}

// forget makes room: those who have not called for a while cost nothing to forget. Where all have, one of them may call sooner.
func (l *limiter) forget(now time.Duration) {
	looked := 0
	for of, next := range l.next {
		if looked++; next <= now || looked == 16 {
			delete(l.next, of)
		}
		if looked == 16 {
			return
		}
	}
}
