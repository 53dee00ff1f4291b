package dispatch

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"mayfly/function"
)

// TestWindowThatFillsAgainSpills: a window that was full, emptied in time and is full again is noticed each time [D3].
func TestWindowThatFillsAgainSpills(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		b := newBench(t, func(*function.Call, *function.Result) error {
			<-gate
			return nil
		}, nil)
		for round := range 5 {
			for i := range 10 {
				b.send("in/a", fmt.Sprintf("early-%d-%d", round, i))
			}
			time.Sleep(time.Duration(round) * 15 * time.Millisecond) // less than SpillAfter
			for range 10 {
				gate <- struct{}{}
			}
			synctest.Wait()
			if n := b.d.spilled.Load(); n != 0 {
				t.Fatalf("round %d: %d events spilled from a window that emptied in time", round, n)
			}
			time.Sleep(time.Duration(round) * 20 * time.Millisecond) // from at once to after the next look
		}
		for i := range 10 {
			b.send("in/a", fmt.Sprintf("late-%d", i))
		}
		time.Sleep(160 * time.Millisecond) // SpillAfter and the time to the next look
		synctest.Wait()
		if n := b.d.spilled.Load(); n != 10 {
			t.Errorf("%d of 10 events spilled", n)
		}
		close(gate)
		synctest.Wait()
	})
}
