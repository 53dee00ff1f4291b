package broker

import "sync"

// ledger bounds the retained messages by number and bytes.
type ledger struct {
	scan sync.RWMutex // held for writing while the library's index of retained messages changes

	mu       sync.Mutex
	size     map[string]int64 // by topic
	bytes    int64
	maxCount int
	maxBytes int64
}

// admit says whether a message may be retained, and counts it as retained if so. An empty payload takes the topic's
// message away ([MQTT-3.3.1-10]) and is always admitted.
func (l *ledger) admit(topic string, payload int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	old, had := l.size[topic]
	if payload == 0 {
		l.bytes -= old
		delete(l.size, topic)
		return true
	}
	size := int64(len(topic) + payload)
	if l.bytes-old+size > l.maxBytes || !had && len(l.size) >= l.maxCount {
		return false
	}
	l.size[topic] = size
	l.bytes += size - old
	return true
}

func (l *ledger) drop(topic string) { l.admit(topic, 0) }

func (l *ledger) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.size)
}
