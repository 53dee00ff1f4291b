package abi

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"mayfly/event"
	"mayfly/function"
)

// policy is what one function may do. It is cheap to make: what only some functions need is made when they ask for it.
type policy struct {
	fn     *function.Function
	limits function.Limits
	quota  int64     // of state
	topic  string    // the topic permitted last: most functions publish to one
	args   variables // made when asked for
	config variables // CFG_<KEY>=<value>, likewise
}

// Limits of a manifest that was made by hand and not read from a file, as function.Limits documents them.
const (
	defaultTimeout   = time.Second
	defaultPayload   = 256 << 10
	defaultOutput    = 1 << 20
	defaultPublishes = 64
	defaultLog       = 16 << 10
	defaultQuota     = 1 << 20
)

func policyOf(fn *function.Function) policy {
	m := &fn.Manifest
	p := policy{fn: fn, limits: m.Limits, quota: m.State.Quota}
	if p.quota == 0 {
		p.quota = defaultQuota
	}
	if p.limits.Payload == 0 { // a manifest from a file has at least 1; there, zero publishes mean none
		l := &p.limits
		l.Payload = defaultPayload
		l.Timeout = cmp.Or(l.Timeout, defaultTimeout)
		l.Output = cmp.Or(l.Output, defaultOutput)
		l.Publishes = cmp.Or(l.Publishes, defaultPublishes)
		l.Log = cmp.Or(l.Log, defaultLog)
	}
	return p
}

// permit returns topic as a string that may be kept, or a negative code: invalid, too large or denied. What is no filter in
// the manifest permits nothing: no topic has a wildcard in it.
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
	for _, filter := range p.fn.Manifest.Permissions.Publish {
		if event.MatchFilter(filter, text(topic)) {
			p.topic = string(topic)
			return p.topic, 0
		}
	}
	return "", codeDenied
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

// arguments returns the program's name and arguments.
func (p *policy) arguments() variables {
	if p.args.n == 0 {
		p.args.add("", p.fn.Name())
		for _, arg := range p.fn.Manifest.Module.Args {
			p.args.add("", arg)
		}
	}
	return p.args
}

// settings returns the environment variables that are the manifest's [config].
func (p *policy) settings() variables {
	if p.config.n == 0 {
		for _, c := range p.fn.Manifest.Config {
			p.config.add("CFG_"+variableName(c.Key)+"=", c.Value)
		}
	}
	return p.config
}

// variables is a block of NUL-terminated strings: arguments, or an environment.
type variables struct {
	block []byte
	n     int
}

// add appends prefix+value; one with a NUL in it is left out.
func (v *variables) add(prefix, value string) {
	if strings.IndexByte(prefix, 0) < 0 && strings.IndexByte(value, 0) < 0 {
		v.block = append(append(append(v.block, prefix...), value...), 0)
		v.n++
	}
}
