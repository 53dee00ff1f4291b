package admin

import (
	"errors"
	"time"
	"unicode/utf8"

	"mayfly/event"
	"mayfly/function"
)

// Prefix is the path every request starts with.
const Prefix = "/v1/"

// Kinds of errors that the protocol itself tells apart; an agent uses them so that clients and HTTP statuses agree.
const (
	KindNotFound    = "not-found"   // 404
	KindInvalid     = "invalid"     // 400
	KindDenied      = "denied"      // 403
	KindConflict    = "conflict"    // 409
	KindTooLarge    = "too-large"   // 413
	KindUnsupported = "unsupported" // 501: this agent does not offer it
	KindUnavailable = "unavailable" // 503: worth another try later
	KindAlone       = "alone"       // 409: it needs a cluster, and the node belongs to none
	KindPermission  = "permission"  // 409: the version asks for permissions the deployed one does not have
	KindNotRunning  = "not-running" // client only: nobody answers on the socket
)

// Error is a function.Error on the wire.
type Error struct {
	Op      string `json:"op"`
	Subject string `json:"subject"`
	Class   string `json:"class"`
	Kind    string `json:"kind"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
	AfterMS int64  `json:"after_ms,omitempty"` // wish for the delay before another try
	Order   *Order `json:"order,omitempty"`    // to be signed for it to be obeyed
}

// Body is the payload of an event or a message: text where it is UTF-8, base64 where it is not. An empty payload is an
// empty text. At most one of the fields is set.
type Body struct {
	Payload       *string `json:"payload,omitempty"`
	PayloadBase64 []byte  `json:"payload_base64,omitempty"`
}

// NewBody wraps data. It keeps data when it is not UTF-8.
func NewBody(data []byte) Body {
	if utf8.Valid(data) {
		text := string(data)
		return Body{Payload: &text}
	}
	return Body{PayloadBase64: data}
}

// Bytes returns the payload.
func (b Body) Bytes() []byte {
	if b.Payload != nil {
		return []byte(*b.Payload)
	}
	return b.PayloadBase64
}

func (b Body) check() error {
	if b.Payload != nil && b.PayloadBase64 != nil {
		return errors.New("payload and payload_base64 are both given; give one")
	}
	return nil
}

// Attr is one attribute: of an event, or a header of a response.
type Attr struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Message is a publish: asked for by an operator, or by a function in a Ran.
type Message struct {
	Broker string `json:"broker,omitempty"` // name in the agent's configuration; "" = the default one
	Topic  string `json:"topic"`
	QoS    byte   `json:"qos"`
	Retain bool   `json:"retain"`
	Body
}

// Received is one message that came in on a subscription of `mayfly sub`.
type Received struct {
	Time     time.Time `json:"time"`
	Broker   string    `json:"broker,omitempty"`
	Topic    string    `json:"topic"`
	QoS      byte      `json:"qos"`
	Retained bool      `json:"retained"`
	Dup      bool      `json:"dup,omitempty"`
	Body
}

// SubscribeQuery says what `mayfly sub` wants to see.
type SubscribeQuery struct {
	Broker string `json:"broker,omitempty"` // "" = the default one
	Filter string `json:"filter"`
	QoS    byte   `json:"qos"`
}

// Frame is one line of a streamed answer. Exactly one field is set. A stream that ends without Error or End was cut off.
type Frame[T any] struct {
	Record  *T     `json:"record,omitempty"`
	Dropped uint64 `json:"dropped,omitempty"` // records lost since the last frame because the reader was slow
	Error   *Error `json:"error,omitempty"`   // the last line: it failed
	Ready   bool   `json:"ready,omitempty"`   // the subscription stands: what happens from now on is seen
	End     bool   `json:"end,omitempty"`     // the last line: there is no more
}

// Setting is one effective setting of the agent.
type Setting struct {
	Key    string `json:"key"`             // "mqtt.brokers.default.url"
	Value  string `json:"value"`           // as it would be written in the file; "***" for a secret
	Origin string `json:"origin"`          // default | file | env | flag | credential
	Where  string `json:"where,omitempty"` // "/etc/mayfly/mayfly.toml:12", "MAYFLY_DATA"
}

// Count is how many things a request changed.
type Count struct {
	Count int `json:"count"`
}

func messageOf(m event.Message) Message {
	return Message{Broker: m.Broker, Topic: m.Topic, QoS: m.QoS, Retain: m.Retain, Body: NewBody(m.Data)}
}

func attrsOf(in []event.Attr) []Attr {
	out := make([]Attr, 0, len(in))
	for _, a := range in {
		out = append(out, Attr(a))
	}
	return out
}

// NewError puts err on the wire. What is not a function.Error gets op and subject of the caller.
func NewError(op, subject string, err error) *Error {
	fe, ok := errors.AsType[*function.Error](err)
	if !ok {
		return &Error{Op: op, Subject: subject, Class: function.ClassRetry.String(), Kind: function.KindOf(err), Message: err.Error()}
	}
	e := &Error{Op: fe.Op, Subject: fe.Subject, Class: fe.Class.String(), Kind: fe.Kind, Hint: fe.Hint, AfterMS: fe.After.Milliseconds()}
	if o, ok := OrderOf(err); ok {
		e.Order = &o
	}
	switch {
	case fe.Error() != err.Error(): // wrapped: the outer text says more, and already names the inner operation
		e.Op, e.Subject, e.Message = op, subject, err.Error()
	case fe.Err != nil:
		e.Message = fe.Err.Error()
	default:
		e.Message = fe.Kind
	}
	return e
}

// Err turns e back into what the agent had. It returns nil for a nil e.
func (e *Error) Err() error {
	if e == nil {
		return nil
	}
	cause := errors.New(e.Message)
	if e.Order != nil {
		cause = &Unsigned{*e.Order, cause}
	}
	return &function.Error{
		Op: e.Op, Subject: e.Subject, Class: parseClass(e.Class), Kind: e.Kind,
		Err: cause, Hint: e.Hint, After: time.Duration(e.AfterMS) * time.Millisecond,
	}
}

// parseClass returns the class of that name; a name this build does not know is worth a retry.
func parseClass(s string) function.Class {
	for c := function.ClassNone; c <= function.ClassFatal; c++ {
		if c.String() == s {
			return c
		}
	}
	return function.ClassRetry
}
