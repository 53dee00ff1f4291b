package abi

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"mayfly/event"
	"mayfly/function"
)

// variableName turns a key into the name of an environment variable: upper case, _ for what is no letter or digit.
func variableName(key string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, key)
}

// eventVariables are the environment variables that are attributes of the event.
var eventVariables = [...]struct{ variable, attr string }{
	{"CE_ID=", "id"},
	{"CE_SOURCE=", "source"},
	{"CE_TYPE=", "type"},
	{"CE_SUBJECT=", "subject"},
	{"CE_TIME=", "time"},
	{"MAYFLY_TOPIC=", "topic"},
	{"MAYFLY_QOS=", "qos"},
	{"MAYFLY_RETAINED=", "retained"},
	{"MAYFLY_ATTEMPT=", "attempt"},
}

// environ returns the environment. A guest that may be kept for the next event gets only what does not change.
func (s *Session) environ() variables {
	if s.kind != function.ABICommand {
		return s.policy.settings()
	}
	if s.env.n > 0 {
		return s.env
	}
	env := s.policy.settings()
	env.block = append(s.env.block[:0], env.block...)
	for _, v := range eventVariables {
		if value, ok := s.call.Attr(v.attr); ok {
			env.add(v.variable, value)
		}
	}
	env.add("MAYFLY_LEFT_MS=", strconv.FormatInt(s.left(time.Now()).Milliseconds(), 10))
	for _, name := range s.call.Pattern.Names() {
		if value, ok := s.call.Pattern.Capture(name, s.call.Event.Topic); ok {
			env.add("MAYFLY_TOPIC_"+variableName(name)+"=", value)
		}
	}
	for _, c := range s.call.Captures {
		env.add("MAYFLY_TOPIC_"+variableName(c.Name)+"=", c.Value)
	}
	s.env = env
	return env
}

// stdoutIsResponse says that a command's output is its response, not published.
func (s *Session) stdoutIsResponse() bool { return s.policy.fn.Manifest.Output.Topic == "" }

// deliver turns what a command wrote to its standard output into the response or publishes.
func (s *Session) deliver() error {
	if len(s.stdout) == 0 {
		return nil
	}
	data := bytes.Clone(s.stdout)
	if s.stdoutIsResponse() {
		s.response().Data = data
		return nil
	}
	out := &s.policy.fn.Manifest.Output
	topic, err := s.outputTopic(out.Topic)
	if err != nil {
		return s.reject("topic", fmt.Errorf("[output] topic: %w", err))
	}
	message := event.Message{Topic: topic, QoS: out.QoS, Retain: out.Retain}
	if out.Format != "jsonl" {
		message.Data = data
		return s.emit(message)
	}
	for line := range bytes.SplitSeq(data, newline) {
		line = bytes.TrimSuffix(line, carriage)
		if len(line) == 0 {
			continue
		}
		message.Data = slices.Clip(line)
		if err := s.emit(message); err != nil {
			return err
		}
	}
	return nil
}

func (s *Session) emit(message event.Message) error {
	if limit := s.policy.limits.Publishes; len(s.res.Publishes) >= limit {
		return s.reject("publish-limit", fmt.Errorf("more than %d messages from one event", limit))
	}
	s.res.Publishes = append(s.res.Publishes, message)
	return nil
}

func (s *Session) reject(kind string, err error) error {
	return &function.Error{Op: "invoke", Subject: s.policy.fn.Name(), Class: function.ClassReject, Kind: kind, Err: err, Hint: s.advice(kind)}
}

// outputTopic is the manifest's output topic for this event. What a caller wrote into a route must not lead elsewhere: a {name} is one
// level, whatever stands for it, and the permission to publish is that of the topic as the manifest has it.
func (s *Session) outputTopic(manifest string) (string, error) {
	topic, err := s.expand(manifest)
	if err == nil {
		err = event.CheckTopic(topic)
	}
	if err != nil || topic == manifest {
		return topic, err
	}
	pattern, err := event.ParsePattern(manifest)
	if err == nil && !pattern.Match(topic) {
		err = fmt.Errorf("what was captured makes %q of it, which is no topic of %q", topic, manifest)
	}
	return topic, err
}

// expand replaces {name} in an output topic by what the trigger's pattern captured.
func (s *Session) expand(topic string) (string, error) {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(topic, "{")
		b.WriteString(before)
		if !found {
			return b.String(), nil
		}
		name, after, closed := strings.Cut(rest, "}")
		if !closed {
			return "", errors.New("{ without }")
		}
		value, ok := s.call.Attr("topic." + strings.TrimSuffix(name, "..."))
		if !ok {
			return "", fmt.Errorf("nothing was captured as {%s}", name)
		}
		b.WriteString(value)
		topic = after
	}
}
