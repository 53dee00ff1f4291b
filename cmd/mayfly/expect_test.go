package main

import (
	"strings"
	"testing"

	"mayfly/admin"
	"mayfly/function"
)

func text(s string) admin.Body { return admin.NewBody([]byte(s)) }

func TestFaults(t *testing.T) {
	alarm := admin.Message{Topic: "plant/7/alarm", QoS: 1, Body: text(`{"c": 91, "limit": 70}`)}
	done := admin.Ran{
		Outcome: "done", Publishes: []admin.Message{alarm}, Response: &admin.Response{Status: 200, Body: text("ok")},
		Writes: []admin.StateWrite{{Key: "n", Body: text("1")}, {Key: "n", Body: text("2")}, {Key: "gone", Delete: true}},
		Log:    []admin.LogLine{{Level: "warn", Text: "much too hot"}},
	}
	rejected := admin.Ran{Outcome: "reject", Failure: `no number "t"`}
	trapped := admin.Ran{Outcome: "error", Error: &admin.Error{Message: "wasm trap"}, Failure: "bad"}
	for name, c := range map[string]struct {
		want function.Expectation
		got  admin.Ran
		text string // of the only fault; "" = none
	}{
		"nothing wanted":          {function.Expectation{}, done, ""},
		"must be done":            {function.Expectation{}, rejected, `outcome is reject, want done: no number "t"`},
		"a trap is not done":      {function.Expectation{}, trapped, "wasm trap: bad"},
		"reject wanted":           {function.Expectation{Outcome: new(function.Reject), Error: "number"}, rejected, ""},
		"an error wanted is had":  {function.Expectation{Error: "trap"}, trapped, ""},
		"another error":           {function.Expectation{Error: "timeout"}, trapped, `want one that contains "timeout"`},
		"done where reject is":    {function.Expectation{Outcome: new(function.Reject)}, done, "outcome is done, want reject"},
		"publish as it is":        {function.Expectation{Publish: []function.ExpectMessage{{Topic: "plant/7/alarm", QoS: new(byte(1)), Retain: new(false)}}}, done, ""},
		"publish as JSON":         {function.Expectation{Publish: []function.ExpectMessage{{JSON: `{"limit":70.0,"c":91}`}}}, done, ""},
		"other JSON":              {function.Expectation{Publish: []function.ExpectMessage{{JSON: `{"c":92}`}}}, done, "JSON equal to"},
		"exact text":              {function.Expectation{Publish: []function.ExpectMessage{{Payload: new(`{"c":91}`)}}}, done, "payload is"},
		"another topic":           {function.Expectation{Publish: []function.ExpectMessage{{Topic: "x"}}}, done, "topic is plant/7/alarm, want x"},
		"another QoS":             {function.Expectation{Publish: []function.ExpectMessage{{QoS: new(byte(0))}}}, done, "QoS is 1, want 0"},
		"another retain":          {function.Expectation{Publish: []function.ExpectMessage{{Retain: new(true)}}}, done, "retain is false"},
		"no publish wanted":       {function.Expectation{Publish: []function.ExpectMessage{}}, done, "it published 1 messages"},
		"response":                {function.Expectation{Response: new("ok")}, done, ""},
		"another response":        {function.Expectation{Response: new("no")}, done, `response is "ok"`},
		"no response":             {function.Expectation{Response: new("ok"), Outcome: new(function.Reject)}, rejected, "did not respond"},
		"state: last write wins":  {function.Expectation{State: []function.Setting{{Key: "n", Value: "2"}}}, done, ""},
		"state: an earlier write": {function.Expectation{State: []function.Setting{{Key: "n", Value: "1"}}}, done, `state n is "2"`},
		"state: deleted":          {function.Expectation{State: []function.Setting{{Key: "gone", Value: "1"}}}, done, "is deleted"},
		"state: not written":      {function.Expectation{State: []function.Setting{{Key: "m", Value: "1"}}}, done, "was not written"},
		"log":                     {function.Expectation{Log: []string{"too hot"}}, done, ""},
		"no such log":             {function.Expectation{Log: []string{"cold"}}, done, `no log line contains "cold"`},
	} {
		t.Run(name, func(t *testing.T) {
			found := faults(c.want, c.got)
			switch {
			case c.text == "" && len(found) > 0:
				t.Fatalf("faults %q", found)
			case c.text != "" && (len(found) != 1 || !strings.Contains(found[0], c.text)):
				t.Fatalf("faults %q, want one with %q", found, c.text)
			}
		})
	}
}
