package abi

import (
	"mayfly/function"
)

// Session is one event in the hands of one guest. The zero value is ready for Begin. A Session is reused for the next
// event by Begin, cheapest when that event is of the same function, and is not safe for concurrent use. An instance that
// is kept between events keeps its Session.
type Session struct {
	call *function.Call
	kind function.ABI
	res  *function.Result
}

// Begin starts an event. kind is ABIMayfly or ABICommand. What the guest asks for is appended to res, which must be empty
// (Result.Reset).
func (s *Session) Begin(call *function.Call, kind function.ABI, res *function.Result) {
	s.call, s.kind, s.res = call, kind, res
}

// Host performs import number id. args holds one word per parameter, of which an i32 uses the low half; mem is the
// guest's whole linear memory, which only this call may touch until it returns. The result is meaningless for an import
// without one. A non-nil error must end the guest: *Exit when it asked for that, *Trap when it misused the interface, and
// else a *function.Error whose class says what became of the event.
func (s *Session) Host(id int, args []uint64, mem []byte) (uint64, error) {
	return 0, &Trap{Kind: "trap", Reason: "not there yet"}
}

// End closes the event: ret is what mayfly_handle returned (0 for a command whose _start returned), err what ended the
// guest otherwise: what Host returned, or the engine's own error. It sets Outcome, Failure and Usage.BytesIn and BytesOut,
// and turns a command's standard output into the response or publishes. Unless Outcome is Done, nothing but log lines is
// left in the result. It returns nil when the guest itself said how its event ended, and otherwise a *function.Error:
// err if it is one already.
func (s *Session) End(ret int32, err error) error {
	return err
}
