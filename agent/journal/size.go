package journal

import (
	"encoding/binary"

	"mayfly/event"
	"mayfly/store"
)

// shortError is what is kept of an error, in bytes, where the whole of it has no room beside the event.
const shortError = 200

// overhead is at most what a record takes besides its event's own bytes: names, times, numbers and a short error.
const overhead = 1024

// Fits says whether a record of ev can be kept, as a dead letter too. What does not fit must not be accepted: it could neither
// wait nor be given up.
func Fits(ev *event.Event) bool {
	size := overhead + len(ev.Data)
	for _, s := range [...]string{
		ev.ID, ev.Source, ev.Type, ev.Subject, ev.ContentType, ev.DataSchema, ev.Broker, ev.Topic, ev.TraceParent, ev.Delivery.Session,
	} {
		size += len(s) + binary.MaxVarintLen32
	}
	for _, attrs := range [...][]event.Attr{ev.User, ev.Captures} {
		for _, a := range attrs {
			size += len(a.Name) + len(a.Value) + 2*binary.MaxVarintLen32
		}
	}
	return size <= store.MaxValue
}

// shortened returns e with as much of its error as always fits.
func shortened(e *Entry) *Entry {
	short := *e
	short.LastError = short.LastError[:min(len(short.LastError), shortError)]
	return &short
}
