package admintest

import (
	"bytes"
	"errors"
	"strings"
	"time"

	"mayfly/admin"
	"mayfly/event"
	"mayfly/function"
)

// interpret does what a module says.
func interpret(module []byte, ev *event.Event, now time.Time) admin.Run {
	run := admin.Run{Node: "bench", Trigger: "invoke"}
	res := &run.Result
	res.Usage = function.Usage{Wall: 4 * time.Microsecond, CPU: 3 * time.Microsecond, Memory: 65536, BytesIn: int64(len(ev.Data))}
	text, _ := bytes.CutPrefix(module, []byte(Magic))
	for line := range strings.Lines(string(text)) {
		verb, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		switch verb {
		case "publish":
			res.Publishes = append(res.Publishes, event.Message{Topic: rest, Data: ev.Data, QoS: 1})
			res.Usage.BytesOut += int64(len(ev.Data))
		case "log":
			level, line, _ := strings.Cut(rest, " ")
			res.Log = append(res.Log, function.LogLine{Time: now, Level: levels[level], Text: line})
		case "respond":
			res.Response = &function.Response{Status: 200, ContentType: "text/plain", Data: []byte(strings.ReplaceAll(rest, "{payload}", string(ev.Data)))}
		case "put":
			res.Writes = append(res.Writes, function.StateWrite{Key: []byte(rest), Value: ev.Data})
		case "fail":
			res.Failure = rest
		case "retry":
			res.Outcome = function.Retry
		case "reject":
			res.Outcome = function.Reject
		case "trap":
			run.Err = &function.Error{
				Op: "run", Subject: "function", Class: function.ClassRetry, Kind: "trap",
				Err: errors.New("wasm trap: unreachable executed in mayfly_handle"),
			}
		}
	}
	if run.Err != nil || res.Outcome != function.Done {
		res.Publishes, res.Writes, res.Response = nil, nil, nil
	}
	return run
}

var levels = map[string]function.Level{
	"debug": function.LevelDebug, "info": function.LevelInfo, "warn": function.LevelWarn, "error": function.LevelError,
}

// tell adds what happened to the feeds, and a dead letter where it was given up.
func (a *Agent) tell(f *deployed, made *event.Event, run *admin.Run) {
	at := *made
	ev := &at
	ev.Time = a.Now() // the server's clock is the real one
	for _, l := range run.Result.Log {
		a.LogLines.Add(admin.LogRecord{Time: l.Time, Function: f.Name, Event: ev.ID, Node: "bench", Level: l.Level.String(), Text: l.Text})
	}
	rec := admin.EventRecord{
		Time: ev.Time, ID: ev.ID, Source: ev.Source, Type: ev.Type, Topic: ev.Topic, QoS: ev.QoS, Bytes: int64(len(ev.Data)),
		Function: f.Name, Trigger: "invoke", Attempt: 1, Node: "bench", Why: "local, 3 of 4 slots free",
		Outcome: run.Result.Outcome.String(), WaitUS: 2, TotalUS: 9, Settled: admin.SettledAcked,
		Usage: admin.Usage{WallUS: 4, CPUUS: 3},
	}
	for _, m := range run.Result.Publishes {
		rec.Published = append(rec.Published, admin.Sent{Topic: m.Topic, QoS: m.QoS, Bytes: int64(len(m.Data))})
	}
	if run.Err != nil {
		rec.Outcome = "error"
	}
	if rec.Failed() {
		rec.Settled = admin.SettledDeadLetter
		cause := run.Err
		if cause == nil {
			cause = &function.Error{Op: "run", Subject: f.Name, Class: function.ClassReject, Kind: "rejected", Err: errors.New(run.Result.Failure)}
		}
		rec.Error = admin.NewError("run", f.Name, cause)
		a.AddLetter(f.Name, ev, cause)
	}
	a.Stories.Add(rec)
}
