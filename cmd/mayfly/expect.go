package main

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"mayfly/admin"
	"mayfly/function"
)

// faults compares what a test wants with what a dry run did, and returns one line per difference. Parts the test does not
// name are not checked, except that an event must end well unless the test says how it ends.
func faults(want function.Expectation, got admin.Ran) []string {
	var out []string
	add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	switch {
	case want.Outcome != nil:
		if got.Outcome != want.Outcome.String() {
			add("outcome is %s, want %s%s", got.Outcome, want.Outcome, because(got))
		}
	case want.Error == "" && got.Outcome != function.Done.String():
		add("outcome is %s, want done%s", got.Outcome, because(got))
	}
	if want.Error != "" && !strings.Contains(said(got), want.Error) {
		add("error is %q, want one that contains %q", said(got), want.Error)
	}
	if want.Publish != nil {
		out = append(out, publishFaults(want.Publish, got.Publishes)...)
	}
	if want.Response != nil {
		switch {
		case got.Response == nil:
			add("it did not respond, want %q", *want.Response)
		case string(got.Response.Body.Bytes()) != *want.Response:
			add("response is %q, want %q", got.Response.Body.Bytes(), *want.Response)
		}
	}
	for _, s := range want.State {
		out = append(out, stateFaults(s, got.Writes)...)
	}
	for _, text := range want.Log {
		if !logged(got.Log, text) {
			add("no log line contains %q", text)
		}
	}
	return out
}

// said is what a run that did not end well says of it.
func said(r admin.Ran) string {
	switch {
	case r.Error != nil && r.Failure != "" && r.Failure != r.Error.Message:
		return r.Error.Message + ": " + r.Failure
	case r.Error != nil:
		return r.Error.Message
	}
	return r.Failure
}

func because(r admin.Ran) string {
	if text := said(r); text != "" {
		return ": " + text
	}
	return ""
}

func publishFaults(want []function.ExpectMessage, got []admin.Message) []string {
	var out []string
	if len(want) != len(got) {
		var topics []string
		for _, m := range got {
			topics = append(topics, m.Topic)
		}
		out = append(out, fmt.Sprintf("it published %d messages %q, want %d", len(got), topics, len(want)))
	}
	for i := range min(len(want), len(got)) {
		out = append(out, messageFaults(fmt.Sprintf("publish %d", i+1), want[i], got[i])...)
	}
	return out
}

func messageFaults(which string, want function.ExpectMessage, got admin.Message) []string {
	var out []string
	add := func(what string, got, want any) {
		out = append(out, fmt.Sprintf("%s: %s is %v, want %v", which, what, got, want))
	}
	payload := string(got.Body.Bytes())
	if want.Topic != "" && got.Topic != want.Topic {
		add("topic", got.Topic, want.Topic)
	}
	if want.Payload != nil && payload != *want.Payload {
		add("payload", fmt.Sprintf("%q", payload), fmt.Sprintf("%q", *want.Payload))
	}
	if want.JSON != "" && !sameJSON(want.JSON, payload) {
		add("payload", payload, "JSON equal to "+want.JSON)
	}
	if want.QoS != nil && got.QoS != *want.QoS {
		add("QoS", got.QoS, *want.QoS)
	}
	if want.Retain != nil && got.Retain != *want.Retain {
		add("retain", got.Retain, *want.Retain)
	}
	return out
}

// sameJSON compares values, not text: order of members, white space and the notation of numbers do not matter.
func sameJSON(a, b string) bool {
	var x, y any
	return json.Unmarshal([]byte(a), &x) == nil && json.Unmarshal([]byte(b), &y) == nil && reflect.DeepEqual(x, y)
}

// stateFaults looks at the last write of a key, which is the one that counts.
func stateFaults(want function.Setting, writes []admin.StateWrite) []string {
	for _, w := range slices.Backward(writes) {
		if w.Key != want.Key {
			continue
		}
		if w.Delete {
			return []string{fmt.Sprintf("state %s is deleted, want %q", want.Key, want.Value)}
		}
		if got := string(w.Body.Bytes()); got != want.Value {
			return []string{fmt.Sprintf("state %s is %q, want %q", want.Key, got, want.Value)}
		}
		return nil
	}
	return []string{fmt.Sprintf("state %s was not written, want %q", want.Key, want.Value)}
}

func logged(lines []admin.LogLine, text string) bool {
	for _, l := range lines {
		if strings.Contains(l.Text, text) {
			return true
		}
	}
	return false
}
