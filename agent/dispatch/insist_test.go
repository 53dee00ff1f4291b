package dispatch

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"mayfly/event"
	"mayfly/function"
)

// When the broker has answered, the event's lane has gone on. If the disk has no room just then for the end of it, that comes
// later; it does not stay undone until the next start.
func TestEndsComeTrueWhenThereIsRoomAgain(t *testing.T) {
	t.Run("a dead letter of what the broker does not take", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, echo, nil)
			b.outbox.hold = true
			b.send("in/a", "1")
			synctest.Wait()
			b.store.refuse(3)
			b.outbox.held[0](&function.Error{Op: "publish", Class: function.ClassReject, Kind: "too-large", Err: errors.New("too large")})
			synctest.Wait()
			if _, early := b.done.of("1"); early {
				t.Fatal("acknowledged without room for the dead letter [D1]")
			}
			time.Sleep(10 * time.Second) // of the bubble
			synctest.Wait()
			b.wantSafe("1", false)
			if len(b.journal.buried) != 1 {
				t.Errorf("%d dead letters, want 1", len(b.journal.buried))
			}
		})
	})
	t.Run("a journaled event", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, func(call *function.Call, res *function.Result) error {
				switch id := call.Event.ID; {
				case call.Attempt == 1:
					res.Outcome = function.Retry
				case id == "speaks":
					res.Publishes = []event.Message{{Topic: "out", QoS: 1}}
				}
				return nil
			}, nil)
			for _, id := range []string{"speaks", "is quiet"} {
				b.send("in/a", id)
				synctest.Wait() // journaled, waiting for its second attempt
				b.store.refuse(3)
				time.Sleep(10 * time.Second) // of the bubble
				synctest.Wait()
				if n := len(b.journal.entries); n != 0 || !b.d.Idle() {
					t.Errorf("%s: %d events left in the journal", id, n)
				}
			}
		})
	})
}
