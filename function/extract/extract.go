// Package extract reads from events what a manifest names: the key that keeps events in order, the sender's own message
// id, and whether a trigger's condition holds. Everything is compiled once and then costs about as much as looking at the
// payload once; all of it is safe for concurrent use.
package extract

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"mayfly/event"
)

// Extractor takes a short text out of events. Forms:
//
//	topic           the topic
//	topic.line      what the capture {line} of the trigger's pattern stands for
//	json.a.b[0]     a string, number or boolean in the JSON payload; numbers as they are written
//	attr.user.x     an attribute of the event
//	none            nothing
//
// The zero Extractor is "none".
type Extractor struct {
	text   string
	source source
	name   string // capture or attribute
	path   []step
}

type source uint8

const (
	fromNothing source = iota
	fromTopic
	fromCapture
	fromJSON
	fromAttr
)

// Parse compiles an extractor. captures are the names it may use after "topic.".
func Parse(text string, captures []string) (Extractor, error) {
	e := Extractor{text: text}
	head, rest, dotted := strings.Cut(text, ".")
	switch {
	case text == "none":
	case text == "topic":
		e.source = fromTopic
	case head == "topic" && dotted:
		if !slices.Contains(captures, rest) {
			return Extractor{}, fmt.Errorf("%q: the topic has no capture {%s}", text, rest)
		}
		e.source, e.name = fromCapture, rest
	case head == "attr" && rest != "":
		if !knownAttr(rest) {
			return Extractor{}, fmt.Errorf("%q: events have no attribute %q", text, rest)
		}
		e.source, e.name = fromAttr, rest
	case strings.HasPrefix(text, "json.") || strings.HasPrefix(text, "json["):
		path, err := parsePath(text[len("json"):])
		if err != nil {
			return Extractor{}, fmt.Errorf("%q: %w", text, err)
		}
		e.source, e.path = fromJSON, path
	default:
		return Extractor{}, fmt.Errorf("%q is not topic, none, topic.NAME, json.PATH or attr.NAME", text)
	}
	return e, nil
}

func knownAttr(name string) bool {
	known := []string{"id", "source", "type", "subject", "datacontenttype", "dataschema", "topic", "traceparent"}
	return slices.Contains(known, name) || strings.HasPrefix(name, "user.") && len(name) > len("user.") ||
		strings.HasPrefix(name, event.AuthPrefix) && len(name) > len(event.AuthPrefix)
}

// parsePath reads .name and [index] parts.
func parsePath(s string) ([]step, error) {
	var path []step
	for s != "" {
		if s[0] == '[' {
			digits, after, found := strings.Cut(s[1:], "]")
			n, err := strconv.ParseUint(digits, 10, 31)
			if !found || err != nil {
				return nil, errors.New("an index is a number in brackets, [0]")
			}
			path, s = append(path, step{index: int(n), isIdx: true}), after
			continue
		}
		if s[0] != '.' {
			return nil, errors.New("expected . or [ after ]")
		}
		end := strings.IndexAny(s[1:], ".[")
		if end < 0 {
			end = len(s) - 1
		}
		if end == 0 {
			return nil, errors.New("a name is missing after the dot")
		}
		path, s = append(path, step{name: s[1 : 1+end]}), s[1+end:]
	}
	return path, nil
}

// String returns the extractor as it was written.
func (e Extractor) String() string { return e.text }

// None says whether e never finds anything.
func (e Extractor) None() bool { return e.source == fromNothing }

// Key returns what e finds in ev, which matched p. It reports false if there is nothing: no such member, null, an object or
// array, a payload that is not JSON, an attribute that is not set. An empty text that was found is reported as found. The
// cost is one pass over the payload for json, nothing to speak of otherwise.
func (e Extractor) Key(ev *event.Event, p event.Pattern) (string, bool) {
	switch e.source {
	case fromTopic:
		return ev.Topic, true
	case fromCapture:
		return p.Capture(e.name, ev.Topic)
	case fromAttr:
		return ev.Attr(e.name)
	case fromJSON:
		raw, err := find(ev.Data, e.path)
		if err != nil || raw == nil {
			return "", false
		}
		return keyText(raw)
	case fromNothing:
	}
	return "", false
}

func keyText(raw []byte) (string, bool) {
	switch raw[0] {
	case '{', '[', 'n':
		return "", false
	case '"':
		return unquote(raw), true
	}
	return string(raw), true
}
