package broker

import "sync"

// flow is how many QoS 1 and 2 messages a client said it takes at once (Receive Maximum, [MQTT-3.3.4-9]) and how many it
// has not acknowledged. The library's own count takes one read lock inside another, which can stop every publisher to that
// client for ever, and forgets a message it held back as soon as it sends it; so it is told that there is no maximum.
type flow struct {
	mu      sync.Mutex
	changed sync.Cond
	most    int // 0 = as many as there are
	sent    int
	open    bool // the session is resumed and acknowledgements are read
	closed  bool
}

func (f *flow) init() { f.changed.L = &f.mu }

// send counts a message, waiting until the client takes it. What a resumed session begins with is not held back: nobody
// would send it later.
func (f *flow) send() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.open && f.most > 0 && f.sent >= f.most && !f.closed {
		f.changed.Wait()
	}
	f.sent++
}

func (f *flow) acknowledged() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sent = max(0, f.sent-1)
	f.changed.Broadcast()
}

func (f *flow) resumed() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.open = true
}

func (f *flow) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	f.changed.Broadcast()
}
