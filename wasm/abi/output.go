package abi

import (
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"mayfly/event"
	"mayfly/function"
)

// maxRetryAfter bounds what a guest may wish for.
const maxRetryAfter = 24 * time.Hour

func (s *Session) publish(m memory, a []uint64) (uint64, error) {
	topic, data, ok := m.at2(a[0], a[1], a[2], a[3])
	if !ok {
		return 0, errOutside
	}
	flags := uint32(a[4])
	if flags&3 > 1 || flags > 7 {
		return i32(codeInvalid), nil // QoS 2 is not offered; the other bits are reserved
	}
	name, code := s.policy.permit(topic)
	if code != 0 {
		return i32(code), nil
	}
	if len(s.res.Publishes) >= s.policy.limits.Publishes {
		return i32(codeOverLimit), nil
	}
	if code := s.spend(len(topic) + len(data)); code != 0 {
		return i32(code), nil
	}
	s.res.Publishes = append(s.res.Publishes, event.Message{Topic: name, Data: keep(data), QoS: byte(flags & 1), Retain: flags&4 != 0})
	return 0, nil
}

// spend takes n bytes from the output limit, or returns a negative code and takes nothing.
func (s *Session) spend(n int) int32 {
	switch limit := s.policy.limits.Output; {
	case int64(n) > limit:
		return codeTooLarge
	case s.out+int64(n) > limit:
		return codeOverLimit
	}
	s.out += int64(n)
	return 0
}

// keep copies guest memory for what survives the call.
func keep(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	c := make([]byte, len(b))
	copy(c, b)
	return c
}

func (s *Session) respond(m memory, a []uint64) (uint64, error) {
	data, ok := m.at(a[0], a[1])
	if !ok {
		return 0, errOutside
	}
	if s.kind == function.ABICommand && s.stdoutIsResponse() {
		return i32(codeInvalid), nil // standard output is the response
	}
	old := 0
	if s.res.Response != nil {
		old = len(s.res.Response.Data)
	}
	s.out -= int64(old) // the last one counts
	if code := s.spend(len(data)); code != 0 {
		s.out += int64(old)
		return i32(code), nil
	}
	s.response().Data = keep(data)
	return 0, nil
}

func (s *Session) response() *function.Response {
	if s.res.Response == nil {
		s.res.Response = new(function.Response)
	}
	return s.res.Response
}

func (s *Session) respondAttr(m memory, a []uint64) (uint64, error) {
	name, value, ok := m.at2(a[0], a[1], a[2], a[3])
	if !ok {
		return 0, errOutside
	}
	if len(name)+len(value) > MaxHeaderBytes {
		return i32(codeTooLarge), nil
	}
	if !isFieldValue(text(value)) {
		return i32(codeInvalid), nil
	}
	return i32(s.setResponse(text(name), text(value))), nil
}

// setResponse sets one attribute of the response; name and value are guest memory.
func (s *Session) setResponse(name, value string) int32 {
	header, isHeader := strings.CutPrefix(name, "header.")
	switch {
	case name == "status":
		status, err := strconv.Atoi(value)
		if err != nil || status < 200 || status > 599 {
			return codeInvalid
		}
		s.response().Status = status
	case name == "content-type" || isHeader && strings.EqualFold(header, "content-type"):
		if code := s.spend(len(value)); code != 0 {
			return code
		}
		s.response().ContentType = strings.Clone(value)
	case isHeader && isToken(header) && !isConnectionHeader(header):
		if s.res.Response != nil && len(s.res.Response.Header) >= MaxHeaders {
			return codeOverLimit
		}
		if code := s.spend(len(header) + len(value)); code != 0 {
			return code
		}
		r := s.response()
		r.Header = append(r.Header, event.Attr{Name: strings.Clone(header), Value: strings.Clone(value)})
	default:
		return codeInvalid
	}
	return 0
}

func (s *Session) fail(m memory, a []uint64) (uint64, error) {
	msg, ok := m.at(a[0], a[1])
	if !ok {
		return 0, errOutside
	}
	s.res.Failure = string(cut(msg, MaxFailure))
	return 0, nil
}

func (s *Session) retryAfter(a []uint64) (uint64, error) {
	ms := min(max(int64(a[0]), 0), maxRetryAfter.Milliseconds())
	s.res.RetryAfter = time.Duration(ms) * time.Millisecond
	return 0, nil
}

func (s *Session) log(m memory, a []uint64) (uint64, error) {
	msg, ok := m.at(a[1], a[2])
	if !ok {
		return 0, errOutside
	}
	level := function.LevelInfo
	if l := uint32(a[0]); l <= uint32(function.LevelError) {
		level = function.Level(l)
	}
	s.logLine(level, msg)
	return 0, nil
}

// logLine appends a line while the log limit lasts; the line that crosses it is cut, the ones after it are counted.
func (s *Session) logLine(level function.Level, line []byte) {
	room := s.policy.limits.Log - s.logged - LogLineCost
	if room < 0 {
		s.drop()
		return
	}
	if int64(len(line)) > room {
		line = cut(line, int(room))
		s.logged = s.policy.limits.Log
		s.drop()
	}
	s.logged += int64(len(line)) + LogLineCost
	s.res.Log = append(s.res.Log, function.LogLine{Time: time.Now(), Level: level, Text: string(line)})
}

func (s *Session) drop() {
	if s.res.Dropped < math.MaxInt32 {
		s.res.Dropped++
	}
}

// logFull says that no further line would be kept.
func (s *Session) logFull() bool { return s.policy.limits.Log-s.logged < LogLineCost }

// cut returns the first n bytes of b, or less so that no UTF-8 character is torn.
func cut(b []byte, n int) []byte {
	if len(b) <= n {
		return b
	}
	for i := n; i >= 0 && i > n-utf8.UTFMax; i-- {
		if utf8.RuneStart(b[i]) {
			return b[:i]
		}
	}
	return b[:n]
}
