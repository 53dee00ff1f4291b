//go:build wasip1

// Package mayfly is the guest interface mayfly_v1 for Go.
//
// A function is a program without a main that does anything, and one exported handler:
//
//	//go:wasmexport mayfly_handle
//	func handle() int32 { return mayfly.Run(onReading) }
//
//	func onReading(e *mayfly.Event) error { return mayfly.Publish("plant/alarm", e.Data(), mayfly.QoS1) }
//
//	func main() {}
//
//	GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -trimpath -ldflags="-s -w" -o f.wasm .
//
// What a handler asked for becomes true all at once when it returns nil. An error leaves nothing behind but log lines; see
// Run for what it means to the event.
package mayfly

import (
	"errors"
	"runtime"
	"unsafe"
)

// Error is why a call was refused.
type Error int32

// Errors of the interface.
const (
	Absent      Error = -1 // there is no such key, attribute, setting or secret
	Denied      Error = -2 // the manifest does not permit it
	Invalid     Error = -3 // an argument makes no sense
	TooLarge    Error = -4 // one value is too large
	Limit       Error = -5 // a limit or quota of the function is used up
	Unavailable Error = -6 // not now; worth a retry
	Conflict    Error = -7 // somebody else changed it
	Deadline    Error = -8 // the event's time is up
)

func (e Error) Error() string {
	switch e {
	case Absent:
		return "absent"
	case Denied:
		return "not permitted by the manifest"
	case Invalid:
		return "invalid"
	case TooLarge:
		return "too large"
	case Limit:
		return "over a limit"
	case Unavailable:
		return "not available now"
	case Conflict:
		return "changed by somebody else"
	case Deadline:
		return "past the deadline"
	}
	return "unknown error"
}

func check(code int64) error {
	if code < 0 {
		return Error(code)
	}
	return nil
}

type rejection struct{ error }

func (r rejection) Unwrap() error { return r.error }

// Reject marks an error that no further attempt can cure.
func Reject(err error) error { return rejection{err} }

// Run runs a handler and returns the verdict on its event: done for nil; dead letter for an error marked by Reject and for
// Denied, Invalid, TooLarge, Limit and Absent; another attempt for everything else.
func Run(handler func(*Event) error) int32 {
	err := handler(&Event{})
	if err == nil {
		return 0
	}
	hostFail(err.Error())
	var marked rejection
	if errors.As(err, &marked) {
		return 2
	}
	var refused Error
	if errors.As(err, &refused) && refused != Unavailable && refused != Conflict && refused != Deadline {
		return 2
	}
	return 1
}

// Event is the event that is being handled.
type Event struct{ data []byte }

// Data returns the event's data.
func (e *Event) Data() []byte {
	if e.data == nil {
		e.data, _ = read(1024, hostEventData)
	}
	return e.data
}

// Attr returns an attribute such as id, topic, topic.<capture> or attempt; "" when it has none of that name.
func (e *Event) Attr(name string) string {
	value, _ := read(128, func(buf unsafe.Pointer, n uint32) int32 { return hostEventAttr(name, buf, n) })
	return string(value)
}

// JSON returns all attributes as CloudEvents JSON, without the data.
func (e *Event) JSON() ([]byte, error) { return read(1024, hostEventJSON) }

// LeftMS returns the milliseconds until the event's deadline.
func (e *Event) LeftMS() int64 { return hostLeftMS() }

// read asks with a buffer of a likely size first and once more when the answer is longer.
func read(likely int, ask func(buf unsafe.Pointer, n uint32) int32) ([]byte, error) {
	for {
		buf := make([]byte, likely)
		n := ask(unsafe.Pointer(unsafe.SliceData(buf)), uint32(len(buf)))
		if n < 0 {
			return nil, Error(n)
		}
		if int(n) <= len(buf) {
			return buf[:n], nil
		}
		likely = int(n)
	}
}

// Flags of Publish.
const (
	QoS0   uint32 = 0
	QoS1   uint32 = 1
	Retain uint32 = 4
)

// Publish publishes data on a topic.
func Publish(topic string, data []byte, flags uint32) error {
	err := check(int64(hostPublish(topic, unsafe.String(unsafe.SliceData(data), len(data)), flags)))
	runtime.KeepAlive(data)
	return err
}

// Respond answers whoever waits for the event.
func Respond(data []byte) error { return check(int64(hostRespond(string(data)))) }

// RespondAttr sets status, content-type or header.<name> of the answer.
func RespondAttr(name, value string) error { return check(int64(hostRespondAttr(name, value))) }

// RetryAfter wishes for a delay before the next attempt.
func RetryAfter(ms int64) { hostRetryAfter(ms) }

// Get returns the value of a key of the function's state; Absent when there is none.
func Get(key string) ([]byte, error) {
	return read(256, func(buf unsafe.Pointer, n uint32) int32 { return hostKVGet(key, buf, n) })
}

// Put sets a key; ttlMS 0 is for ever.
func Put(key string, value []byte, ttlMS int64) error {
	return check(int64(hostKVPut(key, string(value), ttlMS)))
}

// Delete deletes a key.
func Delete(key string) error { return check(int64(hostKVDel(key))) }

// Incr adds to a counter and returns its new value.
func Incr(key string, delta int64) (int64, error) {
	var out int64
	return out, check(int64(hostKVIncr(key, delta, &out)))
}

// CAS sets a key if it still has version ver (0: if it is absent) and returns the new version; Conflict when it has not.
func CAS(key string, ver int64, value []byte) (int64, error) {
	n := hostKVCas(key, ver, string(value))
	return n, check(n)
}

// Version returns the version of a key, 0 when it is absent.
func Version(key string) (int64, error) {
	n := hostKVVer(key)
	return n, check(n)
}

// Keys returns the keys of the function's state that start with prefix, ascending.
func Keys(prefix string) ([]string, error) {
	var keys []string
	for last := ""; ; last = keys[len(keys)-1] {
		page, err := read(1024, func(buf unsafe.Pointer, n uint32) int32 { return hostKVList(prefix, last, buf, n) })
		if err != nil || len(page) == 0 {
			return keys, err
		}
		for len(page) >= 2 { // each key is its length in two bytes, low byte first, and its text
			n := 2 + int(page[0]) + int(page[1])<<8
			keys = append(keys, string(page[2:n]))
			page = page[n:]
		}
	}
}

// Config returns a setting of the manifest's [config]; Absent when there is none.
func Config(key string) (string, error) {
	value, err := read(128, func(buf unsafe.Pointer, n uint32) int32 { return hostConfigGet(key, buf, n) })
	return string(value), err
}

// Secret returns a secret the manifest grants.
func Secret(key string) ([]byte, error) {
	return read(128, func(buf unsafe.Pointer, n uint32) int32 { return hostSecretGet(key, buf, n) })
}

// Level is the level of a log line.
type Level uint32

// Levels.
const (
	Debug Level = iota
	Info
	Warn
	Fault
)

// Log writes a log line.
func Log(level Level, text string) { hostLog(uint32(level), text) }

// NowMS returns the wall clock in milliseconds since 1970.
func NowMS() int64 { return hostNowMS() }

// Random fills buf with random bytes.
func Random(buf []byte) { hostRandom(unsafe.Pointer(unsafe.SliceData(buf)), uint32(len(buf))) }

// Send sends an outbound HTTP request described as JSON, {"method":"POST","url":"https://..."}, and returns status and headers
// of the answer as JSON, and its body. It happens at once, and happens again when the event is tried again.
func Send(request string, body []byte) (meta, answer []byte, err error) {
	h := hostHTTPSend(request, string(body))
	if h < 0 {
		return nil, nil, Error(h)
	}
	defer hostHTTPClose(h)
	meta, err = read(512, func(buf unsafe.Pointer, n uint32) int32 { return hostHTTPMeta(h, buf, n) })
	if err != nil {
		return nil, nil, err
	}
	answer, err = read(4096, func(buf unsafe.Pointer, n uint32) int32 { return hostHTTPRead(h, buf, n) })
	return meta, answer, err
}
