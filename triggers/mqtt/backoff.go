package mqtt

import (
	"math/rand/v2"
	"time"
)

// Bounds of the wait between two attempts to connect.
const (
	firstRetry = 200 * time.Millisecond // the usual case is a broker that restarts
	minRetry   = 1 * time.Second
	maxRetry   = 60 * time.Second
	stableFor  = 10 * time.Second // a connection that lived shorter counts as one more failure,
	shortLived = 3                // but of no more than so many: a flapping link is tried every 4 s at the latest
)

// backoff spreads attempts: full jitter, so that the devices of a site do not come back to a restarted broker at once.
type backoff struct{ failures int }

// next returns how long to wait after a connection that was up for that long (0: it never was).
func (b *backoff) next(up time.Duration) time.Duration {
	switch {
	case up >= stableFor:
		b.failures = 0
	case up > 0:
		b.failures = min(b.failures, shortLived)
	}
	b.failures++
	if b.failures == 1 {
		return rand.N(firstRetry)
	}
	ceiling := minRetry << min(b.failures-2, 6)
	return rand.N(min(ceiling, maxRetry))
}
