package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"mayfly/function"
)

func TestBodyRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := rapid.SliceOf(rapid.Byte()).Draw(t, "payload")
		text, err := json.Marshal(NewBody(in))
		if err != nil {
			t.Fatal(err)
		}
		var out Body
		if err := json.Unmarshal(text, &out); err != nil {
			t.Fatal(err)
		}
		if string(out.Bytes()) != string(in) {
			t.Fatalf("%q came back as %q through %s", in, out.Bytes(), text)
		}
		if (out.Payload == nil) == (out.PayloadBase64 == nil) {
			t.Fatalf("%s: want exactly one of payload and payload_base64", text)
		}
	})
}

func TestErrorRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := &function.Error{
			Op: rapid.String().Draw(t, "op"), Subject: rapid.String().Draw(t, "subject"),
			Class: function.Class(rapid.IntRange(0, int(function.ClassFatal)).Draw(t, "class")),
			Kind:  rapid.StringMatching(`[a-z-]+`).Draw(t, "kind"), Hint: rapid.String().Draw(t, "hint"),
			Err:   errors.New(rapid.String().Draw(t, "message")),
			After: time.Duration(rapid.IntRange(0, 1e6).Draw(t, "after")) * time.Millisecond,
		}
		out, ok := errors.AsType[*function.Error](NewError("x", "y", in).Err())
		if !ok || out.Op != in.Op || out.Subject != in.Subject || out.Class != in.Class || out.Kind != in.Kind ||
			out.Hint != in.Hint || out.After != in.After || out.Error() != in.Error() {
			t.Fatalf("%#v came back as %#v", in, out)
		}
	})
}

func TestWrappedErrorKeepsKindAndText(t *testing.T) {
	inner := &function.Error{Op: "open", Subject: "store", Class: function.ClassFatal, Kind: "disk-full", Hint: "free some space"}
	e := NewError("deploy", "overheat", fmt.Errorf("while saving: %w", inner))
	if e.Op != "deploy" || e.Kind != "disk-full" || e.Class != "fatal" || e.Hint != "free some space" || e.Message != "while saving: open store: disk-full" {
		t.Fatalf("got %+v", e)
	}
	if e := NewError("deploy", "overheat", errors.New("plain")); e.Op != "deploy" || e.Class != "retry" || e.Kind != "error" {
		t.Fatalf("got %+v", e)
	}
}

func TestEventQuery(t *testing.T) {
	ok := EventRecord{Function: "f", Topic: "plant/7/temp", Outcome: "done", Settled: SettledAcked}
	shed := EventRecord{Function: "f", Topic: "plant/8/temp", Settled: SettledShed}
	for _, c := range []struct {
		q    EventQuery
		r    EventRecord
		want bool
	}{
		{EventQuery{}, ok, true},
		{EventQuery{Function: "g"}, ok, false},
		{EventQuery{Topic: "plant/+/temp"}, ok, true},
		{EventQuery{Topic: "plant/8/#"}, ok, false},
		{EventQuery{Topic: "#"}, EventRecord{Function: "cron"}, false},
		{EventQuery{Errors: true}, ok, false},
		{EventQuery{Errors: true}, shed, true},
		{EventQuery{Errors: true}, EventRecord{Outcome: "retry"}, true},
	} {
		if got := c.q.Match(&c.r); got != c.want {
			t.Errorf("%+v matches %+v: %v", c.q, c.r, got)
		}
	}
}
