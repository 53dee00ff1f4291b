package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"mayfly/admin"
)

// flow sends readings through one node, numbered, and counts the answers it hears.
type flow struct {
	witness *node
	sent    int
	end     context.CancelFunc

	mu       sync.Mutex
	answered map[int]int
	last     time.Time
	latest   int
}

const every = 20 * time.Millisecond

func begin(ctx context.Context, witness *node) (*flow, error) {
	f := &flow{witness: witness, answered: map[int]int{}}
	ctx, f.end = context.WithCancel(ctx)
	ready := make(chan error, 1)
	go func() {
		ready <- witness.client.Subscribe(ctx, admin.SubscribeQuery{Filter: "plant/+/celsius", QoS: 1}, func(x admin.Frame[admin.Received]) error {
			switch {
			case x.Ready:
				ready <- nil
			case x.Record != nil:
				f.hear(x.Record.Topic)
			}
			return nil
		})
	}()
	return f, <-ready
}

func (f *flow) hear(topic string) {
	var n int
	if _, err := fmt.Sscanf(strings.TrimSuffix(topic, "/celsius"), "plant/%d", &n); err != nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answered[n]++
	f.last, f.latest = time.Now(), max(f.latest, n)
}

// flow sends readings for d. Every reading is a line of its own, so that its answer can be told from the others'.
func (f *flow) flow(ctx context.Context, d time.Duration) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for end := time.Now().Add(d); time.Now().Before(end); {
		if err := f.one(ctx); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}

func (f *flow) one(ctx context.Context) error {
	f.sent++
	payload := fmt.Sprintf(`{"t": %d}`, 60+f.sent%60)
	return f.witness.client.Publish(ctx, admin.Message{Topic: fmt.Sprintf("plant/%d/temp", f.sent), QoS: 1, Body: admin.Body{Payload: &payload}})
}

// untilAnswered sends readings until one is answered that was sent after it began, and returns when that was.
func (f *flow) untilAnswered(ctx context.Context, patience time.Duration) (time.Time, error) {
	from := f.sent
	err := eventually(ctx, patience, "nobody took over", func() bool {
		if f.one(ctx) != nil {
			return true
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.latest > from
	})
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last, err
}

// settle waits until nothing is missing.
func (f *flow) settle(ctx context.Context, patience time.Duration) error {
	return eventually(ctx, patience, fmt.Sprintf("readings are missing %v after the last one", patience), func() bool { return f.missing() == 0 })
}

func (f *flow) missing() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.sent - len(f.answered)
}

func (f *flow) twice() (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, times := range f.answered {
		if times > 1 {
			n++
		}
	}
	return n
}
