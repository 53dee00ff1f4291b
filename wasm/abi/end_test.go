package abi

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"mayfly/function"
)

func TestEnd(t *testing.T) {
	timeout := &function.Error{Op: "invoke", Class: function.ClassRetry, Kind: "timeout", Err: errors.New("out of time")}
	for _, c := range []struct {
		name    string
		kind    function.ABI
		ret     int32
		err     error
		outcome function.Outcome
		class   function.Class
		word    string
	}{
		{"done", function.ABIMayfly, 0, nil, function.Done, function.ClassNone, ""},
		{"retry", function.ABIMayfly, 1, nil, function.Retry, function.ClassNone, ""},
		{"reject", function.ABIMayfly, 2, nil, function.Reject, function.ClassNone, ""},
		{"other", function.ABIMayfly, 3, nil, function.Retry, function.ClassRetry, "status"},
		{"negative", function.ABIMayfly, -1, nil, function.Retry, function.ClassRetry, "status"},
		{"command returned", function.ABICommand, 7, nil, function.Done, function.ClassNone, ""},
		{"exit 0", function.ABICommand, 0, &Exit{}, function.Done, function.ClassNone, ""},
		{"exit 75", function.ABICommand, 0, &Exit{75}, function.Retry, function.ClassNone, ""},
		{"exit 65", function.ABICommand, 0, &Exit{65}, function.Reject, function.ClassNone, ""},
		{"exit 1", function.ABICommand, 0, &Exit{1}, function.Retry, function.ClassRetry, "exit"},
		{"exit 2 is a panic, not reject", function.ABIMayfly, 0, &Exit{2}, function.Retry, function.ClassRetry, "exit"},
		{"wrapped exit", function.ABICommand, 0, fmt.Errorf("host: %w", &Exit{65}), function.Reject, function.ClassNone, ""},
		{"trap of ours", function.ABIMayfly, 0, &Trap{Kind: "trap", Reason: "x"}, function.Retry, function.ClassRetry, "trap"},
		{"abort", function.ABIMayfly, 0, &Trap{Kind: "abort", Reason: "x"}, function.Retry, function.ClassRetry, "abort"},
		{"too much output", function.ABICommand, 0, &Trap{Kind: "output-limit", Reason: "x"}, function.Reject, function.ClassReject, "output-limit"},
		{"timeout of the engine", function.ABIMayfly, 0, timeout, function.Retry, function.ClassRetry, "timeout"},
		{"conflict", function.ABIMayfly, 0, &function.Error{Class: function.ClassConflict}, function.Retry, function.ClassConflict, "error"},
		{"plain error", function.ABIMayfly, 0, errors.New("wasm trap: unreachable"), function.Retry, function.ClassRetry, "trap"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newGuest(t, c.kind)
			g.want(0, "publish", "deep/x", "1", 0)
			g.want(0, "kv_put", "k", "v", 0)
			g.do("log", 1, "line")
			err := g.s.End(c.ret, c.err)
			if g.res.Outcome != c.outcome || function.ClassOf(err) != c.class || err != nil && function.KindOf(err) != c.word {
				t.Errorf("outcome %v, class %v, kind %q", g.res.Outcome, function.ClassOf(err), function.KindOf(err))
			}
			if done := c.outcome == function.Done; (len(g.res.Publishes) == 1) != done || (len(g.res.Writes) == 1) != done {
				t.Errorf("%d publishes and %d writes are left", len(g.res.Publishes), len(g.res.Writes))
			}
			if len(g.res.Log) != 1 || g.res.Usage.BytesIn != 8 || g.res.Usage.BytesOut != 7 {
				t.Errorf("log %v, usage %+v", g.res.Log, g.res.Usage)
			}
			if (g.res.Failure != "") != (err != nil) {
				t.Errorf("failure %q with error %v", g.res.Failure, err)
			}
		})
	}
}

func TestFailureTellsBoth(t *testing.T) {
	g := newGuest(t, function.ABIMayfly)
	g.do("fail", "sensor 4 is broken")
	g.do("retry_after", 9000)
	err := g.s.End(5, nil)
	var e *function.Error
	if !errors.As(err, &e) || e.After != 9*time.Second {
		t.Errorf("error %+v", e)
	}
	if !strings.HasPrefix(g.res.Failure, "sensor 4 is broken (") || !strings.Contains(g.res.Failure, "returned 5") {
		t.Errorf("failure %q", g.res.Failure)
	}
}

func TestHostOutsideAnEvent(t *testing.T) {
	var s Session
	if _, err := s.Host(idNowMs, nil, nil); err == nil {
		t.Error("a host call before Begin succeeded")
	}
	g := newGuest(t, function.ABIMayfly)
	_ = g.s.End(0, nil)
	if _, err := g.s.Host(idEventData, []uint64{0, 0}, g.mem); err == nil {
		t.Error("a host call after End succeeded")
	}
}

func TestAbort(t *testing.T) {
	g := newGuest(t, function.ABIMayfly)
	message := g.put("\x0a\x00\x00\x00o\x00h\x00 \x00n\x00o\x00") + 4
	file := g.put("\x08\x00\x00\x00a\x00.\x00t\x00s\x00") + 4
	_, err := g.try("abort", int(message), int(file), 3, 9)
	if err == nil || err.Error() != "env.abort: oh no at a.ts:3:9" {
		t.Errorf("abort: %v", err)
	}
	if _, err = g.try("abort", 0, 1<<31, 0, 0); err == nil || err.Error() != "env.abort: abort" {
		t.Errorf("abort without texts: %v", err)
	}
	g.mem[100], g.mem[103] = 0xff, 0xff // a length far beyond memory
	if _, err = g.try("abort", 104, 0, 0, 0); err == nil {
		t.Error("abort did not end the guest")
	}
}
