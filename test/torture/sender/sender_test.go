package sender

import (
	"context"
	"sync"
	"testing"
	"time"

	"mayfly/internal/mosquitto"
	"mayfly/test/torture/history"
)

// TestEverythingIsAcknowledgedAcrossABrokerRestart: what one connection did not get acknowledged goes out again on the next.
func TestEverythingIsAcknowledgedAcrossABrokerRestart(t *testing.T) {
	b := mosquitto.Run(t, mosquitto.Options{NoDelay: true})
	log := history.New()
	s := New(b.Addr(), 16, log)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { s.Run(ctx) })
	defer running.Wait()
	defer cancel()
	patience, end := context.WithTimeout(ctx, 20*time.Second)
	defer end()
	const total = 300
	for seq := uint32(1); seq <= total; seq++ {
		if seq == total/2 {
			if err := b.Restart(); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Send(patience, history.Event{Stream: "relay/1", Seq: seq}, Payload("1", seq)); err != nil {
			t.Fatal(err)
		}
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for s.Unacknowledged() > 0 {
		select {
		case <-tick.C:
		case <-patience.Done():
			t.Fatalf("%d are not acknowledged", s.Unacknowledged())
		}
	}
	if promised, _ := log.Count(history.Promised); promised != total {
		t.Fatalf("%d of %d promised", promised, total)
	}
}

func TestSendEndsWithItsContext(t *testing.T) {
	s := New("127.0.0.1:1", 1, history.New()) // nobody is there, and nothing runs
	ctx, cancel := context.WithCancel(context.Background())
	if err := s.Send(ctx, history.Event{Stream: "relay/1", Seq: 1}, Payload("1", 1)); err != nil {
		t.Fatal(err)
	}
	blocked := make(chan error, 1)
	go func() { blocked <- s.Send(ctx, history.Event{Stream: "relay/1", Seq: 2}, Payload("1", 2)) }()
	cancel()
	if err := <-blocked; err == nil {
		t.Fatal("sent beyond the limit")
	}
}
