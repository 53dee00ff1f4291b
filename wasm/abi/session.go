package abi

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"mayfly/function"
)

// Session is one event in the hands of one guest. The zero value is ready for Begin. A Session is reused for the next
// event by Begin, a little cheaper when that is of the same function, and is not safe for concurrent use. An instance that
// is kept between events keeps its Session: the monotonic clock is the session's.
type Session struct {
	call   *function.Call
	kind   function.ABI
	res    *function.Result
	policy policy
	start  time.Time // zero point of the monotonic clock

	out      int64 // bytes of output so far
	logged   int64
	kv       overlay
	answers  []answer
	requests int

	json   []byte    // event_json, made when asked for
	env    variables // environment, likewise
	stdin  int       // bytes of the event's data read so far
	stdout []byte
	lines  [2][]byte // unfinished lines of standard output and standard error
	closed [fdCount]bool
}

// keepBuffer is the largest buffer kept for the next event.
const keepBuffer = 64 << 10

// Begin starts an event. kind is ABIMayfly or ABICommand. What the guest asks for is appended to res, which must be empty
// (Result.Reset).
func (s *Session) Begin(call *function.Call, kind function.ABI, res *function.Result) {
	if s.policy.fn != call.Function {
		s.policy = policyOf(call.Function)
	}
	if s.start.IsZero() {
		s.start = time.Now()
	}
	s.call, s.kind, s.res = call, kind, res
	s.out, s.logged, s.requests, s.stdin = 0, 0, 0, 0
	s.kv.reset()
	clear(s.answers)
	s.answers = s.answers[:0]
	s.closed = [fdCount]bool{}
	s.lines[0], s.lines[1] = s.lines[0][:0], s.lines[1][:0]
	s.json, s.stdout, s.env = emptied(s.json), emptied(s.stdout), variables{block: emptied(s.env.block)}
}

func emptied(b []byte) []byte {
	if cap(b) > keepBuffer {
		return nil
	}
	return b[:0]
}

// Host performs import number id. args holds one word per parameter, of which an i32 uses the low half; mem is the
// guest's whole linear memory, which only this call may touch until it returns. The result is meaningless for an import
// without one. A non-nil error must end the guest: *Exit when it asked for that, *Trap when it misused the interface, and
// else a *function.Error whose class says what became of the event.
func (s *Session) Host(id int, args []uint64, mem []byte) (uint64, error) {
	if uint(id) >= importCount || len(args) < len(imports[id].Params) {
		return 0, &Trap{Kind: "trap", Reason: "host call " + strconv.Itoa(id) + " does not exist or lacks arguments"}
	}
	if s.call == nil {
		return 0, &Trap{Kind: "trap", Reason: "host call outside an event"}
	}
	var word uint64
	var err error
	if id > idAbort {
		word, err = s.wasi(id, args, mem)
	} else {
		word, err = s.mayfly(id, args, mem)
	}
	if err == nil {
		return word, nil
	}
	name := imports[id].Module + "." + imports[id].Name
	if errors.Is(err, errOutside) {
		return 0, &Trap{Kind: "trap", Import: name, Reason: fmt.Sprintf("%s of %d bytes", errOutside, len(mem))}
	}
	if t, ok := errors.AsType[*Trap](err); ok && t.Import == "" {
		t.Import = name
	}
	return 0, err
}

// mayfly performs the mayfly_v1 function id, or AssemblyScript's abort.
func (s *Session) mayfly(id int, a []uint64, m memory) (uint64, error) {
	switch id {
	case idEventData:
		return m.give(a[0], a[1], text(s.call.Event.Data))
	case idEventAttr:
		return s.eventAttr(m, a)
	case idEventJSON:
		return s.eventJSON(m, a)
	case idPublish:
		return s.publish(m, a)
	case idRespond:
		return s.respond(m, a)
	case idRespondAttr:
		return s.respondAttr(m, a)
	case idFail:
		return s.fail(m, a)
	case idRetryAfter:
		return s.retryAfter(a)
	case idKVGet, idKVPut, idKVDel, idKVIncr, idKVCas, idKVVer, idKVList:
		return s.keyValue(id, a, m)
	case idConfigGet:
		return s.configGet(m, a)
	case idSecretGet:
		return s.secretGet(m, a)
	case idLog:
		return s.log(m, a)
	case idHTTPSend:
		return s.httpSend(m, a)
	case idHTTPRead:
		return s.httpRead(m, a)
	case idHTTPMeta:
		return s.httpMeta(m, a)
	case idHTTPClose:
		s.httpClose(a)
		return 0, nil
	case idNowMs:
		return i64(time.Now().UnixMilli()), nil
	case idLeftMs:
		return i64(s.left(time.Now()).Milliseconds()), nil
	case idRandom:
		return s.random(m, a)
	}
	return 0, abort(m, a)
}

func (s *Session) keyValue(id int, a []uint64, m memory) (uint64, error) {
	switch id {
	case idKVGet:
		return s.kvGet(m, a)
	case idKVPut:
		return s.kvPut(m, a)
	case idKVDel:
		return s.kvDel(m, a)
	case idKVIncr:
		return s.kvIncr(m, a)
	case idKVCas:
		return s.kvCas(m, a)
	case idKVVer:
		return s.kvVer(m, a)
	}
	return s.kvList(m, a)
}

// End closes the event: ret is what mayfly_handle returned (anything for a command whose _start returned), err what ended
// the guest otherwise: what Host returned, or the engine's own error. It sets Outcome, Failure and Usage.BytesIn and
// BytesOut, and turns a command's standard output into the response or publishes. Unless Outcome is Done, nothing but log
// lines is left in the result. It returns nil when the guest itself said how its event ended, and otherwise a
// *function.Error: err if it is one already.
func (s *Session) End(ret int32, err error) error {
	for i := range s.lines {
		if len(s.lines[i]) > 0 {
			s.flushLine(uint32(fdStdout + i))
		}
	}
	outcome, err := s.verdict(ret, err)
	if outcome == function.Done {
		if err = s.effects(); err != nil {
			outcome = function.Reject
		}
	}
	r := s.res
	r.Outcome = outcome
	r.Usage.BytesIn += int64(len(s.call.Event.Data))
	r.Usage.BytesOut += s.out
	if err != nil && r.Failure != "" {
		r.Failure += " (" + err.Error() + ")"
	} else if err != nil {
		r.Failure = err.Error()
	}
	if outcome != function.Done {
		r.Publishes, r.Writes, r.Response = r.Publishes[:0], r.Writes[:0], nil
	}
	if outcome != function.Retry {
		r.RetryAfter = 0
	}
	s.call, s.res = nil, nil
	s.kv.reset()
	clear(s.answers)
	return err
}

// effects adds to the result what is only known at the end.
func (s *Session) effects() error {
	if s.kind == function.ABICommand {
		if err := s.deliver(); err != nil {
			return err
		}
	}
	s.res.Writes = s.kv.appendTo(s.res.Writes)
	return nil
}

// Exit codes of sysexits(3) that say how an event ended.
const (
	exitDataErr  = 65
	exitTempFail = 75
)

// verdict turns the end of the guest into an outcome, with an error when the guest did not choose it.
func (s *Session) verdict(ret int32, err error) (function.Outcome, error) {
	if exit, ok := errors.AsType[*Exit](err); ok {
		switch exit.Code {
		case 0:
			return function.Done, nil
		case exitTempFail:
			return function.Retry, nil
		case exitDataErr:
			return function.Reject, nil
		}
		return function.Retry, s.failure("exit", err)
	}
	if err == nil && s.kind == function.ABICommand {
		return function.Done, nil
	}
	if err == nil {
		if ret >= 0 && ret <= int32(function.Reject) {
			return function.Outcome(ret), nil
		}
		return function.Retry, s.failure("status", fmt.Errorf("mayfly_handle returned %d; 0 is done, 1 retry, 2 reject", ret))
	}
	if trap, ok := errors.AsType[*Trap](err); ok && trap.Kind == "output-limit" {
		return function.Reject, s.reject(trap.Kind, err)
	} else if e, ok := errors.AsType[*function.Error](err); ok {
		if e.Class == function.ClassReject {
			return function.Reject, err
		}
		return function.Retry, err
	} else if trap != nil {
		return function.Retry, s.failure(trap.Kind, err)
	}
	return function.Retry, s.failure("trap", err)
}

func (s *Session) failure(kind string, err error) error {
	return &function.Error{
		Op: "invoke", Subject: s.policy.fn.Name(), Class: function.ClassRetry, Kind: kind, Err: err, After: s.res.RetryAfter,
		Hint: s.advice(kind),
	}
}

// advice says what to do about a guest that failed in that way, "" when the error says it all.
func (s *Session) advice(kind string) string {
	switch l := s.policy.limits; kind {
	case "output-limit":
		return fmt.Sprintf("limits.output is %d bytes: raise it in the manifest, or say less for one event", l.Output)
	case "publish-limit":
		return fmt.Sprintf("limits.publishes is %d: raise it in the manifest, or say less for one event", l.Publishes)
	case "trap":
		return "a fault in the function: repeat it with mayfly test, built with debug names to see them in the stack"
	case "exit":
		return "exit 0 is done, 75 retry, 65 reject; its standard error is in: mayfly logs " + s.policy.fn.Name()
	}
	return ""
}
