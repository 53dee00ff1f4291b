package event

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// MaxTopic is the longest topic or filter in bytes (MQTT 3.1.1 section 4.7.3).
const MaxTopic = 65535

// ErrTopic is wrapped by every error about a topic, filter or pattern.
var ErrTopic = errors.New("invalid topic")

// CheckTopic says whether s may be published to: at least one character, UTF-8, no NUL, no wildcard
// ([MQTT-4.7.3-1], [MQTT-4.7.3-2], [MQTT-3.3.2-2]).
func CheckTopic(s string) error {
	if err := checkText(s); err != nil {
		return err
	}
	if i := strings.IndexAny(s, "+#"); i >= 0 {
		return fmt.Errorf("%w %q: wildcard %q at byte %d is for subscriptions only", ErrTopic, s, s[i], i)
	}
	return nil
}

// CheckFilter says whether s is a topic filter by [MQTT-4.7.1-2] and [MQTT-4.7.1-3].
func CheckFilter(s string) error {
	if err := checkText(s); err != nil {
		return err
	}
	rest, at := s, 0
	for {
		level, more, found := strings.Cut(rest, "/")
		switch {
		case strings.Contains(level, "#") && (level != "#" || found):
			return fmt.Errorf("%w filter %q: '#' at byte %d must be the whole last level", ErrTopic, s, at+strings.IndexByte(level, '#'))
		case strings.Contains(level, "+") && level != "+":
			return fmt.Errorf("%w filter %q: '+' at byte %d must be a whole level", ErrTopic, s, at+strings.IndexByte(level, '+'))
		}
		if !found {
			return nil
		}
		rest, at = more, at+len(level)+1
	}
}

func checkText(s string) error {
	switch {
	case s == "":
		return fmt.Errorf("%w: it is empty", ErrTopic)
	case len(s) > MaxTopic:
		return fmt.Errorf("%w: %d bytes, the longest is %d", ErrTopic, len(s), MaxTopic)
	case !utf8.ValidString(s):
		return fmt.Errorf("%w %q: not UTF-8", ErrTopic, s)
	case strings.IndexByte(s, 0) >= 0:
		return fmt.Errorf("%w %q: contains NUL", ErrTopic, s)
	}
	return nil
}

// MatchFilter says whether topic matches filter (MQTT 3.1.1 section 4.7). Both must be valid. It does not allocate.
// A topic that starts with $ is not matched by a filter that starts with a wildcard ([MQTT-4.7.2-1]).
func MatchFilter(filter, topic string) bool {
	if topic != "" && topic[0] == '$' && filter != "" && (filter[0] == '+' || filter[0] == '#') {
		return false
	}
	for {
		if filter == "#" {
			return true
		}
		f, frest, fmore := strings.Cut(filter, "/")
		t, trest, tmore := strings.Cut(topic, "/")
		if f != "+" && f != t {
			return false
		}
		switch {
		case !fmore && !tmore:
			return true
		case !tmore:
			return frest == "#" // "a/#" matches "a" (section 4.7.1.2)
		case !fmore:
			return false
		}
		filter, topic = frest, trest
	}
}

// Pattern is a topic filter whose wildcards may have names: "plant/{line}/temp", "plant/{rest...}".
// The zero Pattern matches nothing. Safe for concurrent use.
type Pattern struct {
	text   string
	filter string
	names  []capture
}

type capture struct {
	name  string
	level int
	rest  bool
}

// ParsePattern reads a pattern: levels of an MQTT topic filter in which {name} stands for one level and a final {name...}
// for all remaining ones; + and # are allowed too. Names are letters, digits and _, each used once.
func ParsePattern(s string) (Pattern, error) {
	p := Pattern{text: s}
	levels := strings.Split(s, "/")
	seen := map[string]bool{}
	for i, level := range levels {
		if !strings.ContainsAny(level, "{}") {
			continue
		}
		name, ok := strings.CutPrefix(level, "{")
		name, ok2 := strings.CutSuffix(name, "}")
		name, rest := strings.CutSuffix(name, "...")
		if !ok || !ok2 || !isName(name) {
			return Pattern{}, fmt.Errorf("%w pattern %q: level %d is %q; a capture is a whole level, {name} or {name...}", ErrTopic, s, i+1, level)
		}
		if seen[name] {
			return Pattern{}, fmt.Errorf("%w pattern %q: capture {%s} is used twice", ErrTopic, s, name)
		}
		if rest && i != len(levels)-1 {
			return Pattern{}, fmt.Errorf("%w pattern %q: {%s...} must be the last level", ErrTopic, s, name)
		}
		seen[name] = true
		p.names = append(p.names, capture{name, i, rest})
		levels[i] = "+"
		if rest {
			levels[i] = "#"
		}
	}
	p.filter = strings.Join(levels, "/")
	if err := CheckFilter(p.filter); err != nil {
		return Pattern{}, err
	}
	return p, nil
}

func isName(s string) bool {
	for i, c := range s {
		if c != '_' && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9' || i == 0) {
			return false
		}
	}
	return s != ""
}

// String returns the pattern as it was written.
func (p Pattern) String() string { return p.text }

// Filter returns the MQTT topic filter to subscribe with.
func (p Pattern) Filter() string { return p.filter }

// Match says whether topic matches. It does not allocate.
func (p Pattern) Match(topic string) bool { return p.filter != "" && MatchFilter(p.filter, topic) }

// Names returns the names of the captures in the order written.
func (p Pattern) Names() []string {
	names := make([]string, len(p.names))
	for i, c := range p.names {
		names[i] = c.name
	}
	return names
}

// Capture returns what the capture of that name stands for in topic, which must match. A {rest...} that matched the
// parent level itself is the empty string.
func (p Pattern) Capture(name, topic string) (string, bool) {
	for _, c := range p.names {
		if c.name != name {
			continue
		}
		for range c.level {
			_, after, found := strings.Cut(topic, "/")
			if !found {
				return "", c.rest
			}
			topic = after
		}
		if !c.rest {
			topic, _, _ = strings.Cut(topic, "/")
		}
		return topic, true
	}
	return "", false
}

// MarshalText returns the pattern as it was written.
func (p Pattern) MarshalText() ([]byte, error) { return []byte(p.text), nil }

// UnmarshalText reads a pattern by ParsePattern. Empty text is the zero Pattern.
func (p *Pattern) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*p = Pattern{}
		return nil
	}
	parsed, err := ParsePattern(string(text))
	if err != nil {
		return err
	}
	*p = parsed
	return nil
}
