package extract

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// maxDepth is how deep arrays and objects may nest, as in encoding/json.
const maxDepth = 10000

// errJSON is wrapped by every complaint about malformed JSON.
var errJSON = errors.New("malformed JSON")

// step is one level of a path into JSON: the name of a member, or the index of an element.
type step struct {
	name  string
	index int
	isIdx bool
}

// scanner reads one JSON text (RFC 8259) front to back, as strictly as encoding/json does, and remembers the bytes of the
// value that a path leads to. Of members with the same name the last one counts, as there.
type scanner struct {
	data  []byte
	pos   int
	depth int
	found []byte
}

// find returns the bytes of the value that path leads to, nil if there is none. The whole text is checked.
func find(data []byte, path []step) ([]byte, error) {
	s := scanner{data: data}
	if path == nil {
		path = []step{}
	}
	if err := s.value(path); err != nil {
		return nil, err
	}
	if s.space(); s.pos < len(data) {
		return nil, s.bad("unexpected text after the value")
	}
	return s.found, nil
}

func (s *scanner) bad(what string) error {
	return fmt.Errorf("%w: %s at byte %d", errJSON, what, s.pos)
}

func (s *scanner) space() {
	for s.pos < len(s.data) {
		switch s.data[s.pos] {
		case ' ', '\t', '\n', '\r':
			s.pos++
		default:
			return
		}
	}
}

// next returns the byte to be read, 0 at the end.
func (s *scanner) next() byte {
	if s.pos < len(s.data) {
		return s.data[s.pos]
	}
	return 0
}

// value reads one value. path leads on from here; nil means that nothing in it is looked for.
func (s *scanner) value(path []step) error {
	s.space()
	start := s.pos
	var err error
	switch c := s.next(); {
	case c == '{':
		err = s.nested(path, s.object)
	case c == '[':
		err = s.nested(path, s.array)
	case c == '"':
		_, err = s.text()
	case c == '-' || c >= '0' && c <= '9':
		err = s.number()
	case c == 't':
		err = s.word("true")
	case c == 'f':
		err = s.word("false")
	case c == 'n':
		err = s.word("null")
	case s.pos == len(s.data):
		return s.bad("unexpected end")
	default:
		return s.bad("unexpected character")
	}
	if path != nil && len(path) == 0 {
		s.found = s.data[start:s.pos]
	}
	return err
}

func (s *scanner) nested(path []step, read func([]step) error) error {
	if s.depth++; s.depth > maxDepth {
		return s.bad("nested too deep")
	}
	s.pos++
	err := read(path)
	s.depth--
	return err
}

func (s *scanner) object(path []step) error {
	if s.space(); s.next() == '}' {
		s.pos++
		return nil
	}
	for {
		s.space()
		key, err := s.text()
		if err != nil {
			return err
		}
		if s.space(); s.next() != ':' {
			return s.bad("expected ':'")
		}
		s.pos++
		var inner []step
		if len(path) > 0 && !path[0].isIdx && sameText(key, path[0].name) {
			inner, s.found = path[1:], nil
		}
		if err := s.value(inner); err != nil {
			return err
		}
		if more, err := s.more('}'); !more {
			return err
		}
	}
}

func (s *scanner) array(path []step) error {
	if s.space(); s.next() == ']' {
		s.pos++
		return nil
	}
	for i := 0; ; i++ {
		var inner []step
		if len(path) > 0 && path[0].isIdx && path[0].index == i {
			inner = path[1:]
		}
		if err := s.value(inner); err != nil {
			return err
		}
		if more, err := s.more(']'); !more {
			return err
		}
	}
}

// more reads what follows an element: a comma, or the end.
func (s *scanner) more(end byte) (bool, error) {
	s.space()
	switch s.next() {
	case ',':
		s.pos++
		return true, nil
	case end:
		s.pos++
		return false, nil
	}
	return false, s.bad("expected ',' or '" + string(end) + "'")
}

// text reads a string and returns it with its quotes.
func (s *scanner) text() ([]byte, error) {
	start := s.pos
	if s.next() != '"' {
		return nil, s.bad("expected a string")
	}
	for s.pos++; s.pos < len(s.data); s.pos++ {
		switch c := s.data[s.pos]; {
		case c == '"':
			s.pos++
			return s.data[start:s.pos], nil
		case c < ' ':
			return nil, s.bad("control character in a string")
		case c == '\\':
			if err := s.escape(); err != nil {
				return nil, err
			}
		}
	}
	return nil, s.bad("unexpected end in a string")
}

// escape stands on the backslash and goes to the last byte of the escape.
func (s *scanner) escape() error {
	s.pos++
	switch s.next() {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return nil
	case 'u':
		for range 4 {
			s.pos++
			c := s.next()
			if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F') {
				return s.bad("expected four hexadecimal digits")
			}
		}
		return nil
	}
	return s.bad("unknown escape")
}

func (s *scanner) number() error {
	if s.next() == '-' {
		s.pos++
	}
	if s.next() == '0' {
		s.pos++
	} else if !s.digits() {
		return s.bad("expected a digit")
	}
	if s.next() == '.' {
		if s.pos++; !s.digits() {
			return s.bad("expected a digit")
		}
	}
	if c := s.next(); c == 'e' || c == 'E' {
		s.pos++
		if c := s.next(); c == '+' || c == '-' {
			s.pos++
		}
		if !s.digits() {
			return s.bad("expected a digit")
		}
	}
	return nil
}

func (s *scanner) digits() bool {
	start := s.pos
	for c := s.next(); c >= '0' && c <= '9'; c = s.next() {
		s.pos++
	}
	return s.pos > start
}

func (s *scanner) word(w string) error {
	if len(s.data)-s.pos < len(w) || string(s.data[s.pos:s.pos+len(w)]) != w {
		return s.bad("unexpected word")
	}
	s.pos += len(w)
	return nil
}

// sameText says whether the JSON string quoted stands for want.
func sameText(quoted []byte, want string) bool {
	if inner := quoted[1 : len(quoted)-1]; plain(inner) {
		return string(inner) == want
	}
	return unquote(quoted) == want
}

// plain says whether the inside of a JSON string stands for itself.
func plain(inner []byte) bool {
	ascii := true
	for _, c := range inner {
		if c == '\\' {
			return false
		}
		ascii = ascii && c < utf8.RuneSelf
	}
	return ascii || utf8.Valid(inner)
}

// unquote returns what a checked JSON string stands for.
func unquote(quoted []byte) string {
	if inner := quoted[1 : len(quoted)-1]; plain(inner) {
		return string(inner)
	}
	var s string
	if json.Unmarshal(quoted, &s) != nil {
		return string(quoted) // cannot be: the scanner has checked it
	}
	return s
}

// decode turns a checked value into what encoding/json would make of it.
func decode(raw []byte) (any, error) {
	switch raw[0] {
	case '"':
		return unquote(raw), nil
	case 't':
		return true, nil
	case 'f':
		return false, nil
	case 'n':
		return nil, nil
	case '{', '[':
		var v any
		err := json.Unmarshal(raw, &v)
		return v, err
	}
	x, err := strconv.ParseFloat(string(raw), 64)
	if err != nil {
		return nil, fmt.Errorf("%w: number %s is out of range", errJSON, raw)
	}
	return x, nil
}
