package abi

import (
	"strings"
	"testing"

	"mayfly/event"
	"mayfly/function"
)

func withOutput(o function.Output) func(*function.Call) {
	return func(c *function.Call) { c.Function.Manifest.Output = o }
}

func TestStdoutIsTheResponse(t *testing.T) {
	g := newGuest(t, function.ABICommand)
	g.print(1, "hello ", "world")
	g.want(codeInvalid, "respond", "no")
	g.want(0, "respond_attr", "status", "201")
	g.print(1, "!\n")
	clear(g.mem)
	if err := g.s.End(0, &Exit{}); err != nil {
		t.Fatal(err)
	}
	r := g.res.Response
	if string(r.Data) != "hello world!\n" || r.Status != 201 || g.res.Usage.BytesOut != 13 {
		t.Errorf("response %+v", r)
	}
	g.begin()
	g.print(1, "OVERWRITTEN")
	if string(r.Data) != "hello world!\n" {
		t.Errorf("the next event changed the response to %q", r.Data)
	}
	g.begin()
	_ = g.s.End(0, nil)
	if g.res.Response != nil {
		t.Errorf("no output, response %+v", g.res.Response)
	}
}

func TestStdoutIsPublished(t *testing.T) {
	g := newGuest(t, function.ABICommand, withOutput(function.Output{Topic: "out/{line}/x", QoS: 1, Retain: true}))
	g.print(1, "a\nb")
	g.want(0, "respond", "and a response")
	if err := g.s.End(0, nil); err != nil {
		t.Fatal(err)
	}
	m := g.res.Publishes[0]
	if len(g.res.Publishes) != 1 || m.Topic != "out/7/x" || string(m.Data) != "a\nb" || m.QoS != 1 || !m.Retain {
		t.Errorf("published %+v", g.res.Publishes)
	}
	if string(g.res.Response.Data) != "and a response" {
		t.Errorf("response %+v", g.res.Response)
	}
}

func TestStdoutAsLines(t *testing.T) {
	g := newGuest(t, function.ABICommand, withOutput(function.Output{Topic: "out", Format: "jsonl"}), limits(function.Limits{Publishes: 3}))
	g.print(1, "{\"a\":1}\r\n\n{\"b\"", ":2}\n3")
	if err := g.s.End(0, nil); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range g.res.Publishes {
		got = append(got, string(m.Data))
	}
	if strings.Join(got, "|") != `{"a":1}|{"b":2}|3` {
		t.Errorf("published %q", got)
	}
	g.begin()
	g.print(1, "1\n2\n3\n4\n")
	if err := g.s.End(0, nil); function.KindOf(err) != "publish-limit" || g.res.Outcome != function.Reject || len(g.res.Publishes) != 0 {
		t.Errorf("four lines where three are allowed: %v", err)
	}
}

func TestBadOutputTopic(t *testing.T) {
	for _, topic := range []string{"out/{nope}", "out/{line", "out/+"} {
		g := newGuest(t, function.ABICommand, withOutput(function.Output{Topic: topic}))
		g.print(1, "x")
		if err := g.s.End(0, nil); function.KindOf(err) != "topic" || g.res.Outcome != function.Reject {
			t.Errorf("%s: %v", topic, err)
		}
	}
}

func TestStdoutIsBounded(t *testing.T) {
	g := newGuest(t, function.ABICommand, limits(function.Limits{Output: 100}))
	g.print(1, strings.Repeat("x", 100))
	_, _, err := g.fdWrite(1, "x")
	if err == nil || !strings.Contains(err.Error(), "output limit of 100 bytes") {
		t.Fatalf("writing more than permitted: %v", err)
	}
	if err = g.s.End(0, err); function.ClassOf(err) != function.ClassReject || g.res.Response != nil {
		t.Errorf("end: %v", err)
	}
}

func TestNothingIsDeliveredUnlessDone(t *testing.T) {
	for _, code := range []int32{65, 75, 1} {
		g := newGuest(t, function.ABICommand, withOutput(function.Output{Topic: "out"}))
		g.print(1, "x")
		_ = g.s.End(0, &Exit{code})
		if len(g.res.Publishes) != 0 || g.res.Response != nil {
			t.Errorf("exit %d and published %v", code, g.res.Publishes)
		}
	}
}

// A caller chooses what stands for the captures of a route: it must not choose where to publish.
func TestOutputTopicIsNotLedAstray(t *testing.T) {
	for value, want := range map[string]string{
		"7": "out/7/x", "": "out//x", "a/b": "", "7/x/../..": "", "+": "", "#": "", "a\x00b": "",
	} {
		g := newGuest(t, function.ABICommand, withOutput(function.Output{Topic: "out/{who}/x"}), func(c *function.Call) {
			c.Captures = []event.Attr{{Name: "who", Value: value}}
		})
		topic, err := g.s.outputTopic("out/{who}/x")
		if (err == nil) != (want != "") || err == nil && topic != want {
			t.Errorf("%q: %q, %v; want %q", value, topic, err, want)
		}
	}
	g := newGuest(t, function.ABICommand, func(c *function.Call) {
		c.Captures = []event.Attr{{Name: "rest", Value: "a/b"}, {Name: "top", Value: "$SYS"}}
	})
	if topic, err := g.s.outputTopic("out/{rest...}"); err != nil || topic != "out/a/b" {
		t.Errorf("%q, %v", topic, err)
	}
	if topic, err := g.s.outputTopic("{top}/x"); err == nil {
		t.Errorf("%q is permitted", topic)
	}
}
