package journal

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"mayfly/event"
	"mayfly/store"
)

// What fits can be journaled and buried, however long the error; what does not is not far from the limit.
func TestWhatFitsCanBeKept(t *testing.T) {
	j := openJournal(t, Config{}, newMemStore())
	rapid.Check(t, func(t *rapid.T) {
		long := func(name string, most int) string {
			return strings.Repeat("x", rapid.IntRange(0, most).Draw(t, name))
		}
		topic := long("topic", 65_535)
		ev := &event.Event{
			ID: long("id", 100), Source: "mqtt://b/" + topic, Subject: topic, Topic: topic, Type: event.TypeMQTT, Time: time.Now(),
			Delivery: event.Delivery{Session: long("session", 100), Epoch: rapid.Uint64().Draw(t, "epoch"), Fence: rapid.Uint64().Draw(t, "fence"), PacketID: 1},
			User:     []event.Attr{{Name: "a", Value: long("user", 1000)}}, Captures: []event.Attr{{Name: "line", Value: long("capture", 1000)}},
		}
		fixed := len(ev.ID) + len(ev.Source) + 2*len(topic) + len(ev.User[0].Value) + len(ev.Captures[0].Value)
		ev.Data = make([]byte, max(0, store.MaxValue-fixed+rapid.IntRange(-3000, 100).Draw(t, "data")))
		e := &Entry{
			Function: strings.Repeat("f", 64), Trigger: "mqtt[999]", Lane: 1 << 63, Attempt: 1000, NotBefore: time.Now(), Received: time.Now(),
			LastError: long("error", 5000), Event: ev,
		}
		_, err := j.AppendOps([]*Entry{e})
		ops, _ := j.BuryOps(e, "trap")
		kept := err == nil && len(ops[0].Value) <= store.MaxValue
		switch fits := Fits(ev); {
		case fits && !kept:
			t.Fatalf("%v, a dead letter of %d bytes", err, len(ops[0].Value))
		case !fits && fixed+len(ev.Data) < store.MaxValue-2000:
			t.Fatalf("%d bytes do not fit", fixed+len(ev.Data))
		}
	})
}
