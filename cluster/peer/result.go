package peer

import (
	"errors"
	"fmt"
	"time"

	"mayfly/event"
	"mayfly/function"
)

// encodeReply returns what a run came to: its result and, when it failed, its error. A nil res is an empty one.
func encodeReply(res *function.Result, failure error) []byte {
	e := encoder{[]byte{execVersion}}
	e.bool(failure != nil)
	if failure != nil {
		encodeFault(&e, failure)
	}
	if res == nil {
		res = &function.Result{}
	}
	encodeResult(&e, res)
	return e.b
}

// decodeReply reads what encodeReply wrote into res, whose bytes are parts of b. The returned failure is that of the run; err says
// that the message is bad, and leaves an empty result.
func decodeReply(b []byte, res *function.Result) (failure *function.Error, err error) {
	d := decoder{b: b}
	if d.byte() != execVersion {
		return nil, fmt.Errorf("%w: not a reply of version %d", errWire, execVersion)
	}
	if d.bool() {
		failure = decodeFault(&d)
	}
	decodeResult(&d, res)
	if err := d.end(); err != nil {
		res.Reset()
		res.Outcome = function.Retry
		return nil, err
	}
	return failure, nil
}

func encodeResult(e *encoder, r *function.Result) {
	e.byte(byte(r.Outcome))
	e.uint(uint64(len(r.Publishes)))
	for i := range r.Publishes {
		m := &r.Publishes[i]
		e.text(m.Broker)
		e.text(m.Topic)
		e.bytes(m.Data)
		e.byte(m.QoS)
		e.bool(m.Retain)
	}
	e.uint(uint64(len(r.Writes)))
	for i := range r.Writes {
		w := &r.Writes[i]
		e.bytes(w.Key)
		e.bytes(w.Value)
		e.bool(w.Delete)
		e.span(w.TTL)
		e.uint(w.Expect)
		e.bool(w.Checked)
	}
	e.bool(r.Response != nil)
	if r.Response != nil {
		e.int(int64(r.Response.Status))
		e.text(r.Response.ContentType)
		e.attrs(r.Response.Header)
		e.bytes(r.Response.Data)
	}
	e.uint(uint64(len(r.Log)))
	for i := range r.Log {
		e.time(r.Log[i].Time)
		e.byte(byte(r.Log[i].Level))
		e.text(r.Log[i].Text)
	}
	e.int(int64(r.Dropped))
	e.text(r.Failure)
	e.span(r.RetryAfter)
	e.span(r.Usage.Wall)
	e.span(r.Usage.CPU)
	e.int(r.Usage.Memory)
	e.int(r.Usage.BytesIn)
	e.int(r.Usage.BytesOut)
	e.bool(r.Usage.Cold)
}

func decodeResult(d *decoder, r *function.Result) {
	r.Reset()
	if r.Outcome = function.Outcome(d.byte()); r.Outcome > function.Reject {
		d.fail("outcome")
	}
	for range d.count(5) {
		m := event.Message{Broker: d.text(), Topic: d.text(), Data: d.bytes(), QoS: d.byte(), Retain: d.bool()}
		if m.QoS > 1 {
			d.fail("quality of service")
		}
		r.Publishes = append(r.Publishes, m)
	}
	for range d.count(6) {
		r.Writes = append(r.Writes, function.StateWrite{
			Key: d.bytes(), Value: d.bytes(), Delete: d.bool(), TTL: d.span(), Expect: d.uint(), Checked: d.bool(),
		})
	}
	if d.bool() {
		r.Response = &function.Response{Status: int(int32(d.int())), ContentType: d.text(), Header: d.attrs(), Data: d.bytes()}
	}
	for range d.count(4) {
		r.Log = append(r.Log, function.LogLine{Time: d.time(), Level: function.Level(d.byte()), Text: d.text()})
	}
	r.Dropped = int(int32(d.int()))
	r.Failure = d.text()
	r.RetryAfter = d.span()
	r.Usage = function.Usage{
		Wall: d.span(), CPU: d.span(), Memory: d.int(), BytesIn: d.int(), BytesOut: d.int(), Cold: d.bool(),
	}
}

// encodeFault appends an error in the words of function.Error; one that has none of them is of ClassRetry.
func encodeFault(e *encoder, failure error) {
	f, ok := errors.AsType[*function.Error](failure)
	if !ok {
		f = &function.Error{Op: "exec", Class: function.ClassRetry, Err: failure}
	}
	e.byte(byte(f.Class))
	e.text(f.Kind)
	e.text(f.Op)
	e.text(f.Subject)
	if f.Err != nil {
		e.text(f.Err.Error())
	} else {
		e.text("")
	}
	e.text(f.Hint)
	e.span(f.After)
}

func decodeFault(d *decoder) *function.Error {
	f := &function.Error{Class: function.Class(d.byte()), Kind: d.text(), Op: d.text(), Subject: d.text()}
	if text := d.text(); text != "" {
		f.Err = errors.New(text)
	}
	f.Hint, f.After = d.text(), d.span()
	switch f.Class {
	case function.ClassFatal: // it is that node's disk that is broken, not ours
		f.Class = function.ClassNotHere
	case function.ClassRetry, function.ClassReject, function.ClassOverload, function.ClassNotHere, function.ClassConflict:
	case function.ClassNone:
		f.Class = function.ClassRetry
	default:
		f.Class = function.ClassRetry // of a later release
	}
	f.After = min(max(0, f.After), time.Hour)
	return f
}
