package broker

import (
	"log/slog"
	"math/bits"
	"sync/atomic"
)

// loss is a reason why a message or a client was given up (promise D8). The words are stable.
type loss uint8

const (
	lossSlow        loss = iota // subscriber too slow: its queue of pending writes was full
	lossQueue                   // subscriber's QoS 1 and 2 queue was full
	lossOffline                 // absent session: its bytes were used up
	lossExpired                 // absent session expired with messages in its queue
	lossRetained                // retained limits reached: delivered, but not retained
	lossHeld                    // QoS 0 message for a trigger that was not running
	lossRefused                 // QoS 0 message the sink refused
	lossUnsettled               // not acknowledged and its publisher disconnected: the event was not made safe
	lossWindow                  // publisher disconnected: its window stayed full
	lossRefusal                 // connection refused: credentials, limits, session of somebody else
	lossForbidden               // publish or subscription refused by permission
	lossMalformed               // connection ended by a panic of the packet decoder
	lossConnections             // connection closed at once: too many
	lossReasons                 // how many
)

func (l loss) String() string {
	return [...]string{
		"slow-subscriber", "queue-full", "offline-bytes", "session-expired", "retained-limit", "trigger-held",
		"sink-refused", "unsettled", "window-timeout", "connection-refused", "forbidden", "malformed", "too-many-connections",
	}[l]
}

type losses struct {
	n   [lossReasons]atomic.Int64
	log *slog.Logger
}

func (l *losses) count(why loss, subject string) { l.add(why, 1, subject) }

// add counts and logs: the first of each reason, then each time the count has doubled.
func (l *losses) add(why loss, n int64, subject string) {
	now := l.n[why].Add(n)
	if bits.Len64(uint64(now)) != bits.Len64(uint64(now-n)) {
		l.log.Warn("broker gave something up", "reason", why.String(), "count", now, "last", subject)
	}
}

func (l *losses) snapshot() map[string]int64 {
	m := map[string]int64{}
	for why := range lossReasons {
		if n := l.n[why].Load(); n > 0 {
			m[why.String()] = n
		}
	}
	return m
}
