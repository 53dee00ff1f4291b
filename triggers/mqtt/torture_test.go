package mqtt

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"mayfly/internal/mosquitto"
)

// Promises D1 and D5 under a link that is cut again and again while messages flow and are settled late and out of order:
// everything is handed over at least once, in order the first time, and acknowledged in the end.
func TestCutsLoseNothingAndKeepOrder(t *testing.T) {
	const messages, cuts = 2000, 6
	broker := mustRun(t, mosquitto.Options{MaxInflight: 50, MaxQueued: -1})
	proxy := newCutter(t, broker.Addr())
	c := sub("in")
	c.HoldOff = patience
	s := session(t, at(proxy.url()), c, &notes{})
	in, _ := listen(t, s)
	p, _ := publisher(t, at(broker.URL()))

	var settling sync.WaitGroup
	var late []got
	next, twice, early := 0, 0, 0
	given := map[int]bool{} // handed to settling
	settleLate := func() {
		batch := late
		for _, g := range batch {
			var n int
			_, _ = fmt.Sscan(string(g.ev.Data), &n)
			given[n] = true
		}
		late = nil
		rand.Shuffle(len(batch), func(i, j int) { batch[i], batch[j] = batch[j], batch[i] })
		settling.Go(func() {
			for _, g := range batch {
				g.settle(nil)
			}
		})
	}
	settling.Go(func() {
		for from := 0; from < messages; from += 100 {
			o := make(outcome, 100)
			for _, m := range numbered("in", from, from+100) {
				if err := p.Publish(&m, o); err != nil {
					t.Errorf("publish: %v", err)
				}
			}
			for range 100 {
				if err := o.wait(t); err != nil {
					t.Errorf("publish: %v", err)
				}
			}
		}
	})
	for next < messages {
		select {
		case g := <-in.events:
			var n int
			if _, err := fmt.Sscan(string(g.ev.Data), &n); err != nil {
				t.Fatal(err)
			}
			fresh := n == next
			switch {
			case fresh:
				next++
			case n < next && g.ev.Dup:
				twice++
				if !given[n] {
					early++ // its receipt is still in our hands: the redelivery should have inherited it
				}
			default:
				t.Fatalf("got %d (dup %t), expected %d", n, g.ev.Dup, next)
			}
			late = append(late, g)
			if len(late) >= 20 {
				settleLate()
			}
			if fresh && n%(messages/cuts) == messages/cuts-1 {
				proxy.cut()
			}
		case <-time.After(50 * time.Millisecond):
			settleLate() // the window is full of what is late
		}
	}
	settleLate()
	settling.Wait()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("status %+v", s.Status())
		}
	})
	eventually(t, "all is acknowledged", func() bool {
		for len(in.events) > 0 { // what the last cut made the broker send again
			(<-in.events).settle(nil)
		}
		st := s.Status()
		return st.Connected && st.Unsettled == 0
	})
	t.Logf("%d connections, %d events handed over twice, %d of them early, redelivered %d", s.Status().Connects, twice, early, s.Status().Redelivered)
	if early > 0 {
		t.Errorf("%d events ran a second time while the first receipt was open", early)
	}
	if s.Status().Connects < cuts/2 {
		t.Errorf("only %d connections", s.Status().Connects)
	}
}
