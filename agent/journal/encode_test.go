package journal

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"mayfly/event"
)

func anyTime(t *rapid.T, name string) time.Time {
	if rapid.Bool().Draw(t, name+" zero") {
		return time.Time{}
	}
	return time.Unix(rapid.Int64Range(0, 1<<35).Draw(t, name), rapid.Int64Range(0, 999999999).Draw(t, name+" ns")).UTC()
}

// anyEntry draws an entry with every field of Entry and of event.Event set by reflection, so that a field added later and
// forgotten in the encoding fails the test.
func anyEntry(t *rapid.T) *Entry {
	ev := &event.Event{}
	v := reflect.ValueOf(ev).Elem()
	for i := range v.NumField() {
		f, name := v.Field(i), v.Type().Field(i).Name
		switch p := f.Addr().Interface().(type) {
		case *string:
			*p = rapid.String().Draw(t, name)
		case *bool:
			*p = rapid.Bool().Draw(t, name)
		case *byte:
			*p = rapid.ByteRange(0, 2).Draw(t, name)
		case *time.Time:
			*p = anyTime(t, name)
		case *[]byte:
			if b := rapid.SliceOf(rapid.Byte()).Draw(t, name); len(b) > 0 {
				*p = b
			}
		case *event.Delivery:
			*p = event.Delivery{Session: rapid.String().Draw(t, "session"), Epoch: rapid.Uint64().Draw(t, "epoch"), Fence: rapid.Uint64().Draw(t, "fence"), PacketID: rapid.Uint16().Draw(t, "packet")}
		case *[]event.Attr:
			for range rapid.IntRange(0, 3).Draw(t, "attrs") {
				*p = append(*p, event.Attr{Name: rapid.String().Draw(t, "name"), Value: rapid.String().Draw(t, "value")})
			}
		default:
			t.Fatalf("event.Event has a field %s of a kind this test does not know", name)
		}
	}
	return &Entry{
		Trigger: rapid.String().Draw(t, "trigger"), Lane: rapid.Uint64().Draw(t, "lane"), Attempt: rapid.IntRange(0, 1000).Draw(t, "attempt"),
		NotBefore: anyTime(t, "not before"), Received: anyTime(t, "received"), LastError: rapid.String().Draw(t, "error"), Event: ev,
	}
}

func TestRecordsKeepEverything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := anyEntry(t)
		now := time.Unix(1e9, 0).UTC()
		if e.NotBefore.After(now) {
			e.NotBefore = now.Add(min(e.NotBefore.Sub(now), maxDelay)).Truncate(time.Second)
		}
		var got Entry
		if n, err := decodeEvent(encodeEvent(nil, e, now), &got, now, true); err != nil || n != len(e.Event.Data) {
			t.Fatal(n, err)
		}
		if !reflect.DeepEqual(&got, e) {
			t.Fatalf("\n got %+v %+v\nwant %+v %+v", got, got.Event, e, e.Event)
		}
		again := Entry{Event: e.Event, Trigger: e.Trigger, Lane: e.Lane, Received: e.Received}
		if err := decodeRetry(encodeRetry(e, now), &again, now); err != nil || !reflect.DeepEqual(&again, e) {
			t.Fatalf("retry: %v\n got %+v\nwant %+v", err, again, e)
		}
		var l Letter
		if err := decodeGrave(encodeGrave(e, "timeout", now), &l, now, true); err != nil || l.Kind != "timeout" || !reflect.DeepEqual(&l.Entry, e) {
			t.Fatalf("letter: %v %+v", err, l)
		}
	})
}

func TestLongErrorsAreCut(t *testing.T) {
	e := entry("f", "1")
	e.LastError = strings.Repeat("x", 3*MaxError)
	var got Entry
	if err := decodeRetry(encodeRetry(e, time.Now()), &got, time.Now()); err != nil || len(got.LastError) != MaxError {
		t.Fatalf("%d bytes, %v", len(got.LastError), err)
	}
}

// FuzzEntry: no bytes crash the decoders, and what decodes encodes to something that decodes to the same.
func FuzzEntry(f *testing.F) {
	now := time.Unix(1e9, 0).UTC()
	f.Add(encodeEvent(nil, entry("f", "1"), now))
	f.Add(encodeRetry(entry("f", "1"), now))
	f.Add(encodeGrave(entry("f", "1"), "trap", now))
	f.Add([]byte{formEvent, 0xff, 0xff, 0xff, 0xff, 0x7f})
	f.Fuzz(func(t *testing.T, b []byte) {
		_ = decodeRetry(b, &Entry{}, now)
		_ = decodeGrave(b, &Letter{}, now, false)
		var e, again Entry
		if _, err := decodeEvent(b, &e, now, true); err != nil {
			return
		}
		once := encodeEvent(nil, &e, now)
		if _, err := decodeEvent(once, &again, now, true); err != nil {
			t.Fatalf("%+v does not decode again: %v", e, err)
		}
		if twice := encodeEvent(nil, &again, now); !bytes.Equal(once, twice) {
			t.Fatalf("%x\n%x", once, twice)
		}
	})
}
