package abi

import (
	"strconv"
	"time"
	"unicode/utf8"
)

func (s *Session) eventAttr(m memory, a []uint64) (uint64, error) {
	name, ok := m.at(a[0], a[1])
	if !ok {
		return 0, errOutside
	}
	value, found := s.call.Attr(text(name))
	if !found {
		if _, ok := m.at(a[2], a[3]); !ok {
			return 0, errOutside
		}
		return i32(codeAbsent), nil
	}
	return m.give(a[2], a[3], value)
}

func (s *Session) eventJSON(m memory, a []uint64) (uint64, error) {
	if len(s.json) == 0 {
		s.json = s.appendEventJSON(s.json)
	}
	return m.give(a[0], a[1], text(s.json))
}

// eventTexts are the attributes that are text, in the order they appear in event_json.
var eventTexts = [...]string{
	"id", "source", "type", "time", "subject", "datacontenttype", "dataschema", "topic", "trigger",
	"function", "node", "deadline", "traceparent",
}

// appendEventJSON writes the attributes as a CloudEvents 1.0 JSON object without data. The names are those of event_attr.
func (s *Session) appendEventJSON(b []byte) []byte {
	b = append(b, `{"specversion":"1.0"`...)
	for _, name := range eventTexts {
		if value, ok := s.call.Attr(name); ok && value != "" {
			b = appendMember(b, name, value)
		}
	}
	b = append(b, `,"qos":`...)
	b = strconv.AppendInt(b, int64(s.call.Event.QoS), 10)
	b = append(b, `,"retained":`...)
	b = strconv.AppendBool(b, s.call.Event.Retained)
	b = append(b, `,"dup":`...)
	b = strconv.AppendBool(b, s.call.Event.Dup)
	b = append(b, `,"attempt":`...)
	b = strconv.AppendInt(b, int64(max(s.call.Attempt, 1)), 10)
	for _, name := range s.call.Pattern.Names() {
		if value, ok := s.call.Attr("topic." + name); ok {
			b = appendMember(b, "topic."+name, value)
		}
	}
	for _, c := range s.call.Captures {
		if _, twice := s.call.Pattern.Capture(c.Name, s.call.Event.Topic); !twice {
			b = appendMember(b, "topic."+c.Name, c.Value)
		}
	}
	for _, u := range s.call.Event.User {
		b = appendMember(b, u.Shown(), u.Value)
	}
	return append(b, '}')
}

func appendMember(b []byte, name, value string) []byte {
	b = append(b, ',')
	b = appendString(b, name)
	b = append(b, ':')
	return appendString(b, value)
}

// appendString writes s as a JSON string (RFC 8259 section 7); bytes that are not UTF-8 become U+FFFD.
func appendString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r < ' ' || r == 0x7f:
			b = append(b, '\\', 'u', '0', '0', hex[r>>4], hex[r&15])
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return append(b, '"')
}

// left returns the time until the deadline, at least 0.
func (s *Session) left(now time.Time) time.Duration {
	if s.call.Deadline.IsZero() {
		return s.policy.limits.Timeout
	}
	return max(s.call.Deadline.Sub(now), 0)
}
