package function

import (
	"errors"
	"fmt"
	"time"
)

// Class says what a failure means for the event, the only thing the dispatcher acts upon (promise D6).
type Class uint8

// Classes of failures.
const (
	ClassNone     Class = iota
	ClassRetry          // an attempt failed; back off and try again until the attempts are used up
	ClassReject         // never going to work: dead letter at once
	ClassOverload       // nobody had room; not an attempt
	ClassNotHere        // this node cannot run it; placement decides again; not an attempt
	ClassConflict       // state changed under the call; run it again at once; not an attempt
	ClassFatal          // this node is broken (disk): hold everything, acknowledge nothing
)

func (c Class) String() string {
	return [...]string{"none", "retry", "reject", "overload", "not-here", "conflict", "fatal"}[c]
}

// Error is a failure with everything a person and the dispatcher need: which operation, on what, of which class, why, and
// what to do next.
type Error struct {
	Op      string // "invoke", "compile", "publish", ...
	Subject string // function, topic, file
	Class   Class
	Kind    string // short stable word for counters and tests: "timeout", "trap", "memory", "output-limit", ...
	Err     error
	Hint    string        // the next thing to do or type; may be empty
	After   time.Duration // wish for the delay before the next attempt
}

func (e *Error) Error() string {
	s := fmt.Sprintf("%s %s: ", e.Op, e.Subject)
	if e.Err != nil {
		s += e.Err.Error()
	} else {
		s += e.Kind
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// ClassOf returns the class of err: ClassNone for nil, that of the outermost *Error in its chain, else ClassRetry.
func ClassOf(err error) Class {
	if err == nil {
		return ClassNone
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Class
	}
	return ClassRetry
}

// KindOf returns the stable word of err, or "error".
func KindOf(err error) string {
	if e, ok := errors.AsType[*Error](err); ok && e.Kind != "" {
		return e.Kind
	}
	return "error"
}
