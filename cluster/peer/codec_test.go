package peer

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"mayfly/event"
	"mayfly/function"
)

func genAttrs(t *rapid.T, name string) []event.Attr {
	n := rapid.IntRange(0, 3).Draw(t, name)
	var out []event.Attr
	for range n {
		out = append(out, event.Attr{Name: rapid.String().Draw(t, name), Value: rapid.String().Draw(t, name)})
	}
	return out
}

func genBytes(t *rapid.T, name string) []byte {
	b := rapid.SliceOfN(rapid.Byte(), 0, 100).Draw(t, name)
	if len(b) == 0 {
		return nil
	}
	return b
}

func genTime(t *rapid.T, name string) time.Time {
	if rapid.Bool().Draw(t, name+" zero") {
		return time.Time{}
	}
	return time.Unix(rapid.Int64Range(-1<<35, 1<<35).Draw(t, name), rapid.Int64Range(0, 999999999).Draw(t, name)).UTC()
}

// What is sent is what arrives, but for the deadline, which is the time left.
func TestExecRequestRoundTrip(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		text := func(name string) string { return rapid.String().Draw(rt, name) }
		now := time.Now()
		in := &ExecRequest{
			Event: event.Event{
				ID: text("id"), Source: text("source"), Type: text("type"), Time: genTime(rt, "time"), Subject: text("subject"),
				ContentType: text("content type"), DataSchema: text("schema"), Broker: text("broker"), Topic: text("topic"),
				QoS: rapid.ByteRange(0, 1).Draw(rt, "qos"), Retained: rapid.Bool().Draw(rt, "retained"), Dup: rapid.Bool().Draw(rt, "dup"),
				Delivery:    event.Delivery{Session: text("session"), Epoch: rapid.Uint64().Draw(rt, "e"), PacketID: rapid.Uint16().Draw(rt, "packet")},
				TraceParent: text("trace"), User: genAttrs(rt, "user"), Captures: genAttrs(rt, "captures"), Data: genBytes(rt, "data"),
			},
			Function: text("function"), Version: rapid.Uint64().Draw(rt, "version"), Module: function.DigestOf([]byte(text("module"))),
			Trigger: text("trigger"), Captures: genAttrs(rt, "more captures"), Attempt: rapid.IntRange(0, 1000).Draw(rt, "attempt"),
			Deadline: now.Add(time.Duration(rapid.Int64Range(0, int64(maxLeft)).Draw(rt, "left"))),
			Epoch:    rapid.Uint64().Draw(rt, "epoch"), Hop: rapid.IntRange(0, 3).Draw(rt, "hop"), DryRun: rapid.Bool().Draw(rt, "dry"),
		}
		out, err := decodeExec(in.encode(nil, now), now)
		if err != nil || !reflect.DeepEqual(out, in) {
			rt.Fatalf("%v\nin  %+v\nout %+v", err, in, out)
		}
	})
}

func TestReplyRoundTrip(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		span := func(name string) time.Duration { return time.Duration(rapid.Int64().Draw(rt, name)) }
		in := &function.Result{
			Outcome: function.Outcome(rapid.ByteRange(0, 2).Draw(rt, "outcome")), Dropped: rapid.IntRange(0, 1000).Draw(rt, "dropped"),
			Failure: rapid.String().Draw(rt, "failure"), RetryAfter: span("after"),
			Usage: function.Usage{Wall: span("wall"), CPU: span("cpu"), Memory: rapid.Int64().Draw(rt, "memory"), BytesIn: 1, BytesOut: 2, Cold: rapid.Bool().Draw(rt, "cold")},
		}
		for range rapid.IntRange(0, 3).Draw(rt, "publishes") {
			in.Publishes = append(in.Publishes, event.Message{
				Broker: rapid.String().Draw(rt, "broker"), Topic: rapid.String().Draw(rt, "topic"), Data: genBytes(rt, "data"),
				QoS: rapid.ByteRange(0, 1).Draw(rt, "qos"), Retain: rapid.Bool().Draw(rt, "retain"),
			})
		}
		for range rapid.IntRange(0, 3).Draw(rt, "writes") {
			in.Writes = append(in.Writes, function.StateWrite{
				Key: genBytes(rt, "key"), Value: genBytes(rt, "value"), Delete: rapid.Bool().Draw(rt, "delete"), TTL: span("ttl"),
				Expect: rapid.Uint64().Draw(rt, "expect"), Checked: rapid.Bool().Draw(rt, "checked"),
			})
		}
		for range rapid.IntRange(0, 3).Draw(rt, "lines") {
			in.Log = append(in.Log, function.LogLine{Time: genTime(rt, "time"), Level: function.Level(rapid.ByteRange(0, 3).Draw(rt, "level")), Text: rapid.String().Draw(rt, "text")})
		}
		if rapid.Bool().Draw(rt, "responded") {
			in.Response = &function.Response{Status: rapid.IntRange(0, 600).Draw(rt, "status"), ContentType: rapid.String().Draw(rt, "type"), Header: genAttrs(rt, "header"), Data: genBytes(rt, "response")}
		}
		out := function.Result{Failure: "of the call before", Log: make([]function.LogLine, 0, 4)}
		failure, err := decodeReply(encodeReply(in, nil), &out)
		if len(out.Log) == 0 {
			out.Log = nil
		}
		if err != nil || failure != nil || !reflect.DeepEqual(&out, in) {
			rt.Fatalf("%v %v\nin  %+v\nout %+v", err, failure, in, out)
		}
	})
}

func TestLoadWord(t *testing.T) {
	for _, l := range []Load{{}, {1, 2, 3}, {1 << 20, 1 << 20, 1 << 20}} {
		got, spent, err := parseLoad(l.header(1500 * time.Microsecond))
		if err != nil || got != l || spent != 1500*time.Microsecond {
			t.Errorf("%+v %v %v", got, spent, err)
		}
	}
	for _, s := range []string{"", "1/2/3", "1/2/3/4/5", "-1/2/3/4", "a/b/c/d", "1/2/3/99999999999999", "1/2/3/", "////"} {
		if l, spent, err := parseLoad(s); !errors.Is(err, errLoad) || l != (Load{}) || spent != 0 {
			t.Errorf("%q: %+v %v", s, l, err)
		}
	}
}

func aRequest() *ExecRequest {
	r := requestOf(callOf("plant-7-0001"))
	r.Event.User = []event.Attr{{Name: "site", Value: "north"}}
	r.Captures = []event.Attr{{Name: "line", Value: "7"}}
	r.Event.Data = bytes.Repeat([]byte("x"), 256)
	return r
}

func aResult() *function.Result {
	return &function.Result{
		Publishes: []event.Message{{Topic: "plant/7/alarm", Data: bytes.Repeat([]byte("y"), 128), QoS: 1}},
		Writes:    []function.StateWrite{{Key: []byte("k"), Value: []byte("v"), TTL: time.Second}},
		Response:  &function.Response{Status: 201, Header: []event.Attr{{Name: "a", Value: "b"}}},
		Log:       []function.LogLine{{Time: time.Unix(1, 2), Text: "line"}}, Usage: function.Usage{CPU: 1, Memory: 65536},
	}
}

// Nothing that arrives makes the decoder panic, or allocate out of proportion; what it takes means one thing.
func FuzzDecodeExec(f *testing.F) {
	now := time.Unix(1_000_000_000, 0)
	good := aRequest().encode(nil, now)
	f.Add(good)
	f.Add(good[:len(good)/2])
	f.Add(append(bytes.Clone(good[:60]), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeExec(b, now)
		if err != nil {
			if !errors.Is(err, errWire) {
				t.Errorf("%v", err)
			}
			return
		}
		again, err := decodeExec(r.encode(nil, now), now)
		if err != nil || !reflect.DeepEqual(again, r) {
			t.Errorf("%v\n%+v\n%+v", err, r, again)
		}
	})
}

func FuzzDecodeReply(f *testing.F) {
	f.Add(encodeReply(aResult(), nil))
	f.Add(encodeReply(nil, &function.Error{Op: "o", Subject: "s", Class: function.ClassReject, Kind: "k", Err: errors.New("e"), Hint: "h", After: 1}))
	f.Add([]byte{})
	f.Add(append(encodeReply(aResult(), nil), 0)) // one byte too many left a result behind
	f.Fuzz(func(t *testing.T, b []byte) {
		var res, again function.Result
		failure, err := decodeReply(b, &res)
		if err != nil {
			if !errors.Is(err, errWire) || len(res.Publishes)+len(res.Writes)+len(res.Log) != 0 || res.Response != nil {
				t.Errorf("%v %+v", err, res)
			}
			return
		}
		if failure != nil && (failure.Class == function.ClassNone || failure.Class >= function.ClassFatal) {
			t.Errorf("class %d", failure.Class)
		}
		var out error
		if failure != nil {
			out = failure
		}
		back, err := decodeReply(encodeReply(&res, out), &again)
		if err != nil || !reflect.DeepEqual(back, failure) || !reflect.DeepEqual(again, res) {
			t.Errorf("%v\n%+v\n%+v", err, res, again)
		}
	})
}

func FuzzParseLoad(f *testing.F) {
	f.Add("1/2/3/4")
	f.Add("//")
	f.Fuzz(func(t *testing.T, s string) {
		l, spent, err := parseLoad(s)
		if err != nil {
			return
		}
		if again, took, err := parseLoad(l.header(spent)); err != nil || again != l || took != spent {
			t.Errorf("%q: %+v, then %+v %v", s, l, again, err)
		}
	})
}

// Why the bodies are binary: request and reply, encoded and decoded, beside JSON.
func BenchmarkCodec(b *testing.B) {
	r, res := aRequest(), aResult()
	b.Run("binary", func(b *testing.B) {
		b.ReportAllocs()
		size := 0
		for b.Loop() {
			now := time.Now()
			body, reply := r.encode(make([]byte, 0, 1024), now), encodeReply(res, nil)
			size = len(body) + len(reply)
			var out function.Result
			if _, err := decodeExec(body, now); err != nil {
				b.Fatal(err)
			}
			if _, err := decodeReply(reply, &out); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(size), "bytes")
	})
	b.Run("JSON", func(b *testing.B) {
		b.ReportAllocs()
		size := 0
		for b.Loop() {
			body, err := json.Marshal(r)
			reply, err2 := json.Marshal(res)
			if errors.Join(err, err2) != nil {
				b.Fatal(err, err2)
			}
			size = len(body) + len(reply)
			var in ExecRequest
			var out function.Result
			if err := errors.Join(json.Unmarshal(body, &in), json.Unmarshal(reply, &out)); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(size), "bytes")
	})
}
