package dispatch

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mayfly/event"
	"mayfly/function"
	"mayfly/store"
)

// A message with a long topic takes more than its payload on disk. One that could never be a dead letter must not come in: a
// function that rejects it would stop the agent, again and again.
func TestEventThatCouldNotBeKeptIsTurnedAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runs := 0
		b := newBench(t, func(_ *function.Call, res *function.Result) error {
			runs++
			res.Outcome = function.Reject
			return nil
		}, nil)
		topic := "in/" + strings.Repeat("x", 9_000) // in the record as topic, subject and part of the source
		for id, size := range map[string]int{"kept": store.MaxValue - 30_000, "too large": store.MaxValue - 20_000} {
			ev := &event.Event{
				ID: id, Topic: topic, Subject: topic, Source: "mqtt://b/" + topic, Data: make([]byte, size), QoS: 1, Time: time.Now(),
			}
			if err := b.d.Sink("s").Accept(t.Context(), ev, receipt{b.done, id}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			b.wantSafe(id, false)
		}
		_, lost := b.d.Stats()
		if runs != 1 || len(b.journal.buried) != 1 || lost["too-large"] != 1 {
			t.Errorf("%d runs, %d dead letters, lost %v", runs, len(b.journal.buried), lost)
		}
	})
}
