package ownership

import "time"

// How long a connection to a broker has to be gone, and back, before gossip is told.
const (
	linkDown = 10 * time.Second
	linkUp   = 60 * time.Second
)

// Link says whether a node's connection to a broker is good enough to own triggers there. It was never up: the first connection
// counts at once. Then it is bad after 10 s without a connection, and good again only after 60 s with one: a link that comes and goes
// must not drag triggers with it. The zero Link is ready for use; not safe for concurrent use.
type Link struct {
	up, ever, was bool
	since         time.Time // was is so since then
}

// Up says whether the connection is good.
func (l *Link) Up() bool { return l.up }

// Observe takes note of whether there is a connection now, and returns Up. It has to be called every few seconds.
func (l *Link) Observe(now time.Time, connected bool) bool {
	if connected != l.was || l.since.IsZero() {
		l.was, l.since = connected, now
	}
	switch {
	case connected && !l.ever:
		l.up, l.ever = true, true
	case connected && now.Sub(l.since) >= linkUp:
		l.up = true
	case !connected && now.Sub(l.since) >= linkDown:
		l.up = false
	}
	return l.up
}
