package abi

import (
	"slices"
	"strings"
	"time"

	"mayfly/event"
	"mayfly/function"
)

// policy is what one function may do, worked out once from its manifest.
type policy struct {
	fn      *function.Function
	limits  function.Limits
	publish []event.Pattern
	http    []urlPattern
	topic   string // the topic permitted last: most functions publish to one
	args    []byte // NUL-terminated
	nargs   int
	quota   int64  // of state
	config  []byte // CFG_<KEY>=<value>, NUL-terminated
	nconfig int
}

// Defaults for limits that a hand-made manifest leaves at zero, as function.Limits documents them.
const (
	defaultTimeout   = time.Second
	defaultPayload   = 256 << 10
	defaultOutput    = 1 << 20
	defaultPublishes = 64
	defaultLog       = 16 << 10
	defaultQuota     = 1 << 20
)

func newPolicy(fn *function.Function) policy {
	m := &fn.Manifest
	p := policy{fn: fn, limits: m.Limits, quota: m.State.Quota}
	if p.quota == 0 {
		p.quota = defaultQuota
	}
	if p.limits.Timeout == 0 {
		p.limits.Timeout = defaultTimeout
	}
	if p.limits.Payload == 0 {
		p.limits.Payload = defaultPayload
	}
	if p.limits.Output == 0 {
		p.limits.Output = defaultOutput
	}
	if p.limits.Publishes == 0 {
		p.limits.Publishes = defaultPublishes
	}
	if p.limits.Log == 0 {
		p.limits.Log = defaultLog
	}
	for _, filter := range m.Permissions.Publish {
		if pattern, err := event.ParsePattern(filter); err == nil { // what is not a filter permits nothing
			p.publish = append(p.publish, pattern)
		}
	}
	for _, text := range m.Permissions.HTTP {
		if pattern, err := parseURLPattern(text); err == nil {
			p.http = append(p.http, pattern)
		}
	}
	for _, arg := range append([]string{m.Name}, m.Module.Args...) {
		p.args, p.nargs = appendVariable(p.args, p.nargs, "", arg)
	}
	for _, c := range m.Config {
		p.config, p.nconfig = appendVariable(p.config, p.nconfig, "CFG_"+variableName(c.Key)+"=", c.Value)
	}
	return p
}

// permit returns topic as a string that may be kept, or a negative code: invalid, too large or denied.
func (p *policy) permit(topic []byte) (string, int32) {
	if len(topic) > 0 && p.topic == string(topic) {
		return p.topic, 0
	}
	if len(topic) > event.MaxTopic {
		return "", codeTooLarge
	}
	if event.CheckTopic(text(topic)) != nil {
		return "", codeInvalid
	}
	if !slices.ContainsFunc(p.publish, func(f event.Pattern) bool { return f.Match(text(topic)) }) {
		return "", codeDenied
	}
	p.topic = string(topic)
	return p.topic, 0
}

// setting returns the value of a [config] key. The manifest keeps them sorted.
func (p *policy) setting(key string) (string, bool) {
	config := p.fn.Manifest.Config
	i, ok := slices.BinarySearchFunc(config, key, func(s function.Setting, key string) int { return strings.Compare(s.Key, key) })
	if !ok {
		return "", false
	}
	return config[i].Value, true
}
