package broker

import (
	"context"
	"encoding/binary"
	"testing"
	"time"

	"mayfly/event"
	"mayfly/triggers"
)

// batcher settles what it was given in groups, each after the time a synced write takes: the journal in small.
type batcher struct {
	in   chan triggers.Receipt
	sync time.Duration
}

func (s *batcher) Accept(_ context.Context, _ *event.Event, r triggers.Receipt) error {
	s.in <- r
	return nil
}

func (s *batcher) run(done <-chan struct{}) {
	var batch []triggers.Receipt
	for {
		select {
		case r := <-s.in:
			batch = append(batch[:0], r)
		case <-done:
			return
		}
		timer := time.NewTimer(s.sync)
		for waiting := true; waiting; {
			select {
			case r := <-s.in:
				batch = append(batch, r)
			case <-timer.C:
				waiting = false
			}
		}
		for _, r := range batch {
			r.Settle(triggers.Settlement{})
		}
	}
}

// BenchmarkPublish is one publisher with a window of 64 QoS 1 messages of 200 bytes, into: nothing; a trigger that
// settles at once; a trigger whose every event waits for a sync of 2 ms shared with those that came meanwhile.
func BenchmarkPublish(b *testing.B) {
	for _, c := range []struct {
		name string
		sink func(b *testing.B) triggers.Sink
	}{
		{"no-trigger", func(*testing.B) triggers.Sink { return nil }},
		{"settled-at-once", func(*testing.B) triggers.Sink {
			return sinkFunc(func(_ *event.Event, r triggers.Receipt) { r.Settle(triggers.Settlement{}) })
		}},
		{"sync-2ms", func(b *testing.B) triggers.Sink {
			s := &batcher{in: make(chan triggers.Receipt, 1024), sync: 2 * time.Millisecond}
			done := make(chan struct{})
			b.Cleanup(func() { close(done) })
			go s.run(done)
			return s
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			br, address := start(b, nil)
			if sink := c.sink(b); sink != nil {
				run(b, br, Trigger{Name: "t", Filters: []string{"plant/#"}, QoS: 1}, sink)
			}
			benchmarkPublish(b, address)
		})
	}
}

func benchmarkPublish(b *testing.B, address string) {
	c := dial(b, address)
	c.SetDeadline(time.Now().Add(time.Minute))
	c.hello("bench", 4, true)
	window := make(chan struct{}, 64)
	acked := make(chan int)
	b.ResetTimer()
	go func() {
		n := 0
		defer func() { acked <- n }()
		for ; n < b.N; n++ {
			if f, _ := c.next(); f != 0x40 {
				return
			}
			<-window
		}
	}()
	p := publishPacket("plant/1/temp", 1, 1, false, string(make([]byte, 200)))
	for i := range b.N {
		window <- struct{}{}
		binary.BigEndian.PutUint16(p[len(p)-202:], uint16(i%60000+1))
		if _, err := c.Write(p); err != nil {
			b.Fatal(err)
		}
	}
	if n := <-acked; n != b.N {
		b.Fatalf("%d of %d acknowledged", n, b.N)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
}

// BenchmarkInProcess is what the agent's own publishes cost with 100 triggers of which one matches.
func BenchmarkInProcess(b *testing.B) {
	br, err := New(Config{Listen: []Listener{{Address: "127.0.0.1:0"}}})
	if err != nil {
		b.Fatal(err)
	}
	for i := range 100 {
		run(b, br, Trigger{Name: "t", Filters: []string{"plant/" + string(rune('a'+i)) + "/+"}, QoS: 1},
			sinkFunc(func(_ *event.Event, r triggers.Receipt) { r.Settle(triggers.Settlement{}) }))
	}
	m := &event.Message{Topic: "plant/a/temp", Data: make([]byte, 200), QoS: 1}
	b.ReportAllocs()
	for b.Loop() {
		if err := br.Publish(m, nil); err != nil {
			b.Fatal(err)
		}
	}
}
